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
    """No other process has the lock as long as the block lasts; `busy` is told where another one has and keeps it."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a+")
    except OSError as error:
        raise InputError(f"{lock.parent}: cannot be written ({error.strerror})") from None
    with file:
        deadline = time.monotonic() + PATIENCE
        while not _taken(file):
            if time.monotonic() > deadline:
                file.seek(0)
                raise InputError(f"{busy} (process {file.read().strip()})")
            time.sleep(0.2)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
