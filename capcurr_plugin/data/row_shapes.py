"""Lines of JSON that need not be read one by one, because a row of the same shape was.

A shape is made from a row that the strict reader accepted: its columns in their order, what kind of value each holds
and how many images and predictions there are, as one regular expression over bytes. It matches only lines that the
strict reader would accept, too, save for what is then checked in numbers. Matching is many times faster than parsing,
and what a shape does not match is read strictly: shapes decide how fast a file is read, never what is accepted.
"""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.lib.stride_tricks import sliding_window_view

from capcurr_plugin.data.row_keys import (
    FACTORS,
    NO_CAPABILITY,
    NO_PASS_RATE,
    SPLIT_COLUMNS,
    Wanted,
    index_hash,
    part_number,
)
from capcurr_plugin.jsonl import loads
from capcurr_plugin.rows import (
    CAPABILITIES,
    CHOICE_COLUMNS,
    IMAGE_MARK,
    MAX_INDEX_LENGTH,
    OPTIONAL_COLUMNS,
    PASS_RATE_TOLERANCE,
    Capability,
    RowError,
    is_choice_form,
)

pc: Any = pyarrow.compute  # its functions are made when it is imported

KEY = np.dtype(
    [("hash", "u8"), ("pass_rate", "f8"), ("size", "u4"), ("capability", "u1"), ("part", "u1"), ("status", "u1")],
    align=True,
)
KEPT, SOLVED, UNSOLVED, BAD = range(4)  # what becomes of a row: the status in its key
SEPARATORS = ((", ", ": "), (",", ":"))  # those of json.dumps, and those without spaces
MAX_COUNTED = 256  # items of a list, or marks
MAX_PATTERN = 50_000
NO_PART = 255
EXACT_DIGITS = 15  # of a decimal fraction whose digits and power of ten a float holds exactly
INDEX_BYTES = 64  # in which most indices have room

# Patterns of RE2 over bytes: a byte above 7f stands for itself, and has been checked to be part of UTF-8.
_PLAIN = r'[^"\\\x00-\x1f]'
_ESCAPE = r'\\(?:["\\/bfnrt]|u(?:[0-9a-cefA-CEF][0-9a-fA-F]|[dD][0-7])[0-9a-fA-F]{2})'  # not of half a pair
_INK = r"[!#-\[\]-~\xc3-\xdf\xe4-\xf4]"  # the start of a character that is no space for sure
_INK_ESCAPE = r"\\u(?:0[1-7]|[4-9a-cA-C][0-9a-fA-F])[0-9a-fA-F]{2}"
_TEXT = f'"(?:{_PLAIN}|{_ESCAPE})*"'
_FILLED = f'"(?:{_PLAIN}|{_ESCAPE})*(?:{_INK}|{_INK_ESCAPE})(?:{_PLAIN}|{_ESCAPE})*"'
_INDEX = f'"{_PLAIN}*{_INK}{_PLAIN}*"'
_IMAGE_START = r"[!#-\-0-9;-\[\]-~\xc3-\xdf\xe4-\xf4]"  # ink, and neither / nor : nor a dot
_IMAGE = rf'"\.?{_IMAGE_START}(?:\.?[^."\\:\x00-\x1f])*"'  # no two dots in a row
_NUMBER = r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,2})?"
_RATE = r"(?:0|1|0\.[0-9]{1,20}|1\.0)"
_SCALAR = f"(?:null|true|false|{_NUMBER}|{_TEXT})"


class NoShape(Exception):
    """A row whose like is always read strictly."""


@dataclass(frozen=True)
class Lines:
    """Lines, each with its line end, in their order in `data`, which may hold others, too."""

    data: bytes
    starts: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def array(self) -> pa.Array:
        """A copy of them, unless they are all that `data` holds."""
        if (self.starts[1:] == self.ends[:-1]).all():
            return _array(np.append(self.starts, self.ends[-1:]), self.data)
        with_gaps = _array(np.column_stack([self.starts, self.ends]).ravel(), self.data)
        return with_gaps.take(pa.array(np.arange(0, len(with_gaps), 2)))

    @classmethod
    def of(cls, array: pa.Array) -> "Lines":
        """Of an array of large_binary that holds no null."""
        bounds = _bounds(array) - _bounds(array)[0]
        return cls(text_of(array).to_pybytes(), bounds[:-1], bounds[1:])

    @classmethod
    def split(cls, data: bytes) -> "Lines":
        """`data` ends in a line end."""
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
        return cls(data, np.concatenate([np.zeros(1, np.int64), ends[:-1]]), ends)

    def are_utf8(self) -> bool:
        if self.data.isascii():
            return True
        try:
            self.array.cast(pa.large_string())
        except pa.ArrowInvalid:
            return False
        return True

    def line(self, place: int) -> bytes:
        return self.data[self.starts[place] : self.ends[place]]

    def at(self, places: np.ndarray) -> "Lines":
        return Lines(self.data, self.starts[places], self.ends[places])

    def with_column(self, text: bytes) -> pa.Array:
        """Each with a further column; the lines are those of a shape, whose only line end is behind the object."""
        data = text_of(self.array).to_pybytes().replace(b"}\n", text + b"}\n")
        return _array(np.cumsum([0, *(sizes_of(self.array) + len(text))]), data)


