"""Tables as VLMEvalKit writes them: xlsx, tsv, csv and JSON, read row by row, with bounds, as texts.

The files are not trusted: they may be cut off, come from elsewhere or be made to harm. A table that cannot be read
raises `Unreadable`, one line that says why. Pickles, to which VLMEvalKit falls back, are never opened.
"""

import csv
import json
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.parsers import expat

from capcurr_plugin.errors import InputError
from capcurr_plugin.evaluation.responses import NOT_A_NUMBER

ENDINGS = (".xlsx", ".tsv", ".csv", ".json")

MAX_BYTES = 1 << 30  # of a file
MAX_UNPACKED_BYTES = 1 << 29  # of an xlsx, and of a JSON file: these are held in memory
MAX_ROWS = 1 << 20
MAX_PARTS = 1_000  # of an xlsx; a workbook has about ten
MAX_CELL = 1 << 24  # characters; a long response has 100,000
XLSX_CELL = 32_767  # characters, at which xlsx cuts a cell off

Row = dict[str, str]

_WHOLE = re.compile(r"[+-]?\d{1,40}(?:\.0+)?")
_DECIMAL = re.compile(r"[+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40})(?:e[+-]?\d{1,3})?", re.IGNORECASE)


class Unreadable(Exception):
    """The table cannot be read; says why, without the file's name."""


def read_rows(
    path: Path, columns: Iterable[str], max_bytes: int | None = None, max_cell: int | None = None
) -> Iterator[Row]:
    """The rows, with those of the columns that the table has. A column is found in any case of its letters, but for the
    options of a question, whose names are one letter. The bounds are those above, unless they are given."""
    wanted = list(columns)
    max_bytes = max_bytes or MAX_BYTES
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise Unreadable(f"has over {max_bytes >> 20:,} MiB")
        if not size:
            raise Unreadable("is empty")
        with _long_cells(max_cell or MAX_CELL):
            yield from _selected(_READERS[path.suffix.lower()](path), wanted)
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror or error})") from None


def canonical(text: str) -> str:
    """The same for a cell in each kind of table: a table makes numbers of digits, and a missing value of words such as
    None; spaces and line ends may change."""
    text = " ".join(text.split())
    if text.lower() in NOT_A_NUMBER:
        return ""
    if _WHOLE.fullmatch(text):
        return str(int(text.partition(".")[0]))
    if not _DECIMAL.fullmatch(text):
        return text
    value = float(text)
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _selected(lines: Iterator[Sequence[Any]], wanted: list[str]) -> Iterator[Row]:
    header = [_text(cell) for cell in next(lines, ())]
    places = {name: place for name in wanted if (place := _place(header, name)) is not None}
    for number, cells in enumerate(lines, 1):
        if number > MAX_ROWS:
            raise Unreadable(f"has over {MAX_ROWS:,} rows")
        if len(cells) != len(header):
            raise Unreadable(f"is cut off or damaged: row {number:,} has {len(cells)} cells, its header {len(header)}")
        yield {name: _text(cells[place]) for name, place in places.items()}


def _place(header: list[str], name: str) -> int | None:
    exact = [i for i, title in enumerate(header) if title == name]
    found = exact or [i for i, title in enumerate(header) if len(name) > 1 and title.lower() == name.lower()]
    if len(found) > 1:
        raise Unreadable(f"has column {name!r} {len(found)} times")
    return found[0] if found else None


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return cell if isinstance(cell, str) else str(cell)


# Text


def _delimited(path: Path) -> Iterator[Sequence[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for cells in csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True):
                if cells:
                    yield cells
        except csv.Error as error:
            raise Unreadable(f"is cut off or damaged: {error}") from None
        except UnicodeDecodeError as error:
            raise Unreadable(f"is no UTF-8 text, or cut off (byte {error.start:,} of a block)") from None


@contextmanager
def _long_cells(characters: int) -> Iterator[None]:
    """The csv module's limit, which is one for the whole process, is too low for long responses, and for images."""
    before = csv.field_size_limit(characters)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _json(path: Path) -> Iterator[Sequence[Any]]:
    if path.stat().st_size > MAX_UNPACKED_BYTES:
        raise Unreadable(f"has over {MAX_UNPACKED_BYTES >> 20:,} MiB; tables of that size are read as tsv")
    try:
        records = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise Unreadable("is no JSON, or cut off") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise Unreadable("is no list of rows")
    header = list(dict.fromkeys(name for record in records for name in record))
    yield header
    for record in records:
        yield [record.get(name) for name in header]


# xlsx


def _xlsx(path: Path) -> Iterator[Sequence[Any]]:
    _check_archive(path)
    try:
        from openpyxl import load_workbook  # pyright: ignore[reportMissingModuleSource]
    except ImportError:
        raise InputError(f"{path}: reading xlsx needs openpyxl; pip install openpyxl") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles
            # As pandas reads it: what a formula was last computed to, not the formula.
            book = load_workbook(path, read_only=True, data_only=True)
            try:
                sheet = book.worksheets[0]
                sheet.reset_dimensions()  # the file's word on its size is not needed
                yield from _even(sheet.iter_rows(values_only=True))
            finally:
                book.close()
    except Unreadable:
        raise
    except Exception as error:  # noqa: BLE001  whatever a damaged workbook makes of its reader
        raise Unreadable(f"is no workbook, or damaged ({type(error).__name__})") from None


def _even(lines: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """A sheet keeps no empty cells at the end of a row."""
    header = next(lines, ())
    yield header
    for cells in lines:
        yield [*cells, *[None] * (len(header) - len(cells))]


def _check_archive(path: Path) -> None:
    """Refuse what would unpack to more than it should, or holds entities that expand."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if (
                len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED_BYTES
            ):  # more than is stated is never unpacked
                raise Unreadable(f"unpacks to over {MAX_UNPACKED_BYTES >> 20:,} MiB; have it written as tsv instead")
            for part in parts:
                with archive.open(part) as file:
                    if _declares_a_type(iter(lambda file=file: file.read(1 << 12), b"")):
                        raise Unreadable("declares a document type, which no writer of workbooks does")
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise Unreadable(f"is no workbook, or cut off ({error})") from None


class _Root(Exception):
    """The first element has begun."""


def _declares_a_type(blocks: Iterator[bytes]) -> bool:
    found = False

    def declared(*_: object) -> None:
        nonlocal found
        found = True
        raise _Root

    def begun(*_: object) -> None:
        raise _Root

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = declared
    parser.StartElementHandler = begun
    try:
        for block in blocks:
            parser.Parse(block, False)
    except (_Root, expat.ExpatError):  # a part that is no XML is openpyxl's to judge
        pass
    return found


_READERS = {".xlsx": _xlsx, ".tsv": _delimited, ".csv": _delimited, ".json": _json}
