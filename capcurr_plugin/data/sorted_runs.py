"""Rows in another order, in bounded memory: sorted a run at a time, put on disk, and merged.

Only the keys of all rows are in memory at once. Because every run is sorted by the same keys as the whole, the rows
that come next in the whole come next in their runs, too.
"""

import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeVar, cast

import numpy as np
import pyarrow as pa

from capcurr_plugin.curriculum import Order, needs_capability, needs_pass_rate
from capcurr_plugin.data.row_keys import NO_CAPABILITY
from capcurr_plugin.errors import InputError, JobError

Item = TypeVar("Item")

KEPT_BYTES = 16 << 20  # of the runs, in memory; what is beyond that goes to the disk
PIECES_BYTES = 8 << 20  # in memory while the runs are merged, one piece of each
MIN_PIECE_BYTES = 16 << 10
CHUNK_BYTES, CHUNK_ROWS = 4 << 20, 1 << 14  # merged at a time

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def ties(seed: int, numbers: np.ndarray) -> np.ndarray:
    """SplitMix64: for each row's number a number of 64 bits that no other row has, the same on every machine."""
    return _mixed(_mixed(np.array([seed], np.uint64)) + (numbers.astype(np.uint64) + np.uint64(1)) * _GAMMA)


def _mixed(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def ordered(
    order: Order, seed: int | None, keys: np.ndarray, places: np.ndarray, outputs: np.ndarray, first: int
) -> np.ndarray:
    """The rows at `places` of `keys`: their order, by output, then as curriculum.sort_key has it. What that leaves open
    is drawn by the seed from the rows' numbers, which begin at `first`; without a seed it is left as it is."""
    levels = outputs.astype(np.int64)
    if needs_capability(order):
        levels = levels * (NO_CAPABILITY + 1) + keys["capability"][places]
    if needs_pass_rate(order):
        rates, level = np.unique(-keys["pass_rate"][places], return_inverse=True)
        levels = levels * len(rates) + level
    levels = _short(levels)
    if seed is None:
        return np.argsort(levels, kind="stable")
    drawn = np.argsort(ties(seed, first + places))
    return drawn[np.argsort(levels[drawn], kind="stable")]


def _short(numbers: np.ndarray) -> np.ndarray:
    """In 16 bits where they have room, which numpy sorts much faster."""
    return numbers.astype(np.uint16) if len(numbers) and numbers.max() < 1 << 16 else numbers


class SortedRuns:
    """Record batches, each sorted; rows are taken from the front of each."""

    def __init__(self, output: Path, expected: int) -> None:
        """About so many runs are expected. What has no room in memory waits beside `output`."""
        self._output, self._room = output, KEPT_BYTES
        self._piece_bytes = max(MIN_PIECE_BYTES, PIECES_BYTES // max(1, expected))
        self._runs: list[deque[pa.RecordBatch | tuple[int, int]]] = []
        self._schema: pa.Schema | None = None

    def __enter__(self) -> "SortedRuns":
        try:
            self._file = tempfile.TemporaryFile(dir=self._output.parent)  # it has no name and is gone with the process
        except OSError as error:
            raise InputError(f"{self._output}: cannot be written ({error.strerror})") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runs.clear()
        self._file.close()

    def add(self, batch: pa.RecordBatch) -> None:
        self._schema = batch.schema
        self._room -= batch.nbytes
        self._runs.append(deque([batch] if self._room >= 0 else self._written(batch)))

    def _written(self, batch: pa.RecordBatch) -> Iterator[tuple[int, int]]:
        rows = max(1, batch.num_rows * self._piece_bytes // max(1, batch.nbytes))
        try:
            for start in range(0, batch.num_rows, rows):
                content = batch.slice(start, rows).serialize()
                place = self._file.tell()
                self._file.write(content)
                yield place, content.size
            self._file.flush()
        except OSError as error:
            raise JobError(
                f"{self._output}: not written ({error.strerror or error} while the rows were sorted beside it); "
                "what was there before is unchanged"
            ) from None

    def take(self, run: int, count: int) -> list[pa.RecordBatch]:
        """The next rows of a run."""
        pieces, found = self._runs[run], []
        while count:
            first = pieces[0]
            batch = self._read(*first) if isinstance(first, tuple) else first
            found.append(batch.slice(0, count))
            count -= found[-1].num_rows
            if found[-1].num_rows == batch.num_rows:
                pieces.popleft()
            else:
                pieces[0] = batch.slice(found[-1].num_rows)
        return found

    def _read(self, place: int, size: int) -> pa.RecordBatch:
        self._file.seek(place)
        return pa.ipc.read_record_batch(pa.py_buffer(self._file.read(size)), self._schema)


def merged(
    runs: SortedRuns, first_numbers: np.ndarray, numbers: np.ndarray, sizes: np.ndarray
) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
    """The rows of these numbers in this order, a chunk at a time, each with its numbers. The rows of a run have numbers
    from its first number on, below that of the next; `sizes` are those of all rows in bytes."""
    start = 0
    while start < len(numbers):
        chunk = numbers[start : start + CHUNK_ROWS]
        room = int(np.searchsorted(np.cumsum(sizes[chunk], dtype=np.int64), CHUNK_BYTES, side="right"))
        chunk = chunk[: max(1, room)]
        start += len(chunk)
        run_of = np.searchsorted(first_numbers, chunk, side="right") - 1
        by_run = np.argsort(_short(run_of), kind="stable")
        counts = np.bincount(run_of)
        pieces = [piece for run in np.flatnonzero(counts).tolist() for piece in runs.take(run, int(counts[run]))]
        places = np.empty(len(chunk), np.int64)
        places[by_run] = np.arange(len(chunk))
        rows = pa.Table.from_batches(pieces).combine_chunks().to_batches()[0]
        yield chunk, rows.take(pa.array(places))


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same, each made while the one before it is used."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        item = next(items, end)
        while item is not end:
            following = pool.submit(next, items, end)
            yield cast("Item", item)
            item = following.result()
