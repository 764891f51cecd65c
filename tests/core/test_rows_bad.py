"""Every kind of bad input ends in one line that names the place and the reason, and leaves no file behind."""

import gzip
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_samples import ENDINGS, choice, convert, error_line, exact, read_lines, read_rows, row, write_lines

from capcurr_plugin.jsonl import MAX_LINE_BYTES
from capcurr_plugin.row_files import write_rows


def without(record: dict[str, Any], column: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != column}


def raw(column: str, text: str) -> str:
    """The line of a row in which the column has a value that is written as it stands."""
    return json.dumps(without(row("bad"), column))[:-1] + f', "{column}": {text}}}'


def images(*names: str) -> dict[str, Any]:
    return row("bad", problem="<image>" * len(names), images=list(names))


def case(name: str, *values: Any) -> Any:
    return pytest.param(*values, id=name)


# One bad line between two good ones: (line, a phrase of the reason).
BAD_LINES = [
    case("truncated-json", json.dumps(row("bad"))[:-10], "cut off"),
    case("truncated-after-a-colon", '{"index":', "cut off"),
    case("open-brace-only", "{", "cut off"),
    case("single-quotes", "{'index': 'bad'}", "not JSON"),
    case("trailing-comma", json.dumps(row("bad"))[:-1] + ",}", "not JSON"),
    case("two-objects-in-one-line", json.dumps(row("bad")) + json.dumps(row("b")), "not JSON"),
    case("plain-text", "index,problem,answer", "not JSON"),
    case("a-list", json.dumps([row("bad")]), "not a JSON object"),
    case("a-text", '"index"', "not a JSON object"),
    case("a-number", "17", "not a JSON object"),
    case("a-null", "null", "not a JSON object"),
    *[case(f"missing-{name}", without(row("bad"), name), f"'{name}' is missing") for name in row()],
    *[case(f"null-{name}", row("bad") | {name: None}, f"'{name}' is null") for name in row()],
    case("index-number", row("bad") | {"index": 5}, "'index' must be text, found a number"),
    case("index-empty", row(""), "'index' is empty"),
    case("index-blank", row(" \t"), "'index' is empty"),
    case("index-too-long", row("x" * 513), "'index' has 513 characters"),
    case("problem-list", row("bad", problem=["a"]), "'problem' must be text, found a list"),
    case("problem-empty", row("bad", problem=""), "'problem' is empty"),
    case("answer-number", row("bad", answer=3.5), "'answer' must be text, found a number"),
    case("answer-boolean", row("bad", answer=True), "'answer' must be text, found true/false"),
    case("source-object", row("bad", source={}), "'source' must be text, found an object"),
    case("images-text", row("bad", images="a.png"), "'images' must be a list of texts, found text"),
    case("images-object", row("bad", images={}), "'images' must be a list of texts, found an object"),
    case("image-null", row("bad", problem="<image>", images=[None]), "'images' must hold texts, found null"),
    case("image-object", row("bad", problem="<image>", images=[{"path": "a"}]), "'images' must hold texts"),
    case("predictions-text", row("bad", predictions="x"), "'predictions' must be a list"),
    case("prediction-number", row("bad", predictions=["x", 1]), "'predictions' must hold texts or nulls"),
    case("correctness-boolean", row("bad", correctness=True), "'correctness' must be a list"),
    case("correctness-of-numbers", row("bad", correctness=[1, 0]), "'correctness' must hold true or false"),
    case("correctness-of-nulls", row("bad", correctness=[None]), "'correctness' must hold true or false"),
    case("lengths-differ", row("bad", predictions=["a", "b"], correctness=[True]), "2 'predictions' but 1"),
    case("pass-rate-text", row("bad", pass_rate="0.5"), "'pass_rate' must be a number, found text"),
    case("pass-rate-boolean", row("bad", pass_rate=True), "'pass_rate' must be a number, found true/false"),
    case("pass-rate-above-one", row("bad", pass_rate=1.5), "between 0 and 1"),
    case("pass-rate-below-zero", row("bad", pass_rate=-0.1), "between 0 and 1"),
    case("pass-rate-of-400-digits", raw("pass_rate", "1" + "0" * 400), "pass_rate"),
    case("pass-rate-against-correctness", row("bad", pass_rate=0.5, correctness=[True]), "1 of 1 'correctness'"),
    case("capability-unknown", row("bad", capability="taste"), "perception, textual_reasoning, visual_reasoning"),
    case("capability-null", row("bad", capability=None), "'capability'"),
    case("capability-list", row("bad", capability=["perception"]), "'capability'"),
    case("nan", raw("x", "NaN"), "NaN"),
    case("nan-inside-a-list", raw("x", '[{"y": NaN}]'), "NaN"),
    case("nan-as-pass-rate", raw("pass_rate", "NaN"), "NaN"),
    case("infinity", raw("x", "Infinity"), "Infinity"),
    case("negative-infinity", raw("x", "-Infinity"), "-Infinity"),
    case("beyond-a-float", raw("x", "1e400"), "beyond the range of a float"),
    case("beyond-a-float-below", raw("x", "[-1e400]"), "beyond the range of a float"),
    case("integer-of-5000-digits", raw("x", "7" * 5000), "digits"),
    case("more-marks-than-images", row("bad", problem="<image> <image>", images=["a"]), "2 <image> mark"),
    case("more-images-than-marks", row("bad", problem="<image>", images=["a", "b"]), "1 <image> mark"),
    case("image-without-a-mark", row("bad", images=["a.png"]), "0 <image> mark"),
    case("image-above-the-root", images("../a.png"), "'..'"),
    case("image-above-the-root-later", images("ok.png", "x/../../a.png"), "'..'"),
    case("image-that-is-dots", images(".."), "'..'"),
    case("image-absolute", images("/etc/hostname"), "absolute"),
    case("image-double-slash", images("//host/share/a.png"), "absolute"),
    case("image-backslash", images("a\\b.png"), "backslash"),
    case("image-backslash-up", images("..\\a.png"), "backslash"),
    case("image-http-url", images("https://example.org/a.png"), "URL"),
    case("image-file-url", images("file:///etc/hostname"), "URL"),
    case("image-data-url", images("data:image/png;base64,AAAA"), "URL"),
    case("image-drive", images("C:/a.png"), "drive"),
    case("image-drive-relative", images("c:a.png"), "drive"),
    case("image-nul", images("a\0.png"), "NUL"),
    case("image-empty", images(""), "image path is empty"),
    case("image-blank", images("  "), "image path is empty"),
    case("byte-order-mark", b"\xef\xbb\xbf" + json.dumps(row("bad")).encode(), "byte-order mark"),
    case("crlf", json.dumps(row("bad")) + "\r", "CR LF"),
    case("blank-line", "", "line is empty"),
    case("spaces-only", "   ", "line is empty"),
    case("duplicate-index", row("good 1"), "already used in line 1"),
    case("duplicate-key", raw("x", "1")[:-1] + ', "x": 2}', "'x' stands twice"),
    case("duplicate-key-of-the-schema", '{"index": "a", "index": "b"}', "'index' stands twice"),
    case("duplicate-key-inside", raw("x", '[{"y": 1, "y": 1}]'), "'y' stands twice"),
    case("nul-bytes", json.dumps(row("bad")).encode() + b"\0\0", "NUL"),
    case("nul-bytes-only", b"\0" * 100, "NUL"),
    case("binary", bytes(range(128, 256)), "not UTF-8"),
    case("latin-1", json.dumps(row("bad", answer="é"), ensure_ascii=False).encode("latin-1"), "not UTF-8"),
    case("utf-16-without-mark", json.dumps(row("bad")).encode("utf-16-le"), "NUL"),
    case("encoded-surrogate", b'{"index": "\xed\xa0\x80"}', "not UTF-8"),
    case("high-surrogate", raw("x", '"\\ud83d"'), "surrogate"),
    case("low-surrogate", raw("x", '["\\uDE00 \\uD83D"]'), "surrogate"),
    case("surrogate-in-a-key", raw("x", '{"\\udfff": 1}'), "surrogate"),
    case("surrogate-in-the-index", raw("index", '"\\ud800"'), "surrogate"),
    case("surrogate-in-an-image", raw("images", '["\\ud800"]'), "surrogate"),
    case("deep-lists", raw("x", "[" * 100_000 + "]" * 100_000), "nested too deeply"),
    case("deep-objects", raw("x", '{"a":' * 100_000 + "1" + "}" * 100_000), "nested too deeply"),
    case("deep-and-cut-off", "[" * 100_000, "nested too deeply"),
    case("choice-answer-e", choice("bad", answer="E"), "A, B, C or D"),
    case("choice-answer-lower-case", choice("bad", answer="a"), "A, B, C or D"),
    case("choice-answer-missing", without(choice("bad"), "answer"), "'answer' is missing"),
    case("choice-without-option", without(choice("bad"), "option_C"), "'option_C' is missing"),
    case("choice-null-option", choice("bad", option_D=None), "'option_D'"),
    case("choice-number-option", choice("bad", option_A=4), "'option_A' must be text"),
    case("choice-without-example", without(choice("bad"), "example_id"), "'example_id' is missing"),
    case("choice-wrong-image-count", choice("bad", prompt="<image>?"), "1 <image> mark"),
    case("choice-image-above-the-root", choice("bad", prompt="<image>?", image_path=["../a.png"]), "'..'"),
    case("choice-number-prompt-by-its-name", choice("bad", prompt=4), "'prompt' must be text"),
    case("choice-text-images-by-their-name", choice("bad", image_path="a.png"), "'image_path' must be a list"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_bad_line(tmp_path, capsys, line, reason):
    source = write_lines(tmp_path / "in.jsonl", row("good 1"), line, row("good 2"))
    before = sorted(tmp_path.iterdir())
    assert convert(source, tmp_path / "out.jsonl") == 2
    told = error_line(capsys)
    assert f"{source}, line 2: " in told
    assert reason in told.partition(", line 2: ")[2]
    assert sorted(tmp_path.iterdir()) == before


def test_skip_keeps_the_rest_of_a_mixture(tmp_path, capsys):
    lines: list[Any] = [row("good 1")]
    for number, bad in enumerate(BAD_LINES):
        lines += [bad.values[0], row(f"after {number}", answer="é")]
    source = write_lines(tmp_path / "in.jsonl", *lines)
    assert convert(source, tmp_path / "out.jsonl", "--on-bad-row", "skip", "--json") == 0
    assert exact(read_lines(tmp_path / "out.jsonl")) == exact([lines[0], *lines[2::2]])
    bad_rows = read_lines(tmp_path / "out.jsonl.bad.jsonl")
    assert [bad["line"] for bad in bad_rows] == list(range(2, 2 * len(BAD_LINES) + 1, 2))
    assert {bad["file"] for bad in bad_rows} == {str(source)}
    for bad, expected in zip(bad_rows, BAD_LINES, strict=True):
        line, reason = expected.values
        assert reason in bad["reason"]
        if not isinstance(line, bytes):
            assert bad["raw"].removesuffix("\n") == (json.dumps(line) if isinstance(line, dict) else line)
    printed = capsys.readouterr()
    assert printed.err == ""
    summary = json.loads(printed.out)
    assert (summary["rows"], summary["bad_rows"]) == (len(BAD_LINES) + 1, len(BAD_LINES))
    assert summary["bad_rows_file"] == str(tmp_path / "out.jsonl.bad.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "out.jsonl.bad.jsonl"]


@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
def test_skip_of_every_row_leaves_no_output(tmp_path, capsys, output):
    source = write_lines(tmp_path / "in.jsonl", *[bad.values[0] for bad in BAD_LINES if bad.id != "duplicate-index"])
    assert convert(source, tmp_path / output, "--on-bad-row", "skip") == 2
    assert f"{source}: all {len(BAD_LINES) - 1} rows are bad" in error_line(capsys)
    assert not (tmp_path / output).exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_numbers_far_into_a_file(tmp_path, capsys, ending):
    source = tmp_path / f"in{ending}"
    write_rows(source, [row(f"good {number}") for number in range(3000)] + [row("bad", pass_rate=1.5)])
    assert convert(source, tmp_path / "out.parquet") == 2
    unit = "row" if ending == ".parquet" else "line"
    assert f"{source}, {unit} 3001: column 'pass_rate' is 1.5" in error_line(capsys)


@pytest.mark.parametrize("pack", [bytes, lambda data: gzip.compress(data, 1)], ids=["plain", "gz"])
def test_huge_line_in_the_middle(tmp_path, capsys, pack):
    lines = [row("good 1"), row("huge", answer="x" * (MAX_LINE_BYTES + 5)), row("good 2"), "{", row("good 3")]
    plain = write_lines(tmp_path / "plain", *lines)
    source = tmp_path / ("in.jsonl" if pack is bytes else "in.jsonl.gz")
    source.write_bytes(pack(plain.read_bytes()))
    assert convert(source, tmp_path / "out.jsonl") == 2
    assert f"{source}, line 2: the line has 16,7" in error_line(capsys)
    assert convert(source, tmp_path / "out.jsonl", "--on-bad-row", "skip") == 0
    assert [kept["index"] for kept in read_lines(tmp_path / "out.jsonl")] == ["good 1", "good 2", "good 3"]
    huge, cut = read_lines(tmp_path / "out.jsonl.bad.jsonl")
    assert (huge["line"], cut["line"]) == (2, 4)
    assert "bytes" in huge["reason"]
    assert "cut off" in cut["reason"]
    assert len(huge["raw"]) <= 1 << 20


def test_huge_last_line_without_line_end(tmp_path, capsys):
    source = write_lines(tmp_path / "in.jsonl", row())
    with source.open("ab") as file:
        file.write(b"[" * (MAX_LINE_BYTES * 2 + 3))
    assert convert(source, tmp_path / "out.jsonl") == 2
    assert f"{source}, line 2: the line has 33,554,435 bytes" in error_line(capsys)


# Images that only a look at the disk tells from good ones: (name, a phrase of the reason).
BAD_IMAGES = [
    case("missing", "none.png", "does not exist"),
    case("missing-below-a-file", "good.png/none.png", "cannot be read"),
    case("file-link-that-leads-outside", "file_link.png", "outside the image root"),
    case("folder-link-that-leads-outside", "folder_link/secret.png", "outside the image root"),
    case("link-to-the-parent", "parent_link/outside/secret.png", "outside the image root"),
    case("link-to-a-link-outside", "twice.png", "outside the image root"),
    case("link-loop", "loop.png", "cannot be read"),
    case("dangling-link", "dangling.png", "does not exist"),
    case("folder", "folder", "not a regular file"),
    case("root-itself", ".", "not a regular file"),
    case("fifo", "fifo.png", "not a regular file"),
    case("name-too-long", "x" * 300 + ".png", "cannot be read"),
]


def image_root(folder: Path) -> Path:
    root, outside = folder / "root", folder / "outside"
    (root / "folder").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"secret")
    (root / "good.png").write_bytes(b"good")
    (root / "file_link.png").symlink_to(outside / "secret.png")
    (root / "folder_link").symlink_to(outside)
    (root / "parent_link").symlink_to("..")
    (root / "twice.png").symlink_to("file_link.png")
    (root / "loop.png").symlink_to("loop.png")
    (root / "dangling.png").symlink_to("none.png")
    os.mkfifo(root / "fifo.png")
    return root


@pytest.mark.parametrize("options", [(), ("--to", "verl"), ("--to", "verl", "--embed-images")], ids=" ".join)
@pytest.mark.parametrize(("name", "reason"), BAD_IMAGES)
def test_bad_image(tmp_path, capsys, name, reason, options):
    root = image_root(tmp_path)
    common = {"problem": "<image>", "capability": "perception"}
    good, bad = row("good", images=["good.png"], **common), row("bad", images=[name], **common)
    source, output = write_lines(tmp_path / "in.jsonl", good, bad), tmp_path / "out.parquet"
    before = sorted(tmp_path.rglob("*"))
    assert convert(source, output, "--image-root", root, *options) == 2
    told = error_line(capsys)
    assert f"{source}, line 2: " in told
    assert reason in told
    assert sorted(tmp_path.rglob("*")) == before
    assert convert(source, output, "--image-root", root, *options, "--on-bad-row", "skip") == 0
    assert [kept["index"] for kept in read_rows(output)] == ["good"]


def test_link_inside_the_image_root_is_followed(tmp_path):
    root = image_root(tmp_path)
    (root / "inside.png").symlink_to("folder/../good.png")
    source = write_lines(tmp_path / "in.jsonl", row(problem="<image>", images=["inside.png"]))
    assert convert(source, tmp_path / "out.jsonl", "--image-root", root) == 0


# Files in which no row can be blamed, or the first one: (function that makes the file, where, a phrase of the reason).


def file_of(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def stored(ending: str, name: str | None = None, change: Callable[[bytes], bytes] = bytes) -> Callable[[Path], Path]:
    """A file of 500 rows that pack badly, stored as the ending says, under any name, with its bytes changed."""

    def make(folder: Path) -> Path:
        rng = random.Random(7)
        part = folder / f"part{ending}"
        write_rows(part, [row(f"r{number}", answer=rng.randbytes(40).hex()) for number in range(500)])
        path = folder / (name or f"in{ending}")
        path.write_bytes(change(part.read_bytes()))
        part.unlink()
        return path

    return make


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def overwrite_middle(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + b"\xff" * 400 + data[middle + 400 :]


def overwrite_first_block(data: bytes) -> bytes:
    return data[:6] + b"\xff" * 60 + data[66:]


def overwrite_footer(data: bytes) -> bytes:
    return data[:-200] + b"\xff" * 192 + data[-8:]


def folder_at(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).mkdir()
        return folder / name

    return make


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "in.jsonl")
    return folder / "in.jsonl"


def dangling_link(folder: Path) -> Path:
    (folder / "in.jsonl").symlink_to("nothing")
    return folder / "in.jsonl"


GOOD_LINE = json.dumps(row()).encode() + b"\n"

BAD_FILES = [
    case("empty", file_of("in.jsonl", b""), ": ", "the file is empty"),
    case("blank-line-only", file_of("in.jsonl", b"\n"), ", line 1: ", "line is empty"),
    case("byte-order-mark", file_of("in.jsonl", b"\xef\xbb\xbf" + GOOD_LINE), ", line 1: ", "byte-order mark"),
    case("byte-order-mark-only", file_of("in.jsonl", b"\xef\xbb\xbf"), ", line 1: ", "byte-order mark"),
    case("utf-16", file_of("in.jsonl", GOOD_LINE.decode().encode("utf-16")), ": ", "UTF-16"),
    case(
        "utf-16-big-endian", file_of("in.jsonl", b"\xfe\xff" + GOOD_LINE.decode().encode("utf-16-be")), ": ", "UTF-16"
    ),
    case("binary", file_of("in.jsonl", bytes(range(256))), ", line 1: ", "NUL"),
    case("nul-bytes", file_of("in.jsonl", b"\0" * 5000), ", line 1: ", "NUL"),
    case("no-line-end-and-cut-off", file_of("in.jsonl", GOOD_LINE + GOOD_LINE[:30]), ", line 2: ", "cut off"),
    case("truncated-gz", stored(".jsonl.gz", change=cut), ": ", "damaged or cut off"),
    case("gz-without-its-last-byte", stored(".jsonl.gz", change=lambda data: data[:-1]), ": ", "damaged or cut off"),
    case("damaged-gz", stored(".jsonl.gz", change=overwrite_middle), ": ", "damaged or cut off"),
    case("gz-with-text-behind", stored(".jsonl.gz", change=lambda data: data + GOOD_LINE), ": ", "damaged or cut off"),
    case("gz-head-only", file_of("in.jsonl.gz", b"\x1f\x8b"), ": ", "damaged or cut off"),
    case("gz-of-nothing", file_of("in.jsonl.gz", gzip.compress(b"")), ": ", "no rows"),
    case("truncated-zst", stored(".jsonl.zst", change=cut), ": ", "damaged or cut off"),
    case("zst-without-its-last-byte", stored(".jsonl.zst", change=lambda data: data[:-1]), ": ", "damaged or cut off"),
    case("damaged-zst", stored(".jsonl.zst", change=overwrite_first_block), ": ", "damaged or cut off"),
    case("zst-head-only", file_of("in.jsonl.zst", b"\x28\xb5\x2f\xfd"), ": ", "damaged or cut off"),
    case("text-named-gz", file_of("in.jsonl.gz", GOOD_LINE), ": ", "damaged"),
    case("text-named-zst", file_of("in.jsonl.zst", GOOD_LINE), ": ", "damaged"),
    case("text-named-parquet", file_of("in.parquet", GOOD_LINE), ": ", "not a whole Parquet file"),
    case("truncated-parquet", stored(".parquet", change=cut), ": ", "not a whole Parquet file"),
    case(
        "parquet-without-its-last-byte", stored(".parquet", change=lambda data: data[:-1]), ": ", "not a whole Parquet"
    ),
    case("damaged-parquet-footer", stored(".parquet", change=overwrite_footer), ": ", "not a whole Parquet file"),
    case("damaged-parquet-page", stored(".parquet", change=overwrite_middle), ": ", "not a whole Parquet file"),
    case("parquet-head-only", file_of("in.parquet", b"PAR1"), ": ", "not a whole Parquet file"),
    case("parquet-named-jsonl", stored(".parquet", "in.jsonl"), ": ", "ends in .parquet"),
    case("parquet-named-gz", stored(".parquet", "in.jsonl.gz"), ": ", "ends in .parquet"),
    case("gz-named-jsonl", stored(".jsonl.gz", "in.jsonl"), ": ", "ends in .jsonl.gz"),
    case("gz-named-parquet", stored(".jsonl.gz", "in.parquet"), ": ", "ends in .jsonl.gz"),
    case("zst-named-jsonl", stored(".jsonl.zst", "in.jsonl"), ": ", "ends in .jsonl.zst"),
    case("unknown-ending", file_of("in.json", GOOD_LINE), ": ", "must end in"),
    case("no-ending", file_of("jsonl", GOOD_LINE), ": ", "must end in"),
    case("nothing-but-an-ending", file_of(".jsonl", GOOD_LINE), ": ", "must end in"),
    case("missing", lambda folder: folder / "none.jsonl", ": ", "no such file"),
    case("missing-folder", lambda folder: folder / "none" / "none.jsonl", ": ", "no such file"),
    case("dangling-link", dangling_link, ": ", "no such file"),
    case("name-too-long", lambda folder: folder / ("x" * 300 + ".jsonl"), ": ", "too long"),
    case("folder", folder_at("in.jsonl"), ": ", "is a folder"),
    case("folder-named-parquet", folder_at("in.parquet"), ": ", "is a folder"),
    case("fifo", fifo, ": ", "not a regular file"),
    case("device", lambda folder: Path("/dev/null"), ": ", "must end in"),
]


@pytest.mark.parametrize("output", ["out.jsonl", "out.jsonl.zst", "out.parquet"])
@pytest.mark.parametrize(("make", "where", "reason"), BAD_FILES)
def test_bad_file(tmp_path, capsys, make, where, reason, output):
    source = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert convert(source, tmp_path / output) == 2
    told = error_line(capsys)
    assert f"{source}{where}" in told
    assert reason in told.partition(f"{source}{where}")[2]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("make", [bad.values[0] for bad in BAD_FILES], ids=[bad.id for bad in BAD_FILES])
def test_bad_file_in_skip_mode(tmp_path, capsys, make):
    source = make(tmp_path)
    if source.name == "in.jsonl" and source.is_file() and source.read_bytes().startswith(GOOD_LINE):
        source.write_bytes(source.read_bytes()[len(GOOD_LINE) :])  # so that no good row is left
    assert convert(source, tmp_path / "out.jsonl", "--on-bad-row", "skip") == 2
    assert str(source) in error_line(capsys)
    assert not (tmp_path / "out.jsonl").exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("options", [(), ("--on-bad-row", "skip")], ids=["fail", "skip"])
def test_old_output_survives_a_damaged_input(tmp_path, capsys, ending, options):
    source = stored(".jsonl.gz", change=cut)(tmp_path)
    output = tmp_path / f"out{ending}"
    output.write_bytes(b"what was here before")
    assert convert(source, output, *options) == 2
    error_line(capsys)
    assert output.read_bytes() == b"what was here before"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, output.name])


# Parquet, mostly with a good first row and a bad second one.

TYPES = {name: pa.string() for name in row()} | {"images": pa.list_(pa.string())}


def table(*rows: dict[str, Any], **types: pa.DataType) -> pa.Table:
    fields = {name: kind for name, kind in (TYPES | types).items() if any(name in record for record in rows)}
    return pa.Table.from_pylist(list(rows), schema=pa.schema(fields))


def with_column(name: str, values: pa.Array, marked: bool = False) -> pa.Table:
    """Good rows with one more column, which may be marked as holding JSON texts."""
    rows = table(*[row(f"r{number}") for number in range(len(values))])
    field = pa.field(name, values.type, metadata={b"capcurr.encoding": b"json"} if marked else None)
    position = rows.schema.get_field_index(name)
    return rows.append_column(field, values) if position < 0 else rows.set_column(position, field, values)


def verl(*extra_info: Any) -> pa.Table:
    names = ("data_source", "prompt", "reward_model")
    return pa.table({name: ["x"] * len(extra_info) for name in names} | {"extra_info": pa.array(extra_info)})


def not_utf8() -> pa.Array:
    offsets, data = pa.py_buffer(bytes([0, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0])), pa.py_buffer(b"ok\xff\xfe")
    return pa.Array.from_buffers(pa.string(), 2, [None, offsets, data])


STAMPS = pa.array([1, 2], pa.timestamp("ms"))
SAME_NAMES = pa.StructArray.from_arrays([pa.array([1, 2]), pa.array([3, 4])], ["a", "a"])
NAN = float("nan")
ROW_TEXT = json.dumps(row())

BAD_TABLES = [
    case("nan", with_column("x", pa.array([1.0, NAN])), ", row 2: ", "NaN"),
    case("infinity", with_column("x", pa.array([1.0, float("inf")])), ", row 2: ", "'x' holds NaN or an infinity"),
    case("nan-in-a-list", with_column("x", pa.array([[1.0], [NAN]])), ", row 2: ", "NaN"),
    case("nan-in-a-struct", with_column("x", pa.array([{"y": 1.0}, {"y": NAN}])), ", row 2: ", "NaN"),
    case("nan-as-pass-rate", with_column("pass_rate", pa.array([0.5, NAN])), ", row 2: ", "'pass_rate' holds NaN"),
    case("binary-column", with_column("x", pa.array([b"a", b"b"])), ": ", "'x' has the type binary"),
    case("binary-index", with_column("index", pa.array([b"a", b"b"])), ": ", "'index' has the type binary"),
    case("timestamp", with_column("x", STAMPS), ": ", "'x' has the type timestamp"),
    case("timestamp-in-a-list", with_column("x", pa.array([[1], [2]], pa.list_(pa.timestamp("s")))), ": ", "timestamp"),
    case("date", with_column("x", pa.array([1, 2], pa.date32())), ": ", "'x' has the type date"),
    case("decimal", with_column("x", pa.array([1, 2], pa.decimal128(9, 2))), ": ", "'x' has the type decimal"),
    case("map", with_column("x", pa.array([[("a", 1)]] * 2, pa.map_(pa.string(), pa.int64()))), ": ", "map"),
    case("line-feed-in-a-type", with_column("x", pa.StructArray.from_arrays([STAMPS], ["a\nb"])), ": ", "timestamp"),
    case("two-columns-of-one-name", with_column("x", STAMPS).rename_columns([*TYPES, "index"]), ": ", "same name"),
    case("two-fields-of-one-name", with_column("x", SAME_NAMES), ": ", "same name"),
    case("duplicate-index", table(row("a"), row("a")), ", row 2: ", "already used in row 1"),
    case("null-index", table(row("a"), row() | {"index": None}), ", row 2: ", "'index' is missing"),
    case("null-images", table(row("a"), row("b") | {"images": None}), ", row 2: ", "'images' is missing"),
    case("null-image", table(row("a"), row("b", images=[None])), ", row 2: ", "'images' must hold texts"),
    case("missing-column", table(without(row("a"), "answer")), ", row 1: ", "'answer' is missing"),
    case("number-column", with_column("answer", pa.array([1, 2])), ", row 1: ", "'answer' must be text"),
    case("images-text", with_column("images", pa.array(["a", "b"])), ", row 1: ", "'images' must be a list"),
    case("no-rows", table(row("a")).slice(0, 0), ": ", "no rows"),
    case("no-columns", pa.table({}), ": ", "no rows"),
    case("text-that-is-not-utf-8", with_column("x", not_utf8()), "", "UTF-8"),
    case("mark-on-cut-off-json", with_column("x", pa.array(["1", "{"]), marked=True), ", row 2: ", "'x'"),
    case("mark-on-nan", with_column("x", pa.array(["1", "NaN"]), marked=True), ", row 2: ", "NaN"),
    case(
        "mark-on-half-a-surrogate-pair", with_column("x", pa.array(["1", '"\\ud800"']), True), ", row 2: ", "surrogate"
    ),
    case("mark-on-a-surrogate-index", with_column("index", pa.array(['"a"', '"\\ud800"']), True), "", "surrogate"),
    case("mark-on-a-number-column", with_column("x", pa.array([1, 2]), marked=True), "", "'x'"),
    case("mark-on-a-list-column", with_column("x", pa.array([["a"], ["b"]]), marked=True), "", "'x'"),
    case("verl-without-row", verl({"row": ROW_TEXT}, {"row": None}), ", row 2: ", "'extra_info'"),
    case("verl-null-extra-info", verl({"row": ROW_TEXT}, None), ", row 2: ", "'extra_info'"),
    case("verl-text-extra-info", verl("a", "b"), "", "extra_info"),
    case("verl-row-cut-off", verl({"row": ROW_TEXT}, {"row": ROW_TEXT[:-5]}), ", row 2: ", "cut off"),
    case("verl-row-is-a-list", verl({"row": ROW_TEXT}, {"row": "[1]"}), ", row 2: ", "object"),
    case("verl-row-is-a-number", verl({"row": ROW_TEXT}, {"row": "1"}), ", row 2: ", "object"),
    case("verl-row-is-a-text", verl({"row": ROW_TEXT}, {"row": '"ab"'}), ", row 2: ", "object"),
    case("verl-row-with-surrogate", verl({"row": ROW_TEXT}, {"row": raw("x", '"\\ud800"')}), ", row 2: ", "surrogate"),
    case("verl-bad-row", verl({"row": ROW_TEXT}, {"row": raw("answer", "1")}), ", row 2: ", "'answer' must be text"),
]


@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize(("content", "where", "reason"), BAD_TABLES)
def test_bad_parquet(tmp_path, capsys, content, where, reason, output):
    source = tmp_path / "in.parquet"
    pq.write_table(content, source)
    before = sorted(tmp_path.iterdir())
    assert convert(source, tmp_path / output) == 2
    told = error_line(capsys)
    assert f"{source}{where}" in told
    assert reason in told.partition(f"{source}{where}")[2]
    assert sorted(tmp_path.iterdir()) == before


def test_parquet_column_name_that_is_not_utf8(tmp_path, capsys):
    source = tmp_path / "in.parquet"
    pq.write_table(with_column("ZZZZZZ", pa.array([1])), source, store_schema=False)
    source.write_bytes(source.read_bytes().replace(b"ZZZZZZ", b"\xff\xfe\xff\xfe\xff\xfe"))
    assert convert(source, tmp_path / "out.jsonl") == 2
    assert str(source) in error_line(capsys)
    assert list(tmp_path.iterdir()) == [source]


def test_skip_in_parquet(tmp_path, capsys):
    rows = [row("a", x=1.0), row("b", x=NAN), row("c", answer=None), row("a"), row("d", pass_rate=2.0), row("e", x=2.5)]
    source, output = tmp_path / "in.parquet", tmp_path / "out.jsonl"
    pq.write_table(table(*rows, x=pa.float64(), pass_rate=pa.float64()), source)
    assert convert(source, output, "--on-bad-row", "skip", "--json") == 0
    assert exact(read_lines(output)) == exact([rows[0], rows[5]])
    bad_rows = read_lines(tmp_path / "out.jsonl.bad.jsonl")
    assert [bad["row"] for bad in bad_rows] == [2, 3, 4, 5]
    for bad, reason in zip(bad_rows, ["NaN", "'answer' is missing", "used in row 1", "between 0 and 1"], strict=True):
        assert reason in bad["reason"]
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows"], summary["bad_rows"]) == (2, 4)


# Wrong commands, in a folder with a good `in.jsonl`, `choices.jsonl` and `old.jsonl`: (arguments, phrases of the line).

BAD_COMMANDS = [
    case("output-folder-missing", "in.jsonl none/out.jsonl", ["none/out.jsonl: ", "does not exist"]),
    case("output-folder-is-a-file", "in.jsonl old.jsonl/out.jsonl", ["old.jsonl/out.jsonl: "]),
    case("output-is-a-folder", "in.jsonl folder.jsonl", ["folder.jsonl: ", "is a folder"]),
    case("output-is-this-folder", "in.jsonl .", []),
    case("output-is-the-root", "in.jsonl /", []),
    case("output-name-too-long", "in.jsonl " + "x" * 300 + ".jsonl", ["too long"]),
    case("output-of-unknown-ending", "in.jsonl out.csv", ["out.csv: ", "must end in"]),
    case("output-equals-input", "in.jsonl in.jsonl", ["in.jsonl: ", "is the input too"]),
    case("output-equals-input-spelled-anew", "in.jsonl folder.jsonl/../in.jsonl", ["is the input too"]),
    case("output-is-a-link-to-input", "in.jsonl link.jsonl", ["link.jsonl: ", "is the input too"]),
    case("output-is-a-hard-link-to-input", "in.jsonl hard.jsonl", ["hard.jsonl: ", "is the input too"]),
    case("input-missing-and-output-there", "none.jsonl old.jsonl", ["none.jsonl: ", "no such file"]),
    case("input-missing-and-equal-to-output", "none.jsonl none.jsonl", ["none.jsonl: ", "no such file"]),
    case("verl-input-folder-missing", "none/in.jsonl out.parquet --to verl", ["none/in.jsonl: ", "no such file"]),
    case("verl-without-capability", "in.jsonl out.parquet --to verl", ["in.jsonl, line 1: ", "--capability"]),
    case("verl-as-jsonl", "in.jsonl out.jsonl --to verl --capability perception", ["out.jsonl: ", ".parquet"]),
    case("embedding-without-verl", "in.jsonl out.parquet --embed-images", ["--embed-images", "--to verl"]),
    case("prompt-without-verl", "in.jsonl out.parquet --prompt none", ["--prompt", "--to verl"]),
    case("choices-of-plain-rows", "in.jsonl out.jsonl --to choices", ["in.jsonl, line 1: ", "multiple-choice"]),
    case("image-root-missing", "in.jsonl out.jsonl --image-root none", ["none: ", "no such folder"]),
    case("image-root-is-a-file", "in.jsonl out.jsonl --image-root old.jsonl", ["old.jsonl: ", "no such folder"]),
    case("unknown-capability", "in.jsonl out.jsonl --capability taste", ["--capability", "'taste'"]),
    case("unknown-form", "in.jsonl out.jsonl --to csv", ["--to", "'csv'"]),
    case("unknown-prompt", "in.jsonl out.parquet --to verl --prompt both", ["--prompt", "'both'"]),
    case("unknown-way-with-bad-rows", "in.jsonl out.jsonl --on-bad-row keep", ["--on-bad-row", "'keep'"]),
    case("shortened-option", "in.jsonl out.jsonl --capab perception", ["--capab"]),
    case("output-not-given", "in.jsonl", ["OUT"]),
    case("nothing-given", "", ["IN", "OUT"]),
]


@pytest.mark.parametrize(("command", "phrases"), BAD_COMMANDS)
def test_bad_command(tmp_path, monkeypatch, capsys, command, phrases):
    monkeypatch.chdir(tmp_path)
    write_lines(Path("in.jsonl"), row())
    write_lines(Path("old.jsonl"), row("old"))
    Path("folder.jsonl").mkdir()
    Path("link.jsonl").symlink_to("in.jsonl")
    Path("hard.jsonl").hardlink_to("in.jsonl")
    before = {path: path.is_file() and path.read_bytes() for path in Path().iterdir()}
    assert convert(*command.split()) == 2
    told = error_line(capsys)
    for phrase in phrases:
        assert phrase in told
    assert {path: path.is_file() and path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        case("answer-that-is-no-letter", {"answer": "42"}, "A, B, C or D"),
        case("option-that-is-no-text", {"option_A": 5}, "option_A"),
        case("option-that-is-null", {"option_B": None}, "option_B"),
        case("prompt-that-would-be-lost", {"prompt": "mine"}, "prompt"),
        case("image-path-that-would-be-lost", {"image_path": "mine"}, "image_path"),
    ],
)
def test_rows_that_do_not_fit_choices(tmp_path, capsys, columns, reason):
    options = {name: choice()[name] for name in ("example_id", "split", "option_A", "option_B", "option_C", "option_D")}
    source = write_lines(tmp_path / "in.jsonl", row(**{"answer": "A"} | options | columns))
    assert convert(source, tmp_path / "out.jsonl", "--to", "choices") == 2
    told = error_line(capsys)
    assert f"{source}, line 1: " in told
    assert reason in told


