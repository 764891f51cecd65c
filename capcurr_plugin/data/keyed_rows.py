"""Row files as blocks of checked rows that stay as they are stored, each with the key that it is ordered by."""

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from capcurr_plugin import jsonl
from capcurr_plugin.data.row_keys import Key, Wanted
from capcurr_plugin.data.row_shapes import BAD, KEY, Lines, Shape, shape_of, sizes_of
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

    keys: np.ndarray
    rows: pa.RecordBatch  # also the bad ones, whatever they hold


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
    """Lines and their keys. The places of those without a shape are `left`; the keys of these begin as bad ones."""

    def __init__(self, lines: Lines, shapes: list[Shape], capability: Capability | None) -> None:
        self.lines = lines
        self.capability: Capability | None = capability
        self.left = np.arange(len(lines))
        self.keys = bad_keys(len(lines))
        self.nameless: list[tuple[np.ndarray, bytes]] = []  # places of lines that lack a capability, and its text
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
        hits = np.flatnonzero(shape.matches(lines))
        if not len(hits):
            return 0
        good, keys = shape.keys(lines.at(hits), self.capability)
        hits = hits[good]
        places = self.left[hits]
        self.keys[places] = keys[good]
        if text := shape.named(self.capability):
            self.nameless.append((places, text))
        self.left = np.delete(self.left, hits)
        return len(hits)


def block_bytes(total: int) -> int:
    """How large the blocks of so many bytes are to be: larger ones take more memory, many small ones more time."""
    return max(BLOCK_BYTES, min(total // MANY_BLOCKS, MAX_BLOCK_BYTES))


@dataclass(frozen=True)
class Reading:
    """What all files of a job have in common."""

    wanted: Wanted
    block_bytes: int
    shapes: Shapes = field(default_factory=Shapes)


class Source(ABC):
    """One row file."""

    schema: pa.Schema

    def __init__(self, reader: RecordReader, capability: Capability | None, reading: Reading) -> None:
        """`capability`: that of rows which name none."""
        self.reader = reader
        self.capability: Capability | None = capability
        self.wanted, self.shapes, self.block_bytes = reading.wanted, reading.shapes, reading.block_bytes

    @abstractmethod
    def blocks(self) -> Iterator[Block]: ...

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
        set_keys(sorting.keys, good)
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
        longer: list[tuple[np.ndarray, pa.Array]] = []  # places, and the lines with a further column
        if self.capability:
            longer.append(self._named(lines, [place for place, _, row in good if "capability" not in row]))
        longer += [(places, lines.at(places).with_column(text)) for places, text in sorting.nameless]
        yield _block(sorting.keys, _replaced(lines, longer) if longer else lines.array)
        return count

    def _named(self, lines: Lines, places: list[int]) -> tuple[np.ndarray, pa.Array]:
        """Lines of rows that lack a capability, and lines that name it."""
        ending = f', "capability": "{self.capability}"}}\n'.encode()
        texts = [lines.line(place).rstrip(b" \t\r\n")[:-1] + ending for place in places]
        return np.array(places, np.int64), pa.array(texts, pa.large_binary())


def _replaced(lines: Lines, longer: list[tuple[np.ndarray, pa.Array]]) -> pa.Array:
    """The lines, with longer ones at some places."""
    rest = np.delete(np.arange(len(lines)), np.concatenate([places for places, _ in longer]))
    pieces = [*longer, (rest, lines.at(rest).array)] if len(rest) else longer
    where = np.argsort(np.concatenate([places for places, _ in pieces]))
    return pa.concat_arrays([texts for _, texts in pieces]).take(pa.array(where))


def bad_keys(count: int) -> np.ndarray:
    keys = np.zeros(count, KEY)
    keys["status"] = BAD
    return keys


def set_keys(keys: np.ndarray, good: list[tuple[int, Key, Any]]) -> None:
    """Those of rows that were read strictly, each with its place."""
    found = np.zeros(len(good), KEY)
    for name in Key._fields:
        found[name] = [getattr(key, name) for _, key, _ in good]
    keys[[place for place, _, _ in good]] = found


def _block(keys: np.ndarray, lines: pa.Array) -> Block:
    keys["size"] = sizes_of(lines)
    return Block(keys, pa.record_batch([lines], schema=LINE))


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
        keys, lines = bad_keys(count), [b""] * count
        set_keys(keys, good)
        for place, _, line in good:
            lines[place] = line
        return _block(keys, pa.array(lines, pa.large_binary()))
