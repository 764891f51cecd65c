"""Images from anywhere, opened within bounds: what cannot be read is refused by name, and nothing huge is decoded."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capcurr_plugin.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # by content, whatever the name says
SENT_AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
MAX_FILE_BYTES = 128 << 20
MAX_PIXELS = 80_000_000
JPEG_QUALITY = 95
ORIENTATION = 0x0112  # the EXIF tag


class UnreadableImage(ValueError):
    """The message names the file and the reason."""


def open_image(path: Path) -> Image:
    """The first picture of a file, upright, in RGB, on white where it is transparent."""
    return _shown(_decoded(path, _content(path)))


def data_url(path: Path, min_pixels: int | None = None, max_pixels: int | None = None) -> str:
    """For a request. The file's own bytes where they will do; else resized once, and encoded anew."""
    content = _content(path)
    image = _decoded(path, content)
    size = _bounded(image.size, min_pixels, max_pixels)
    kind = SENT_AS_THEY_ARE.get(str(image.format))
    if kind and size == image.size and _is_plain(image):
        return _url(kind, content)
    lossy = image.format in ("JPEG", "MPO")
    shown = _shown(image)
    if shown.size[0] * shown.size[1] != size[0] * size[1]:
        shown = shown.resize(_bounded(shown.size, min_pixels, max_pixels), _lanczos())
    encoded = io.BytesIO()
    shown.save(encoded, "JPEG" if lossy else "PNG", **({"quality": JPEG_QUALITY} if lossy else {}))
    return _url("image/jpeg" if lossy else "image/png", encoded.getvalue())


def _url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be read ({error.strerror})") from None
    if not content:
        raise UnreadableImage(f"{path}: is empty")
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableImage(f"{path}: is over {MAX_FILE_BYTES >> 20} MB large")
    return content


def _decoded(path: Path, content: bytes) -> Image:
    PIL = _pillow()
    try:
        image = PIL.Image.open(io.BytesIO(content), formats=FORMATS)
    except PIL.UnidentifiedImageError:
        raise UnreadableImage(f"{path}: is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from None
    except PIL.Image.DecompressionBombError:
        raise UnreadableImage(f"{path}: has over {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # noqa: BLE001  whatever a decoder makes of hostile bytes
        raise UnreadableImage(f"{path}: cannot be decoded ({_reason(error)})") from None
    if image.size[0] * image.size[1] > MAX_PIXELS:
        raise UnreadableImage(f"{path}: has {image.size[0]:,} x {image.size[1]:,} pixels, over {MAX_PIXELS:,} in all")
    try:
        image.load()
    except Exception as error:  # noqa: BLE001  the same
        raise UnreadableImage(f"{path}: is cut off or damaged ({_reason(error)})") from None
    return image


def _pillow() -> Any:
    try:
        import PIL
        import PIL.Image
        import PIL.ImageOps
    except ModuleNotFoundError:
        raise InputError("images need Pillow: pip install 'capcurr-plugin[data]'") from None
    return PIL


def _lanczos() -> Any:
    return _pillow().Image.Resampling.LANCZOS


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _is_plain(image: Image) -> bool:
    upright = image.getexif().get(ORIENTATION, 1) == 1
    return upright and image.mode in ("RGB", "L") and getattr(image, "n_frames", 1) == 1


def _shown(image: Image) -> Image:
    PIL = _pillow()
    image = PIL.ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits: conversion would cut off the brighter ones
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = PIL.Image.new("RGBA", image.size, "white")
        image = PIL.Image.alpha_composite(white, image)
    return image.convert("RGB")


def _bounded(size: tuple[int, int], min_pixels: int | None, max_pixels: int | None) -> tuple[int, int]:
    """The size nearest to this one, of the same shape, with so many pixels."""
    pixels = size[0] * size[1]
    if max_pixels and pixels > max_pixels:
        scale, rounded = math.sqrt(max_pixels / pixels), math.floor
    elif min_pixels and pixels < min_pixels:
        scale, rounded = math.sqrt(min_pixels / pixels), math.ceil
    else:
        return size
    return max(1, rounded(size[0] * scale)), max(1, rounded(size[1] * scale))
