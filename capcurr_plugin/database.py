"""Files of SQLite in the user's cache, which several processes use at once and any of them may leave at any moment."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from capcurr_plugin.errors import JobError

CACHE = "CAPCURR_CACHE"  # the folder; by default that of the user's caches


def cache_folder() -> Path:
    return Path(os.environ.get(CACHE) or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "capcurr")


class Database:
    """Safe to use from many threads, and from processes that were forked after it was made."""

    def __init__(self, path: Path, tables: str, kept: str) -> None:
        """`tables`: SQL that makes them where they are missing. `kept`: what errors call the content."""
        self.path = path
        self._tables, self._kept = tables, kept
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One that no other process is in at the same time."""
        with self.statement() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                database.execute("ROLLBACK")
                raise

    @contextmanager
    def statement(self) -> Iterator[sqlite3.Connection]:
        """For a single one, which is a transaction by itself."""
        with self._lock:
            try:
                yield self._opened()
            except (sqlite3.Error, OSError) as error:
                reason = f"{error}; ${CACHE} names another folder"
                raise JobError(f"{self.path}: the {self._kept} cannot be kept ({reason})") from None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None or self._owner != os.getpid():  # SQLite does not survive a fork
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
            self._owner = os.getpid()
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(self._tables)
        return self._connection
