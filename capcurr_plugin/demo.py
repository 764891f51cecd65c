"""`capcurr demo`: the parts that exist, at work on a small built-in data set. Nothing is trained or evaluated."""

import argparse
from importlib.resources import as_file, files
from pathlib import Path

from capcurr_plugin import cli, doctor
from capcurr_plugin.errors import InputError
from capcurr_plugin.reward import compute_score, extract_boxed
from capcurr_plugin.row_files import BadRows, RowReader
from capcurr_plugin.rows import Row

# What a model might say to rows of the built-in set: right, right in another dress, misread, and out of format.
RESPONSES = {
    "p1": "<think> The top left shape is a red circle. </think> \\boxed{A}",
    "p3": "<think> I see the triangle at the top right. </think> \\boxed{\\text{(B)}}",
    "t2": "<think> 2x - 5 = 9, so x = 7. </think> The answer is \\boxed{7.0}.",
    "v1": "<think> There are 2 red squares, 2 times 4 is 8. </think> \\boxed{8}",
    "v3": "One of four shapes is blue: \\boxed{\\frac{1}{4}}",
    "v2": "<think> 2 + 9 = 11 </think> The answer is 11.",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "See the parts at work on a small built-in data set. Nothing is trained or evaluated."
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("demo"), help="the folder to write to (demo)")


def run(args: argparse.Namespace) -> int:
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{args.out}: cannot be made ({error.strerror})") from None
    print("1. What is installed (capcurr doctor)\n")
    doctor.print_checks(doctor.examine())
    with as_file(files("capcurr_plugin") / "demo_data") as data:
        print("\n2. The built-in rows, as Parquet and in the form that verl's own data set reads\n")
        _convert(data / "rows.jsonl", args.out / "rows.parquet")
        _convert(data / "rows.jsonl", args.out / "verl.parquet", "--to", "verl", "--embed-images")
    print("\n3. The reward of six made-up responses\n")
    _score(args.out / "rows.parquet")
    print(
        "\nThat is all there is to see so far: rows, checks and rewards are real, the responses above are made up,\n"
        "and no model was trained, served or judged."
    )
    return 0


def _convert(*arguments: str | Path) -> None:
    words = [str(word) for word in ("data", "convert", *arguments)]
    print(f"$ capcurr {' '.join(words)}")
    cli.run(words)


def _score(path: Path) -> None:
    with BadRows("fail", path) as bad:
        rows: dict[str, Row] = {row.index: row for row in RowReader(path, bad)}
    print(f"{'capability':<18} {'truth':<6} {'boxed':<12} {'accuracy':>8} {'format':>7} {'score':>6}")
    for index, response in RESPONSES.items():
        row = rows[index]
        score = compute_score(str(row.capability), response, row.answer)
        boxed = extract_boxed(response) or "(none)"
        numbers = f"{score['accuracy']:>8.0f} {score['format']:>7.0f} {score['score']:>6.2f}"
        print(f"{row.capability:<18} {row.answer:<6} {boxed:<12} {numbers}")
