"""Questions sent to Anthropic's Message Batches: half the price, and answered within a day.

A journal beside the output names every batch, before it is sent and after, so that a job that was killed finds its
batches again and pays for none twice. What a batch brings is kept with all other replies of judges.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from capcurr_plugin.errors import JobError
from capcurr_plugin.journal import Journal, read_lines
from capcurr_plugin.judge.clients import (
    BUSY,
    JudgeFailed,
    Question,
    QuestionRefused,
    claude_client,
    claude_params,
    claude_reply,
)
from capcurr_plugin.judge.judge import BACKOFF, LONGEST_WAIT, Judge, most_tokens
from capcurr_plugin.judge.ledger import OverBudget, Reply

MAX_BYTES = 24 << 20  # of a batch, where the API takes 256 MB: it is held in memory several times
MAX_REQUESTS = 5_000  # where the API takes 100,000
TIMES = 3  # that a question is sent, when its batch expires or the server fails
FIRST_LOOK, LONGEST_PAUSE = 1.0, 60.0  # seconds between looks at batches: a tenth of what they have taken so far
CLOCKS = timedelta(hours=1)  # that the server's clock may be off


class Unasked(Exception):
    """There is no reply to this question yet."""

    def __init__(self, question: Question, key: str) -> None:
        super().__init__(key)
        self.question, self.key = question, key


@dataclass
class _Batch:
    """`requests`: the key of the reply and the call in the ledger, by the request's name."""

    name: str
    at: str
    requests: dict[str, tuple[str, int]]
    id: str | None = None
    settled: bool = False


