"""The row: one question with its answer and images, as it is stored, checked and passed on everywhere.

Two forms are read: rows (`index, problem, answer, images, source`) and the multiple-choice rows of the synthesis
(`prompt, image_path, option_A` to `option_D`). Both become a Row; columns beyond the schema are kept in `extra`. A null
in `predictions`, `correctness` or `pass_rate` is the same as no value.
"""

import os
import re
import stat
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from capcurr_plugin.errors import InputError

Capability = Literal["perception", "textual_reasoning", "visual_reasoning"]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)

IMAGE_MARK = "<image>"
OPTION_LETTERS = "ABCD"
CHOICE_COLUMNS = ("example_id", "split", *(f"option_{letter}" for letter in OPTION_LETTERS))
CHOICE_SOURCE = "synthesised"  # the source of multiple-choice rows, whose form has no such column

MAX_INDEX_LENGTH = 512
PASS_RATE_TOLERANCE = 0.01  # a stored pass rate may be rounded


class RowError(ValueError):
    """What is wrong with a row and, where it helps, what to do; the reader adds the file and the line."""


@dataclass(slots=True)
class Row:
    index: str
    problem: str
    answer: str
    images: list[str]
    source: str
    predictions: list[str | None] | None = None
    correctness: list[bool] | None = None
    pass_rate: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def capability(self) -> Capability | None:
        return self.extra.get("capability")

    def with_capability(self, capability: Capability | None) -> "Row":
        """The same row; its capability is this one when it names none."""
        if capability:
            self.extra.setdefault("capability", capability)
        return self

    @property
    def options(self) -> list[str] | None:
        """The texts of the options A to D, of a multiple-choice row."""
        texts = [self.extra.get(f"option_{letter}") for letter in OPTION_LETTERS]
        return [text for text in texts if isinstance(text, str)] if all(isinstance(t, str) for t in texts) else None

    def record(self) -> dict[str, Any]:
        """The row as one JSON object; optional columns that it does not have are left out."""
        record: dict[str, Any] = {
            "index": self.index,
            "problem": self.problem,
            "answer": self.answer,
            "images": self.images,
            "source": self.source,
        }
        for name in OPTIONAL_COLUMNS:
            value = getattr(self, name)
            if value is not None:
                record[name] = value
        return record | self.extra

    def choice_record(self) -> dict[str, Any]:
        """The row as one multiple-choice row of the synthesis."""
        for name in ("prompt", "image_path"):
            if name in self.extra:
                raise RowError(f"column {name!r} is in the way of the multiple-choice form's own; rename it")
        record = self.record()
        record["prompt"] = record.pop("problem")
        record["image_path"] = record.pop("images")
        if self.source == CHOICE_SOURCE:
            del record["source"]
        _from_choice_form(dict(record))  # what is written must be readable
        return record


REQUIRED_COLUMNS = ("index", "problem", "answer", "images", "source")
OPTIONAL_COLUMNS = ("predictions", "correctness", "pass_rate")


def parse_row(record: dict[str, Any]) -> Row:
    """The checked Row of a JSON object in either form; RowError says what is wrong with it.

    What JSON cannot hold, such as NaN, the readers refuse before.
    """
    record = dict(record)
    if is_choice_form(record):
        record = _from_choice_form(record)
    for name in REQUIRED_COLUMNS:
        if record.get(name) is None:
            raise RowError(f"column {name!r} is missing" if name not in record else f"column {name!r} is null")
    index, problem, answer, source = (
        _text(record.pop(name), name) for name in ("index", "problem", "answer", "source")
    )
    if len(index) > MAX_INDEX_LENGTH:
        raise RowError(f"column 'index' has {len(index):,} characters; at most {MAX_INDEX_LENGTH} are allowed")
    images = _list_of(record.pop("images"), "images", str, "texts")
    for name in images:
        check_image_name(name)
    marks = problem.count(IMAGE_MARK)
    if marks != len(images):
        raise RowError(f"the problem has {marks} {IMAGE_MARK} mark(s) but {len(images)} image(s) are listed")
    row = Row(index, problem, answer, images, source, *_measurements(record), extra=record)
    if "capability" in record and record["capability"] not in CAPABILITIES:
        raise RowError(f"column 'capability' is {_show(record['capability'])}; use one of {', '.join(CAPABILITIES)}")
    return row


def is_choice_form(record: Container[str]) -> bool:
    """Whether these columns are those of a multiple-choice row of the synthesis."""
    return "prompt" in record and "image_path" in record and not ("problem" in record and "images" in record)