def text_of(array: pa.Array) -> pa.Buffer:
    """All texts of an array of large_binary, one behind the other."""
    bounds, data = _bounds(array), array.buffers()[2]
    return data[bounds[0] : bounds[-1]] if data else pa.py_buffer(b"")


def sizes_of(array: pa.Array) -> np.ndarray:
    """Those of the texts of an array of large_binary."""
    return np.diff(_bounds(array))


def _array(bounds: np.ndarray, data: bytes) -> pa.Array:
    """Texts that follow each other in `data`: from each bound to the next."""
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(bounds) - 1, buffers)


def _bounds(array: pa.Array) -> np.ndarray:
    return np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]


@dataclass(frozen=True)
class Shape:
    pattern: str
    columns: tuple[str, ...]
    markers: tuple[bytes, ...]  # what stands before each value
    early: frozenset[str]  # columns nearer to the start of the line than to its end
    verdicts: int  # how many the correctness has
    comma: str
    colon: str
    rated: bool
    split_column: str | None

    def sought(self) -> set[str]:
        """The columns whose markers are looked for: those of the keys, and the ones behind them."""
        names = {"index", "pass_rate", "correctness", "capability", self.split_column}
        behind = {after for name, after in zip(self.columns, self.columns[1:], strict=False) if name in names}
        return {name for name in self.columns if name in names} | behind

    def matches(self, lines: Lines) -> np.ndarray:
        return pc.match_substring_regex(lines.array, self.pattern).to_numpy(zero_copy_only=False)

    def named(self, capability: Capability | None) -> bytes | None:
        """The text of a capability that lines of this shape lack."""
        if capability is None or "capability" in self.columns:
            return None
        return f'{self.comma}"capability"{self.colon}"{capability}"'.encode()

    def keys(self, lines: Lines, default: Capability | None) -> tuple[np.ndarray, np.ndarray]:
        """Which of the lines are good for sure, and the keys of all."""
        keys = np.zeros(len(lines), KEY)
        values = _Values(self, lines)
        starts, sizes = values.indices()
        good = sizes <= MAX_INDEX_LENGTH
        keys["hash"] = index_hashes(lines.data, starts, sizes)
        keys["pass_rate"] = values.pass_rates() if self.rated else NO_PASS_RATE
        if self.verdicts:
            right, whole = values.verdicts()
            good &= whole
            if self.rated:
                good &= np.abs(keys["pass_rate"] - right / self.verdicts) <= PASS_RATE_TOLERANCE
        keys["capability"] = NO_CAPABILITY if default is None else CAPABILITIES.index(default)
        if "capability" in self.columns:
            place = {f'"{name}"'.encode(): number for number, name in enumerate(CAPABILITIES)}
            keys["capability"] = [place[text] for text in values.texts("capability")]
        if self.split_column:
            keys["part"] = [_part(text) for text in values.texts(self.split_column)]
            good &= keys["part"] != NO_PART
        return good, keys


def _part(text: bytes) -> int:
    try:
        return part_number({"": loads(text.decode())}, "")
    except RowError:
        return NO_PART


