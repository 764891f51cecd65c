"""A file to which lines are appended as they come, so that a kill loses none that was written."""

import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

MAX_LINE_BYTES = 64 << 20


class Journal:
    """Any number of threads and processes may append to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file: int | None = None

    def append(self, line: bytes) -> int:
        """`line` ends in its only line feed. Returns where in the file it starts."""
        length = len(line)
        with self._lock:
            file = self._opened()
            fcntl.flock(file, fcntl.LOCK_EX)  # a long line is more than one write to some file systems
            try:
                while line:
                    line = line[os.write(file, line) :]
                return os.lseek(file, 0, os.SEEK_CUR) - length
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)

    def _opened(self) -> int:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")  # a killed process may have left half a line
        return self._file


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each line, the last one whole or not, with the place in the file where it starts."""
    with path.open("rb") as file:
        position = 0
        while line := file.readline(MAX_LINE_BYTES):
            yield position, line
            position += len(line)
