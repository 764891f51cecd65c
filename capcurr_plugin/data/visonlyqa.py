"""`capcurr data visonlyqa`: the public files of VisOnlyQA as a table that VLMEvalKit evaluates."""

import argparse
import base64
import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from capcurr_plugin.atomic import replacing
from capcurr_plugin.errors import InputError
from capcurr_plugin.progress import progress_bar
from capcurr_plugin.row_files import BadRows, RecordReader, check_places
from capcurr_plugin.rows import ImageRoot, RowError

LETTERS = "ABCDEFGH"
COLUMNS = ("index", "image", "question", *LETTERS, "answer", "category", "question_type", "source")
MAX_IMAGE_BYTES = 32 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write VisOnlyQA's evaluation files as one table: dataset/test/real/*.jsonl or dataset/test/synthetic/*.jsonl "
        "of its repository (with --image-root dataset/test), or the Parquet files of its data sets on the hub. Name "
        "the table $LMUData/VisOnlyQA-Real.tsv or $LMUData/VisOnlyQA-Synthetic.tsv."
    )
    parser.add_argument("inputs", type=Path, nargs="+", metavar="IN", help="one file for each task")
    parser.add_argument("output", type=Path, metavar="OUT.tsv")
    parser.add_argument(
        "--image-root", type=Path, metavar="FOLDER", help="where image paths start; default: IN's folder"
    )
    BadRows.add_argument(parser, beside="OUT")


def run(args: argparse.Namespace) -> int:
    if args.output.suffix != ".tsv":
        raise InputError(f"{args.output}: the name must end in .tsv")
    for path in args.inputs:
        check_places(args.output, path, args.on_bad_row)
    with BadRows(args.on_bad_row, args.output) as bad, replacing(args.output) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        table: csv.DictWriter[str] = csv.DictWriter(text, list(COLUMNS), delimiter="\t", quoting=csv.QUOTE_ALL)
        table.writeheader()
        count = 0
        for row in _rows(args.inputs, args.image_root, bad):
            table.writerow({"index": count, **row})
            count += 1
        text.detach()
    print(json.dumps({"questions": count, "file": str(args.output), **bad.summary()}), file=sys.stderr)
    return 0


def _rows(inputs: Sequence[Path], root: Path | None, bad: BadRows) -> Iterator[dict[str, str]]:
    for path in inputs:
        images = ImageRoot(root or path.parent)
        with progress_bar() as tell:
            yield from RecordReader(path, bad, tell, binary=True).read(
                lambda record, images=images: _row(record, images)
            )


def _row(record: dict[str, Any], images: ImageRoot) -> dict[str, str]:
    question, kind = _text(record, "question"), _text(record, "question_type")
    labels = record.get("response_options")
    if (
        not isinstance(labels, list)
        or not 2 <= len(labels) <= len(LETTERS)
        or len(set(map(str, labels))) != len(labels)
    ):
        raise RowError("response_options must be a list of two to eight different options")
    letters = dict(zip(map(str, labels), LETTERS, strict=False))
    asked = [word.strip() for word in _text(record, "answer").split(",")]
    several = kind == "multiple_answers"
    if not set(asked) <= set(letters) or (len(asked) != 1 and not several):
        raise RowError(f"the answer {','.join(asked)!r} is not among the options {', '.join(letters)}")
    stem, texts = (question, []) if several else _options(question, list(letters))
    return {
        "image": _image(record, images),
        "question": stem,
        **dict(zip(LETTERS, texts, strict=False)),
        "answer": ",".join(sorted(letters[word] for word in asked)),
        "category": f"{_text(record, 'image_category')}__{_text(record, 'task_category')}",
        "question_type": kind,
        "source": _text(record, "source"),
    }


def _options(question: str, labels: Sequence[str]) -> tuple[str, list[str]]:
    """The question without the options at its end, `(a) 90 degrees (b) ...`, and their texts; or as it is, with the
    labels themselves, such as True and False."""
    pattern = r"\s*" + "".join(rf"\({re.escape(label)}\)\s*(.+?)\s*" for label in labels)
    found = re.search(pattern + r"$", question, re.DOTALL)
    return (question[: found.start()], list(found.groups())) if found else (question, list(labels))


def _image(record: Mapping[str, Any], images: ImageRoot) -> str:
    decoded = record.get("decoded_image")
    content = decoded.get("bytes") if isinstance(decoded, Mapping) else None
    if not isinstance(content, bytes):
        path = images.find(_text(record, "image_path"))
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise RowError(f"image {path.name} has over {MAX_IMAGE_BYTES:,} bytes")
        content = path.read_bytes()
    if not content:
        raise RowError("the image is empty")
    return base64.b64encode(content).decode("ascii")


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        raise RowError(f"field {name!r} must be a text")
    return value