@dataclass
class Batches:
    judge: Judge
    path: Path
    failed: dict[str, str] = field(default_factory=dict)  # why, by key
    sent: dict[str, int] = field(default_factory=dict)  # how often, by key

    def __post_init__(self) -> None:
        config = self.judge.config
        if config.api != "anthropic":
            raise JudgeFailed(f"judge {config.name}: only Anthropic's own API takes batches; leave --batch out")
        self._client = claude_client(config)
        if not hasattr(self._client.messages, "batches"):
            raise JudgeFailed(f"judge {config.name}: this anthropic package knows no batches; pip install -U anthropic")
        self._journal = Journal(self.path)
        self._batches = self._read() if self.path.exists() else {}

    def reply(self, question: Question, number: int) -> Reply:
        key = self.judge.key(question, number)
        if key in self.failed:
            raise QuestionRefused(f"judge {self.judge.config.name}: {self.failed[key]}")
        reply = self.judge.ledger.verdict(key)
        if reply is None:
            raise Unasked(question, key)
        return reply

    def forget(self) -> None:
        """All is settled, and kept elsewhere."""
        self.path.unlink(missing_ok=True)

    # Sending

    def send(self, unasked: Iterable[Unasked]) -> int:
        """How many questions were sent; with a bound on the spend, what fits under it."""
        count, left = 0, iter(unasked)
        while requests := self._next(left):
            batch = _Batch(uuid.uuid4().hex[:16], _now().isoformat(), {})
            params = []
            for one, request, call in requests:
                name = f"{batch.name}-{len(params)}"
                batch.requests[name] = one.key, call
                params.append({"custom_id": name, "params": request})
            self._batches[batch.name] = batch
            self._note(planned=batch.name, at=batch.at, requests=batch.requests)
            self._create(batch, params)
            count += len(params)
        return count

    def _next(self, unasked: Iterator[Unasked]) -> list[tuple[Unasked, dict[str, Any], int]]:
        """The questions of the next batch, each entered in the ledger with what it may cost."""
        requests: list[tuple[Unasked, dict[str, Any], int]] = []
        size = 0
        while size < MAX_BYTES and len(requests) < MAX_REQUESTS and (one := next(unasked, None)):
            try:
                call = self._begin(one.question)
            except OverBudget:
                if not requests and not any(batch.id and not batch.settled for batch in self._batches.values()):
                    raise
                break
            request = claude_params(self.judge.config, one.question)
            size += len(json.dumps(request))
            requests.append((one, request, call))
        return requests

    def _begin(self, question: Question) -> int:
        judge = self.judge
        most = judge.config.usd(most_tokens(question), in_batch=True)
        return judge.ledger.begin(judge.run, judge.config.name, most, judge.max_usd)

    def _create(self, batch: _Batch, params: list[dict[str, Any]]) -> None:
        """Once: where it is not known whether the server took it, `finish` looks for it."""
        import anthropic

        try:
            self._created(batch, self._client.messages.batches.create(requests=params).id)
        except anthropic.APIStatusError as error:
            if error.status_code < 500 and error.status_code not in BUSY:
                for _, call in batch.requests.values():
                    self.judge.ledger.give_up(call)
                self._settled(batch)
                raise self._of_status(error) from None
        except (anthropic.APIError, ValueError):  # no connection, or a reply that was cut off
            pass

    def _of_status(self, error: Any) -> JudgeFailed:
        return JudgeFailed(f"judge {self.judge.config.name}: HTTP {error.status_code}: {error.message[:300]}")

    def _settled(self, batch: _Batch) -> None:
        batch.settled = True
        self._note(settled=batch.name)

    def _created(self, batch: _Batch, id: str) -> None:
        batch.id = id
        self._note(created=batch.name, id=id)

    # Waiting

    def finish(self) -> None:
        """Wait for every batch that was sent, and keep what it brings."""
        from tqdm import tqdm

        self._find_lost()
        waiting = [batch for batch in self._batches.values() if not batch.settled]
        begun = time.monotonic()
        total = sum(len(batch.requests) for batch in waiting)
        with tqdm(total=total, desc="in batches", unit="question", disable=None if waiting else True) as bar:
            while waiting:
                states = {batch.name: self._state(batch) for batch in waiting}
                for batch in [one for one in waiting if states[one.name].processing_status == "ended"]:
                    self._settle(batch)
                    waiting.remove(batch)
                    bar.update(len(batch.requests))
                if waiting:
                    _pause(begun)

    def _state(self, batch: _Batch) -> Any:
        return self._persistently(lambda: self._client.messages.batches.retrieve(batch.id))

    def _settle(self, batch: _Batch) -> None:
        results = self._persistently(lambda: list(self._results(batch)))
        seen = set()
        for name, outcome in results:
            if name in batch.requests and name not in seen:
                seen.add(name)
                self._keep(*batch.requests[name], outcome)
        for name in batch.requests.keys() - seen:
            self._again(*batch.requests[name], "its batch brought no result")
        self._settled(batch)

    def _results(self, batch: _Batch) -> Iterator[tuple[str, Any]]:
        for one in self._client.messages.batches.results(batch.id):
            yield one.custom_id, one.result

    def _keep(self, key: str, call: int, outcome: Any) -> None:
        judge = self.judge
        if outcome.type == "succeeded":
            reply = claude_reply(outcome.message)
            judge.ledger.end(call, key, reply, judge.config.usd(reply.tokens, in_batch=True))
        elif outcome.type == "errored" and _kind_of(outcome) == "invalid_request_error":
            judge.ledger.give_up(call)
            self.failed[key] = f"the question is refused: {_text_of(outcome)}"
        else:
            self._again(key, call, _text_of(outcome) if outcome.type == "errored" else f"it was {outcome.type}")

    def _again(self, key: str, call: int, why: str) -> None:
        """It was not answered, and not paid for."""
        self.judge.ledger.give_up(call)
        self.sent[key] = self.sent.get(key, 0) + 1
        if self.sent[key] >= TIMES:
            self.failed[key] = f"no reply from {TIMES} batches, last: {why}"

    # After a kill

    def _find_lost(self) -> None:
        """Batches that were planned, and of which it is not known whether the server has them."""
        lost = [batch for batch in self._batches.values() if batch.id is None]
        if not lost:
            return
        times = [datetime.fromisoformat(batch.at) for batch in lost]
        known = {batch.id for batch in self._batches.values()}
        listed = self._persistently(lambda: list(self._listed(min(times) - CLOCKS, max(times) + CLOCKS)))
        for made in listed:
            if made.id not in known and (batch := self._recognised(made, lost)):
                self._created(batch, made.id)
                lost.remove(batch)
        for batch in lost:
            for key, call in batch.requests.values():
                self._again(key, call, "it did not reach the server")
            self._settled(batch)

    def _listed(self, since: datetime, until: datetime) -> Iterator[Any]:
        for made in self._client.messages.batches.list(limit=100):  # the newest first
            if made.created_at < since:
                return
            if made.created_at <= until:
                yield made

    def _recognised(self, made: Any, lost: list[_Batch]) -> _Batch | None:
        """Only its results name the requests of a batch: one of the right size is waited for."""
        counts = made.request_counts
        size = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
        if size not in {len(batch.requests) for batch in lost}:
            return None
        begun = time.monotonic()
        while made.processing_status != "ended":
            _pause(begun)
            made = self._persistently(lambda id=made.id: self._client.messages.batches.retrieve(id))
        first = self._persistently(lambda: next(iter(self._client.messages.batches.results(made.id)), None))
        name = first.custom_id.rpartition("-")[0] if first else ""
        return next((batch for batch in lost if batch.name == name), None)

    def _note(self, **facts: Any) -> None:
        self._journal.append(json.dumps(facts).encode() + b"\n")

    def _read(self) -> dict[str, _Batch]:
        batches: dict[str, _Batch] = {}
        for _, line in read_lines(self.path):
            try:
                facts = json.loads(line)
            except ValueError:  # half a line, of a killed process
                continue
            if "planned" in facts:
                requests = {name: (key, call) for name, (key, call) in facts["requests"].items()}
                batches[facts["planned"]] = _Batch(facts["planned"], facts["at"], requests)
            elif "created" in facts:
                batches[facts["created"]].id = facts["id"]
            elif "settled" in facts:
                batches[facts["settled"]].settled = True
        return batches

    def _persistently(self, ask: Any) -> Any:
        """Through what asking again can help."""
        import anthropic

        name, reason = self.judge.config.name, ""
        for attempt in range(int(self.judge.config.retry) + 1):
            try:
                return ask()
            except anthropic.APIStatusError as error:
                if error.status_code < 500 and error.status_code not in BUSY:
                    raise self._of_status(error) from None
                reason = f"HTTP {error.status_code}"
            except (anthropic.APIError, ValueError) as error:  # no connection, or what is no reply
                reason = type(error).__name__
            time.sleep(min(LONGEST_WAIT, BACKOFF * 2**attempt))
        raise JobError(f"judge {name}: its batches cannot be reached ({reason}); run again to go on with them")


def _pause(begun: float) -> None:
    time.sleep(min(LONGEST_PAUSE, max(FIRST_LOOK, (time.monotonic() - begun) / 10)))


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _kind_of(outcome: Any) -> str:
    return str(getattr(getattr(outcome.error, "error", outcome.error), "type", ""))


def _text_of(outcome: Any) -> str:
    return " ".join(str(getattr(getattr(outcome.error, "error", outcome.error), "message", "")).split())[:300]
