"""One process at a time in a place."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from capcurr_plugin.errors import InputError

PATIENCE = 5.0  # seconds: a process that was just killed lets go within moments


@contextlib.contextmanager
def holding(lock: Path, busy: str) -> Iterator[None]:
    """No other process has the lock as long as the block lasts; `busy` is told where another one has and keeps it.
    The block may remove the file at its end."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with _opened(lock) as file:
            if _taken(file, lock):
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
                yield
                return
            file.seek(0)
            holder = file.read().strip()
        if time.monotonic() > deadline:
            raise InputError(f"{busy} (process {holder})")
        time.sleep(0.2)


def _opened(lock: Path) -> IO[str]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        return lock.open("a+")
    except OSError as error:
        raise InputError(f"{lock.parent}: cannot be written ({error.strerror})") from None


def _taken(file: IO[str], lock: Path) -> bool:
    """Who waited for a file that was then removed holds a lock that nobody else sees."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), lock.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
