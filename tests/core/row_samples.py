"""Sample rows, and small helpers that run `capcurr data convert` in this process."""

import json
from pathlib import Path
from typing import Any

from capcurr_plugin.cli import main
from capcurr_plugin.row_files import BadRows, RowReader

ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")


def row(index: str = "r1", **columns: Any) -> dict[str, Any]:
    base = {"index": index, "problem": "How many cups?", "answer": "3", "images": [], "source": "sample"}
    return base | columns


def choice(index: str = "c1", **columns: Any) -> dict[str, Any]:
    base = {"index": index, "prompt": "Which one?", "answer": "B", "example_id": "e7", "split": "train"}
    options = {f"option_{letter}": f"the {letter} one" for letter in "ABCD"}
    return base | {"image_path": []} | options | columns


def write_lines(path: Path, *lines: dict[str, Any] | str | bytes) -> Path:
    """A .jsonl file of the records or raw lines, each ended by a line feed."""
    with path.open("wb") as file:
        for line in lines:
            text = json.dumps(line) if isinstance(line, dict) else line
            file.write((text.encode() if isinstance(text, str) else text) + b"\n")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The records of any row file, as the reader sees them."""
    with BadRows("fail", path) as bad:
        return [found.record() for found in RowReader(path, bad)]


def exact(records: list[dict[str, Any]]) -> list[str]:
    """Texts that differ when 1 became 1.0 or true, or null became absent, but not when columns changed places."""
    return [json.dumps(record, sort_keys=True) for record in records]


def convert(*arguments: Any) -> int:
    try:
        return main(["data", "convert", *map(str, arguments)])
    except SystemExit as stop:  # argparse ends this way
        assert isinstance(stop.code, int)
        return stop.code


def error_line(capsys) -> str:
    """What a failed command said, which must be one line on stderr and nothing on stdout."""
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.endswith("\n")
    assert printed.err.count("\n") == 1
    assert len(printed.err) < 1500
    return printed.err
