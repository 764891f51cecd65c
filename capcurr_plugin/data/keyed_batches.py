"""Parquet files as blocks of checked rows that stay columns.

The checks of rows.py are made over whole columns. They pass only what the row reader passes, and what they do not pass
is read strictly: they decide how fast a file is read and never what is accepted.
"""

from collections.abc import Iterator
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from capcurr_plugin import parquet
from capcurr_plugin.data.keyed_rows import (
    Block,
    Reading,
    Record,
    Sorting,
    Source,
    set_keys,
)
from capcurr_plugin.data.row_keys import NO_CAPABILITY, NO_PASS_RATE, SPLIT_COLUMNS, Wanted, part_number
from capcurr_plugin.data.row_shapes import BAD, KEY, NO_PART, Lines, index_hashes
from capcurr_plugin.jsonl import loads
from capcurr_plugin.parquet import is_marked
from capcurr_plugin.row_files import RecordReader
from capcurr_plugin.rows import (
    CAPABILITIES,
    CHOICE_COLUMNS,
    CHOICE_SOURCE,
    IMAGE_MARK,
    MAX_INDEX_LENGTH,
    OPTION_LETTERS,
    OPTIONAL_COLUMNS,
    PASS_RATE_TOLERANCE,
    Capability,
    RowError,
)

pc: Any = pyarrow.compute  # its functions are made when it is imported

MAX_BATCH_ROWS = 1 << 14