def _from_choice_form(record: dict[str, Any]) -> dict[str, Any]:
    for name in ("images", "problem"):
        if name in record:
            raise RowError(f"column {name!r} stands beside 'prompt' and 'image_path', which mean the same; drop one")
    if record.get("source") == CHOICE_SOURCE:
        raise RowError(f"column 'source' is {CHOICE_SOURCE!r}, which stands for rows without one; drop it")
    record.setdefault("source", CHOICE_SOURCE)
    for name in CHOICE_COLUMNS:
        if record.get(name) is None:
            raise RowError(f"column {name!r} is missing, which a multiple-choice row needs")
        _text(record[name], name)
    answer = record.get("answer")
    if isinstance(answer, str) and answer not in tuple(OPTION_LETTERS):
        raise RowError(f"column 'answer' is {_show(answer)}; a multiple-choice row needs A, B, C or D")
    record["problem"] = _text(record.pop("prompt"), "prompt")
    record["images"] = _list_of(record.pop("image_path"), "image_path", str, "texts")
    return record


def _measurements(record: dict[str, Any]) -> tuple[list[str | None] | None, list[bool] | None, float | None]:
    """Take predictions, correctness and pass_rate out of the record; they must agree with each other."""
    predictions, correctness, pass_rate = (record.pop(name, None) for name in OPTIONAL_COLUMNS)
    if predictions is not None:
        predictions = _list_of(predictions, "predictions", (str, type(None)), "texts or nulls")
    if correctness is not None:
        correctness = _list_of(correctness, "correctness", bool, "true or false values")
    if predictions is not None and correctness is not None and len(predictions) != len(correctness):
        raise RowError(f"{len(predictions)} 'predictions' but {len(correctness)} 'correctness' values")
    if pass_rate is not None:
        if isinstance(pass_rate, bool) or not isinstance(pass_rate, int | float):
            raise RowError(f"column 'pass_rate' must be a number, found {_kind(pass_rate)}")
        if not 0 <= pass_rate <= 1:
            raise RowError(f"column 'pass_rate' is {_show(pass_rate)}; it must lie between 0 and 1")
        pass_rate = float(pass_rate)
        if correctness and abs(pass_rate - sum(correctness) / len(correctness)) > PASS_RATE_TOLERANCE:
            right = f"{sum(correctness)} of {len(correctness)}"
            raise RowError(f"column 'pass_rate' is {pass_rate:g}, but {right} 'correctness' values are true")
    return predictions, correctness, pass_rate


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise RowError(f"column {name!r} must be text, found {_kind(value)} ({_show(value)}); write it in quotes")
    if not value.strip():
        raise RowError(f"column {name!r} is empty")
    return value


def _list_of(value: Any, name: str, kind: Any, plural: str) -> list[Any]:
    if not isinstance(value, list):
        raise RowError(f"column {name!r} must be a list of {plural}, found {_kind(value)} ({_show(value)})")
    for item in value:
        if not isinstance(item, kind):
            raise RowError(f"column {name!r} must hold {plural}, found {_kind(item)} ({_show(item)})")
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true/false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _show(value: Any) -> str:
    """The value for an error message: short, and without control characters."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**40 else "a huge number"
    return text if len(text) <= 40 else f"{text[:37]}..."


# Images


_ELSEWHERE = re.compile(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://|(?:data|file|https?):", re.IGNORECASE)


def check_image_name(name: str) -> None:
    """Refuse a name that could mean anything but a file below the image root."""
    if not name.strip():
        raise RowError("an image path is empty")
    if "\0" in name:
        raise RowError("an image path holds a NUL character")
    if _ELSEWHERE.match(name):
        raise RowError(f"image {_show(name)} is a URL or names a drive; give a path below the image root")
    if name.startswith("/") or "\\" in name:
        raise RowError(
            f"image {_show(name)} is absolute or holds a backslash; give a path below the image root, with /"
        )
    if ".." in name.split("/"):
        raise RowError(f"image {_show(name)} leaves the image root through '..'")


class ImageRoot:
    """The folder that image paths are relative to; nothing outside it is ever opened."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; --image-root must name the folder that image paths start from")
        self.folder = folder
        self._real = os.path.realpath(folder)

    def find(self, name: str) -> Path:
        """The file that a row's image path names; RowError when there is none or it lies outside."""
        check_image_name(name)
        path = self.folder / name
        try:
            real = os.path.realpath(path, strict=True)
            mode = os.stat(real).st_mode  # noqa: PTH116  one system call, for a million rows
        except FileNotFoundError:
            raise RowError(f"image {_show(name)} does not exist under {self.folder}") from None
        except OSError as error:  # a loop of links, a name that is too long, a folder without permission
            raise RowError(f"image {_show(name)} cannot be read: {error.strerror}") from None
        if os.path.commonpath([real, self._real]) != self._real:
            raise RowError(f"image {_show(name)} is a link that leads outside the image root {self.folder}")
        if not stat.S_ISREG(mode):
            raise RowError(f"image {_show(name)} is not a regular file")
        return Path(real)
