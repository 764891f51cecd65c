"""Benchmarks as VLMEvalKit keeps them: one TSV each, which holds the questions and, as base64, their images."""

import base64
import binascii
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from capcurr_plugin.data.wordings import check_length
from capcurr_plugin.errors import InputError
from capcurr_plugin.evaluation.suites import load_suites
from capcurr_plugin.evaluation.table_files import Unreadable, canonical, read_rows
from capcurr_plugin.row_files import BadRows
from capcurr_plugin.rows import MAX_INDEX_LENGTH, ImageRoot, RowError

ENDING, LOCAL = ".tsv", "_local"  # of the table that VLMEvalKit makes of one over 1 GB, which stays beside it
TEXTS = ("question", "question_for_eval")  # MathVerse's, of which the first may be a mere request to look
MAX_REFERENCE = 64  # characters of an image that is another row's index, by VLMEvalKit's own rule
PASSES = 3  # over a table: a row may refer to the image of one before it
MAX_CELL = 1 << 26  # characters, of the images of one question
MAX_BYTES = 1 << 37  # of a table; it is read row by row

_LISTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")


@dataclass(frozen=True, slots=True)
class Question:
    """One row of a table."""

    number: int
    index: str
    texts: Sequence[str]
    images: Sequence[tuple[Path | bytes, str]]  # a file or its content, and what errors call it
    same_images_as: str | None  # the index of another row


def default_folder() -> Path:
    """Where VLMEvalKit looks for its tables."""
    named = os.environ.get("LMUData")  # noqa: SIM112  VLMEvalKit's own name
    return Path(named) if named and Path(named).exists() else Path.home() / "LMUData"


def find_tables(places: Sequence[Path], suites: Sequence[str]) -> list[Path]:
    """The tables that folders hold and files are, by name; of folders, only those of the suites, where any is given."""
    files = [place for place in places if not place.is_dir()]
    folders = [place for place in places if place.is_dir()]
    if not places or (suites and not folders):
        folders = [default_folder()]
    for folder in folders:
        files += _tables_of(folder, suites)
    names = load_suites().chosen(suites)
    missing = [name for name in names if name not in {file.stem for file in files}]
    if missing:
        places_named = " or ".join(map(str, folders))
        raise InputError(
            f"{places_named}: no {missing[0]}{ENDING}{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}; "
            f"VLMEvalKit downloads it when it first evaluates {missing[0]}"
        )
    return _checked(files)