class _Values:
    """The values of columns in lines of a shape.

    No text can hold a marker, because a quotation mark in a text has a backslash before it; and a shape has no inner
    object with the name of a column that is sought.
    """

    def __init__(self, shape: Shape, lines: Lines) -> None:
        self.shape, self.lines = shape, lines
        self.bytes = np.frombuffer(lines.data, np.uint8)
        self._starts: dict[int, np.ndarray] = {}

    def texts(self, column: str) -> list[bytes]:
        place, data = self.shape.columns.index(column), self.lines.data
        starts, ends = self.starts(place), self.ends(place)
        return [data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]

    def starts(self, place: int) -> np.ndarray:
        if place not in self._starts:
            marker, column = self.shape.markers[place], self.shape.columns[place]
            if place == 0:
                self._starts[place] = self.lines.starts + len(marker)
            elif column == "pass_rate" and place + 1 == len(self.shape.columns):
                self._starts[place] = self._last_colon(self.ends(place)) + len(self.shape.colon)
            else:
                seek = self.lines.data.find if column in self.shape.early else self.lines.data.rfind
                bounds = zip(self.lines.starts.tolist(), self.lines.ends.tolist(), strict=True)
                self._starts[place] = np.array([seek(marker, start, end) for start, end in bounds]) + len(marker)
        return self._starts[place]

    def ends(self, place: int) -> np.ndarray:
        if place + 1 == len(self.shape.columns):
            return self.lines.ends - len("}\n")
        return self.starts(place + 1) - len(self.shape.markers[place + 1])

    def pass_rates(self) -> np.ndarray:
        """One digit, and others behind a dot."""
        place = self.shape.columns.index("pass_rate")
        starts, ends = self.starts(place), self.ends(place)
        sizes = ends - starts
        whole, scale = self.bytes[starts].astype(np.int64) - ord("0"), np.ones(len(starts), np.int64)
        for step in range(2, min(int(sizes.max()), EXACT_DIGITS + 2)):
            digit = self.bytes.take(starts + step, mode="clip").astype(np.int64) - ord("0")
            whole = np.where(sizes > step, 10 * whole + digit, whole)
            scale = np.where(sizes > step, 10 * scale, scale)
        found = whole / scale  # as Python reads it, because a float holds both exactly
        for row in np.flatnonzero(sizes > EXACT_DIGITS + 2).tolist():
            found[row] = float(self.lines.data[starts[row] : ends[row]])
        return found

    def verdicts(self) -> tuple[np.ndarray, np.ndarray]:
        """How many are true, and whether there are just as many as the shape has."""
        place, comma = self.shape.columns.index("correctness"), len(self.shape.comma)
        at = self.ends(place) - 1
        right = np.zeros(len(at), np.int64)
        for _ in range(self.shape.verdicts):  # from the last to the first
            true = self.bytes.take(at - len("true"), mode="wrap") == ord("t")
            right += true
            at = at - len("false") + true - comma
        at += comma - 1
        marker = self.shape.markers[place] + b"["
        whole = np.ones(len(at), bool)
        for back, byte in enumerate(reversed(marker)):
            whole &= self.bytes.take(at - back, mode="wrap") == byte
        return right, whole

    def _last_colon(self, ends: np.ndarray) -> np.ndarray:
        """Of a number, which is short."""
        places = ends - 1
        while (further := self.bytes[places] != ord(":")).any():
            places -= further
        return places

    def indices(self) -> tuple[np.ndarray, np.ndarray]:
        """Where they start, and how long they are."""
        starts = self.starts(self.shape.columns.index("index")) + 1
        ends = starts.copy()
        near = np.flatnonzero(starts <= len(self.bytes) - INDEX_BYTES)
        if len(near):
            quotes = sliding_window_view(self.bytes, INDEX_BYTES)[starts[near]] == ord('"')
            ends[near] += quotes.argmax(axis=1)
        for row in np.flatnonzero(self.bytes[ends] != ord('"')).tolist():
            ends[row] = self.lines.data.find(b'"', starts[row])
        return starts, ends - starts


