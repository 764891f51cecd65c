"""`capcurr demo` in an environment without hosts."""

import re

import pyarrow.parquet as pq
import pytest

from capcurr_plugin.cli import main


@pytest.fixture
def demo(capsys, monkeypatch):
    """Runs the demo and returns its exit code and what it printed."""
    monkeypatch.delenv("VLMEVALKIT_HOME", raising=False)

    def run(*arguments):
        code = main(["demo", *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_demo_writes_both_files(demo, tmp_path):
    folder = tmp_path / "new" / "folder"
    code, _, errors = demo("--out", folder)
    assert (code, errors) == (0, "")
    assert sorted(file.name for file in folder.iterdir()) == ["rows.parquet", "verl.parquet"]
    rows = pq.read_table(folder / "rows.parquet").to_pylist()
    assert len(rows) == len({row["index"] for row in rows}) == 12
    assert {row["capability"] for row in rows} == {"perception", "textual_reasoning", "visual_reasoning"}
    verl = pq.read_table(folder / "verl.parquet").to_pylist()
    assert len(verl) == 12
    assert {"prompt", "reward_model", "data_source"} <= set(verl[0])


def test_demo_tells_the_rewards(demo, tmp_path):
    _, text, _ = demo("--out", tmp_path)
    lines = re.findall(r"^(\w+) +(\S+) +(\S+) +([01]) +([01]) +(\d\.\d\d)$", text, re.MULTILINE)
    assert lines == [
        ("perception", "A", "A", "1", "1", "1.00"),
        ("perception", "B", r"\text{(B)}", "1", "1", "1.00"),
        ("textual_reasoning", "7", "7.0", "1", "1", "1.00"),
        ("visual_reasoning", "12", "8", "0", "1", "0.10"),
        ("visual_reasoning", "1/4", r"\frac{1}{4}", "1", "0", "0.90"),
        ("visual_reasoning", "11", "(none)", "0", "0", "0.00"),
    ]


def test_demo_says_what_is_not_real(demo, tmp_path):
    _, text, _ = demo("--out", tmp_path)
    assert "no model was trained, served or judged" in text
    assert "made-up responses" in text


def test_demo_shows_what_is_installed_and_the_commands(demo, tmp_path):
    _, text, _ = demo("--out", tmp_path)
    assert "capcurr-plugin: " in text
    assert "verl: not installed in this environment" in text
    assert text.count("$ capcurr data convert ") == 2


def test_demo_again_into_the_same_folder(demo, tmp_path):
    assert demo("--out", tmp_path)[0] == 0
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert demo("--out", tmp_path)[0] == 0
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_demo_into_the_default_folder(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert demo()[0] == 0
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["demo", "rows.parquet", "verl.parquet"]


@pytest.mark.parametrize("below", ["", "folder"])
def test_demo_at_an_existing_file(below, demo, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    code, text, errors = demo("--out", file / below)
    assert (code, text, errors.count("\n")) == (2, "", 1)
    assert str(file) in errors
    assert file.read_text() == "mine"


def test_demo_that_cannot_write_says_so_in_one_line(demo, tmp_path):
    (tmp_path / "rows.parquet").mkdir()
    code, _, errors = demo("--out", tmp_path)
    assert code in (1, 2)
    assert errors.count("\n") == 1, errors
    assert "rows.parquet" in errors
