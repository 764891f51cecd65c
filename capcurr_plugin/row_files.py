"""Row files of either format, read as a stream of checked Rows and written whole or not at all."""

import argparse
import contextlib
import hashlib
import json
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, TypeVar, get_args

from capcurr_plugin import jsonl
from capcurr_plugin.atomic import replacing
from capcurr_plugin.errors import InputError
from capcurr_plugin.rows import ImageRoot, Row, RowError, parse_row

ENDINGS = (*jsonl.ENDINGS, ".parquet")
STARTS = {b"PAR1": ".parquet", b"\x1f\x8b": ".jsonl.gz", b"\x28\xb5\x2f\xfd": ".jsonl.zst"}  # of each format's files
MAX_KEPT_BYTES = 1 << 20  # of a refused row, in the file of bad rows
TELL_EVERY = 1024  # rows

Parsed = TypeVar("Parsed")
OnBadRow = Literal["fail", "skip"]
ON_BAD_ROW: tuple[OnBadRow, ...] = get_args(OnBadRow)


def format_of(path: Path) -> str:
    """The ending that says how a row file is stored."""
    name = path.name.lower()
    for ending in ENDINGS:
        if name.endswith(ending) and name != ending:
            return ending
    raise InputError(f"{path}: the name must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InputError(f"{path}: not a usable name ({error.strerror})") from None


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them does not exist
        return False


class NothingLeft(InputError):
    """Every row was bad; the bad ones are kept all the same."""


class BadRows:
    """Where refused rows go: the first one ends the job, or each is written, with its reason, beside the output."""

    def __init__(self, on_bad_row: OnBadRow, output: Path) -> None:
        self.path = output.with_name(f"{output.name}.bad.jsonl")
        if _is_folder(self.path):
            raise InputError(f"{self.path}: is a folder, but bad rows would be written there; remove it")
        self.count = 0
        self._skip = on_bad_row == "skip"
        self._file: IO[bytes] | None = None
        self._exit = contextlib.ExitStack()

    @staticmethod
    def add_argument(parser: argparse.ArgumentParser, beside: str) -> None:
        """`beside`: the name that the help has for the file which bad rows are written beside."""
        parser.add_argument(
            "--on-bad-row",
            choices=ON_BAD_ROW,
            default="fail",
            help="fail: stop at the first bad row (default). "
            f"skip: write bad rows with their reasons to {beside}.bad.jsonl",
        )

    def nothing_left(self, source: Path) -> NothingLeft:
        return NothingLeft(f"{source}: all {self.count:,} rows are bad; {self.path} says why")

    def summary(self) -> dict[str, Any]:
        return {"bad_rows": self.count, "bad_rows_file": str(self.path) if self.count else None}

    def __enter__(self) -> "BadRows":
        return self

    def __exit__(self, *error: Any) -> None:
        ended_well = error[0] is None or issubclass(error[0], NothingLeft)
        self._exit.__exit__(*(error if not ended_well else (None, None, None)))
        if ended_well and self.count == 0:
            self.path.unlink(missing_ok=True)  # that an earlier run left

    def refuse(self, file: Path, unit: str, number: int, reason: str, raw: str) -> None:
        if not self._skip:
            raise InputError(f"{file}, {unit} {number}: {reason}")
        if self._file is None:
            self._file = self._exit.enter_context(replacing(self.path))
        self.count += 1
        record = {"file": str(file), unit: number, "reason": reason, "raw": raw[:MAX_KEPT_BYTES]}
        # A name or a raw text may hold half a surrogate pair, which UTF-8 cannot.
        self._file.write(jsonl.dumps(record).encode("utf-8", "backslashreplace") + b"\n")


def check_output(output: Path, source: Path, on_bad_row: OnBadRow) -> None:
    """The output is to be a row file."""
    format_of(output)
    check_places(output, source, on_bad_row)


def check_places(output: Path, source: Path, on_bad_row: OnBadRow) -> None:
    """Neither the output nor its bad rows may take the place of what is read."""
    if _same_file(output, source):
        raise InputError(f"{output}: is the input too; give another name")
    bad = BadRows(on_bad_row, output).path
    if _same_file(bad, source):
        raise InputError(f"{bad}: is the input, but bad rows would be written there; give the output another name")


class RecordReader:
    """One file of JSON objects, as a stream. `number` is the line or row that was read last, counted from 1."""

    def __init__(
        self,
        path: Path,
        bad: BadRows,
        tell: Callable[[float], object] = lambda share: None,
        binary: bool = False,
    ) -> None:
        """`tell` hears, now and then, the share of the file that is read. `binary`: Parquet values may be bytes."""
        self.path, self.bad, self.tell, self.binary = path, bad, tell, binary
        self.format = format_of(path)
        self.unit = "row" if self.format == ".parquet" else "line"
        self.number = 0
        self._check_file()

    def read(self, parse: Callable[[dict[str, Any]], Parsed]) -> Iterator[Parsed]:
        """What `parse` makes of each object; a RowError that it raises refuses the object. Ends in an error
        when none is left, so that no empty file is written."""
        found = kept = False
        for record, raw in self.records():
            found = True
            for parsed in self.accepted(record, raw, parse):
                kept = True
                yield parsed
        if not found:
            raise InputError(f"{self.path}: the file has no rows")
        if not kept:
            raise self.bad.nothing_left(self.path)

    def records(self) -> Iterator[tuple[dict[str, Any] | RowError, Any]]:
        """Each object, or what is wrong with it, and what it was made of."""
        return self._parquet_records() if self.format == ".parquet" else self._jsonl_records()

    def accepted(
        self, record: dict[str, Any] | RowError, raw: Any, parse: Callable[[dict[str, Any]], Parsed]
    ) -> tuple[Parsed] | tuple[()]:
        """What `parse` makes of the object that was read last, or nothing when the object is refused."""
        try:
            if isinstance(record, RowError):
                raise record
            return (parse(record),)
        except RowError as error:
            self.refuse(str(error), raw)
        except RecursionError:
            self.refuse("the row is nested too deeply", raw)
        return ()

    def refuse(self, reason: str, raw: Any, number: int | None = None) -> None:
        """Hand a row, by default the one that was read last, to the bad ones. `raw`: its line, or the object that stood
        in its place."""
        text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else json.dumps(raw, default=repr)
        self.bad.refuse(self.path, self.unit, number or self.number, reason, text)

    def _jsonl_records(self) -> Iterator[tuple[dict[str, Any] | RowError, bytes]]:
        size = self.path.stat().st_size
        with jsonl.lines(self.path, self.format) as (lines, position):
            for line, length in lines:
                self.number += 1
                try:
                    yield jsonl.parse_line(line, length), line
                except RowError as error:
                    yield error, line
                if self.number % TELL_EVERY == 0:
                    self.tell(position() / size)

    def _parquet_records(self) -> Iterator[tuple[dict[str, Any] | RowError, object]]:
        from capcurr_plugin import parquet

        for record in parquet.read_records(self.path, self.tell, self.binary):
            self.number += 1
            yield record, record

    def _check_file(self) -> None:
        """Refuse, in one line, what is not a file of the format that its name says."""
        path = self.path
        try:
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                raise InputError(f"{path}: is a folder; give a file")
            if not stat.S_ISREG(mode):
                raise InputError(f"{path}: not a regular file")
            with path.open("rb") as file:
                start = file.read(4)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        if not start:
            raise InputError(f"{path}: the file is empty")
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(f"{path}: the text is UTF-16; save it as UTF-8")
        for magic, ending in STARTS.items():
            if start.startswith(magic) and self.format != ending:
                raise InputError(f"{path}: holds what a {ending} file holds; rename it so that it ends in {ending}")


class RowReader(RecordReader):
    """One row file, checked as it is read."""

    images: ImageRoot | None = None  # given: every image must exist under it

    def __iter__(self) -> Iterator[Row]:
        self._first_use: dict[bytes, int] = {}  # of each index; digests, because an index may be long
        return self.read(self._row)

    def converted(self, convert: Callable[[Row], Parsed]) -> Iterator[Parsed]:
        """What `convert` makes of each row; a RowError that it raises refuses the row. Ends in an error when no row is
        left: an empty file helps nobody."""
        found = False
        for row in self:
            try:
                record = convert(row)
            except RowError as error:
                self.refuse(str(error), row.record())
            else:
                found = True
                yield record
        if not found:
            raise self.bad.nothing_left(self.path)

    def _row(self, record: dict[str, Any]) -> Row:
        row = parse_row(record)
        if self.images:
            for name in row.images:
                self.images.find(name)
        self._check_index(row.index)
        return row

    def _check_index(self, index: str) -> None:
        digest = hashlib.blake2b(index.encode(), digest_size=16).digest()
        first = self._first_use.setdefault(digest, self.number)
        if first != self.number:
            raise RowError(f"index {index!r} was already used in {self.unit} {first}")


def write_rows(path: Path, records: Iterable[dict[str, Any]]) -> int:
    """Write JSON objects as the file's ending says; the number of rows written."""
    ending = format_of(path)
    if ending == ".parquet":
        from capcurr_plugin import parquet

        return parquet.write_records(path, records)
    count = 0
    with replacing(path) as file, jsonl.compressing(file, ending) as out:
        for record in records:
            out.write(jsonl.dumps(record).encode() + b"\n")
            count += 1
    return count