class BatchSource(Source):
    """Parquet, as the columns that it has."""

    def __init__(
        self, reader: RecordReader, capability: Capability | None, reading: Reading, schema: pa.Schema
    ) -> None:
        super().__init__(reader, capability, reading)
        self.schema = schema
        self.verl = parquet.is_verl_form(schema.names)
        if self.verl:
            self.capability = None  # each of its rows names one

    def blocks(self) -> Iterator[Block]:
        reader, number = self.reader, 0
        for batch in parquet.read_batches(reader.path, reader.tell, self.block_bytes, MAX_BATCH_ROWS):
            rows = self._of_schema(batch)
            yield self._of_verl(rows, number) if self.verl else self._of_rows(rows, number)
            number += len(rows)

    def _of_schema(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = []
        for column in self.schema:
            place = batch.schema.get_field_index(column.name)
            values = batch.column(place) if place >= 0 else pa.nulls(len(batch), column.type)
            if column.name == "capability" and self.capability:
                values = values.fill_null(self.capability)
            columns.append(values)
        return pa.record_batch(columns, schema=self.schema)

    def _of_rows(self, rows: pa.RecordBatch, first: int) -> Block:
        good, keys = keys_of_columns(rows, self.wanted)
        left = np.flatnonzero(~good)
        keys["status"][left] = BAD
        with parquet.damage_told(self.reader.path):
            records = list(parquet.records_of(rows.take(pa.array(left)), verl=False))
        for place, record in zip(left.tolist(), records, strict=True):
            self.reader.number = first + place + 1
            for key, _ in self.reader.accepted(record, record, self.key):
                set_keys(keys, [(place, key, record)])
        return self._block(rows, keys, first)

    def _of_verl(self, rows: pa.RecordBatch, first: int) -> Block:
        info = rows.select(["extra_info"])
        lines = _lines_of(info.column(0))

        def read(place: int) -> tuple[Record | RowError, Any]:
            with parquet.damage_told(self.reader.path):
                record = next(parquet.records_of(info.slice(place, 1), verl=True))
            return record, record

        sorting = Sorting(lines, list(self.shapes.known), None)
        self.settle(sorting, first, read)
        return self._block(rows, sorting.keys, first)

    def _block(self, rows: pa.RecordBatch, keys: np.ndarray, first: int) -> Block:
        self.reader.number = first + len(rows)
        keys["size"] = rows.nbytes // max(1, len(rows))
        return Block(keys, rows)


def _lines_of(extra_info: pa.Array) -> Lines:
    """The text of each row in verl's form, as a line; an empty one where there is none."""
    kind, empty = extra_info.type, pa.scalar(b"", pa.large_binary())
    texts = pa.nulls(len(extra_info), pa.large_binary())
    if pa.types.is_struct(kind) and kind.get_field_index("row") >= 0 and pa.types.is_string(kind.field("row").type):
        texts = pc.struct_field(extra_info, "row").cast(pa.large_binary())
    line_end = pa.scalar(b"\n", pa.large_binary())
    return Lines.of(pc.binary_join_element_wise(pc.fill_null(texts, empty), empty, line_end))


INK = r"[!-~\x{370}-\x{167f}\x{3001}-\x{d7ff}]"  # characters that are no space for sure
IMAGE = r"\A\.?[!-\-0-9;-\[\]-~](?:\.?[^.:\\\x00])*\z"  # no two dots in a row


def keys_of_columns(rows: pa.RecordBatch, wanted: Wanted) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are good for sure, and the keys of all."""
    keys = np.zeros(len(rows), KEY)
    try:
        rows.validate(full=True)  # is every text UTF-8?
        return _Columns(rows, wanted).checked(keys), keys
    except (pa.ArrowInvalid, _Unlike):
        return np.zeros(len(rows), bool), keys


class _Unlike(Exception):
    """A column is not of the type that rows usually have it in."""


class _Columns:
    def __init__(self, rows: pa.RecordBatch, wanted: Wanted) -> None:
        self.rows, self.names, self.wanted = rows, set(rows.schema.names), wanted
        self.choice = not self.names & {"problem", "images"}
        self.problem, self.images = ("prompt", "image_path") if self.choice else ("problem", "images")

    def checked(self, keys: np.ndarray) -> np.ndarray:
        """Which rows are good; their keys are filled in."""
        good = self.required() & self.measured() & self.free()
        indices = Lines.of(self.text("index").cast(pa.large_binary()))
        keys["hash"] = index_hashes(indices.data, indices.starts, indices.ends - indices.starts)
        keys["pass_rate"] = self.pass_rates()
        keys["capability"], known = self.capabilities()
        if self.wanted.split:
            keys["part"] = self.parts(self.wanted.split_by)
        return good & known & (keys["part"] != NO_PART)

    def get(self, name: str, kind: pa.DataType) -> pa.Array:
        """A column that may be missing or null."""
        if name not in self.names or pa.types.is_null(self.rows.schema.field(name).type):
            return pa.nulls(len(self.rows), kind)
        column = self.rows.schema.field(name)
        if column.type != kind or is_marked(column):
            raise _Unlike
        return self.rows.column(name)

    def text(self, name: str) -> pa.Array:
        return self.get(name, pa.string())

    # The columns that every row has

    def required(self) -> np.ndarray:
        images, problem = self.get(self.images, pa.list_(pa.string())), self.text(self.problem)
        filled = ["index", "answer", self.problem, *(CHOICE_COLUMNS if self.choice else ("source",))]
        good = reduce(np.logical_and, (_true(pc.match_substring_regex(self.text(name), INK)) for name in filled))
        good &= _true(pc.less_equal(pc.utf8_length(self.text("index")), MAX_INDEX_LENGTH))
        good &= _true(pc.equal(pc.count_substring(problem, IMAGE_MARK), pc.list_value_length(images)))
        good[_parents(images)[~_true(pc.match_substring_regex(pc.list_flatten(images), IMAGE))]] = False
        return good & self.choices() if self.choice else good

    def choices(self) -> np.ndarray:
        """What only multiple-choice rows have to fulfil."""
        source, letters = self.text("source"), pa.array(list(OPTION_LETTERS))
        own = pc.and_(pc.match_substring_regex(source, INK), pc.not_equal(source, CHOICE_SOURCE))
        return _true(pc.is_in(self.text("answer"), letters)) & _true(pc.fill_null(own, True))

    # Measurements

    def measured(self) -> np.ndarray:
        predictions = self.get("predictions", pa.list_(pa.string()))
        correctness = self.get("correctness", pa.list_(pa.bool_()))
        same = pc.equal(pc.list_value_length(predictions), pc.list_value_length(correctness))
        good = _true(pc.fill_null(same, True))
        verdicts, rows = pc.list_flatten(correctness), _parents(correctness)
        good[rows[_true(pc.is_null(verdicts))]] = False
        rates = self.pass_rates()
        missing = rates == NO_PASS_RATE
        good &= missing & (not self.wanted.pass_rate) | (rates >= 0) & (rates <= 1)
        counts = np.bincount(rows, minlength=len(good))
        right = np.bincount(rows, weights=_true(verdicts), minlength=len(good))
        mean = right / np.maximum(counts, 1)
        return good & (missing | (counts == 0) | (np.abs(rates - mean) <= PASS_RATE_TOLERANCE))

    def pass_rates(self) -> np.ndarray:
        rates = self.get("pass_rate", pa.float64())
        given = _true(rates.is_valid())
        found = np.where(given, rates.fill_null(0).to_numpy(zero_copy_only=False), NO_PASS_RATE)
        return np.where(given & (found == NO_PASS_RATE), np.nan, found)  # a stored 2 is no missing one

    def capabilities(self) -> tuple[np.ndarray, np.ndarray]:
        names = self.text("capability")
        found = pc.index_in(names, pa.array(CAPABILITIES))
        good = _true(found.is_valid()) | (_true(names.is_null()) & (not self.wanted.capability))
        return found.fill_null(NO_CAPABILITY).to_numpy(zero_copy_only=False), good

    # What rows may be split by

    def parts(self, column: str | None) -> np.ndarray:
        names = [name for name in ([column] if column else SPLIT_COLUMNS) if name in self.names]
        if any(is_marked(self.rows.schema.field(name)) for name in names):
            return np.full(len(self.rows), NO_PART)
        records = self.rows.select(names).to_pylist()
        return np.array([_part(record, column) for record in records], np.uint8)

    # Further columns

    def free(self) -> np.ndarray:
        own = {"index", "answer", "source", "capability", self.problem, self.images, *OPTIONAL_COLUMNS}
        own |= set(CHOICE_COLUMNS) if self.choice else set()
        good = np.ones(len(self.rows), bool)
        for column in self.rows.schema:
            if column.name in own:
                continue
            values = self.rows.column(column.name)
            if is_marked(column):
                good &= [text is None or _is_json(text) for text in values.to_pylist()]
            elif not _finite(values):
                raise _Unlike
        return good


def _true(values: pa.Array) -> np.ndarray:
    """Where a column of true and false is true."""
    return np.array(pc.fill_null(values, False).to_numpy(zero_copy_only=False), bool)


def _parents(lists: pa.Array) -> np.ndarray:
    """The row of each item of the lists."""
    return pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)


def _part(record: dict[str, object], column: str | None) -> int:
    try:
        return part_number(record, column)
    except RowError:
        return NO_PART


def _is_json(text: str) -> bool:
    try:
        loads(text)
    except RowError:
        return False
    return True


def _finite(values: pa.Array) -> bool:
    """Whether no NaN and no infinity is in a column."""
    kind = values.type
    if pa.types.is_floating(kind):
        return bool(pc.all(pc.is_finite(values)).as_py() in (True, None))
    if pa.types.is_struct(kind):
        return all(_finite(part) for part in values.flatten())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _finite(pc.list_flatten(values))
    return True