def index_hashes(data: bytes, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The index_hash of each part of data."""
    found = np.zeros(len(starts), np.uint64)
    short = (sizes <= INDEX_BYTES) & (starts <= len(data) - INDEX_BYTES)
    if short.any():
        width = max(8, -(-int(sizes[short].max()) // 8) * 8)  # whole words
        texts = sliding_window_view(np.frombuffer(data, np.uint8), width)[starts[short]]
        texts[np.arange(width) >= sizes[short, None]] = 0
        words = texts.view("<u8")
        found[short] = (words * np.array(FACTORS[: words.shape[1]], np.uint64)).sum(axis=1, dtype=np.uint64)
    for row in np.flatnonzero(~short).tolist():
        found[row] = index_hash(data[starts[row] : starts[row] + sizes[row]])
    return found


# Learning


def shape_of(line: bytes, record: dict[str, Any], wanted: Wanted) -> Shape | None:
    """The shape of a line that the strict reader accepted as `record`."""
    for separators, ascii_only in product(SEPARATORS, (False, True)):
        try:
            shape = _Maker(record, separators, ascii_only).shape(line, wanted)
        except NoShape:
            return None
        if shape.matches(Lines.split(line)).all():
            return shape
    return None


class _Maker:
    """Of the shape of one row, as json.dumps with these separators writes it."""

    def __init__(self, record: dict[str, Any], separators: tuple[str, str], ascii_only: bool) -> None:
        self.record, self.ascii_only = record, ascii_only
        self.comma, self.colon = separators
        self.choice = is_choice_form(record)
        self.inner: set[str] = set()  # the keys of inner objects

    def shape(self, line: bytes, wanted: Wanted) -> Shape:
        record, columns = self.record, tuple(self.record)
        markers = [
            ("," if place else "{") + self.comma[1:] * bool(place) + self.key(n) for place, n in enumerate(columns)
        ]
        values = [self.column(name, value) for name, value in record.items()]
        body = "".join(re.escape(marker) + value for marker, value in zip(markers, values, strict=True))
        shape = Shape(
            rf"\A{body}\}}\n\z",
            columns,
            tuple(marker.encode() for marker in markers),
            frozenset(
                n for n, marker in zip(columns, markers, strict=True) if line.find(marker.encode()) < len(line) / 2
            ),
            len(record.get("correctness") or ()),
            self.comma,
            self.colon,
            record.get("pass_rate") is not None,
            self.split_column(wanted),
        )
        if len(shape.pattern) > MAX_PATTERN or self.inner & shape.sought():
            raise NoShape
        return shape

    def split_column(self, wanted: Wanted) -> str | None:
        if not wanted.split:
            return None
        if wanted.split_by:
            return wanted.split_by
        name = next(name for name in SPLIT_COLUMNS if self.record.get(name))
        earlier = SPLIT_COLUMNS[: SPLIT_COLUMNS.index(name)]
        if any(other in self.record and self.record[other] != [] for other in earlier):
            raise NoShape  # another row may have a value there
        return name

    def text(self, text: str) -> str:
        return json.dumps(text, ensure_ascii=self.ascii_only)

    def key(self, name: str) -> str:
        return self.text(name) + self.colon

    def column(self, name: str, value: Any) -> str:
        """The pattern of a column's value, by what the row reader demands of it."""
        if name == "index":
            return _INDEX
        if name == ("prompt" if self.choice else "problem"):
            return _problem(value.count(IMAGE_MARK))
        if name == ("image_path" if self.choice else "images"):
            return self.counted(value, _IMAGE)
        if name == "answer" and self.choice:
            return '"[A-D]"'
        if name == "source" and self.choice:
            return re.escape(self.text(value))  # one text is forbidden there
        if name in ("answer", "source") or (self.choice and name in CHOICE_COLUMNS):
            return _FILLED
        if name == "capability":
            return f'"(?:{"|".join(CAPABILITIES)})"'
        if name in OPTIONAL_COLUMNS and value is None:
            return "null"
        if name == "predictions":
            return self.counted(value, f"(?:null|{_TEXT})")
        if name == "correctness":
            # Counted later: a pattern that counts them has so many states that it is slow.
            return _list("(?:true|false)", self.comma) if value else r"\[\]"
        return _RATE if name == "pass_rate" else self.free(value)

    def counted(self, values: list[Any], item: str) -> str:
        """A list of just as many items."""
        if len(values) > MAX_COUNTED:
            raise NoShape
        return rf"\[{item}(?:{self.comma}{item}){{{len(values) - 1}}}\]" if values else r"\[\]"

    def free(self, value: Any) -> str:
        """Of a column of which the row reader demands no more than JSON: a scalar for a scalar, a list of what the list
        holds, an object with the same keys."""
        if isinstance(value, dict):
            self.inner |= value.keys()
            return (
                rf"\{{{self.comma.join(re.escape(self.key(name)) + self.free(item) for name, item in value.items())}\}}"
            )
        if isinstance(value, list):
            return _list(f"(?:{'|'.join(sorted({_SCALAR, *map(self.free, value)}))})", self.comma)
        return _SCALAR


def _list(item: str, comma: str) -> str:
    return rf"\[(?:{item}(?:{comma}{item})*)?\]"


def _problem(marks: int) -> str:
    """A text that is not blank, with just as many marks."""
    if marks > MAX_COUNTED:
        raise NoShape
    # Not of ASCII, so that a mark is always written out.
    escape = r'\\(?:["\\/bfnrt]|u(?:00[89a-fA-F]|0[1-9a-fA-F].|[1-9a-cefA-CEF]..|[dD][0-7].)[0-9a-fA-F])'
    escape = escape.replace(".", "[0-9a-fA-F]")
    begun = [IMAGE_MARK[:length] for length in range(1, len(IMAGE_MARK))]
    again = f"<(?:{'|'.join(part[1:] + '<' for part in begun)})*"  # the start of a mark, after any number of false ones
    other = [part[1:] + rf'[^"\\\x00-\x1f<{IMAGE_MARK[len(part)]}]' for part in begun]
    broken = f"{again}(?:{'|'.join(other)}|(?:{'|'.join(part[1:] for part in begun)}){escape})"
    plain = rf'(?:[^"\\\x00-\x1f<]|{escape}|{broken})*'
    cut_off = f"(?:{again}(?:{'|'.join(part[1:] for part in begun)}))?"
    if marks:
        return f'"{plain}(?:{again}{IMAGE_MARK[1:]}{plain}){{{marks}}}{cut_off}"'
    return f'"{plain}(?:[!#-;=-\\[\\]-~\\xc3-\\xdf\\xe4-\\xf4]|{_INK_ESCAPE}|{broken}){plain}{cut_off}"'
