"""Images of every kind come out upright, in RGB on white; what is none is refused by name, within bounds."""

import base64
import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from capcurr_plugin import images
from capcurr_plugin.errors import InputError
from capcurr_plugin.images import BadImage, data_url, open_image

WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)


def picture(width=60, height=40):
    """Red, with a blue corner at the top left that tells which way is up."""
    image = Image.new("RGB", (width, height), RED)
    ImageDraw.Draw(image).rectangle((0, 0, width // 3, height // 3), fill=BLUE)
    return image


def stored(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def oriented(kind, orientation):
    """The picture, stored so that EXIF has to turn it upright."""
    turn = Image.Transpose
    back = {
        1: None,
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_90,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_270,
    }[orientation]
    image = picture() if back is None else picture().transpose(back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return stored(image, kind, exif=exif)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth=8, colour=2, data=b"\0" * 100, more=b""):
    """A PNG by hand, whose header may say anything."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    end = chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + end


def near(image, expected, mean=0.5):
    """Whether pixels differ by so much, in the mean."""
    found, expected = np.asarray(image, dtype=int), np.asarray(expected, dtype=int)
    return found.shape == expected.shape and np.abs(found - expected).mean() <= mean


def decoded(url):
    head, _, body = url.partition(",")
    return head, base64.b64decode(body)


# Every kind comes out the same


def animated(kind):
    return stored(picture(), kind, save_all=True, append_images=[Image.new("RGB", (60, 40), WHITE)], duration=90)


def with_alpha(mode):
    image = picture().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 255))
    ImageDraw.Draw(image).rectangle((30, 20, 59, 39), fill=(0, 255, 0, 0))
    return image.convert(mode)


KINDS = {
    "png": stored(picture(), "PNG"),
    "jpeg": stored(picture(), "JPEG", quality=95, subsampling=0),
    "progressive jpeg": stored(picture(), "JPEG", quality=95, subsampling=0, progressive=True),
    "webp": stored(picture(), "WEBP", lossless=True),
    "gif": stored(picture(), "GIF"),
    "bmp": stored(picture(), "BMP"),
    "tiff": stored(picture(), "TIFF"),
    "compressed tiff": stored(picture(), "TIFF", compression="tiff_adobe_deflate"),
    "palette": stored(picture().quantize(4), "PNG"),
    "interlaced": stored(picture(), "PNG", interlace=1),
    "cmyk jpeg": stored(picture().convert("CMYK"), "JPEG", quality=95, subsampling=0),
    "cmyk tiff": stored(picture().convert("CMYK"), "TIFF"),
    "animated gif": animated("GIF"),
    "animated png": animated("PNG"),
    "animated webp": stored(
        picture(), "WEBP", save_all=True, append_images=[Image.new("RGB", (60, 40))], lossless=True
    ),
    "two pictures": stored(picture(), "MPO", save_all=True, append_images=[picture().rotate(180)], quality=95),
    "turned jpeg": oriented("JPEG", 6),
    "turned png": oriented("PNG", 3),
    "turned webp": oriented("WEBP", 8),
    "turned tiff": oriented("TIFF", 8),
}
LOSSY = ("jpeg", "webp", "pictures")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_upright_rgb(tmp_path, kind):
    path = tmp_path / "misnamed.svg"
    path.write_bytes(KINDS[kind])
    image = open_image(path, "one")
    assert (image.mode, image.size) == ("RGB", (60, 40))
    assert near(image, picture(), 3 if kind.endswith(LOSSY) else 0.5)
    assert near(open_image(KINDS[kind], "one"), image, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned(orientation):
    assert near(open_image(oriented("PNG", orientation), "one"), picture(), 0)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode):
    found = with_alpha("RGBA").quantize(8) if mode == "P" else with_alpha(mode)
    image = open_image(stored(found, "PNG"), "one")
    assert image.getpixel((50, 30)) == WHITE
    assert image.getpixel((50, 5)) != WHITE


def test_transparent_colour_and_transparent_grey_are_white():
    assert open_image(stored(picture(), "PNG", transparency=BLUE), "one").getpixel((0, 0)) == WHITE
    grey = Image.new("L", (9, 9), 70)
    assert open_image(stored(grey, "PNG", transparency=70), "one").getpixel((4, 4)) == WHITE
    assert open_image(stored(picture().quantize(4), "GIF", transparency=0), "one").mode == "RGB"


def test_sixteen_bits_keep_their_upper_half():
    ramp = (np.arange(60 * 40, dtype=np.uint32).reshape(40, 60) * 27).astype(np.uint16)
    for kind in ("PNG", "TIFF"):
        image = open_image(stored(Image.fromarray(ramp), kind), "one")
        assert near(image, np.repeat((ramp >> 8)[:, :, None], 3, 2), 1), kind


def test_one_bit_and_grey():
    assert open_image(stored(Image.new("1", (9, 9), 1), "PNG"), "one").getpixel((4, 4)) == WHITE
    assert open_image(stored(Image.new("L", (9, 9), 7), "PNG"), "one").getpixel((4, 4)) == (7, 7, 7)


def test_damaged_exif_refuses_nothing():
    content = bytearray(oriented("JPEG", 6))
    place = content.index(b"Exif\0\0") + 6
    content[place : place + 8] = b"\xff" * 8
    assert open_image(bytes(content), "one").size == (40, 60)  # as it is stored


# What is refused, by name

HEADER_ONLY = KINDS["jpeg"][:30]
SOF = KINDS["jpeg"].index(b"\xff\xc0")
REFUSED = {
    "empty": (b"", "is empty"),
    "text": (b"index,problem\n", "none of PNG, JPEG, GIF, WEBP, BMP, TIFF"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG, HTML"),
    "svg after a mark": (b"\xef\xbb\xbf \n<?xml version='1.0'?><svg/>", "SVG, HTML"),
    "a failed download": (b"<!DOCTYPE html><html>404</html>", "SVG, HTML"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "pdf": (b"%PDF-1.4 ...", "none of"),
    "postscript, for which Pillow starts a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of"),
    "a riff that is no webp": (b"RIFF\0\0\0\0WAVEfmt ", "none of"),
    "cut off png": (KINDS["png"][:-30], "cut off"),
    "cut off jpeg": (KINDS["jpeg"][: len(KINDS["jpeg"]) // 2], "cut off"),
    "cut off progressive jpeg": (KINDS["progressive jpeg"][:-40], "cut off"),
    "cut off gif": (KINDS["gif"][:40], "cut off"),
    "cut off webp": (KINDS["webp"][:-10], "cut off"),
    "cut off tiff": (KINDS["tiff"][:200], "cut off"),
    "cut off bmp": (KINDS["bmp"][:200], "cut off"),
    "head only": (HEADER_ONLY, "cut off"),
    "png with a wrong checksum": (png(9, 9)[:20] + b"\7" + png(9, 9)[21:], "damaged"),
    "png of no width": (png(0, 9), "damaged"),
    "png of floating depth": (png(9, 9, depth=3), "damaged"),
    "floating tiff": (stored(Image.new("F", (9, 9), 0.5), "TIFF"), "floating-point"),
    "many scans": (KINDS["jpeg"][:-2] + b"\xff\xda" * 200 + b"\xff\xd9", "scans"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_image_is_refused_by_name(tmp_path, case):
    content, reason = REFUSED[case]
    path = tmp_path / "x.png"
    path.write_bytes(content)
    for read in (open_image, data_url):
        for source in (path, content):
            with pytest.raises(BadImage) as refused:
                read(source, "some/x.png")
            assert "'some/x.png'" in str(refused.value)
            assert reason in str(refused.value)
            assert "\n" not in str(refused.value)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "regular"), (tmp_path / "fifo", "regular")):
        with pytest.raises(BadImage, match=reason):
            open_image(path, "x")


@pytest.mark.parametrize("kind", ["png", "gif", "bmp", "tiff", "webp", "jpeg"])
def test_thousands_of_damaged_files_end_in_an_image_or_a_refusal(kind):
    """Bytes changed anywhere: nothing else may escape, whatever the decoder makes of them."""
    rng = np.random.default_rng(7)
    refused = 0
    for _ in range(300):
        content = bytearray(KINDS[kind])
        for place in rng.integers(3, len(content), 3):
            content[place] = rng.integers(256)
        try:
            assert open_image(bytes(content), "x").mode == "RGB"
        except BadImage:
            refused += 1
    assert refused


# Bounds


def jpeg_of(width, height):
    """Small in bytes, whatever it says of its size."""
    content = bytearray(KINDS["jpeg"])
    content[SOF + 5 : SOF + 9] = struct.pack(">HH", height, width)
    return bytes(content)


BOMBS = {
    "png": png(50_000, 50_000),
    "png just over the bound": png(8193, 8192),
    "thin png": png(1, images.MAX_PIXELS + 1),
    "jpeg": jpeg_of(50_000, 50_000),
    "gif": b"GIF89a" + struct.pack("<HH", 50_000, 50_000) + KINDS["gif"][10:],
    "bmp": KINDS["bmp"][:18] + struct.pack("<ii", 50_000, 50_000) + KINDS["bmp"][26:],
    "tiff": stored(Image.new("1", (8200, 8200)), "TIFF", compression="group4"),
    "webp": stored(Image.new("RGB", (9000, 9000)), "WEBP", lossless=True, method=0, quality=0),
}
OPEN = """
import resource, sys, time
from pathlib import Path
from capcurr_plugin.images import BadImage, open_image
open_image(Path(sys.argv[2]), "small")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.monotonic()
try:
    open_image(Path(sys.argv[1]), "bomb.png", *map(int, sys.argv[3:]))
except BadImage as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, time.monotonic() - start)
"""


def opened_elsewhere(tmp_path, content, *options):
    """What is said of an image in a process of its own, and the MiB and seconds that it took there."""
    (tmp_path / "bomb").write_bytes(content)
    (tmp_path / "small").write_bytes(KINDS["png"])
    command = [sys.executable, "-c", OPEN, tmp_path / "bomb", tmp_path / "small", *options]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    assert done.stderr == ""
    *said, numbers = done.stdout.splitlines()
    return "".join(said), *map(float, numbers.split())


@pytest.mark.parametrize("kind", BOMBS)
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, kind):
    said, mebibytes, seconds = opened_elsewhere(tmp_path, BOMBS[kind])
    assert "image 'bomb.png' has " in said
    assert "pixels; at most 67,108,864 are decoded" in said
    assert mebibytes < 20
    assert seconds < 2


@pytest.mark.slow
def test_the_largest_image_is_read_in_bounded_memory(tmp_path):
    content = stored(Image.new("RGBA", (8192, 8192), (9, 9, 9, 128)), "PNG", compress_level=1)
    said, mebibytes, _ = opened_elsewhere(tmp_path, content)
    assert said == ""
    assert mebibytes < 900


@pytest.mark.slow
def test_a_jpeg_of_many_pixels_takes_little_memory_where_few_will_do(tmp_path):
    said, mebibytes, _ = opened_elsewhere(tmp_path, stored(Image.new("RGB", (12_000, 9_000), RED), "JPEG"), 64)
    assert said == ""
    assert mebibytes < 60


def test_a_jpeg_of_many_pixels_is_decoded_small_where_few_will_do(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 100_000)
    content = stored(picture(1200, 900), "JPEG")
    with pytest.raises(BadImage, match="1,200 x 900 pixels"):
        open_image(content, "x")
    image = open_image(content, "x", 64)
    assert image.size == (150, 113)
    assert near(image, picture(150, 113), 3)
    _, body = decoded(data_url(content, "x", max_pixels=120 * 90))
    assert near(open_image(body, "x"), picture(120, 90), 3)


def test_a_progressive_jpeg_of_many_pixels_is_refused(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 100_000)
    with pytest.raises(BadImage, match="1,200 x 900 pixels"):
        open_image(stored(picture(1200, 900), "JPEG", progressive=True), "x", 64)


def test_a_file_of_too_many_bytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    path = tmp_path / "x.png"
    path.write_bytes(KINDS["png"])
    for source in (path, KINDS["png"]):
        with pytest.raises(BadImage, match="'x' has over 100 bytes"):
            open_image(source, "x")


def test_text_that_unpacks_to_much_is_refused():
    bomb = chunk(b"zTXt", b"note\0\0" + zlib.compress(b"a" * (3 << 20)))
    with pytest.raises(BadImage, match="damaged"):
        open_image(png(9, 9, data=b"\0" * 300, more=bomb), "x")


# Data URLs


@pytest.mark.parametrize("kind", ["png", "jpeg", "progressive jpeg"])
def test_what_is_fine_is_sent_as_it_is(kind):
    head, body = decoded(data_url(KINDS[kind], "x", 1, 2400))
    assert head == f"data:image/{kind.split()[-1]};base64"
    assert body == KINDS[kind]


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"png", "jpeg", "progressive jpeg", "interlaced"}))
def test_what_readers_could_see_differently_is_encoded_anew(kind):
    head, body = decoded(data_url(KINDS[kind], "x"))
    sent = Image.open(io.BytesIO(body))
    assert body != KINDS[kind]
    assert head == f"data:image/{sent.format.lower()};base64"
    assert (sent.format in ("JPEG", "PNG"), sent.mode, sent.size) == (True, "RGB", (60, 40))
    assert getattr(sent, "n_frames", 1) == 1
    assert near(sent, picture(), 4 if kind.endswith(LOSSY) else 0.5)


def test_transparent_png_is_sent_on_white():
    _, body = decoded(data_url(stored(with_alpha("RGBA"), "PNG"), "x"))
    sent = Image.open(io.BytesIO(body))
    assert (sent.format, sent.mode, sent.getpixel((50, 30))) == ("PNG", "RGB", WHITE)


@pytest.mark.parametrize("size", [(60, 40), (4000, 30), (30, 4000), (1, 5000), (5000, 1), (1, 1), (640, 480)])
@pytest.mark.parametrize("bounds", [(1, 1), (1, 100), (10_000, 10_001), (4096, 8192), (300_000, 400_000)])
def test_sizes_are_within_bounds_and_keep_their_shape(size, bounds):
    width, height = images._size_within(size, *bounds)
    assert 1 <= width * height <= bounds[1]
    assert width * height >= bounds[0] or bounds[1] - bounds[0] < 2
    if min(width, height) > 50:
        assert width / height == pytest.approx(size[0] / size[1], rel=0.1)


@pytest.mark.parametrize(("bounds", "size"), [((1, 600), (30, 20)), ((9600, 10_000), (120, 80))])
def test_data_urls_are_resized(bounds, size):
    for kind in ("png", "jpeg"):
        head, body = decoded(data_url(KINDS[kind], "x", *bounds))
        sent = Image.open(io.BytesIO(body))
        assert (head.partition("/")[2], sent.size) == (f"{kind};base64", size)
        assert near(sent.resize((3, 2)), picture(*size).resize((3, 2)), 8)


def test_a_turned_photograph_is_resized_upright():
    _, body = decoded(data_url(oriented("JPEG", 6), "x", 1, 600))
    assert Image.open(io.BytesIO(body)).size == (30, 20)
    assert Image.open(io.BytesIO(body)).getexif() == {}


def test_bounds_that_no_size_keeps_are_refused():
    for bounds in ((0, 5), (6, 5), (-1, -1)):
        with pytest.raises(ValueError, match="no image has at least"):
            data_url(KINDS["png"], "x", *bounds)


def test_data_urls_are_the_same_each_time():
    assert data_url(KINDS["bmp"], "x", 1, 600) == data_url(KINDS["bmp"], "x", 1, 600)


def test_missing_pillow_is_said_in_one_line(monkeypatch):
    images._pillow.cache_clear()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match=r"needs Pillow.*pip install"):
        images.require_pillow()
    images._pillow.cache_clear()
