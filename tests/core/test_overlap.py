"""`capcurr data overlap` from end to end, on tables as VLMEvalKit keeps them."""

import base64
import csv
import io
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance
from row_samples import choice, error_line, read_lines, read_rows, row, write_lines

from capcurr_plugin.cli import main
from capcurr_plugin.data import lookalikes, matching, wordings
from capcurr_plugin.data.lookalikes import ROWS_AT_ONCE, Fingerprint, Lookalikes, Match, fingerprint_of
from capcurr_plugin.data.wordings import Questions, normal, runs
from capcurr_plugin.row_files import write_rows

COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b")
LONG = (
    "A farmer has 12 apples and gives 5 of them to his neighbour, who already had 3. Later the neighbour loses 2 of "
    "them on the way to the market. How many apples does the neighbour have in the end?"
)
OTHER = (
    "In the figure the line AB is a diameter of the circle with centre O, and the angle at C measures 40 degrees. What "
    "is the size of the angle BOC in degrees, if the arc from A to C is as long as the radius?"
)
SHORT = "Is there a dog in the image?"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPCURR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LMUData", str(tmp_path / "LMUData"))


# Pictures and tables


def chart(seed):
    """Bars of one style, each chart with heights and colours of its own."""
    chance = random.Random(seed)
    image = Image.new("RGB", (320, 240), "white")
    draw = ImageDraw.Draw(image)
    draw.line([(30, 10), (30, 210), (310, 210)], fill="black", width=2)
    for place in range(40, 300, 45):
        draw.rectangle((place, 210 - chance.uniform(10, 190), place + 30, 210), fill=chance.choice(COLOURS))
    draw.text((60, 215), chance.choice(["Sales", "Rain", "Visits"]), fill="black")
    return image


def diagram(seed):
    """A few thin lines on white."""
    chance = random.Random(seed)
    image = Image.new("RGB", (400, 300), "white")
    points = [(chance.uniform(40, 360), chance.uniform(40, 260)) for _ in range(4)]
    ImageDraw.Draw(image).polygon(points, outline="black", width=2)
    return image


