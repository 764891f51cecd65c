"""Images from anywhere: opened as they look, or refused by name without being decoded."""

import base64
import io
import resource
import struct
import zlib

import pytest
from PIL import Image

from capcurr_plugin.images import UnreadableImage, data_url, open_image


def save(path, image, **options):
    image.save(path, **options)
    return path


def decoded(url):
    kind, _, content = url.removeprefix("data:").partition(";base64,")
    return kind, Image.open(io.BytesIO(base64.b64decode(content)))


def huge_png(path, width, height):
    """A small file that says it is large."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 10_000_000)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def half_and_half(mode="RGB"):
    image = Image.new("RGB", (60, 40), "red")
    image.paste("blue", (30, 0, 60, 40))
    return image.convert(mode)


def looks_like(image, left, right, far=12):
    assert image.mode == "RGB"
    width, height = image.size
    for at, wanted in ((width // 4, left), (3 * width // 4, right)):
        assert all(abs(a - b) <= far for a, b in zip(image.getpixel((at, height // 2)), wanted, strict=True))


RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


FORMS = [(mode, ending) for mode in ("RGB", "RGBA", "P") for ending in ("png", "webp", "gif", "tif", "bmp")]


@pytest.mark.parametrize(("mode", "ending"), [*FORMS, ("RGB", "jpg"), ("L", "jpg"), ("CMYK", "jpg"), ("CMYK", "tif")])
def test_every_format_and_mode_is_shown_as_it_looks(tmp_path, mode, ending):
    path = save(tmp_path / f"1.{ending}", half_and_half(mode))
    colours = ((76,) * 3, (29,) * 3) if mode == "L" else (RED, BLUE)
    looks_like(open_image(path), *colours)
    kind, sent = decoded(data_url(path))
    assert kind in ("image/png", "image/jpeg", "image/webp")
    looks_like(sent.convert("RGB"), *colours)


def test_what_is_transparent_is_white(tmp_path):
    image = half_and_half("RGBA")
    image.paste((0, 0, 0, 0), (30, 0, 60, 40))
    looks_like(open_image(save(tmp_path / "1.png", image)), RED, WHITE)
    palette = half_and_half("P")
    palette.info["transparency"] = palette.getpixel((45, 20))
    looks_like(open_image(save(tmp_path / "2.png", palette)), RED, WHITE)


def test_sixteen_bits_keep_their_shades(tmp_path):
    image = Image.new("I;16", (60, 40), 0x8000)
    looks_like(open_image(save(tmp_path / "1.png", image)), (128,) * 3, (128,) * 3)


def test_rotated_photographs_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    path = save(tmp_path / "1.jpg", half_and_half().rotate(90, expand=True), exif=exif, quality=95)
    looks_like(open_image(path), RED, BLUE)
    kind, sent = decoded(data_url(path))
    assert (kind, sent.size) == ("image/jpeg", (60, 40))
    looks_like(sent, RED, BLUE)


def test_of_an_animation_the_first_picture_counts(tmp_path):
    other = Image.new("RGB", (60, 40), "white")
    path = save(tmp_path / "1.gif", half_and_half(), save_all=True, append_images=[other, other])
    looks_like(open_image(path), RED, BLUE)
    kind, sent = decoded(data_url(path))
    assert (kind, getattr(sent, "n_frames", 1)) == ("image/png", 1)


def test_the_content_counts_and_not_the_name(tmp_path):
    path = save(tmp_path / "1.jpg", half_and_half(), format="PNG")
    assert data_url(path).startswith("data:image/png;")


def test_what_will_do_is_sent_as_it_is(tmp_path):
    path = save(tmp_path / "1.jpg", half_and_half(), quality=70)
    assert data_url(path, 100, 10_000) == f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"


@pytest.mark.parametrize(("fewest", "most"), [(None, 600), (20_000, None), (1, 1), (None, 2399)])
def test_images_are_brought_within_bounds_in_their_shape(tmp_path, fewest, most):
    path = save(tmp_path / "1.png", half_and_half())
    _, sent = decoded(data_url(path, fewest, most))
    pixels = sent.size[0] * sent.size[1]
    assert pixels <= (most or pixels)
    assert pixels >= (fewest or pixels)
    if pixels > 100:
        assert sent.size[0] / sent.size[1] == pytest.approx(1.5, rel=0.05)
        looks_like(sent, RED, BLUE)


@pytest.mark.parametrize("size", [(50_000, 50_000), (10_000, 10_000), (2**31 - 1, 1)])
def test_a_huge_image_is_refused_without_being_decoded(tmp_path, size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableImage, match=r"1\.png: has .* pixels"):
        data_url(huge_png(tmp_path / "1.png", *size))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no JPEG, PNG, WEBP, GIF, BMP or TIFF"),
        (b"%PDF-1.7", "is no JPEG"),
        (b"GIF89a", "is no JPEG|cannot be decoded|cut off"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "is no JPEG|cannot be decoded|cut off"),
    ],
)
def test_what_is_no_image_is_refused_by_name(tmp_path, content, reason):
    (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(UnreadableImage, match=rf"1\.png: ({reason})"):
        data_url(tmp_path / "1.png")


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    for path in (tmp_path, tmp_path / "none.png"):
        with pytest.raises(UnreadableImage, match="cannot be read"):
            open_image(path)


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "tif"])
def test_a_cut_off_file_is_refused_wherever_it_is_cut(tmp_path, ending):
    image = Image.effect_noise((90, 70), 80).convert("RGB")
    whole = save(tmp_path / f"whole.{ending}", image).read_bytes()
    path = tmp_path / f"1.{ending}"
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(UnreadableImage, match=rf"1\.{ending}: "):
            open_image(path)


def test_flipped_bytes_give_an_image_or_a_refusal(tmp_path):
    image = Image.effect_noise((40, 30), 80).convert("RGB")
    for ending in ("png", "jpg", "gif", "webp", "tif", "bmp"):
        path = save(tmp_path / f"1.{ending}", image)
        whole = bytearray(path.read_bytes())
        for place in range(0, len(whole), max(1, len(whole) // 60)):
            path.write_bytes(bytes([*whole[:place], whole[place] ^ 0xFF, *whole[place + 1 :]]))
            try:
                assert open_image(path).mode == "RGB"
            except UnreadableImage:
                continue
