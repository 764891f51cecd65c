"""Images as every command opens them: within bounds, by their content, upright, in RGB on white.

The files are not trusted. What is no such image raises `BadImage`, one line that names it and says why, before anything
large is decoded. Decoding needs Pillow (the extra `data`); colour profiles are not applied.
"""

import base64
import functools
import io
import math
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from capcurr_plugin.errors import InputError
from capcurr_plugin.rows import RowError

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 128 << 20  # of a file
MAX_PIXELS = 1 << 26  # that are decoded: 192 MiB in RGB
MAX_SCANS = 100  # of a progressive JPEG, which has about ten; each costs a pass over all pixels
JPEG_QUALITY = 95

# What a file starts with -> what it is. No other format is decoded: some of Pillow's start other programs.
FORMATS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"RIFF": "WEBP",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
SENT_AS_IT_IS = ("JPEG", "PNG")
LOSSLESS = ("PNG", "GIF", "BMP", "TIFF")

Size = tuple[int, int]

_ORIENTATION = 0x0112
_SCAN = b"\xff\xda"
_AT_MOST = f"at most {MAX_PIXELS:,} are decoded"


class BadImage(RowError):
    """Names the image and says why it cannot be read."""


def require_pillow() -> None:
    """Say in one line, before a long job starts, that Pillow is missing."""
    _pillow()


def open_image(source: Path | bytes, name: str, at_least: int | None = None) -> "Image.Image":
    """The image of a file, or of its content, which errors call `name`: the first frame of an animated one.

    `at_least`: it will be shrunk to so many pixels a side, and may come smaller than it is stored, but not smaller than
    that. A JPEG may then have more than MAX_PIXELS, since fewer are decoded.
    """
    wanted = None if at_least is None else lambda size: (at_least, at_least)
    return _open(read_image(source, name), name, wanted).image


