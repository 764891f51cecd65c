"""The one client for servers that speak the OpenAI protocol: hundreds of requests in flight, over one server or many.

A question is asked until it has as many answers as it wants, whatever servers make of a request for several at once.
What each reply says is handed on as it comes; `answers.py` keeps it.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from capcurr_plugin.endpoints import api_root
from capcurr_plugin.errors import InputError, JobError

if TYPE_CHECKING:
    from aiohttp import ClientSession

BUSY = {408, 409, 425, 429, 529}  # and all from 500 on
CLOSED_TO_US = {401, 403, 404}
PROBE_TOKENS = 16
MAX_REPLY_BYTES = 64 << 20
SHOWN_CHARACTERS = 300
LISTING, CONNECT_SECONDS = 10.0, 30.0  # seconds
WAITS = (0.25, 30.0)  # seconds: before a request is sent again, at first and at most
OUT_SECONDS = (1.0, 30.0)  # that a server which fails is left alone
FAILURES = 3  # in a row, that take a server out
DRAWN_SHARE = 8  # so many draws make as many questions as are in flight
NAP_SECONDS = 0.05  # between looks for a server that takes a request

Message = Mapping[str, Any]


class Unusable(Exception):
    """A question that cannot be asked, such as one whose image cannot be read; the message says why."""


@dataclass(frozen=True)
class Choice:
    text: str
    finish_reason: str | None = None


@dataclass(frozen=True)
class Reply:
    choices: Sequence[Choice]
    model: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Sampling:
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 1024
    seed: int | None = None  # each request gets one of its own by it; vLLM samples slower with them
    more: Mapping[str, Any] = field(default_factory=dict)  # further fields of the request


@dataclass(frozen=True)
class Question:
    key: str  # names it, and all that its answers depend on
    messages: Sequence[Message] | Callable[[], Sequence[Message]]  # made when it is sent; may raise Unusable
    wants: int = 1  # answers that are still to come
    has: int = 0  # answers of an earlier run
    # Told each reply's answers once there are enough; says how many more are wanted. It may take its time
    more: Callable[[Sequence[Choice]], int] | None = None


@dataclass(frozen=True)
class Settings:
    urls: Sequence[str]
    model: str | None = None  # None: the first that each server lists
    api_key: str | None = None
    parallel: int = 128  # requests in flight, over all servers
    timeout: float = 600  # seconds that a request may take
    attempts: int = 8  # at a request that others fare better than
    patience: float = 600  # seconds without any answer after which the servers are given up
    sampling: Sampling = field(default_factory=Sampling)


Keep = Callable[[Question, int, Reply], object]  # told of each reply, and how many answers its question had before
Refuse = Callable[[Question, str], object]


@dataclass
class Tally:
    """What has happened so far."""

    requests: int = 0
    answers: int = 0
    questions: int = 0
    refused: int = 0
    failures: int = 0  # requests that had to be sent again
    prompt_tokens: int = 0
    completion_tokens: int = 0
    in_flight: int = 0
    seconds: float = 0.0


def ask_all(
    settings: Settings, questions: Iterable[Question], keep: Keep, refuse: Refuse, tally: Tally | None = None
) -> Tally:
    """Ask servers that `connect` has found until every question has what it wants or is refused. Questions are drawn
    only as servers take them."""
    tally = tally or Tally()
    asyncio.run(_Chat(settings, keep, refuse, tally).run(iter(questions)))
    return tally


def connect(settings: Settings) -> Settings:
    """The same with the model's id, as the servers list it. One that answers is enough."""
    return asyncio.run(_connect(settings))


def takes(settings: Settings, more: Mapping[str, Any]) -> bool:
    """Whether the servers accept these further fields of a request. Some ignore them instead."""
    refused: list[str] = []
    short = replace(settings, sampling=replace(settings.sampling, max_tokens=PROBE_TOKENS, more=more))
    question = Question("probe", [{"role": "user", "content": "Hi"}])
    ask_all(short, [question], lambda *told: None, lambda question, reason: refused.append(reason))
    return not refused


async def _connect(settings: Settings) -> Settings:
    roots = [api_root(url) for url in dict.fromkeys(settings.urls)]
    async with _session(settings) as session:
        found = await asyncio.gather(*(_listed(session, root) for root in roots))
    listed = [models for models in found if not isinstance(models, str)]
    if not listed:
        why = "; ".join(f"{root}: {reason}" for root, reason in zip(roots, found, strict=True))
        raise InputError(f"no model server answers: {why}; start one there (capcurr serve), or give another --api-base")
    names = {settings.model} if settings.model else {models[0] for models in listed if models}
    if len(names) != 1:
        what = f"list different models ({', '.join(sorted(names))})" if names else "list no model"
        raise InputError(f"the servers {what}; name it with --model")
    return replace(settings, model=names.pop())