def test_skip_of_rows_that_do_not_fit_the_form(tmp_path, capsys):
    lines = [choice("c1"), row("r1"), choice("c2")]
    source, output = write_lines(tmp_path / "in.jsonl", *lines), tmp_path / "out.jsonl"
    assert convert(source, output, "--to", "choices", "--on-bad-row", "skip", "--json") == 0
    assert exact(read_lines(output)) == exact([lines[0], lines[2]])
    (bad,) = read_lines(tmp_path / "out.jsonl.bad.jsonl")
    assert bad["line"] == 2
    assert "multiple-choice" in bad["reason"]
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows"], summary["bad_rows"]) == (2, 1)


def test_a_line_feed_in_the_file_name_gives_one_line(tmp_path, capsys):
    source = write_lines(tmp_path / "two\nlines.jsonl", "{}")
    assert convert(source, tmp_path / "out.jsonl") == 2
    assert "'index' is missing" in error_line(capsys)


def test_file_of_bad_rows_that_cannot_be_replaced(tmp_path, capsys):
    source = write_lines(tmp_path / "in.jsonl", row(), "{")
    (tmp_path / "out.jsonl.bad.jsonl").mkdir()
    assert convert(source, tmp_path / "out.jsonl", "--on-bad-row", "skip") == 2
    assert "out.jsonl.bad.jsonl: is a folder" in error_line(capsys)
    assert not (tmp_path / "out.jsonl").exists()
