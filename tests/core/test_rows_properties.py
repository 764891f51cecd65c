"""What holds for all rows, all names and all bytes, as far as hypothesis can find."""

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from row_samples import ENDINGS, choice, convert, error_line, exact, read_rows, row

from capcurr_plugin.errors import InputError
from capcurr_plugin.row_files import BadRows, RowReader, write_rows
from capcurr_plugin.rows import CAPABILITIES, ImageRoot, RowError, check_image_name

# The same examples in every run, and no data base of them in the working folder. Files are written anew by every
# example, so that one folder serves them all.
RULES = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
filled = texts.filter(str.strip)
numbers = st.one_of(st.integers(), st.integers(-(10**40), 10**40), st.floats(allow_nan=False, allow_infinity=False))
scalars = st.one_of(st.none(), st.booleans(), st.sampled_from([0, 1, 0.0, -0.0, 1.0, 2**63, 1e300, ""]), numbers, texts)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))

ODD_NAMES = [
    "",
    " ",
    ".",
    "..",
    "a.b",
    "\0",
    "\n",
    "🙂",
    "Index",
    "index ",
    "images.list.element",
    "x" * 5000,
    '"',
    "é",
]
OWN_NAMES = {*row(), "predictions", "correctness", "pass_rate", "capability"}
FORM_NAMES = {*choice(), "data_source", "reward_model", "extra_info"}
# Few names, so that the rows of a file often share a column with values of unlike types.
names = st.one_of(st.sampled_from(ODD_NAMES), st.sampled_from("abc"), texts).filter(
    lambda name: name not in OWN_NAMES | FORM_NAMES
)
extras = st.dictionaries(names, values, max_size=4)
image_names = st.lists(st.sampled_from(["a.png", "sub/é b.png", "sub/a.png"]), max_size=3)


@st.composite
def measurements(draw) -> dict[str, Any]:
    correctness = draw(st.lists(st.booleans(), max_size=4))
    found: dict[str, Any] = {}
    if draw(st.booleans()):
        size = len(correctness)
        found["predictions"] = draw(st.lists(st.none() | texts, min_size=size, max_size=size))
    if draw(st.booleans()):
        found["correctness"] = correctness
    if draw(st.booleans()):
        found["pass_rate"] = sum(correctness) / len(correctness) if correctness else draw(st.floats(0, 1))
    return found


@st.composite
def row_lists(draw, capability: bool = False) -> list[dict[str, Any]]:
    indices = draw(st.lists(filled, min_size=1, max_size=6, unique=True))
    return [draw(one_row(index, capability)) for index in indices]


@st.composite
def one_row(draw, index: str, capability: bool) -> dict[str, Any]:
    images = draw(image_names)
    problem = draw(filled) + "<image>" * len(images)
    assume(problem.count("<image>") == len(images))
    record = row(index, problem=problem, answer=draw(filled), images=images, source=draw(filled))
    if capability or draw(st.booleans()):
        record["capability"] = draw(st.sampled_from(CAPABILITIES))
    return record | draw(measurements()) | draw(extras)


@st.composite
def choice_lists(draw) -> list[dict[str, Any]]:
    indices = draw(st.lists(filled, min_size=1, max_size=4, unique=True))
    rows = []
    for index in indices:
        images = draw(image_names)
        options = {name: draw(filled) for name in ("example_id", "split", "option_A", "option_D")}
        images_and_prompt = {"image_path": images, "prompt": draw(filled) + "<image>" * len(images)}
        answer = {"answer": draw(st.sampled_from("ABCD"))}
        rows.append(choice(index, **options, **images_and_prompt, **answer) | draw(measurements()) | draw(extras))
    assume(all(record["prompt"].count("<image>") == len(record["image_path"]) for record in rows))
    return rows


@pytest.mark.parametrize("ending", ENDINGS)
@settings(RULES, max_examples=80)
@given(rows=row_lists())
def test_rows_come_back_from_every_format(tmp_path, ending, rows):
    assert write_rows(tmp_path / f"rows{ending}", rows) == len(rows)
    assert exact(read_rows(tmp_path / f"rows{ending}")) == exact(rows)


@settings(RULES, max_examples=60)
@given(rows=row_lists())
def test_rows_survive_a_chain_of_formats(tmp_path, rows):
    chain = [tmp_path / f"{step}{ending}" for step, ending in enumerate([*ENDINGS[:1], *ENDINGS[:0:-1], ".jsonl"])]
    write_rows(chain[0], rows)
    for source, output in pairwise(chain):
        assert convert(source, output) == 0
    assert exact(read_rows(chain[-1])) == exact(rows)