def data_url(source: Path | bytes, name: str, min_pixels: int = 1, max_pixels: int = MAX_PIXELS) -> str:
    """The image for a chat request: see `sendable`."""
    content, media_type = sendable(source, name, min_pixels, max_pixels)
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def sendable(
    source: Path | bytes,
    name: str,
    min_pixels: int = 1,
    max_pixels: int = MAX_PIXELS,
    max_side: int = MAX_PIXELS,
    check: bool = True,
) -> tuple[bytes, str]:
    """The image as servers take it, and its media type: with at least `min_pixels` and at most `max_pixels` in all, and
    `max_side` on a side. Without `check`, damage to one that is sent as it is is left for the server to find.

    An upright JPEG or PNG within these, in plain RGB or grey, is sent as it is. Any other is resized once and encoded
    anew: as PNG when it was stored without loss, else as JPEG.
    """
    if not 1 <= min_pixels <= max_pixels:
        raise ValueError(f"no image has at least {min_pixels} and at most {max_pixels} pixels")

    def size_to_send(stored: Size) -> Size:
        longest = max(stored)
        if longest <= max_side:
            return _size_within(stored, min_pixels, max_pixels)
        fitting = max(1, stored[0] * max_side // longest), max(1, stored[1] * max_side // longest)
        return _size_within(fitting, 1, max_pixels)

    def size_to_decode(stored: Size) -> Size:
        width, height = size_to_send(stored)
        return 2 * width, 2 * height  # halving an image is left to the resampling filter

    content = read_image(source, name)
    if not check and (kind := _plain_kind(content, size_to_send)):
        return content, f"image/{kind.lower()}"
    opened = _open(content, name, size_to_decode)
    size = size_to_send(opened.stored)
    if opened.plain and size == opened.stored:
        return content, f"image/{opened.kind.lower()}"
    image = opened.image if size == opened.image.size else opened.image.resize(size, _pillow().Resampling.LANCZOS)
    kind = "PNG" if opened.kind in LOSSLESS else "JPEG"
    out = io.BytesIO()
    image.save(out, kind, **({"quality": JPEG_QUALITY, "subsampling": 0} if kind == "JPEG" else {}))
    return out.getvalue(), f"image/{kind.lower()}"


def image_size(source: Path | bytes, name: str) -> Size:
    """As it is stored, from the start of the file alone."""
    pillow = _pillow()
    content = source if isinstance(source, bytes) else _read(source, name)
    try:
        with pillow.open(io.BytesIO(content), formats=[image_kind(content, name)]) as image:
            return image.size
    except BadImage:
        raise
    except Exception as error:  # noqa: BLE001  whatever damaged content makes of its decoder
        raise BadImage(f"image {name!r} is damaged ({type(error).__name__})") from None


def read_image(source: Path | bytes, name: str) -> bytes:
    """The content of an image's file, which is not looked at; files without any and over MAX_BYTES are refused."""
    content = source if isinstance(source, bytes) else _read(source, name)
    if not content:
        raise BadImage(f"image {name!r} is empty")
    if len(content) > MAX_BYTES:
        raise BadImage(f"image {name!r} has over {MAX_BYTES:,} bytes")
    return content


def _read(path: Path, name: str) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadImage(f"image {name!r} is not a regular file")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadImage(f"image {name!r} cannot be read ({error.strerror})") from None


@dataclass(frozen=True)
class _Opened:
    image: "Image.Image"  # upright, RGB
    stored: Size  # upright; larger than the image when fewer pixels were decoded
    kind: str
    plain: bool  # any reader sees in the file what is in the image


def _open(content: bytes, name: str, wanted: Callable[[Size], Size] | None) -> _Opened:
    kind = image_kind(content, name)
    if kind == "JPEG" and content.count(_SCAN) > MAX_SCANS:
        raise BadImage(f"image {name!r} has over {MAX_SCANS} scans, which no encoder writes")
    pillow = _pillow()
    try:
        image = pillow.open(io.BytesIO(content), formats=[kind])
        stored = image.size
        # A progressive JPEG is held whole, however small it is decoded.
        if wanted and kind == "JPEG" and "progressive" not in image.info:
            image.draft(None, wanted(stored))
        shrunk = image.size != stored
        if image.width * image.height > MAX_PIXELS:
            raise BadImage(f"image {name!r} has {stored[0]:,} x {stored[1]:,} pixels; {_AT_MOST}")
        image.load()
        orientation = _orientation(image)
        plain = _is_plain(image)
        upright = _rgb(image, name)
        if orientation != 1:
            upright = upright.transpose(_turns()[orientation])
        if not shrunk:
            stored = upright.size
        elif orientation >= 5:
            stored = stored[1], stored[0]
    except BadImage:
        raise
    except pillow.DecompressionBombError:  # Pillow's own bound, far over ours
        raise BadImage(f"image {name!r} has over {2 * (pillow.MAX_IMAGE_PIXELS or 0):,} pixels; {_AT_MOST}") from None
    except Exception as error:  # noqa: BLE001  whatever damaged content makes of its decoder
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadImage(f"image {name!r} is damaged or cut off, as {kind} ({reason})") from None
    return _Opened(upright, stored, kind, plain)


def _is_plain(image: "Image.Image") -> bool:
    """Any reader sees in the file what is in the image."""
    plain = image.format in SENT_AS_IT_IS and image.mode in ("RGB", "L") and _orientation(image) == 1
    return plain and "transparency" not in image.info and getattr(image, "n_frames", 1) == 1


def _plain_kind(content: bytes, size_to_send: Callable[[Size], Size]) -> str | None:
    """Of an image that can be sent as it is, by the start of its content; None when it has to be decoded."""
    try:
        with _pillow().open(io.BytesIO(content), formats=SENT_AS_IT_IS) as image:
            return image.format if _is_plain(image) and size_to_send(image.size) == image.size else None
    except Exception:  # noqa: BLE001  decoding says what is wrong with it
        return None


def image_kind(content: bytes, name: str) -> str:
    """The format that the content has, whatever the file's name says."""
    for start, kind in FORMATS.items():
        if content.startswith(start) and (kind != "WEBP" or content[8:12] == b"WEBP"):
            return kind
    start = content[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"<"):
        found = "SVG, HTML or other text in tags"
    elif start.startswith(b"version https://git-lfs"):
        found = "a pointer of Git LFS to an image that was not fetched"
    else:
        found = f"something that starts with {content[:8]!r}"
    raise BadImage(f"image {name!r} is none of {', '.join(dict.fromkeys(FORMATS.values()))}, but {found}")


def _rgb(image: "Image.Image", name: str) -> "Image.Image":
    """On white, where it is transparent."""
    if image.mode == "F":
        raise BadImage(f"image {name!r} has floating-point pixels, whose range is not known")
    if image.mode.startswith("I"):  # 16 bits
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = _pillow().new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")


def _orientation(image: "Image.Image") -> int:
    """By EXIF, 1 to 8; 1 is upright."""
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001  EXIF that cannot be read says nothing, and no viewer refuses the image for it
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turns() -> dict[int, "Image.Transpose"]:
    """What makes an image of an orientation upright."""
    turn = _pillow().Transpose
    return {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }


def _size_within(size: Size, min_pixels: int, max_pixels: int) -> Size:
    """The size nearest in shape with so many pixels; where both bounds cannot be kept, the upper one is."""
    width, height = size
    pixels = width * height
    if pixels < min_pixels:
        scale = math.sqrt(min_pixels / pixels)
        width, height = math.ceil(width * scale), math.ceil(height * scale)
    elif pixels > max_pixels:
        scale = math.sqrt(max_pixels / pixels)
        width, height = max(1, int(width * scale)), max(1, int(height * scale))
    width = min(width, max_pixels)
    height = min(height, max(1, max_pixels // width))
    return min(width, max_pixels // height), height


@functools.cache
def _pillow() -> ModuleType:
    """Pillow's Image module."""
    try:
        from PIL import Image
    except ImportError:
        raise InputError("reading images needs Pillow, of the extra 'data'; pip install 'pillow>=10'") from None
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what it warns of is either refused here or harmless
    return Image
