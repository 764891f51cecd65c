"""The pool of workers in which the graders of others run: made once per process, on its first score."""

import atexit
import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import cache
from importlib.util import find_spec
from itertools import count
from typing import Literal

SECONDS = float(os.environ.get("CAPCURR_REWARD_SECONDS", "1"))  # of wall time for one answer
MAX_WORKERS = 32
STARTING_SECONDS = 60.0
STARTING_GRACE = 0.4  # that the first answers get on top, while the workers start

Grader = Literal["math-verify", "mathruler"]
MODULES: dict[Grader, tuple[str, ...]] = {"math-verify": ("math_verify",), "mathruler": ("mathruler", "pylatexenc")}


class TimedOut(Exception):
    """No verdict in time. `answer_is_slow`: it had a worker for all its time; else it says nothing about the answer."""

    def __init__(self, *, answer_is_slow: bool) -> None:
        super().__init__()
        self.answer_is_slow = answer_is_slow


class PoolIsGone(Exception):
    """Its process has ended, which only an outer hand does."""


class Worker:
    """One socket, and at its other end one process after another."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.busy_with: int | None = 0  # the question that is not answered yet; 0 is the start of the process
        self._numbers = count(1)
        self._buffer = b""

    def ask(self, grader: Grader, answer: str, truth: str, deadline: float) -> bool | None:
        self.wait_ready(deadline)
        number, left = next(self._numbers), deadline - time.monotonic()
        if left <= 0:
            raise TimedOut(answer_is_slow=False)
        self._drain()
        self.busy_with = number
        self._send(json.dumps([number, grader, answer, truth, left]).encode() + b"\n", deadline)
        while True:
            reply, verdict = self._read(deadline, answer_is_slow=True)
            if reply == number:
                return verdict
            if reply == 0:  # a fresh process: that one ran out of time or of memory
                raise TimedOut(answer_is_slow=True)

    def wait_ready(self, deadline: float) -> None:
        while self.busy_with is not None:
            self._read(deadline, answer_is_slow=False)

    def _drain(self) -> None:
        """What is said between questions: that a process which was killed from outside has been replaced."""
        self.connection.settimeout(0)
        try:
            while chunk := self.connection.recv(4096):
                self._buffer += chunk
        except BlockingIOError:
            self._buffer = self._buffer[self._buffer.rfind(b"\n") + 1 :]
        except OSError as error:
            raise PoolIsGone from error
        else:
            raise PoolIsGone

    def _send(self, line: bytes, deadline: float) -> None:
        self.connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            self.connection.sendall(line)
        except TimeoutError:
            raise TimedOut(answer_is_slow=False) from None
        except OSError as error:
            raise PoolIsGone from error

    def _read(self, deadline: float, *, answer_is_slow: bool) -> tuple[int, bool | None]:
        """The next reply. It ends what the worker was busy with, be it the answer or a fresh process in its place."""
        while b"\n" not in self._buffer:
            self.connection.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                chunk = self.connection.recv(4096)
            except TimeoutError:
                raise TimedOut(answer_is_slow=answer_is_slow) from None
            except OSError as error:
                raise PoolIsGone from error
            if not chunk:
                raise PoolIsGone
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        reply: tuple[int, bool | None] = json.loads(line)
        if reply[0] in (0, self.busy_with):
            self.busy_with = None
        return reply


class Pool:
    def __init__(self, size: int) -> None:
        self.pid, self.size = os.getpid(), size
        pairs = [socket.socketpair() for _ in range(size)]
        numbers = [theirs.fileno() for _, theirs in pairs]
        # In a session of its own, so that Ctrl-C ends the asker and not its workers first
        self.process = subprocess.Popen(
            [sys.executable, "-m", "capcurr_plugin.reward.graders", *map(str, numbers)],
            pass_fds=numbers,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        for _, theirs in pairs:
            theirs.close()
        self.workers = [Worker(ours) for ours, _ in pairs]
        self.warm = False  # no worker has been heard of
        self.idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self.workers:
            self.idle.put(worker)

    def ask(self, grader: Grader, answer: str, truth: str) -> bool | None:
        seconds = SECONDS if self.warm else SECONDS + STARTING_GRACE
        deadline = time.monotonic() + seconds
        try:
            worker = self.idle.get(timeout=seconds)
        except queue.Empty:  # all are busy with slow answers
            raise TimedOut(answer_is_slow=False) from None
        try:
            verdict = worker.ask(grader, answer, truth, deadline)
            self.warm = True
            return verdict
        finally:
            self.idle.put(worker)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + STARTING_SECONDS
        for worker in self.workers:
            worker.wait_ready(deadline)
        self.warm = True

    def close(self) -> None:
        """End the processes; in a fork of the process that made them, only let go of them."""
        for worker in self.workers:
            worker.connection.close()
        if os.getpid() == self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


_pool: Pool | None = None
_lock = threading.Lock()


@cache
def available(grader: Grader) -> bool:
    return all(map(find_spec, MODULES[grader]))


def _forget() -> None:
    """In a forked process, which makes its own."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def pool() -> Pool:
    """This process's pool, which may still be starting."""
    global _pool
    if _pool is None:
        with _lock:
            if _pool is None:
                _pool = Pool(min(MAX_WORKERS, cores()))
                atexit.register(_pool.close)
    return _pool


def start() -> None:
    """Make the pool, without waiting for it."""
    if _pool is None and available("math-verify"):
        pool()


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ask(grader: Grader, answer: str, truth: str) -> bool | None:
    """The verdict of a grader; None when it has none. TimedOut when it takes too long."""
    global _pool
    asked = pool()
    try:
        return asked.ask(grader, answer, truth)
    except PoolIsGone:
        with _lock:
            if _pool is asked:
                asked.close()
                atexit.unregister(asked.close)
                _pool = None
        pool()  # the next answer finds workers
        raise TimedOut(answer_is_slow=False) from None


def warm_up() -> None:
    """Return when every worker is ready."""
    pool().wait_ready()