def _tables_of(folder: Path, suites: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the benchmarks' tables with --benchmarks, or set LMUData")
    found = sorted(folder.glob(f"*{ENDING}"))
    if not found:
        raise InputError(f"{folder}: holds no table (*{ENDING}) of a benchmark")
    if suites:
        names = load_suites().chosen(suites)
        return [path for path in found if path.stem in names]
    whole = {path.stem for path in found}
    return [path for path in found if not (path.stem.endswith(LOCAL) and path.stem.removesuffix(LOCAL) in whole)]


def _checked(files: list[Path]) -> list[Path]:
    by_name: dict[str, Path] = {}
    for file in files:
        if file.suffix.lower() != ENDING:
            raise InputError(f"{file}: the name of a benchmark's table must end in {ENDING}")
        if not file.is_file():
            raise InputError(f"{file}: no such file")
        other = by_name.setdefault(file.stem, file)
        if other is not file and not other.samefile(file):
            raise InputError(f"{file}: has the name of {other}; name the benchmark in one place")
    return [by_name[name] for name in sorted(by_name)]


def read_questions(
    path: Path, bad: BadRows, tell: Callable[[float], object], with_images: bool = True
) -> Iterator[Question]:
    """The rows of a table; a row that cannot be read is refused. `tell` hears the share of the table that is read."""
    columns = ("index", *TEXTS, *(("image", "image_path") if with_images else ()))
    size, seen, number = path.stat().st_size, 0, 0
    try:
        for number, row in enumerate(read_rows(path, columns, MAX_BYTES, MAX_CELL), 1):
            if number == 1:
                _check_columns(path, row, with_images)
            seen += sum(map(len, row.values()))
            tell(min(1.0, seen / size))
            try:
                yield _question(path, number, row)
            except RowError as error:
                refuse(path, number, str(error), bad)
    except Unreadable as error:
        raise InputError(f"{path}: {error}") from None
    if not number:
        raise InputError(f"{path}: the table has no rows")


def find_table(folder: Path, benchmark: str) -> Path:
    """The table of one benchmark."""
    for ending in (ENDING, LOCAL + ENDING):
        path = folder / f"{benchmark}{ending}"
        if path.is_file():
            return path
    raise InputError(
        f"{folder}: no {benchmark}{ENDING}, which holds the pictures; VLMEvalKit downloads it when it evaluates "
        f"{benchmark}; name another folder with --tables, or set LMUData"
    )


def read_pictures(
    path: Path, wanted: Collection[str], tell: Callable[[float], object]
) -> Iterator[tuple[str, Sequence[tuple[Path | bytes, str]] | RowError]]:
    """The images of some rows, by index, or why they cannot be had. A row may have none."""
    own = set(wanted)  # whose own row is still to be seen
    referring: dict[str, list[str]] = {}  # to another row's images, by that row's index
    for _ in range(PASSES):
        for index, row in _rows_of(path, lambda index: index in own or index in referring, tell):
            names = [*referring.pop(index, ()), *([index] if index in own else ())]
            own.discard(index)
            cell = row.get("image", "").strip()
            if 0 < len(cell) <= MAX_REFERENCE:
                referring.setdefault(canonical(cell), []).extend(names)
                continue
            found = _pictures(path, index, row)
            for name in names:
                yield name, found
        for name in sorted(own):
            yield name, RowError(f"{path.name} has no row {name!r}")
        own.clear()
        if not referring:
            return
    for name in (name for names in referring.values() for name in names):
        yield name, RowError(f"row {name!r} of {path.name} refers to an image that no row has")


def _pictures(path: Path, index: str, row: dict[str, str]) -> Sequence[tuple[Path | bytes, str]] | RowError:
    try:
        return _question(path, 0, {**row, "index": index}).images
    except RowError as error:
        return error


def _rows_of(
    path: Path, wanted: Callable[[str], bool], tell: Callable[[float], object]
) -> Iterator[tuple[str, dict[str, str]]]:
    size, seen = path.stat().st_size, 0
    try:
        for number, row in enumerate(read_rows(path, ("index", "image", "image_path"), MAX_BYTES, MAX_CELL)):
            if number == 0:
                _check_columns(path, {**row, "question": ""}, with_images=True)
            seen += sum(map(len, row.values()))
            tell(min(1.0, seen / size))
            index = canonical(row["index"])
            if wanted(index):
                yield index, row
    except Unreadable as error:
        raise InputError(f"{path}: {error}") from None


def refuse(path: Path, number: int, reason: str, bad: BadRows) -> None:
    """Hand a row of a table to the bad ones, without its images."""
    bad.refuse(path, "row", number, reason, "")


def _check_columns(path: Path, row: dict[str, str], with_images: bool) -> None:
    if "index" not in row:
        raise InputError(f"{path}: has no column 'index', which each table of VLMEvalKit has")
    if len(row) == 1:
        wanted = [*TEXTS, *(("image", "image_path") if with_images else ())]
        raise InputError(f"{path}: has none of the columns {', '.join(wanted)}")


def _question(path: Path, number: int, row: dict[str, str]) -> Question:
    index = canonical(row["index"])
    if not index:
        raise RowError("column 'index' is empty")
    if len(index) > MAX_INDEX_LENGTH:
        raise RowError(f"column 'index' has over {MAX_INDEX_LENGTH} characters")
    texts = [row[name] for name in TEXTS if row.get(name, "").strip()]
    for text in texts:
        check_length(text)
    cell = row.get("image", "").strip()
    if 0 < len(cell) <= MAX_REFERENCE:
        return Question(number, index, texts, [], canonical(cell))
    if cell:
        images = [(content, f"{index} of {path.name}") for content in map(_decoded, listed(cell))]
    else:
        images = [_file(path, name) for name in listed(row.get("image_path", "").strip())]
    return Question(number, index, texts, images, None)


def listed(cell: str) -> list[str]:
    """The entries of a cell, which may be written as a list in Python."""
    if cell.startswith("[") and cell.endswith("]"):
        return [one or other for one, other in _LISTED.findall(cell)]
    return [cell] if cell else []


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        raise RowError("column 'image' holds no base64, or one that is cut off") from None


def _file(path: Path, name: str) -> tuple[Path, str]:
    """An image that VLMEvalKit has stored beside the tables."""
    folder = path.parent / "images" / path.stem.removesuffix(LOCAL)
    if not folder.is_dir():
        raise RowError(f"image {name!r}: there is no folder {folder}, where VLMEvalKit keeps the images of this table")
    return ImageRoot(folder).find(name.removeprefix(f"{folder}/")), name
