"""Rows in Parquet. A column whose values are not all of one simple type is kept as JSON text, marked in its metadata,
so that what was read from JSON comes back the same: 1 and 1.0, null and absent, nested and mixed values.
"""

import contextlib
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from capcurr_plugin.atomic import replacing
from capcurr_plugin.errors import InputError
from capcurr_plugin.jsonl import dumps, loads
from capcurr_plugin.rows import RowError

READ_ROWS = 1024  # at once
WRITE_ROWS, WRITE_BYTES = 16384, 16 << 20  # a row group ends at either

JSON_MARK = {b"capcurr.encoding": b"json"}
TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "texts": pa.list_(pa.string()),
    "bools": pa.list_(pa.bool_()),
}
# The schema's own columns have their type whatever the rows hold.
COLUMN_KINDS = {
    "index": "text",
    "problem": "text",
    "answer": "text",
    "images": "texts",
    "source": "text",
    "predictions": "texts",
    "correctness": "bools",
    "pass_rate": "float",
}


def read_records(
    path: Path, tell: Callable[[float], object], binary: bool = False
) -> Iterator[dict[str, Any] | RowError]:
    """Every row as a JSON object, or the error of a value that is none; `tell` hears the share that is read. With
    `binary`, a value may also be bytes, as images are on the hub."""
    with _opened(path) as file:
        # verl's form holds the row itself in one column; the others, images among them, are not even read.
        verl = is_verl_form(file.schema_arrow.names)
        if not verl:
            _check_schema(path, file.schema_arrow, binary)
        done = 0
        for batch in file.iter_batches(READ_ROWS, columns=["extra_info"] if verl else None):
            yield from records_of(batch, verl)
            done += batch.num_rows
            tell(done / file.metadata.num_rows)


