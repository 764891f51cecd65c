"""JSON files from elsewhere, held to a shape before anything is drawn from them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from capcurr_plugin import jsonl
from capcurr_plugin.errors import InputError
from capcurr_plugin.report.page import printable
from capcurr_plugin.rows import RowError

MAX_BYTES = 256 << 20
MAX_NUMBER = 1e12  # of a count or a value; figures of larger ones show nothing
MAX_DEPTH = 20

Shape = Any
"""What a value has to be:
a type (float: any number; int; str; bool), or None for null
a function that says whether a value will do
a tuple: one of these shapes
{"key": shape}: an object with these keys, and perhaps others; a key that ends in ? may be absent
{str: shape}: an object of any keys; [shape]: a list; [shape, shape]: a list of just so many"""


def share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_NUMBER


def one_of(values: Sequence[Any]) -> Callable[[Any], bool]:
    return lambda value: type(value) in (str, int) and value in values


def read_json(path: Path, shape: Shape, written_by: str) -> dict[str, Any]:
    """The object in a file of `written_by`, such as "capcurr results --json"; InputError says where it is none."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {written_by} writes such a file") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: has over {MAX_BYTES >> 20:,} MiB, which {written_by} does not write")
    try:
        value = jsonl.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text in UTF-8; {written_by} writes JSON") from None
    except RowError as error:
        raise InputError(f"{path}: is not what {written_by} writes: {error}") from None
    value = _printable(value, path)
    if isinstance(value, dict) and "format" in value:
        _check_format(path, value["format"], shape, written_by)
    wrong = misfit(value, shape)
    if wrong:
        raise InputError(f"{path}: is not what {written_by} writes: {wrong}")
    return value


def _check_format(path: Path, value: Any, shape: Shape, written_by: str) -> None:
    if "format" in shape and misfit(value, shape["format"]):
        known = f"format {_said(value)} is not known"
        raise InputError(f"{path}: {known}; update capcurr-plugin, or write the file anew with {written_by}")


def _printable(value: Any, path: Path, depth: int = 0) -> Any:
    """Names go into figures, whose files cannot hold every character."""
    if depth > MAX_DEPTH:
        raise InputError(f"{path}: is nested too deeply")
    if isinstance(value, dict):
        return {printable(key): _printable(one, path, depth + 1) for key, one in value.items()}
    if isinstance(value, list):
        return [_printable(one, path, depth + 1) for one in value]
    return printable(value) if isinstance(value, str) else value


def misfit(value: Any, shape: Shape, place: str = "") -> str:
    """Where and how a value is not of a shape; empty when it is."""
    if isinstance(shape, tuple):
        wrong = [misfit(value, one, place) for one in shape]
        return "" if not all(wrong) else max(wrong, key=_depth)  # of the shape that fitted furthest
    if isinstance(shape, dict):
        return _object_misfit(value, shape, place)
    if isinstance(shape, list):
        return _list_misfit(value, shape, place)
    return "" if _fits(value, shape) else f"{place or 'the whole'} is {_said(value)}"


def _depth(wrong: str) -> int:
    return len(re.findall(r"[.\[]", wrong.partition(" is ")[0]))


def _fits(value: Any, shape: Shape) -> bool:
    if shape is None:
        return value is None
    if shape is float:
        return _is_number(value)
    return type(value) is shape if isinstance(shape, type) else shape(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MAX_NUMBER  # NaN is not


def _object_misfit(value: Any, shape: dict[Any, Shape], place: str) -> str:
    if not isinstance(value, dict):
        return f"{place or 'the whole'} is {_said(value)}"
    below = f"{place}." if place else ""
    if str in shape:
        members = ((f"{below}{key}", value[key], shape[str]) for key in value)
        return next(filter(None, (misfit(one, of, where) for where, one, of in members)), "")
    for name, of in shape.items():
        key = name.removesuffix("?")
        if key in value:
            wrong = misfit(value[key], of, f"{below}{key}")
            if wrong:
                return wrong
        elif key == name:
            return f"{below}{key} is missing"
    return ""


def _list_misfit(value: Any, shape: list[Shape], place: str) -> str:
    if not isinstance(value, list) or (len(shape) > 1 and len(value) != len(shape)):
        return f"{place or 'the whole'} is {_said(value)}"
    shapes = shape * len(value) if len(shape) == 1 else shape
    pairs = zip(value, shapes, strict=True)
    found = (misfit(one, of, f"{place}[{number}]") for number, (one, of) in enumerate(pairs))
    return next(filter(None, found), "")


def _said(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else f"a list of {len(value):,}"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
