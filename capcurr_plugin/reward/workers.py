"""The pool of symbolic workers: made once per process on first use, each killed and replaced when it overruns."""

import atexit
import json
import os
import queue
import selectors
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

SECONDS = float(os.environ.get("CAPCURR_REWARD_SECONDS", "1"))  # of wall time for one answer
STARTING_SECONDS = 60.0


class TimedOut(Exception):
    """No verdict in time. `cold`: because no worker was ready yet, which says nothing about the answer."""

    def __init__(self, *, cold: bool) -> None:
        super().__init__()
        self.cold = cold


class Worker:
    """One process. It ends by itself when this one does, because its input closes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "capcurr_plugin.reward.symbolic"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self.ready = False
        self._buffer = b""

    def ask(self, answer: str, truth: str, deadline: float) -> bool:
        self.wait_ready(deadline)
        assert self.process.stdin is not None
        # A pipe holds 64 KiB, answers are far shorter: this write does not block.
        self.process.stdin.write(json.dumps([answer, truth]).encode() + b"\n")
        return self._read(deadline) == b"true"

    def wait_ready(self, deadline: float) -> None:
        if not self.ready:
            self._read(deadline)
            self.ready = True

    def _read(self, deadline: float) -> bytes:
        """The next line of the worker; TimedOut when it does not come in time or the worker has died."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimedOut(cold=not self.ready)
                chunk = os.read(self.process.stdout.fileno(), 4096)
                if not chunk:  # it ran out of memory
                    raise TimedOut(cold=False)
                self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Pool:
    def __init__(self, size: int) -> None:
        self.pid = os.getpid()
        self.idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self.all = [Worker() for _ in range(size)]
        for worker in self.all:
            self.idle.put(worker)

    def ask(self, answer: str, truth: str) -> bool:
        deadline = time.monotonic() + SECONDS
        try:
            worker = self.idle.get(timeout=SECONDS)
        except queue.Empty:  # all are busy with slow answers
            raise TimedOut(cold=True) from None
        try:
            equal = worker.ask(answer, truth, deadline)
        except (TimedOut, OSError) as error:
            cold = isinstance(error, TimedOut) and error.cold
            self.idle.put(worker if cold else self._replace(worker))
            raise TimedOut(cold=cold) from None
        self.idle.put(worker)
        return equal

    def _replace(self, worker: Worker) -> Worker:
        worker.kill()
        fresh = Worker()
        self.all[self.all.index(worker)] = fresh
        return fresh

    def close(self) -> None:
        if os.getpid() == self.pid:
            for worker in self.all:
                worker.kill()


_pool: Pool | None = None
_lock = threading.Lock()


def available() -> bool:
    return find_spec("math_verify") is not None


def pool() -> Pool:
    """This process's pool; a forked child makes its own."""
    global _pool
    with _lock:
        if _pool is None or _pool.pid != os.getpid():
            _pool = Pool(max(1, min(4, (os.cpu_count() or 2) // 2)))
            atexit.register(_pool.close)
        return _pool


def warm_up() -> None:
    """Return when every worker is ready."""
    deadline = time.monotonic() + STARTING_SECONDS
    for worker in pool().all:
        worker.wait_ready(deadline)
