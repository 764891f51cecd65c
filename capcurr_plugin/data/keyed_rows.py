"""Row files as blocks of checked rows that stay as they are stored, each with the key that it is ordered by."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from capcurr_plugin import jsonl
from capcurr_plugin.data.row_keys import Key, Wanted
from capcurr_plugin.data.row_shapes import BAD, KEY, Lines, Shape, shape_of
from capcurr_plugin.row_files import RecordReader
from capcurr_plugin.rows import Capability, RowError, parse_row

BLOCK_BYTES, MAX_BLOCK_BYTES = 4 << 20, jsonl.MAX_LINE_BYTES
MANY_BLOCKS = 256  # from which on they are larger
THREADS = min(4, os.cpu_count() or 1)

MAX_SHAPES = 32  # of a job
MAX_LEARNED = 64  # rows that a shape is made of
MIN_ALIKE = 32  # rows of a block that a new shape has to spare the strict reader

LINE = pa.schema([pa.field("line", pa.large_binary())])

Record = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """Rows of a file that follow each other."""

    keys: np.ndarray  # of all, also of the bad ones
    rows: pa.RecordBatch  # the good ones
    places: np.ndarray  # of `rows` among `keys`


@dataclass
class Shapes:
    """What was learned of the lines of a job."""

    known: list[Shape] = field(default_factory=list)
    learned: int = 0

    def learn(self, line: bytes, record: Record, wanted: Wanted) -> Shape | None:
        """A new shape, of a line that was read strictly."""
        if len(self.known) == MAX_SHAPES or self.learned == MAX_LEARNED:
            return None
        self.learned += 1
        return shape_of(line, record, wanted)


class Sorting:
    """Lines of which some have a shape, with their places and keys; the places of the others are `left`."""

    def __init__(self, lines: Lines, shapes: list[Shape], capability: Capability | None) -> None:
        self.lines = lines
        self.capability: Capability | None = capability
        self.left = np.arange(len(lines))
        self.found: list[tuple[np.ndarray, Lines, np.ndarray]] = []
        self.is_utf8 = lines.are_utf8()
        self.tried = 0
        self.try_shapes(shapes)

    def try_shapes(self, shapes: list[Shape]) -> None:
        for shape in shapes[self.tried :]:
            self.try_shape(shape)
        self.tried = len(shapes)

    def try_shape(self, shape: Shape) -> int:
        """How many of the lines that were left have this shape."""
        if not self.is_utf8 or not len(self.left):
            return 0
        lines = self.lines.at(self.left)
        hits = shape.matches(lines)
        if not hits.any():
            return 0
        good, keys = shape.keys(lines.at(np.flatnonzero(hits)), self.capability)
        hits[hits] = good
        lines = lines.at(np.flatnonzero(hits))
        if text := shape.named(self.capability):
            lines = lines.with_column(text)
        self.found.append((self.left[hits], lines, keys[good]))
        self.left = self.left[~hits]
        return int(hits.sum())


def block_bytes(total: int) -> int:
    """How large the blocks of so many bytes are to be: larger ones take more memory, many small ones more time."""
    return max(BLOCK_BYTES, min(total // MANY_BLOCKS, MAX_BLOCK_BYTES))


@dataclass(frozen=True)
class Reading:
    """What all files of a job have in common."""

    wanted: Wanted
    block_bytes: int
    shapes: Shapes = field(default_factory=Shapes)


class Source:
    """One row file."""

    schema: pa.Schema

    def __init__(self, reader: RecordReader, capability: Capability | None, reading: Reading) -> None:
        """`capability`: that of rows which name none."""
        self.reader = reader
        self.capability: Capability | None = capability
        self.wanted, self.shapes, self.block_bytes = reading.wanted, reading.shapes, reading.block_bytes

    def blocks(self) -> Iterator[Block]:
        raise NotImplementedError

    def key(self, record: Record) -> tuple[Key, Record]:
        return self.wanted.key(parse_row(record), record, self.capability), record

    def settle(
        self, sorting: Sorting, first: int, read: Callable[[int], tuple[Record | RowError, Any]]
    ) -> list[tuple[int, Key, Record]]:
        """Read strictly what has no shape, and learn shapes from it. `first`: the row's number before the block;
        `read` reads the row at a place. The rows that are good, each with its place."""
        good = []
        sorting.try_shapes(self.shapes.known)
        while len(sorting.left):
            place, sorting.left = int(sorting.left[0]), sorting.left[1:]
            self.reader.number = first + place + 1
            for key, record in self.reader.accepted(*read(place), self.key):
                good.append((place, key, record))
                if sorting.is_utf8 and len(sorting.left) >= MIN_ALIKE:
                    shape = self.shapes.learn(sorting.lines.line(place), record, self.wanted)
                    if shape and sorting.try_shape(shape) >= MIN_ALIKE:
                        self.shapes.known.append(shape)
        self.reader.number = first + len(sorting.lines)
        return good


class LineSource(Source):
    """JSON Lines, as the bytes that they are."""

    schema = LINE

    def blocks(self) -> Iterator[Block]:
        """Blocks are matched with the shapes in other threads, and settled one after the other."""
        path, size, number = self.reader.path, self.reader.path.stat().st_size, 0
        waiting = deque()
        with (
            jsonl.blocks(path, self.reader.format, self.block_bytes) as (blocks, position),
            ThreadPoolExecutor(THREADS) as pool,
        ):
            for data, too_long in blocks:
                waiting.append((pool.submit(self._sorted, data, list(self.shapes.known)), too_long))
                if len(waiting) > THREADS:
                    number += yield from self._settled(waiting, number)
                    self.reader.tell(position() / size)
            while waiting:
                number += yield from self._settled(waiting, number)

    def _sorted(self, data: bytes, shapes: list[Shape]) -> Sorting:
        return Sorting(Lines.split(data), shapes, self.capability)

    def _settled(self, waiting: deque[Any], first: int) -> Any:
        future, too_long = waiting.popleft()
        sorting: Sorting = future.result()
        lines, count = sorting.lines, len(sorting.lines)

        def read(place: int) -> tuple[Record | RowError, bytes]:
            line = lines.line(place)
            try:
                return jsonl.parse_line(line, too_long if too_long and place == count - 1 else len(line)), line
            except RowError as error:
                return error, line

        good = self.settle(sorting, first, read)
        texts = [self._with_capability(lines.line(place), record) for place, _, record in good]
        found = [*sorting.found, (places_of(good), Lines.of(pa.array(texts, pa.large_binary())), keys_of(good))]
        yield _block(count, [one for one in found if len(one[0])])
        return count

    def _with_capability(self, line: bytes, record: Record) -> bytes:
        if self.capability is None or "capability" in record:
            return line
        return line.rstrip(b" \t\r\n")[:-1] + f', "capability": "{self.capability}"}}\n'.encode()


def places_of(good: list[tuple[int, Key, Record]]) -> np.ndarray:
    return np.array([place for place, _, _ in good], np.int64)


def keys_of(good: list[tuple[int, Key, Record]]) -> np.ndarray:
    keys = np.zeros(len(good), KEY)
    for name in Key._fields:
        keys[name] = [getattr(key, name) for _, key, _ in good]
    return keys


def _block(count: int, found: list[tuple[np.ndarray, Lines, np.ndarray]]) -> Block:
    for _, lines, of_lines in found:
        of_lines["size"] = lines.sizes
    if len(found) == 1 and len(found[0][0]) == count:
        places, lines, keys = found[0]
        return Block(keys, pa.record_batch([lines.array], schema=LINE), places)
    keys = np.zeros(count, KEY)
    keys["status"] = BAD
    for places, _, of_lines in found:
        keys[places] = of_lines
    arrays = [lines.array for _, lines, _ in found] or [pa.array([], pa.large_binary())]
    rows = pa.record_batch([arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)], schema=LINE)
    return Block(keys, rows, np.concatenate([np.zeros(0, np.int64), *(places for places, _, _ in found)]))


class RecordSource(Source):
    """Rows of any form, each as one line of JSON."""

    schema = LINE

    def blocks(self) -> Iterator[Block]:
        number, size, good = 0, 0, []
        for record, raw in self.reader.records():
            for key, kept in self.reader.accepted(record, raw, self.key):
                if self.capability:
                    kept.setdefault("capability", self.capability)
                line = jsonl.dumps(kept).encode() + b"\n"
                good.append((self.reader.number - 1 - number, key, line))
                size += len(line)
            count = self.reader.number - number
            if size >= self.block_bytes:
                yield self._block(count, good)
                number, size, good = self.reader.number, 0, []
        if self.reader.number > number:
            yield self._block(self.reader.number - number, good)

    def _block(self, count: int, good: list[tuple[int, Key, Any]]) -> Block:
        lines = Lines.of(pa.array([line for _, _, line in good], pa.large_binary()))
        return _block(count, [(places_of(good), lines, keys_of(good))])