async def _listed(session: ClientSession, root: str) -> list[str] | str:
    """The models that a server lists, or why it does not say."""
    import aiohttp

    try:
        async with session.get(
            f"{root}/models", timeout=aiohttp.ClientTimeout(LISTING), allow_redirects=False
        ) as response:
            content = await _bounded(response)
        if response.status != 200:
            return f"HTTP {response.status}: {_shown(content)}"
        return [str(model["id"]) for model in json.loads(content)["data"]]
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError, _Again) as error:
        return _reason(error)
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def _session(settings: Settings) -> ClientSession:
    try:
        import aiohttp
    except ModuleNotFoundError:
        raise InputError("asking servers needs aiohttp: pip install 'capcurr-plugin[data]'") from None
    key = settings.api_key or os.environ.get("OPENAI_API_KEY") or "none"
    at_home = all(urlsplit(api_root(url)).hostname in ("127.0.0.1", "localhost", "::1") for url in settings.urls)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=settings.timeout, sock_connect=CONNECT_SECONDS),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        trust_env=not at_home,  # a proxy that the environment names is not for servers of one's own
    )


# Servers


@dataclass
class _Server:
    root: str
    in_flight: int = 0
    most_choices: int | None = None  # that it gives to one request, once that is known
    limit: float = float("inf")  # requests in flight, lowered while it says that it is busy
    failures: int = 0  # in a row
    out_until: float = 0.0
    closed: str | None = None  # why it is not asked again
    last_error: str = ""

    def takes_one(self, now: float) -> bool:
        return self.closed is None and now >= self.out_until and self.in_flight < self.limit

    def answered(self) -> None:
        self.failures = 0
        self.limit += 1 / self.limit

    def failed(self, reason: str, now: float) -> None:
        self.failures += 1
        self.last_error = reason
        if self.failures >= FAILURES:
            first, most = OUT_SECONDS
            self.out_until = now + min(most, first * 2 ** (self.failures - FAILURES))

    def is_busy(self, seconds: float | None, now: float) -> None:
        """It said so itself: fewer requests from now on, and none before the time that it names."""
        self.limit = max(1.0, min(self.limit, self.in_flight) / 2)
        if seconds is not None:
            self.out_until = max(self.out_until, now + seconds)


class _Again(Exception):
    """A request that failed and may fare better later."""


class _Busy(_Again):
    def __init__(self, reason: str, seconds: float | None) -> None:
        super().__init__(reason)
        self.seconds = seconds


class _Refused(Exception):
    """The server takes the request for wrong: another time it would, too."""


class _Closed(Exception):
    """The server takes no request of ours."""


# The client