def read_batches(
    path: Path, tell: Callable[[float], object], batch_bytes: int, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """All columns, in batches of about so many bytes and at most so many rows."""
    with _opened(path) as file:
        about = file.metadata
        total = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
        rows = min(batch_rows, batch_bytes * about.num_rows // max(1, total))
        done = 0
        for batch in file.iter_batches(max(1, rows)):
            yield batch
            done += batch.num_rows
            tell(done / about.num_rows)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    with (
        damage_told(path),
        path.open("rb") as raw,
        pq.ParquetFile(raw, pre_buffer=False, page_checksum_verification=True) as file,
    ):
        yield file


@contextlib.contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """What is wrong with a file's content ends in one line."""
    try:
        yield
    except UnicodeDecodeError:
        raise InputError(f"{path}: a text or the name of a column in it is not UTF-8") from None
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise InputError(f"{path}: not a whole Parquet file ({reason})") from None


def records_of(batch: pa.RecordBatch, verl: bool) -> Iterator[dict[str, Any] | RowError]:
    """The rows of a batch as JSON objects. `verl`: the batch is of verl's form."""
    encoded = {f.name for f in batch.schema if is_marked(f) and pa.types.is_string(f.type)}
    for values in batch.to_pylist():
        yield _row_of_verl_form(values) if verl else _row(values, encoded)


def common_schema(paths: Sequence[Path], more_texts: Sequence[str]) -> pa.Schema | None:
    """The columns of all files together, or None when one name has two types, or when rows of the files cannot be moved
    without being read. `more_texts`: columns of text that are to be there, too."""
    schemas = [_schema(path) for path in paths]
    verl = [is_verl_form(schema.names) for schema in schemas]
    if any(verl):
        return schemas[0] if all(verl) and all(schema == schemas[0] for schema in schemas) else None
    fields: dict[str, pa.Field] = {}
    for column in (
        *(column for schema in schemas for column in schema),
        *(pa.field(n, pa.string()) for n in more_texts),
    ):
        known = fields.setdefault(column.name, column)
        if not known.equals(column, check_metadata=True) or _has_dictionary(column.type):
            return None
    return pa.schema(list(fields.values()))


def _schema(path: Path) -> pa.Schema:
    """What a row file's columns are, without remarks of other programs."""
    with _opened(path) as file:
        schema = file.schema_arrow
    if not is_verl_form(schema.names):
        _check_schema(path, schema, binary=False)
    return pa.schema([pa.field(f.name, f.type, metadata=JSON_MARK if is_marked(f) else None) for f in schema])


def _has_dictionary(kind: pa.DataType) -> bool:
    """Whose batches cannot be read one by one."""
    return pa.types.is_dictionary(kind) or any(_has_dictionary(kind.field(i).type) for i in range(kind.num_fields))


def holds_verl_form(path: Path) -> bool:
    """Whether a Parquet file is what `write` of VerlForm makes."""
    try:
        return is_verl_form(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: no Parquet file, or a damaged one ({str(error).splitlines()[0]})") from None


def is_verl_form(columns: Iterable[str]) -> bool:
    return "index" not in columns and {"data_source", "prompt", "reward_model", "extra_info"} <= set(columns)


def is_marked(field: pa.Field) -> bool:
    return field.metadata is not None and JSON_MARK.items() <= field.metadata.items()


def _row_of_verl_form(values: dict[str, Any]) -> dict[str, Any] | RowError:
    extra_info = values["extra_info"]
    text = extra_info.get("row") if isinstance(extra_info, dict) else None
    if not isinstance(text, str):
        return RowError("'extra_info' has no 'row': of verl's files, only those of `capcurr data convert` can be read")
    try:
        record = loads(text)
    except RowError as error:
        return RowError(f"'extra_info.row': {error}")
    return record if isinstance(record, dict) else RowError("'extra_info.row' is not a JSON object")


def _row(values: dict[str, Any], encoded: set[str]) -> dict[str, Any] | RowError:
    record = {name: value for name, value in values.items() if value is not None}
    for name, value in record.items():
        if name in encoded:
            try:
                record[name] = loads(value)
            except RowError as error:
                return RowError(f"column {name!r}: {error}")
        elif not _is_finite(value):
            return RowError(f"column {name!r} holds NaN or an infinity, which JSON does not have; write null")
    return record


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(map(_is_finite, value))
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return True


def _check_schema(path: Path, schema: pa.Schema, binary: bool) -> None:
    if len(set(schema.names)) != len(schema.names):
        raise InputError(f"{path}: two columns have the same name; rename one")
    for column in schema:
        reason = _misfit(column.type, binary)
        if is_marked(column) and not pa.types.is_string(column.type):
            reason = f"has the type {column.type} but is marked as JSON text"
        if reason:
            advice = "turn it into text, numbers or lists of them, or drop it"
            raise InputError(f"{path}: column {column.name!r} {reason}; {advice}")


def _misfit(kind: pa.DataType, binary: bool) -> str | None:
    """Why values of a type cannot stand in a row; None when they can."""
    types = pa.types
    if types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        if len({f.name for f in fields}) < len(fields):
            return "holds an object with two fields of the same name"
        return next((reason for f in fields if (reason := _misfit(f.type, binary))), None)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_dictionary(kind):
        return _misfit(kind.value_type, binary)
    fitting = (types.is_null, types.is_string, types.is_large_string, types.is_boolean)
    if binary and (types.is_binary(kind) or types.is_large_binary(kind)):
        return None
    if types.is_integer(kind) or types.is_floating(kind) or any(fits(kind) for fits in fitting):
        return None
    return f"has the type {kind}, which a row cannot hold"


def write_records(path: Path, records: Iterable[dict[str, Any]]) -> int:
    """Write JSON objects as rows."""
    with replacing(path) as file:
        return write_records_to(file, path.parent, records)


def write_records_to(file: IO[bytes], folder: Path, records: Iterable[dict[str, Any]]) -> int:
    """As write_records. Parquet wants every column's type first, so the rows wait in a file in `folder` meanwhile."""
    kinds: dict[str, str] = {}
    with tempfile.TemporaryFile(dir=folder) as spool:
        for record in records:
            for name, value in record.items():
                kind = COLUMN_KINDS.get(name) or _kind(value)
                kinds[name] = kind if kinds.get(name, kind) == kind else "json"
            spool.write(dumps(record).encode() + b"\n")
        spool.seek(0)
        fields = [
            pa.field(name, TYPES.get(kind, pa.string()), metadata=JSON_MARK if kind == "json" else None)
            for name, kind in kinds.items()
        ]
        texts = [name for name, kind in kinds.items() if kind == "json"]
        rows = ((_encode(json.loads(line), texts), len(line)) for line in spool)
        return write_table(file, pa.schema(fields), rows)


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "texts" if all(isinstance(item, str) for item in value) else "json"
    if type(value) is int:
        return "int" if -(2**63) <= value < 2**63 else "json"
    return {str: "text", bool: "bool", float: "float"}.get(type(value), "json")


def _encode(record: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    for name in texts:
        if name in record:
            record[name] = dumps(record[name])
    return record


def write_table(file: IO[bytes], schema: pa.Schema, rows: Iterable[tuple[dict[str, Any], int]]) -> int:
    """Write records of a known schema, each given with its size in bytes, a bounded row group at a time."""
    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        for group in _groups(rows):
            columns = [pa.array([record.get(f.name) for record in group], f.type) for f in schema]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            count += len(group)
    return count


def write_batches(file: IO[bytes], schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        for batch in batches:
            writer.write_batch(batch, WRITE_ROWS)


def _groups(rows: Iterable[tuple[dict[str, Any], int]]) -> Iterator[list[dict[str, Any]]]:
    group, total = [], 0
    for record, size in rows:
        group.append(record)
        total += size
        if len(group) == WRITE_ROWS or total >= WRITE_BYTES:
            yield group
            group, total = [], 0
    if group:
        yield group