@pytest.mark.parametrize("options", [(), ("--embed-images", "--prompt", "none")], ids=["paths", "embedded"])
@settings(RULES, max_examples=40)
@given(rows=row_lists(capability=True))
def test_rows_come_back_from_verls_form(tmp_path, options, rows):
    (tmp_path / "sub").mkdir(exist_ok=True)
    for name in ("a.png", "sub/é b.png", "sub/a.png"):
        (tmp_path / name).write_bytes(b"image")
    source, middle, output = tmp_path / "in.jsonl", tmp_path / "verl.parquet", tmp_path / "out.parquet"
    write_rows(source, rows)
    assert convert(source, middle, "--to", "verl", *options) == 0
    assert convert(middle, output) == 0
    assert exact(read_rows(output)) == exact(rows)


@pytest.mark.parametrize("ending", ENDINGS)
@settings(RULES, max_examples=30)
@given(rows=choice_lists())
def test_choices_come_back_from_rows(tmp_path, ending, rows):
    source, middle, output = tmp_path / "in.jsonl", tmp_path / f"rows{ending}", tmp_path / "out.jsonl"
    write_rows(source, rows)
    assert convert(source, middle) == 0
    assert convert(middle, output, "--to", "choices") == 0
    found = [json.loads(line) for line in output.read_text(encoding="utf-8").split("\n")[:-1]]
    assert exact(found) == exact(rows)


@pytest.mark.parametrize("ending", ENDINGS)
@settings(RULES, max_examples=25)
@given(rows=row_lists())
def test_the_same_rows_give_the_same_bytes(tmp_path, ending, rows):
    first, second = tmp_path / f"first{ending}", tmp_path / f"another name{ending}"
    write_rows(first, rows)
    write_rows(second, rows)
    assert first.read_bytes() == second.read_bytes()


# Single rows that hypothesis is unlikely to come upon.
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"data_source": "d", "prompt": "p", "reward_model": {}, "extra_info": {"i": 1}}, id="verl-names"),
        pytest.param({"data_source": "d", "prompt": "p", "reward_model": "r", "extra_info": "e"}, id="verl-text-names"),
        pytest.param({"prompt": "p", "image_path": ["i"]}, id="names-of-choices"),
        pytest.param({"x": 10**4299, "y": -(10**4299)}, id="integers-of-4300-digits"),
        pytest.param({"x": 5e-324, "y": -0.0, "z": 1.7976931348623157e308}, id="extreme-floats"),
        pytest.param({f"column {number}": number for number in range(2000)}, id="2000-columns"),
        pytest.param({"x": "a\u2028b\u0085c\r\nd\0e"}, id="odd-line-ends"),
        pytest.param({"x": []}, id="empty-list"),
        pytest.param({"x": {}}, id="empty-object"),
        pytest.param({"x": None}, id="null-column"),
        pytest.param({"row": "r", "bytes": "b", "schema": "s"}, id="inner-names"),
    ],
)
def test_unusual_columns_come_back(tmp_path, columns, ending):
    rows = [row("with", **columns), row("without")]
    source, middle, output = tmp_path / "in.jsonl", tmp_path / f"middle{ending}", tmp_path / "out.jsonl"
    write_rows(source, rows)
    assert convert(source, middle) == 0
    assert convert(middle, output) == 0
    assert exact(read_rows(output)) == exact(rows)


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"images": "a column of its own"}, id="images"),
        pytest.param({"images": []}, id="empty-images"),
        pytest.param({"source": "synthesised"}, id="source-that-is-the-default"),
        pytest.param({"source": "mine"}, id="source"),
    ],
)
def test_choices_with_columns_of_rows_come_back_or_are_refused(tmp_path, capsys, columns):
    source, middle, output = tmp_path / "in.jsonl", tmp_path / "rows.parquet", tmp_path / "out.jsonl"
    rows = [choice("with", **columns), choice("without")]
    write_rows(source, rows)
    if convert(source, middle) == 2:
        told = error_line(capsys)
        assert f"{source}, line 1: " in told
        assert f"'{next(iter(columns))}'" in told
    else:
        assert convert(middle, output, "--to", "choices") == 0
        assert exact([json.loads(line) for line in output.read_text().splitlines()]) == exact(rows)


# Image names

PARTS = [
    "..",
    ".",
    "",
    "a.png",
    "sub",
    "up",
    "out",
    "secret.png",
    "top",
    "~",
    "%2e%2e",
    "\0",
    "file:",
    "C:",
    "\\",
    "x" * 300,
]
odd_names = st.lists(st.sampled_from(PARTS), max_size=6).map("/".join) | st.text(
    st.characters(exclude_categories=["Cs"])
)