def squares(*colours):
    """The same four squares, in these colours."""
    image = Image.new("RGB", (200, 200), "white")
    for place, colour in enumerate(colours):
        x, y = 20 + 100 * (place % 2), 20 + 100 * (place // 2)
        ImageDraw.Draw(image).rectangle((x, y, x + 60, y + 60), fill=colour)
    return image


def stored(image, kind="PNG", **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def text_of(image):
    return base64.b64encode(image if isinstance(image, bytes) else stored(image)).decode()


def table(path, *rows):
    """A table of VLMEvalKit's; rows need not have the same columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for one in rows for name in one))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def training(folder, *rows, images=None, name="rows.jsonl"):
    """A row file and its images."""
    for file, content in (images or {}).items():
        (folder / file).write_bytes(content if isinstance(content, bytes) else stored(content))
    return write_lines(folder / name, *rows)


def with_image(index, image, problem="What is shown?"):
    return row(index, problem=f"<image>{problem}", images=[image])


def overlap(*arguments):
    try:
        return main(["data", "overlap", *map(str, arguments)])
    except SystemExit as stop:
        return stop.code


def summary(capsys, *arguments):
    assert overlap(*arguments, "--json") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)


def matches(folder, *arguments):
    """What the report says, without the columns that say where."""
    report = folder / "report.jsonl"
    assert overlap(*arguments, "--report", report) == 0
    return [{name: one[name] for name in one if name not in ("file", "line")} for one in read_lines(report)]


def kinds(folder, *arguments):
    """Row -> benchmark and index -> kinds."""
    found = {}
    for one in matches(folder, *arguments):
        found.setdefault(one["index"], {})[one["benchmark"], one["benchmark_index"]] = one["kinds"]
    return found


# What touches


def test_every_kind_of_match(tmp_path, capsys):
    asked = [
        {"index": 1, "image": text_of(chart(1)), "question": SHORT, "A": "yes", "B": "no", "answer": "A"},
        {"index": 2, "image": text_of(chart(2)), "question": "Which bar is highest?", "answer": "3"},
        {"index": 3, "image": text_of(diagram(3)), "question": LONG, "answer": "6"},
        {"index": 4, "image": text_of(diagram(4)), "question": OTHER, "answer": "7"},
    ]
    suite = table(tmp_path / "Toy.tsv", *asked)
    pictures = {
        "same.png": chart(1),
        "again.jpg": stored(chart(2).resize((200, 150)), "JPEG", quality=60),
        "mine.png": chart(9),
    }
    rows = training(
        tmp_path,
        with_image("exact image", "same.png", "How many bars?"),
        with_image("image and short text", "same.png", f"{SHORT.upper()}\nA. yes\nB. no"),
        with_image("near image", "again.jpg", "What is the title?"),
        with_image("exact text", "mine.png", f" {LONG}\n"),
        row("near text", problem=f"Please solve this. {OTHER.replace('40', '50')} Give a number."),
        with_image("short text alone", "mine.png", SHORT),
        row("nothing", problem="What is 2 + 2?"),
        images=pictures,
    )
    found = matches(tmp_path, rows, "--benchmarks", suite)
    assert [(one["index"], one["benchmark_index"], one["kinds"]) for one in found] == [
        ("exact image", "1", ["exact-image"]),
        ("image and short text", "1", ["exact-image", "image-and-text"]),
        ("near image", "2", ["near-image"]),
        ("exact text", "3", ["exact-text"]),
        ("near text", "4", ["near-text"]),
    ]
    assert {one["benchmark"] for one in found} == {"Toy"}
    assert [one["image"] for one in found] == ["same.png", "same.png", "again.jpg", None, None]
    assert [one["text_similarity"] for one in found[:4]] == [None, 1.0, None, 1.0]
    assert wordings.SIMILARITY <= found[4]["text_similarity"] < 1
    assert found[0]["image_distance"] == 0 <= found[2]["image_distance"] <= lookalikes.DISTANCE
    capsys.readouterr()
    report = summary(capsys, rows, "--benchmarks", suite)
    assert (report["rows"], report["touching"]) == (7, 5)
    counts = {"any": 5, "exact-image": 2, "near-image": 1, "exact-text": 1, "near-text": 1, "image-and-text": 1}
    assert report["benchmarks"] == {"Toy": {"questions": 4, "images": 4, **counts}}
    assert report["template_questions"] == 2


def test_a_row_that_touches_several_benchmarks_by_several_images(tmp_path):
    for name, seed in (("One", 1), ("Two", 2)):
        table(tmp_path / "LMUData" / f"{name}.tsv", {"index": "x", "image": text_of(chart(seed)), "question": "?"})
    both = row("both", problem="<image><image><image>Which?", images=["2.png", "1.png", "9.png"])
    pictures = {f"{n}.png": chart(n) for n in (1, 2, 9)}
    rows = training(tmp_path, both, images=pictures)
    found = [(one["benchmark"], one["image"], one["kinds"]) for one in matches(tmp_path, rows)]
    assert found == [("One", "1.png", ["exact-image"]), ("Two", "2.png", ["exact-image"])]


def test_only_images_or_only_texts_are_compared(tmp_path, capsys):
    suite = table(tmp_path / "T.tsv", {"index": 1, "image": text_of(chart(1)), "question": LONG})
    rows = training(tmp_path, with_image("r", "a.png", LONG), images={"a.png": chart(1)})
    assert kinds(tmp_path, rows, "--benchmarks", suite)["r"] == {
        ("T", "1"): ["exact-image", "exact-text", "image-and-text"]
    }
    for what, kind in (("images", "exact-image"), ("texts", "exact-text")):
        assert kinds(tmp_path, rows, "--benchmarks", suite, "--compare", what) == {"r": {("T", "1"): [kind]}}
    (tmp_path / "a.png").unlink()  # no image is opened for texts
    capsys.readouterr()
    assert summary(capsys, rows, "--benchmarks", suite, "--compare", "texts")["touching"] == 1


# Pictures that are near, and pictures that only look alike

CHANGES = {
    "jpeg 90": lambda image: stored(image, "JPEG", quality=90),
    "jpeg 30": lambda image: stored(image, "JPEG", quality=30),
    "webp": lambda image: stored(image, "WEBP", quality=50),
    "half": lambda image: stored(image.resize((image.width // 2, image.height // 2))),
    "three times": lambda image: stored(image.resize((image.width * 3, image.height * 3)), "JPEG"),
    "square": lambda image: stored(image.resize((256, 256)), "JPEG"),
    "brighter": lambda image: stored(ImageEnhance.Brightness(image).enhance(1.2)),
    "darker": lambda image: stored(ImageEnhance.Brightness(image).enhance(0.8)),
    "cropped": lambda image: stored(image.crop((5, 4, image.width - 3, image.height - 4))),  # 1 to 2 % of a side
    "turned by EXIF": lambda image: turned(image),
}
SAME_PIXELS = {
    "another PNG": lambda image: stored(image, compress_level=1),
    "webp": lambda image: stored(image, "WEBP", lossless=True),
    "bmp": lambda image: stored(image, "BMP"),
    "palette": lambda image: stored(image.quantize(64), "GIF"),
    "with alpha": lambda image: stored(image.convert("RGBA")),
}


def turned(image):
    """Stored on its side, as cameras do, with a word in EXIF on how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return stored(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=80, exif=exif)


@pytest.mark.parametrize("change", SAME_PIXELS)
def test_files_of_the_same_pixels_are_exact(tmp_path, change):
    suite = table(tmp_path / "T.tsv", {"index": 1, "image": text_of(chart(1))})
    rows = training(tmp_path, with_image("r", "a"), images={"a": SAME_PIXELS[change](chart(1))})
    assert (tmp_path / "a").read_bytes() != stored(chart(1))
    assert kinds(tmp_path, rows, "--benchmarks", suite) == {"r": {("T", "1"): ["exact-image"]}}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_pictures_are_near(tmp_path, change):
    drawn = {f"{draw.__name__}{seed}": draw(seed) for draw in (chart, diagram) for seed in range(4)}
    if change == "brighter":  # which black and white is not
        drawn = {name: ImageEnhance.Brightness(image).enhance(0.7) for name, image in drawn.items()}
    suite = table(tmp_path / "T.tsv", *[{"index": name, "image": text_of(image)} for name, image in drawn.items()])
    pictures = {name: CHANGES[change](image) for name, image in drawn.items()}
    rows = training(tmp_path, *[with_image(name, name) for name in drawn], images=pictures)
    assert kinds(tmp_path, rows, "--benchmarks", suite) == {name: {("T", name): ["near-image"]} for name in drawn}


def test_pictures_of_one_style_are_not_near(tmp_path):
    drawn = [chart(seed) for seed in range(40)] + [diagram(seed) for seed in range(40)]
    chance = random.Random(0)
    drawn += [squares(*chance.sample(COLOURS, 4)) for _ in range(40)]
    drawn += [Image.fromarray(np.random.default_rng(n).integers(0, 256, (60, 80, 3), dtype=np.uint8)) for n in range(9)]
    rows = [{"index": n, "image": text_of(image)} for n, image in enumerate(drawn) if n % 2]
    pictures = {f"{n}.png": image for n, image in enumerate(drawn) if not n % 2}
    source = training(tmp_path, *[with_image(name, name) for name in pictures], images=pictures)
    assert kinds(tmp_path, source, "--benchmarks", table(tmp_path / "T.tsv", *rows)) == {}


def test_distance_is_an_option(tmp_path):
    suite = table(tmp_path / "T.tsv", {"index": 1, "image": text_of(diagram(1))})
    pictures = {"a.png": diagram(1).crop((6, 5, 391, 296))}
    rows = training(tmp_path, with_image("r", "a.png"), images=pictures)
    (found,) = matches(tmp_path, rows, "--benchmarks", suite, "--image-distance", 100)
    for distance, touches in ((found["image_distance"], 1), (found["image_distance"] - 1, 0)):
        assert len(matches(tmp_path, rows, "--benchmarks", suite, "--image-distance", distance)) == touches


@pytest.mark.parametrize("colour", ["white", "black", "#fefefe"])
def test_images_of_one_colour_match_nothing(tmp_path, capsys, colour):
    """A benchmark's questions without an image may have a blank one, as may training data."""
    blank = Image.new("RGB", (64, 64), colour)
    suite = table(tmp_path / "T.tsv", {"index": 1, "image": text_of(blank)}, {"index": 2, "image": text_of(chart(1))})
    rows = training(
        tmp_path, with_image("r", "a.png"), with_image("s", "b.png"), images={"a.png": blank, "b.png": blank}
    )
    report = summary(capsys, rows, "--benchmarks", suite)
    assert (report["touching"], report["blank_images"]) == (0, 1)
    assert overlap(rows, "--benchmarks", suite) == 0
    assert "1 images of benchmarks have a single colour" in capsys.readouterr().out


def flipped(looks, bits):
    content = bytearray(looks)
    for bit in bits:
        content[bit // 8] ^= 1 << bit % 8
    return bytes(content)


def test_matches_are_those_of_every_pair(monkeypatch):
    """Blocks and batches change nothing, and distances are the larger of both hashes'."""
    monkeypatch.setattr(lookalikes, "BLOCK", 7)
    monkeypatch.setattr(lookalikes, "BATCH", 5)
    chance = random.Random(3)
    originals = [fingerprint_of(chart(seed)).looks for seed in range(5)]
    hashes = 8 * lookalikes.HASH_BYTES
    theirs = [flipped(chance.choice(originals), chance.sample(range(hashes), chance.randrange(60))) for _ in range(40)]
    mine = [flipped(chance.choice(originals), chance.sample(range(hashes), chance.randrange(60))) for _ in range(23)]
    known = Lookalikes(30)
    assert [known.add(Fingerprint(bytes([n]), looks)) for n, looks in enumerate(theirs)] == list(range(40))
    found = known.matches([Fingerprint(b"", looks) for looks in mine])

    def apart(one, other, half):
        part = slice(half * lookalikes.HASH_BYTES // 2, (half + 1) * lookalikes.HASH_BYTES // 2)
        return sum((a ^ b).bit_count() for a, b in zip(one[part], other[part], strict=True))

    for looks, matched in zip(mine, found, strict=True):
        distances = {n: max(apart(looks, one, 0), apart(looks, one, 1)) for n, one in enumerate(theirs)}
        copies = {n for n, one in enumerate(theirs) if one[lookalikes.HASH_BYTES :] == looks[lookalikes.HASH_BYTES :]}
        expected = [Match(n, d, exact=False) for n, d in distances.items() if d <= 30 and n in copies]
        assert [match for match in matched if match.number in copies] == expected
        assert [match for match in matched if match.number not in copies] == []


def test_only_the_nearest_of_very_many_are_told_but_the_same_one_always(monkeypatch):
    monkeypatch.setattr(lookalikes, "NEAREST", 3)
    looks = fingerprint_of(chart(1)).looks
    known = Lookalikes()
    for number in range(20):
        known.add(Fingerprint(bytes([number]), flipped(looks, range(number))))
    (found,) = known.matches([Fingerprint(bytes([19]), looks)])
    assert [(match.number, match.exact) for match in found] == [(0, False), (1, False), (2, False), (19, True)]


# Texts


@pytest.mark.parametrize(
    "text",
    [
        LONG.upper(),
        LONG.replace(" ", "\n  "),
        f"<image>{LONG}",
        f"<image 1>\n{LONG}\n(A) 1\n(B) 2\n(C) 6",
        f"{LONG}\nOptions:\nA. 1\nB. 2",
        "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in LONG),  # full width
    ],
)
def test_copies_of_a_text_are_exact(text):
    known = Questions()
    known.add("T", 0, [LONG])
    known.close()
    assert [(w.question, w.similarity, w.exact) for w in known.asked_by(text)] == [(0, 1.0, True)]


def test_lines_that_look_like_one_option_are_text():
    assert normal("A: first\nand more") == "a: first and more"
    assert normal("Who?\nA) I\nB) you") == "who?"


def test_texts_without_spaces_between_words_are_compared():
    chinese = "如图所示，在三角形中，已知两条边的长度和它们之间的夹角，求第三条边的长度是多少厘米"
    known = Questions()
    known.add("T", 0, [chinese])
    known.close()
    assert known.asked_by(f"请回答。{chinese.replace('长度', '大小')}。")[0].exact is False
    assert known.asked_by("请问这张图片里面有几只狗，它们在做什么呢") == []


def test_what_many_questions_of_a_benchmark_share_is_no_sign():
    """A hint before each question must neither condemn what has it, nor hide what has it not."""
    hint = "Hint: please answer the question and provide the final value, such as 1, 2 or 3, at the end. Question: "
    known = Questions()
    others = [f"{hint}How many {chr(97 + n)}s are there in picture {n}?" for n in range(wordings.COMMON + 1)]
    for number, text in enumerate([*others, hint + LONG]):
        known.add("T", number, [text])
    known.close()
    assert known.asked_by(hint + "Which colour has the bird that sits on the left of the tree?") == []
    assert [w.question for w in known.asked_by(LONG)] == [len(others)]
    assert known.templates == len(others)


def test_similarities_are_those_of_every_pair(monkeypatch):
    monkeypatch.setattr(wordings, "NGRAM", 2)
    monkeypatch.setattr(wordings, "NEAR_RUNS", 5)
    monkeypatch.setattr(wordings, "MIN_RUNS", 99)
    chance = random.Random(1)
    words = [f"w{n}" for n in range(12)]
    asked = [" ".join(chance.choices(words, k=chance.randrange(0, 25))) for _ in range(60)]
    texts = [" ".join(chance.choices(words, k=chance.randrange(0, 60))) for _ in range(60)]
    known = Questions(similarity=0.3)
    for number, text in enumerate(asked):
        known.add(f"benchmark {number % 3}", number, [text])
    known.close()
    held = [runs(text) for text in asked]
    common = {
        run
        for part in range(3)
        for run in set().union(*held[part::3])
        if sum(run in one for one in held[part::3]) > wordings.COMMON
    }
    seen = 0
    for text in texts:
        shares = {n: (len((one - common) & runs(text)), len(one - common)) for n, one in enumerate(held)}
        expected = {n: part / whole for n, (part, whole) in shares.items() if part >= 5 and part / whole >= 0.3}
        assert {w.question: w.similarity for w in known.asked_by(text)} == expected
        seen += len(expected)
    assert seen > 100


OPTIONS = ("6 apples", "8 apples", "no apples at all", "12 apples")


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)])
@pytest.mark.parametrize("form", ["lines", "one line", "columns"])
def test_options_in_any_order_hide_no_question(tmp_path, order, form):
    """Benchmarks keep options in columns or after the question, training rows in lines or columns."""
    lettered = [f"{letter}. {OPTIONS[place]}" for letter, place in zip("ABCD", order, strict=True)]
    asked = {"index": 1, "question": LONG} | dict(zip("ABCD", OPTIONS, strict=True))
    suite = table(tmp_path / "T.tsv", asked)
    line = {
        "lines": row("r", problem="\n".join([LONG, "Choices:", *lettered])),
        "one line": row("r", problem=f"{LONG} {' '.join(lettered)}"),
        "columns": choice("r", prompt=LONG.lower()) | {f"option_{one[0]}": one[3:] for one in lettered},
    }[form]
    found = kinds(tmp_path, training(tmp_path, line), "--benchmarks", suite)
    assert found == {"r": {("T", "1"): ["near-text" if form == "one line" else "exact-text"]}}


def test_template_questions_about_other_pictures_touch_nothing(tmp_path, capsys):
    """The wording alone, of questions that every data set asks, is no leak; with the picture it is."""

    def asked(*things):
        longer = " Please answer the question with yes or no."  # enough to tell, were it not for what is asked
        return [f"How many {one}s are there in the image?" for one in things] + [
            f"Is there a {one} in the image?{longer}" for one in things
        ]

    suite = table(
        tmp_path / "T.tsv",
        *[{"index": n, "image": text_of(chart(n)), "question": text} for n, text in enumerate(asked("dog", "cube"))],
    )
    pictures = {f"{n}.png": chart(100 + n) for n in range(8)} | {"leak.jpg": stored(chart(1), "JPEG")}
    texts = [*asked("owl", "red sphere", "chair"), *asked("dog", "cube")[:2]]
    lines = [with_image(f"r{n}", f"{n}.png", text) for n, text in enumerate(texts)]
    rows = training(tmp_path, *lines, with_image("leak", "leak.jpg", asked("dog", "cube")[1]), images=pictures)
    assert kinds(tmp_path, rows, "--benchmarks", suite) == {"leak": {("T", "1"): ["near-image", "image-and-text"]}}
    capsys.readouterr()
    assert overlap(rows, "--benchmarks", suite) == 0
    assert "2 questions have too little of their own to be found by their text alone" in capsys.readouterr().out


def test_the_text_that_is_judged_counts_beside_the_question(tmp_path):
    """MathVerse asks, where all is in the image, for nothing but a look at it."""
    suite = table(
        tmp_path / "T.tsv", {"index": 1, "question": "Look at the image and answer.", "question_for_eval": LONG}
    )
    rows = training(tmp_path, row("r", problem=LONG))
    assert kinds(tmp_path, rows, "--benchmarks", suite)["r"] == {("T", "1"): ["exact-text"]}


# Tables


def test_images_that_are_shared_or_listed(tmp_path):
    lists = [str([text_of(chart(1)), text_of(chart(2))]), f'["{text_of(chart(3))}", "{text_of(chart(4))}"]']
    suite = table(
        tmp_path / "T.tsv",
        {"index": "later", "image": "own", "question": "?"},
        {"index": "own", "image": text_of(chart(5)), "question": "?"},
        {"index": 7, "image": "own", "question": "??"},
        {"index": 8, "image": lists[0], "question": "?"},
        {"index": 9, "image": lists[1], "question": "?"},
        {"index": 10, "image": "9.0", "question": "as pandas may write a number"},
    )
    pictures = {f"{n}.png": chart(n) for n in range(1, 6)}
    rows = training(tmp_path, *[with_image(name, name) for name in pictures], images=pictures)
    found = {
        name: [index for _, index in touched] for name, touched in kinds(tmp_path, rows, "--benchmarks", suite).items()
    }
    lists = {"1.png": ["8"], "2.png": ["8"], "3.png": ["9", "10"], "4.png": ["9", "10"]}
    assert found == lists | {"5.png": ["later", "own", "7"]}


def test_images_that_lie_beside_the_table(tmp_path):
    folder = tmp_path / "LMUData" / "images" / "T"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(stored(chart(1)))
    (folder / "sub" / "b.png").write_bytes(stored(chart(2)))
    for name in ("T", "T_local"):
        path = tmp_path / "LMUData" / f"{name}.tsv"
        listed = str(["a.png", "sub/b.png"])
        table(path, {"index": 1, "image_path": listed}, {"index": 2, "image_path": folder / "a.png"})
    pictures = {f"{n}.png": chart(n) for n in (1, 2)}
    rows = training(tmp_path, *[with_image(name, name) for name in pictures], images=pictures)
    whole = {
        "1.png": {("T", "1"): ["exact-image"], ("T", "2"): ["exact-image"]},
        "2.png": {("T", "1"): ["exact-image"]},
    }
    assert kinds(tmp_path, rows) == whole  # the table that VLMEvalKit made of T.tsv is T.tsv over again
    (tmp_path / "LMUData" / "T.tsv").unlink()
    assert set(kinds(tmp_path, rows)["1.png"]) == {("T_local", "1"), ("T_local", "2")}


BAD_QUESTIONS = {
    "no base64": ({"image": "x" * 101}, "no base64"),
    "base64 of text": ({"image": base64.b64encode(b"<html>" * 40).decode()}, "SVG, HTML"),
    "an image that is cut off": ({"image": text_of(stored(chart(1))[:-300])}, "cut off"),
    "one bad image of two": ({"image": str([text_of(chart(1)), "QUJD" * 30])}, "none of PNG"),
    "a row that does not exist": ({"image": "99"}, "names row '99', which has no image of its own"),
    "a row that refers on": ({"image": "3"}, "names row '3', which has no image of its own"),
    "a long index": ({"index": "x" * 513}, "'index' has over 512"),
    "no index": ({"index": "", "image": text_of(chart(1))}, "'index' is empty"),
    "a path that leads outside": ({"image_path": "../../secret.png"}, "'..'"),
    "an absolute path": ({"image_path": "/etc/passwd"}, "absolute"),
    "a path to nothing": ({"image_path": "none.png"}, "does not exist"),
}


@pytest.mark.parametrize("case", BAD_QUESTIONS)
def test_a_bad_question_is_named_or_left_out(tmp_path, capsys, case):
    bad, reason = BAD_QUESTIONS[case]
    (tmp_path / "LMUData" / "images" / "T").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(stored(chart(1)))
    good = [{"index": 1, "image": text_of(chart(7)), "question": LONG}, {"index": 3, "image": "1"}]
    suite = table(tmp_path / "LMUData" / "T.tsv", good[0], {"index": 2, "question": "?"} | bad, good[1])
    rows = training(tmp_path, row("r", problem=LONG))
    assert overlap(rows) == 2
    told = error_line(capsys)
    assert f"{suite}, row 2: " in told
    assert reason in told
    report = summary(capsys, rows, "--on-bad-row", "skip", "--report", tmp_path / "report.jsonl")
    assert (report["bad_rows"], report["benchmarks"]["T"]["questions"], report["touching"]) == (1, 2, 1)
    (kept,) = read_lines(tmp_path / "report.jsonl.bad.jsonl")
    assert (kept["file"], kept["row"]) == (str(suite), 2)
    assert reason in kept["reason"]


BAD_TABLES = {
    "empty": (b"", "is empty"),
    "only a header": (b"index\tquestion\n", "no rows"),
    "no index": (b"question\timage\nq\t\n", "no column 'index'"),
    "no question and no image": (b"index\tanswer\n1\tA\n", "none of the columns question"),
    "cut off": (b"index\tquestion\tanswer\n1\twhat?\n", "cut off or damaged"),
    "not utf-8": (b"index\tquestion\n1\t\xff\n", "UTF-8"),
    "a quote that does not end": (b'index\tquestion\n1\t"what?\n', "cut off or damaged"),
    "two columns of one name": (b"index\tquestion\tquestion\n1\ta\tb\n", "2 times"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
@pytest.mark.parametrize("mode", ["fail", "skip"])
def test_a_bad_table_is_named(tmp_path, capsys, case, mode):
    content, reason = BAD_TABLES[case]
    suite = tmp_path / "T.tsv"
    suite.write_bytes(content)
    rows = training(tmp_path, row("r"))
    before = sorted(path.name for path in tmp_path.iterdir())
    arguments = [
        "--benchmarks",
        suite,
        "--on-bad-row",
        mode,
        "--report",
        tmp_path / "r.jsonl",
        "--out",
        tmp_path / "o.jsonl",
    ]
    assert overlap(rows, *arguments) == 2
    told = error_line(capsys)
    assert str(suite) in told
    assert reason in told
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == before


# Which tables


def test_tables_by_folder_name_and_suite(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "LMUData"
    names = "MathVista_MINI MathVision_MINI MathVerse_MINI_Vision_Intensive WeMath RealWorldQA MMStar HallusionBench"
    for name in [*names.split(), "Another"]:
        table(folder / f"{name}.tsv", {"index": 1, "question": "What?"})
    rows = training(tmp_path, row("r"))
    found = summary(capsys, rows, "--suite", "curriculum")["benchmarks"]
    assert list(found) == sorted(names.split())
    assert list(summary(capsys, rows)["benchmarks"]) == sorted([*names.split(), "Another"])
    assert list(summary(capsys, rows, "--suite", "Another", "MMStar")["benchmarks"]) == ["Another", "MMStar"]
    assert list(summary(capsys, rows, "--benchmarks", folder / "Another.tsv")["benchmarks"]) == ["Another"]
    twice = [folder / "Another.tsv", folder, folder / "Another.tsv"]
    assert list(summary(capsys, rows, "--benchmarks", *twice, "--suite", "Another")["benchmarks"]) == ["Another"]
    monkeypatch.setenv("LMUData", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(summary(capsys, rows)["benchmarks"]) == 8
    folder.rename(tmp_path / "moved")
    assert overlap(rows) == 2
    assert f"{folder}: no such folder" in error_line(capsys)


WRONG_PLACES = {
    "a suite that is not whole": (["--suite", "main"], "no MathVista_MINI.tsv and 7 more; VLMEvalKit downloads it"),
    "no benchmark of that name": (["--suite", "Tpyo"], "no Tpyo.tsv; VLMEvalKit"),
    "no such file": (["--benchmarks", "none.tsv"], "none.tsv: no such file"),
    "no such folder": (["--benchmarks", "none"], "none: the name of a benchmark's table must end in .tsv"),
    "no table": (["--benchmarks", "rows.jsonl"], "rows.jsonl: the name of a benchmark's table must end in .tsv"),
    "an empty folder": (["--benchmarks", "empty"], "empty: holds no table"),
    "two of one name": (["--benchmarks", "LMUData", "other/T.tsv"], "has the name of"),
}


@pytest.mark.parametrize("case", WRONG_PLACES)
def test_tables_that_are_not_there(tmp_path, monkeypatch, capsys, case):
    monkeypatch.chdir(tmp_path)
    for folder in ("LMUData", "other"):
        table(tmp_path / folder / "T.tsv", {"index": 1, "question": folder})
    (tmp_path / "empty").mkdir()
    training(tmp_path, row("r"))
    arguments, reason = WRONG_PLACES[case]
    assert overlap("rows.jsonl", *arguments) == 2
    assert reason in error_line(capsys)


# Training rows


def small_suite(folder):
    return table(
        folder / "T.tsv",
        {"index": 1, "image": text_of(chart(1)), "question": LONG},
        {"index": 2, "image": text_of(chart(2)), "question": SHORT},
    )


BAD_IMAGES = {
    "missing": (None, "does not exist under"),
    "cut off": (stored(chart(1))[:-300], "cut off"),
    "empty": (b"", "is empty"),
    "html": (b"<html>404</html>", "SVG, HTML"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_a_bad_image_of_a_row_is_named_or_left_out(tmp_path, capsys, case):
    content, reason = BAD_IMAGES[case]
    pictures = {"good.png": chart(1)} | ({} if content is None else {"sub_bad.png": content})
    lines = [with_image("a", "good.png"), with_image("b", "sub_bad.png"), row("c", problem=LONG)]
    rows, out = training(tmp_path, *lines, images=pictures), tmp_path / "out.jsonl"
    arguments = [rows, "--benchmarks", small_suite(tmp_path), "--out", out]
    assert overlap(*arguments) == 2
    told = error_line(capsys)
    assert f"{rows}, line 2: image 'sub_bad.png' " in told
    assert reason in told
    assert not list(tmp_path.glob("*out*"))
    report = summary(capsys, *arguments, "--on-bad-row", "skip", "--drop", "exact-text")
    assert (report["kept"], report["dropped"], report["bad_rows"]) == (1, 1, 1)
    (kept,) = read_lines(Path(f"{out}.bad.jsonl"))
    assert (kept["file"], kept["line"], json.loads(kept["raw"])["index"]) == (str(rows), 2, "b")


def test_image_paths_never_leave_the_root(tmp_path, capsys):
    (tmp_path / "root").mkdir()
    (tmp_path / "outside.png").write_bytes(stored(chart(1)))
    (tmp_path / "root" / "link.png").symlink_to(tmp_path / "outside.png")
    for name in ("../outside.png", "link.png", str(tmp_path / "outside.png")):
        rows = training(tmp_path, with_image("r", name))
        assert overlap(rows, "--benchmarks", small_suite(tmp_path), "--image-root", tmp_path / "root") == 2
        assert "line 1: image " in error_line(capsys)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_every_format_of_rows_in_and_out(tmp_path, capsys, ending):
    (tmp_path / "a.png").write_bytes(stored(chart(1)))
    lines = [with_image("leak", "a.png"), row("stays", note={"x": [1, None]}), choice("choice")]
    rows, out = tmp_path / f"rows{ending}", tmp_path / f"out{ending}"
    write_rows(rows, lines)
    report = summary(capsys, rows, "--benchmarks", small_suite(tmp_path), "--out", out)
    assert (report["kept"], report["dropped"], report["dropped_file"]) == (2, 1, f"{out}.dropped.jsonl")
    kept = read_rows(out)
    assert [one["index"] for one in kept] == ["stays", "choice"]
    assert kept[0] == lines[1]
    (dropped,) = read_rows(Path(f"{out}.dropped.jsonl"))
    place = {"benchmark": "T", "benchmark_index": "1", "kinds": ["exact-image"], "image": "a.png", "image_distance": 0}
    assert dropped == lines[0] | {"overlap": [place | {"text_similarity": None}]}


def test_which_kinds_drop_is_an_option(tmp_path, capsys):
    pictures = {"same.png": chart(1), "near.jpg": stored(chart(2), "JPEG")}
    lines = [
        with_image("exact-image", "same.png"),
        with_image("near-image", "near.jpg"),
        row("exact-text", problem=LONG),
        row("near-text", problem=LONG.replace("12", "13")),
        with_image("image-and-text", "near.jpg", SHORT),
        row("none"),
    ]
    rows, suite, out = training(tmp_path, *lines, images=pictures), small_suite(tmp_path), tmp_path / "out.jsonl"

    def dropped(*drop):
        assert overlap(rows, "--benchmarks", suite, "--out", out, *(["--drop", *drop] if drop else [])) == 0
        stay = {one["index"] for one in read_lines(out)}
        return [line["index"] for line in lines if line["index"] not in stay]

    names = [line["index"] for line in lines]
    assert dropped() == names[:5]
    assert dropped("exact-image", "exact-text") == ["exact-image", "exact-text"]
    assert dropped("image-and-text") == ["image-and-text"]
    assert dropped("near-image") == ["near-image", "image-and-text"]
    assert dropped("near-text") == ["near-text"]


def test_when_every_row_touches_nothing_is_written_but_what_they_touch(tmp_path, capsys):
    rows, out = training(tmp_path, row("a", problem=LONG), row("b", problem=LONG)), tmp_path / "out.jsonl"
    report = tmp_path / "report.jsonl"
    assert overlap(rows, "--benchmarks", small_suite(tmp_path), "--out", out, "--report", report) == 2
    printed = capsys.readouterr()
    assert "2 of 2 rows touch a benchmark" in printed.out
    assert printed.err == "capcurr: error: every row touches a benchmark, so that nothing is left to write\n"
    assert not out.exists()
    assert len(read_lines(report)) == 2
    assert [one["index"] for one in read_lines(Path(f"{out}.dropped.jsonl"))] == ["a", "b"]


def test_several_files_have_one_report(tmp_path, capsys):
    one = training(tmp_path, row("a"), row("b", problem=LONG), name="one.jsonl")
    two = training(tmp_path, row("b", problem=LONG), name="two.jsonl")
    report, suite = tmp_path / "report.jsonl", small_suite(tmp_path)
    assert summary(capsys, one, two, "--benchmarks", suite, "--report", report)["rows"] == 3
    assert [(found["file"], found["line"]) for found in read_lines(report)] == [(str(one), 2), (str(two), 1)]
    assert overlap(one, two, "--benchmarks", suite, "--out", tmp_path / "out.jsonl") == 2
    assert "--out takes the rows of one file" in error_line(capsys)


def test_the_table_that_is_printed(tmp_path, capsys):
    rows = training(tmp_path, with_image("a", "a.png", SHORT), row("x"), images={"a.png": chart(2)})
    out = tmp_path / "out.jsonl"
    assert overlap(rows, "--benchmarks", small_suite(tmp_path), "--out", out) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == (
        "benchmark questions any kind exact image near image exact text near text image+text".split()
    )
    assert lines[2].split() == ["T", "2", "1", "1", "0", "0", "0", "1"]
    assert {"1 of 2 rows touch a benchmark", f"1 rows dropped -> {out}.dropped.jsonl"} <= set(lines)


def test_a_question_that_very_many_rows_touch_gets_a_remark(tmp_path, capsys, monkeypatch):
    from capcurr_plugin.data import overlap as command

    monkeypatch.setattr(command, "REPEATED", 3)
    rows = training(tmp_path, *[row(str(n), problem=LONG) for n in range(3)], row("x"))
    assert overlap(rows, "--benchmarks", small_suite(tmp_path)) == 0
    assert "T 1: 3 rows touch it; a template rather than a leak?" in capsys.readouterr().out


# The command line


WRONG_OPTIONS = {
    "drop without out": (["--drop", "exact-image"], "--drop says which rows --out leaves out"),
    "a kind that is none": (["--out", "o.jsonl", "--drop", "images"], "invalid choice"),
    "report of another format": (["--report", "r.txt"], "must end in .jsonl, .jsonl.gz, .jsonl.zst"),
    "report and out are one": (["--report", "o.jsonl", "--out", "o.jsonl"], "both the report and an output"),
    "report and dropped rows are one": (["--report", "o.jsonl.dropped.jsonl", "--out", "o.jsonl"], "an output"),
    "out is the input": (["--out", "rows.jsonl"], "is the input"),
    "out is a table": (["--out", "T.tsv"], "must end in"),
    "report is the input": (["--report", "rows.jsonl"], "is the input"),
    "out in no folder": (["--out", "none/o.jsonl"], "the folder none does not exist"),
    "report in no folder": (["--report", "none/r.jsonl"], "the folder none does not exist"),
    "image root is none": (["--image-root", "none"], "no such folder"),
    "distance below 0": (["--image-distance", "-1"], "-1 is not 0 to 127"),
    "distance over half": (["--image-distance", "128"], "128 is not 0 to 127"),
    "similarity 0": (["--text-similarity", "0"], "not above 0"),
    "similarity nan": (["--text-similarity", "nan"], "not above 0"),
    "no rows": (["--benchmarks"], "expected at least one argument"),
}


@pytest.mark.parametrize("case", WRONG_OPTIONS)
def test_wrong_options_are_said_in_one_line(tmp_path, capsys, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    small_suite(tmp_path)
    training(tmp_path, row("r"))
    arguments, reason = WRONG_OPTIONS[case]
    assert overlap("rows.jsonl", *([] if case == "no rows" else ["--benchmarks", "T.tsv"]), *arguments) == 2
    assert reason in error_line(capsys)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["T.tsv", "rows.jsonl"]


def test_dropped_rows_never_take_the_place_of_an_input(tmp_path, capsys):
    rows = training(tmp_path, row("r"), name="o.jsonl.dropped.jsonl")
    assert overlap(rows, "--benchmarks", small_suite(tmp_path), "--out", tmp_path / "o.jsonl") == 2
    assert "o.jsonl.dropped.jsonl: is the input" in error_line(capsys)
    assert len(read_lines(rows)) == 1


def test_missing_pillow_is_said_before_anything_is_read(tmp_path, capsys, monkeypatch):
    from capcurr_plugin import images

    images._pillow.cache_clear()
    monkeypatch.setitem(sys.modules, "PIL", None)
    rows, suite = training(tmp_path, row("r", problem=LONG)), table(tmp_path / "T.tsv", {"index": 1, "question": LONG})
    assert overlap(rows, "--benchmarks", suite) == 2
    assert "needs Pillow" in error_line(capsys)
    assert summary(capsys, rows, "--benchmarks", suite, "--compare", "texts")["touching"] == 1
    images._pillow.cache_clear()


# State


def test_a_second_run_decodes_nothing(tmp_path, monkeypatch):
    suite = table(tmp_path / "T.tsv", *[{"index": n, "image": text_of(chart(n))} for n in range(5)])
    pictures = {f"{n}.jpg": stored(chart(n), "JPEG") for n in range(5)}
    rows = training(tmp_path, *[with_image(name, name) for name in pictures], images=pictures)
    first = kinds(tmp_path, rows, "--benchmarks", suite)
    assert len(first) == 5

    def refuse(*_):
        raise AssertionError("an image was decoded again")

    monkeypatch.setattr(lookalikes, "open_image", refuse)
    assert kinds(tmp_path, rows, "--benchmarks", suite) == first
    (tmp_path / "3.jpg").write_bytes(stored(diagram(3)))
    with pytest.raises(AssertionError, match="decoded again"):
        overlap(rows, "--benchmarks", suite)


def test_chunks_change_nothing(tmp_path, monkeypatch):
    tables = [
        table(tmp_path / f"{name}.tsv", *[{"index": n, "image": text_of(chart(n)), "question": LONG} for n in seeds])
        for name, seeds in (("One", range(12)), ("Two", range(8, 20)))
    ]
    pictures = {f"{n}.jpg": stored(chart(n), "JPEG") for n in range(0, 24, 2)}
    lines = [with_image(f"r{n}", f"{n - n % 2}.jpg", LONG if n % 3 else "?") for n in range(24)]
    rows = training(tmp_path, *lines, images=pictures)
    first = matches(tmp_path, rows, "--benchmarks", *tables)
    assert len(first) > 50
    monkeypatch.setattr(lookalikes, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(matching, "CHUNK_BYTES", 3000)
    monkeypatch.setattr(matching, "REMEMBERED", 5)
    monkeypatch.setenv("CAPCURR_CACHE", str(tmp_path / "another cache"))
    assert matches(tmp_path, rows, "--benchmarks", *reversed(tables)) == first


def test_damaged_fingerprints_are_taken_anew_and_a_damaged_cache_is_named(tmp_path, capsys, monkeypatch):
    rows, suite = training(tmp_path, with_image("r", "a.png"), images={"a.png": chart(1)}), small_suite(tmp_path)
    file = tmp_path / "cache" / "fingerprints.sqlite"
    assert summary(capsys, rows, "--benchmarks", suite)["touching"] == 1
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT COUNT(*) FROM fingerprints_1").fetchone() == (2,)
        database.execute("UPDATE fingerprints_1 SET looks = x'00'")
    assert summary(capsys, rows, "--benchmarks", suite)["touching"] == 1
    for path in tmp_path.glob("cache/*"):
        path.unlink()
    file.write_bytes(b"no database" * 100)
    assert overlap(rows, "--benchmarks", suite) == 1
    assert "fingerprints.sqlite: the fingerprints of images cannot be kept" in error_line(capsys)
    monkeypatch.setenv("CAPCURR_CACHE", str(rows))
    assert overlap(rows, "--benchmarks", suite) == 1
    assert "$CAPCURR_CACHE names another folder" in error_line(capsys)


def cached(folder):
    """How many fingerprints are kept."""
    file = folder / "cache" / "fingerprints.sqlite"
    if not file.exists():
        return 0
    with sqlite3.connect(file, timeout=60) as database:
        tables = database.execute("SELECT name FROM sqlite_master").fetchall()
        return database.execute("SELECT COUNT(*) FROM fingerprints_1").fetchone()[0] if tables else 0


# So that there is time for a kill, on however busy a machine.
SLOWLY = """
import time
from capcurr_plugin.cli import main
from capcurr_plugin.data import lookalikes
made = lookalikes._made
lookalikes._made = lambda image: (time.sleep(0.02), made(image))[1]
main({words})
"""


@pytest.mark.slow
def test_a_killed_run_leaves_no_output_and_goes_on(tmp_path, capsys):
    suite, out = small_suite(tmp_path), tmp_path / "out.jsonl"
    pictures = {f"{n}.png": diagram(n).resize((80, 60)) for n in range(3 * ROWS_AT_ONCE)}
    rows = training(tmp_path, *[with_image(f"r{n}", name) for n, name in enumerate(pictures)], images=pictures)
    words = ["data", "overlap", str(rows), "--benchmarks", str(suite), "--out", str(out)]
    run = subprocess.Popen([sys.executable, "-c", SLOWLY.format(words=words)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while cached(tmp_path) < ROWS_AT_ONCE and time.monotonic() < deadline:
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    assert run.wait(60) == -signal.SIGKILL
    assert not out.exists()
    assert ROWS_AT_ONCE <= cached(tmp_path) < len(pictures)
    assert summary(capsys, rows, "--benchmarks", suite, "--out", out)["kept"] == len(pictures)
    assert cached(tmp_path) == len(pictures) + 2


# Hostile texts


def test_a_text_without_end_is_refused(tmp_path, capsys, monkeypatch):
    from capcurr_plugin.data import benchmark_tables

    monkeypatch.setattr(wordings, "MAX_TEXT", 1000)
    suite, rows = table(tmp_path / "T.tsv", {"index": 1, "question": LONG}), training(tmp_path, row("r"))
    assert overlap(training(tmp_path, row("r", problem="a " * 501)), "--benchmarks", suite) == 2
    assert f"{rows}, line 1: a text has over 1,000 characters" in error_line(capsys)
    table(suite, {"index": 1, "question": "a " * 501})
    assert overlap(training(tmp_path, row("r")), "--benchmarks", suite) == 2
    assert f"{suite}, row 1: a text has over 1,000 characters" in error_line(capsys)
    monkeypatch.setattr(benchmark_tables, "MAX_CELL", 10_000)
    table(suite, {"index": 1, "image": "A" * 20_000, "question": "?"})
    assert overlap(rows, "--benchmarks", suite) == 2
    assert "field larger than field limit (10000)" in error_line(capsys)


PEAK = "print(int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024)"
RUN = "import sys; from capcurr_plugin.cli import main; main(['data', 'overlap', *sys.argv[1:]]); " + PEAK


@pytest.mark.slow
def test_very_long_texts_take_bounded_time_and_memory(tmp_path):
    suite = table(tmp_path / "T.tsv", {"index": 1, "question": LONG}, {"index": 2, "question": "a " * 500_000})
    texts = ["a " * 500_000, "x" * 1_000_000, "A.\n" * 300_000, "\ufdfa" * 50_000, " ".join(map(str, range(150_000)))]
    rows = training(tmp_path, *[row(f"r{n}", problem=texts[n % 5]) for n in range(20)])
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", RUN, rows, "--benchmarks", suite], capture_output=True, text=True, check=True
    )
    assert "0 of 20 rows touch" in done.stdout
    assert time.monotonic() - start < 60
    assert int(done.stdout.split()[-1]) < 400
