"""A judge that is asked: each verdict is paid for once, the bill has a bound, and a judge that fails says so."""

import hashlib
import json
import os
import random
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from capcurr_plugin.judge.clients import AT_ONCE, Ask, JudgeBusy, JudgeFailed, Picture, Question, connect
from capcurr_plugin.judge.config import JudgeConfig, Tokens
from capcurr_plugin.judge.ledger import Ledger, OverBudget, Reply, Spend, default_path

RUN = "CAPCURR_RUN"  # names the run whose spend is added up, over all its processes and restarts
MAX_USD = "CAPCURR_MAX_JUDGE_USD"

LONGEST_WAIT = 300.0  # seconds; a server that asks for more is asked again after these
BACKOFF = 0.5  # seconds before the second try; doubled from try to try
REFUSALS = 5  # so many refusals, and a fifth of all replies, end the run
TOKENS_PER_CHARACTER = 1.0  # an upper bound, for what a call can cost at most
TOKENS_OF_IMAGE = 1600
TOKENS_BESIDE = 100


def run_name() -> str:
    """Of this run. A process that is given none names itself, and its children inherit the name."""
    return os.environ.setdefault(RUN, uuid.uuid4().hex)


def spend_line(run: str) -> str | None:
    """What the run has paid for; None when it has asked no judge."""
    path = default_path()
    spend = Ledger(path).spend(run) if path.exists() else None
    if spend is None or spend.calls == 0:
        return None
    ended = f", {spend.unanswered} of them not seen to end" if spend.unanswered else ""
    return (
        f"judging: {spend.calls} calls paid{ended}, {spend.input_tokens:,} tokens in, {spend.output_tokens:,} out, "
        f"${spend.usd:.4f}"
    )


def most_tokens(question: Question) -> Tokens:
    """That a call can take, all of it written to the server's cache, which costs most."""
    text = sum(len(part) for part in question.parts if isinstance(part, str)) + len(question.system or "")
    images = sum(not isinstance(part, str) for part in question.parts)
    tokens = int(text * TOKENS_PER_CHARACTER) + images * TOKENS_OF_IMAGE + TOKENS_BESIDE
    return Tokens(tokens, question.max_tokens, written=tokens if question.system or question.to_be_repeated else 0)


@dataclass
class Judge:
    """Asked from any number of threads. It raises rather than answer with anything but what the judge said."""

    config: JudgeConfig
    max_usd: float | None = None
    ledger: Ledger = field(default_factory=lambda: Ledger(default_path()))
    run: str = field(default_factory=run_name)
    parallel: int = AT_ONCE  # calls under way at once, at most; other threads get theirs ready, or keep replies

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._being_asked: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._thread = threading.local()
        self._client: Ask | None = None
        self._calls = threading.BoundedSemaphore(self.parallel)
        self._ended, self._under_way = threading.Condition(), 0
        self._replies = self._refusals = 0

    def ask(
        self,
        parts: Sequence[str | Picture],
        *,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        system: str | None = None,
    ) -> str:
        """For evaluators. One that asks the same again in a row could not use the verdict, and must not get it once
        more."""
        question = Question(parts, min(1.0, max(0.0, temperature)), max_tokens or self.config.max_tokens, system)
        content = self.content_key(question)
        again = self._thread.asked_again + 1 if getattr(self._thread, "asked", None) == content else 0
        self._thread.asked, self._thread.asked_again = content, again
        reply = self.reply(question, again)
        self._count(reply)
        return reply.text

    def reply(self, question: Question, number: int = 0) -> Reply:
        """The reply of that number, of those that are wanted to the same question."""
        key = self.key(question, number)
        with self._lock:
            being_asked = self._being_asked[key]
        with being_asked:  # the same question from two threads is paid for once
            return self.ledger.verdict(key) or self._pay(question, key)

    def key(self, question: Question, number: int) -> str:
        return f"{self.content_key(question)}-{number}"

    def spend(self) -> Spend:
        return self.ledger.spend(self.run)

    def content_key(self, question: Question) -> str:
        """Names what is asked, and whom."""
        content = json.dumps(
            [
                self.config.api,
                self.config.model,
                self.config.base_url if self.config.api == "openai" else None,
                question.system,
                [part if isinstance(part, str) else part.digest for part in question.parts],
                question.temperature,
                question.max_tokens,
            ]
        )
        return hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()

    def _pay(self, question: Question, key: str) -> Reply:
        client = self._connected()  # which can take a second, in which no call is under way
        call = self._begin(self.config.usd(most_tokens(question)))
        try:
            reply = self._persistently(client, question)
            self.ledger.end(call, key, reply, self.config.usd(reply.tokens))
        except JudgeFailed:
            self.ledger.give_up(call)
            raise
        finally:
            with self._ended:
                self._under_way -= 1
                self._ended.notify_all()
        return reply

    def _begin(self, at_most_usd: float) -> int:
        """Calls under way are counted with what they may cost; where that leaves too little, one is waited for."""
        with self._ended:
            while True:
                try:
                    call = self.ledger.begin(self.run, self.config.name, at_most_usd, self.max_usd)
                    self._under_way += 1
                    return call
                except OverBudget:
                    if not self._under_way:
                        raise
                    self._ended.wait()

    def _connected(self) -> Ask:
        with self._lock:
            if self._client is None:
                self._client = connect(self.config)
            return self._client

    def _persistently(self, client: Ask, question: Question) -> Reply:
        reason = "it was never asked"
        for attempt in range(int(self.config.retry) + 1):
            try:
                with self._calls:
                    return client(question)
            except JudgeBusy as busy:
                reason = str(busy)
                wait = busy.wait if busy.wait is not None else BACKOFF * 2**attempt * random.uniform(0.75, 1.25)
                if attempt < self.config.retry:
                    time.sleep(min(wait, LONGEST_WAIT))
        raise JudgeFailed(
            f"judge {self.config.name}: no verdict after {int(self.config.retry) + 1} tries, last: {reason}"
        )

    def _count(self, reply: Reply) -> None:
        """A judge that refuses now and then is counted; one that refuses much is of no use, and ends the run."""
        with self._lock:
            self._replies += 1
            self._refusals += reply.stop in ("refusal", "content_filter") or not reply.text.strip()
            replies, refusals = self._replies, self._refusals
        if refusals >= REFUSALS and refusals * 5 >= replies:
            raise JudgeFailed(f"judge {self.config.name}: refused {refusals} of {replies} questions")