def tree(folder: Path) -> Path:
    root = folder / "top"
    if not root.exists():
        (root / "sub").mkdir(parents=True)
        (root / "a.png").write_bytes(b"in")
        (root / "sub" / "a.png").write_bytes(b"in")
        (folder / "secret.png").write_bytes(b"out")
        (folder / "a.png").write_bytes(b"out")
        (root / "up").symlink_to("..")
        (root / "sub" / "up").symlink_to("..")
        (root / "out").symlink_to(folder / "secret.png")
        (root / "secret.png").symlink_to("../secret.png")
    return root


@settings(RULES, max_examples=600)
@given(name=odd_names)
@example(name="sub/up/a.png")
@example(name="up/a.png")
@example(name="sub/up/up/secret.png")
@example(name="up/top/a.png")
def test_an_image_is_inside_the_root_or_refused(tmp_path, name):
    root = tree(tmp_path)
    try:
        found = ImageRoot(root).find(name)
    except RowError as error:
        assert "\n" not in str(error)
    else:
        assert found.read_bytes() == b"in"
        assert found.resolve().is_relative_to(root.resolve())


@settings(RULES, max_examples=600)
@given(name=odd_names)
def test_an_accepted_image_name_stays_below_any_folder(name):
    try:
        check_image_name(name)
    except RowError:
        return
    assert os.path.normpath(f"/top/{name}").startswith("/top")
    assert not Path(name).is_absolute()
    assert "\0" not in name


# Arbitrary bytes


def read_or_refuse(path: Path, on_bad_row: Any) -> list[dict[str, Any]] | None:
    """The rows, or None when the reader refused the file in one line; any other exception goes through."""
    try:
        with BadRows(on_bad_row, path) as bad:
            return [found.record() for found in RowReader(path, bad)]
    except InputError as error:
        assert "\n" not in str(error)
        return None


HEADS = [b"", b"{", b"[", b'{"index": "a', b"\xef\xbb\xbf", b"\x1f\x8b\x08\0\0\0\0\0\0\0", b"\x28\xb5\x2f\xfd", b"PAR1"]
TAILS = [b"", b"\n", b"}\n", b"\0\0\0\0PAR1", b"\x10\0\0\0PAR1", b"\xff\xff\xff\xffPAR1", b"\xff\xff\xff\x7fPAR1"]


@pytest.mark.parametrize("ending", ENDINGS)
@settings(RULES, max_examples=150)
@given(head=st.sampled_from(HEADS), body=st.binary(max_size=300), tail=st.sampled_from(TAILS))
def test_arbitrary_bytes_are_refused(tmp_path, ending, head, body, tail):
    path = tmp_path / f"in{ending}"
    path.write_bytes(head + body + tail)
    assert read_or_refuse(path, "fail") is None
    assert not read_or_refuse(path, "skip")


@settings(RULES, max_examples=300)
@given(record=st.dictionaries(st.sampled_from([*OWN_NAMES, *FORM_NAMES]), values | image_names, max_size=10))
def test_arbitrary_objects_are_rows_or_refused(tmp_path, record):
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(record) + "\n")
    rows = read_or_refuse(path, "fail")
    assert rows is None or len(rows) == 1


SAMPLE = [
    row(f"r{number}", problem=f"Größe {number}?", pass_rate=0.5, x=[number, None][number % 2]) for number in range(9)
]


@pytest.mark.parametrize("ending", ENDINGS[1:])
@settings(RULES, max_examples=150)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_off_file_is_refused(tmp_path, ending, share):
    path = tmp_path / f"in{ending}"
    write_rows(path, SAMPLE)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert read_or_refuse(path, "skip") is None


@pytest.mark.parametrize("ending", ENDINGS)
@settings(RULES, max_examples=400)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_changed_bit_gives_rows_or_a_refusal(tmp_path, ending, share, bit):
    path = tmp_path / f"in{ending}"
    write_rows(path, SAMPLE)
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 1 << bit
    path.write_bytes(data)
    read_or_refuse(path, "skip")


# Plain JSON Lines has no checksum, neither have the zstd frames that pyarrow writes, nor a Parquet file's footer.
@pytest.mark.parametrize("ending", [".jsonl.gz", ".parquet"])
@settings(RULES, max_examples=200)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_changed_bit_never_changes_a_row_unnoticed(tmp_path, ending, share, bit):
    path = tmp_path / f"in{ending}"
    write_rows(path, SAMPLE)
    data = bytearray(path.read_bytes())
    covered = len(data) if ending == ".jsonl.gz" else len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[int(covered * share)] ^= 1 << bit
    path.write_bytes(data)
    found = read_or_refuse(path, "fail")
    assert found is None or exact(found) == exact(SAMPLE)