class _Chat:
    def __init__(self, settings: Settings, keep: Keep, refuse: Refuse, tally: Tally) -> None:
        self.settings, self.keep, self.refuse, self.tally = settings, keep, refuse, tally
        self.servers = [_Server(api_root(url)) for url in dict.fromkeys(settings.urls)]
        self.last_answer = time.monotonic()
        self.drawing = asyncio.Lock()
        self.waiting: deque[Question] = deque()
        self.random = random.Random()

    async def run(self, questions: Iterator[Question]) -> None:
        async with _session(self.settings) as self.session:
            workers = [asyncio.create_task(self._work(questions)) for _ in range(self.settings.parallel)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, questions: Iterator[Question]) -> None:
        while question := await self._drawn(questions):
            try:
                messages = question.messages
                await self._ask(question, await asyncio.to_thread(messages) if callable(messages) else messages)
            except (Unusable, _Refused) as error:
                self.tally.refused += 1
                self.refuse(question, str(error))
            self.tally.questions += 1

    async def _drawn(self, questions: Iterator[Question]) -> Question | None:
        """The next. A few at a time are drawn in a thread, since what makes them may wait for a disk or a cluster."""
        async with self.drawing:
            if not self.waiting:
                few = max(1, self.settings.parallel // DRAWN_SHARE)
                self.waiting.extend(await asyncio.to_thread(lambda: list(itertools.islice(questions, few))))
            return self.waiting.popleft() if self.waiting else None

    async def _ask(self, question: Question, messages: Sequence[Message]) -> None:
        has, wants = question.has, question.wants
        encoded = json.dumps(list(messages))  # once, since it may hold images
        while wants > 0:
            reply = await self._reply(encoded, wants, self._seed(question.key, has))
            self.keep(question, has, reply)
            has += len(reply.choices)
            wants -= len(reply.choices)
            if question.more:
                wants += await asyncio.to_thread(question.more, reply.choices)

    async def _reply(self, messages: str, wants: int, seed: Mapping[str, int]) -> Reply:
        """A reply with one choice at least."""
        failures, first_failure = 0, 0.0
        refused_by: _Server | None = None  # several answers in one request
        while True:
            server = refused_by or await self._free_server()
            n = 1 if refused_by else min(wants, server.most_choices or wants)
            try:
                reply = await self._send(server, self._body(messages, n, seed), n)
            except _Refused:
                if n == 1:
                    raise
                refused_by = server  # some refuse several at temperature 0, or at all; else it is the question
                continue
            except _Closed as error:
                server.closed, refused_by = str(error), None
                continue
            except _Again as error:
                failures, refused_by = failures + 1, None
                first_failure = first_failure or time.monotonic()
                self._note_failure(server, error)
                if failures >= self.settings.attempts and self.last_answer > first_failure:
                    raise _Refused(f"failed {failures} times, at last with: {error}") from None
                await asyncio.sleep(self._wait(failures))
                continue
            server.answered()
            if refused_by or len(reply.choices) < n:
                server.most_choices = len(reply.choices)
            self._count(reply)
            return reply

    def _note_failure(self, server: _Server, error: _Again) -> None:
        now = time.monotonic()
        self.tally.failures += 1
        if isinstance(error, _Busy):
            server.is_busy(error.seconds, now)
        server.failed(str(error), now)
        if now - self.last_answer > self.settings.patience:
            raise JobError(
                f"no server has answered for {self.settings.patience / 60:g} minutes: {self._why_none()}; what was "
                "answered is kept: run the same command again to go on"
            )

    def _count(self, reply: Reply) -> None:
        self.last_answer = time.monotonic()
        self.tally.requests += 1
        self.tally.answers += len(reply.choices)
        self.tally.prompt_tokens += reply.prompt_tokens
        self.tally.completion_tokens += reply.completion_tokens

    def _wait(self, failures: int) -> float:
        first, most = WAITS
        return min(most, first * 2 ** (failures - 1)) * self.random.uniform(0.5, 1)

    async def _free_server(self) -> _Server:
        """The one with the fewest requests in flight, of those that take one."""
        while True:
            now = time.monotonic()
            free = [server for server in self.servers if server.takes_one(now)]
            if free:
                return min(free, key=lambda server: server.in_flight)
            if all(server.closed for server in self.servers):
                raise JobError(f"no server takes requests: {self._why_none()}")
            await asyncio.sleep(NAP_SECONDS)

    def _why_none(self) -> str:
        return "; ".join(f"{server.root}: {server.closed or server.last_error}" for server in self.servers)

    def _seed(self, key: str, has: int) -> dict[str, int]:
        """The same for the same question and place, in whatever order and however often the job is started."""
        seed = self.settings.sampling.seed
        if seed is None:
            return {}
        digest = hashlib.blake2b(f"{seed} {has} {key}".encode(), digest_size=4).digest()
        return {"seed": int.from_bytes(digest, "big") >> 1}

    def _body(self, messages: str, n: int, seed: Mapping[str, int]) -> bytes:
        sampling = self.settings.sampling
        settings = {
            "model": self.settings.model,
            "n": n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            **seed,
            **sampling.more,
        }
        return f'{json.dumps(settings)[:-1]}, "messages": {messages}}}'.encode()

    async def _send(self, server: _Server, body: bytes, n: int) -> Reply:
        import aiohttp

        url = f"{server.root}/chat/completions"
        server.in_flight += 1
        self.tally.in_flight += 1
        try:
            async with self.session.post(url, data=body, allow_redirects=False) as response:
                content = await _bounded(response)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise _Again(_reason(error)) from None
        finally:
            server.in_flight -= 1
            self.tally.in_flight -= 1
        if response.status != 200:
            _raise_for(response.status, content, response.headers)
        return _parse(content, n)


async def _bounded(response: Any) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > MAX_REPLY_BYTES:
            raise _Again(f"the reply is over {MAX_REPLY_BYTES >> 20} MB long")
    return bytes(content)


def _raise_for(status: int, content: bytes, headers: Mapping[str, str]) -> None:
    reason = f"HTTP {status}: {_shown(content)}"
    if status in BUSY:
        raise _Busy(reason, _retry_after(headers))
    if status >= 500 or status < 400:
        raise _Again(reason)
    if status in CLOSED_TO_US:
        raise _Closed(reason)
    raise _Refused(reason)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        return min(max(float(headers.get("Retry-After", "")), 0.0), 600.0)
    except ValueError:
        return None


def _parse(content: bytes, n: int) -> Reply:
    try:
        reply = json.loads(content)
        choices = [_choice(choice) for choice in reply["choices"][:n]]
        usage = reply.get("usage") or {}
        tokens = (int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
        model = reply.get("model")
        if not choices:
            raise _Again("the reply holds no choice")
        return Reply(choices, model if isinstance(model, str) else None, *tokens)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _Again(f"the reply is no chat completion ({type(error).__name__}): {_shown(content)}") from None


def _choice(choice: Mapping[str, Any]) -> Choice:
    text, finish = choice["message"].get("content"), choice.get("finish_reason")
    if text is not None and not isinstance(text, str):
        raise TypeError
    return Choice(text or "", finish if isinstance(finish, str) else None)  # None: all of it was thinking


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".rstrip(": ").split())


def _shown(content: bytes) -> str:
    text = " ".join(content[: 4 * SHOWN_CHARACTERS].decode(errors="replace").split())
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"
