"""JSON Lines, plain, .gz or .zst: strict JSON in, the same bytes out for the same rows."""

import contextlib
import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from capcurr_plugin.errors import InputError
from capcurr_plugin.rows import RowError

MAX_LINE_BYTES = 16 << 20
Block = tuple[bytes, int]  # whole lines, each with its line end; the length of the last one when it is too long, else 0

ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")


@contextlib.contextmanager
def lines(path: Path, ending: str) -> Iterator[tuple[Iterator[tuple[bytes, int]], Callable[[], int]]]:
    """The file's lines, each with its length in bytes, and a function that tells how much of the file is read.

    Of a line over the bound only the start is held; the length is that of the whole line.
    """
    with path.open("rb") as raw, _decompressing(raw, ending) as text:
        yield _bounded_lines(text, path), raw.tell


@contextlib.contextmanager
def _decompressing(raw: IO[bytes], ending: str) -> Iterator[IO[bytes]]:
    if ending == ".jsonl.gz":
        with gzip.GzipFile(fileobj=raw) as file:
            yield io.BufferedReader(file, 1 << 20)  # pyright: ignore[reportArgumentType, reportReturnType]
    elif ending == ".jsonl.zst":
        import pyarrow as pa

        with pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd") as file:
            yield io.BufferedReader(file, 1 << 20)  # pyright: ignore[reportArgumentType, reportReturnType]
    else:
        yield raw


def _bounded_lines(file: IO[bytes], path: Path) -> Iterator[tuple[bytes, int]]:
    with _damage_told(path):
        while line := file.readline(MAX_LINE_BYTES + 1):
            length = len(line)
            if length > MAX_LINE_BYTES and not line.endswith(b"\n"):
                length += _skip_line(file)
            yield line, length


@contextlib.contextmanager
def blocks(path: Path, ending: str, size: int) -> Iterator[tuple[Iterator[Block], Callable[[], int]]]:
    """As `lines`, many lines at a time: about `size` bytes, which is not more than a line may have."""
    with path.open("rb") as raw, _decompressing(raw, ending) as text:
        yield _blocks(text, path, size), raw.tell


def _blocks(file: IO[bytes], path: Path, size: int) -> Iterator[Block]:
    with _damage_told(path):
        while data := file.read(size):
            length = 0
            if not data.endswith(b"\n"):
                begun = len(data) - (data.rfind(b"\n") + 1)
                rest = file.readline(MAX_LINE_BYTES + 1 - begun)
                length = begun + len(rest)
                if not rest.endswith(b"\n"):
                    length += _skip_line(file) if length > MAX_LINE_BYTES else 0
                    rest += b"\n"
                data += rest
            yield data, length if length > MAX_LINE_BYTES else 0


def _skip_line(file: IO[bytes]) -> int:
    """Read on to the end of the line; the number of bytes."""
    length = 0
    while rest := file.readline(1 << 20):
        length += len(rest)
        if rest.endswith(b"\n"):
            break
    return length


@contextlib.contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise InputError(f"{path}: reading stopped, the file is damaged or cut off ({reason})") from None


def parse_line(line: bytes, length: int) -> dict[str, Any]:
    """The JSON object of a line, or a RowError that says what it is instead."""
    if length > MAX_LINE_BYTES:
        raise RowError(f"the line has {length:,} bytes; at most {MAX_LINE_BYTES:,} are read")
    if line.startswith(b"\xef\xbb\xbf"):
        raise RowError("the line starts with a byte-order mark; save the file as UTF-8 without BOM")
    if line.endswith(b"\r\n"):
        raise RowError("the line ends in CR LF; save the file with LF line ends (dos2unix does)")
    if not line.strip():
        raise RowError("the line is empty; delete it")
    if b"\0" in line:
        raise RowError("the line holds a NUL byte, so this is not a text file")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowError(f"the line is not UTF-8 (byte {error.start + 1})") from None
    value = loads(text)
    if not isinstance(value, dict):
        raise RowError("the line is not a JSON object")
    return value


def loads(text: str) -> Any:
    """JSON as the standard has it: no NaN, no number beyond a float, no key twice in an object."""
    try:
        value = _DECODER.decode(text)
        if "\\ud" in text or "\\uD" in text:
            dumps(value).encode()
        return value
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise RowError(f"the text holds {half!r}, half of a surrogate pair, which is no character") from None
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            raise RowError("the JSON ends too early; the line may be cut off") from None
        raise RowError(f"not JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise RowError("the row is nested too deeply") from None
    except RowError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise RowError(f"not JSON that can be read: {str(error).partition(';')[0]}") from None


def dumps(value: Any) -> str:
    return _ENCODER.encode(value)


@contextlib.contextmanager
def compressing(file: IO[bytes], ending: str) -> Iterator[IO[bytes]]:
    """The stream to write lines to, so that `file` gets them as the ending says."""
    if ending == ".jsonl.gz":
        # No name and no time in the header: the same rows give the same bytes.
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0, compresslevel=6) as packed:
            yield packed  # pyright: ignore[reportReturnType]
    elif ending == ".jsonl.zst":
        import pyarrow as pa

        with pa.CompressedOutputStream(pa.PythonFile(_KeptOpen(file), "w"), "zstd") as packed:
            yield packed  # pyright: ignore[reportReturnType]
    else:
        yield file


class _KeptOpen(io.RawIOBase):
    """A file that survives its compressor, which closes what it writes to."""

    def __init__(self, file: IO[bytes]) -> None:
        self._write = file.write

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._write(data)


def _refuse_constant(name: str) -> None:
    raise RowError(f"the row holds {name}, which JSON does not have; write null")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise RowError(f"the number {text[:20]} is beyond the range of a float")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise RowError(f"key {twice!r} stands twice in one object")
    return record


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique_keys)
