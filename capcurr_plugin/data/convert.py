"""`capcurr data convert IN OUT`: rows from one file format or form to another, every row checked."""

import argparse
import json
from pathlib import Path
from typing import Any, Literal, get_args

from capcurr_plugin.errors import InputError
from capcurr_plugin.progress import progress_bar
from capcurr_plugin.prompt import PLACEMENTS, TRAINING
from capcurr_plugin.row_files import ENDINGS, BadRows, RowReader, check_output, format_of, write_rows
from capcurr_plugin.rows import CAPABILITIES, ImageRoot, Row

Form = Literal["rows", "choices", "verl"]
FORMS: tuple[Form, ...] = get_args(Form)

DESCRIPTION = """\
Convert rows between JSON Lines (plain, .gz, .zst) and Parquet, by the endings of the two names, and check every row.
The input may hold rows (index, problem, answer, images, source), multiple-choice rows of the synthesis (prompt,
image_path, option_A to option_D), or a Parquet file that `--to verl` wrote. Further columns are kept."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("input", metavar="IN", type=Path, help=f"a row file: {', '.join(ENDINGS)}")
    parser.add_argument("output", metavar="OUT", type=Path, help="the file to write; it is replaced when all is well")
    parser.add_argument(
        "--to",
        choices=FORMS,
        default="rows",
        help="rows (default), choices (the synthesis' multiple-choice rows), or verl (Parquet for verl's RLHFDataset)",
    )
    parser.add_argument(
        "--image-root",
        metavar="DIR",
        type=Path,
        help="check that every image exists under DIR; --to verl always checks (default there: the folder of IN)",
    )
    parser.add_argument("--capability", choices=CAPABILITIES, help="the capability of rows that do not name one")
    parser.add_argument(
        "--prompt",
        choices=PLACEMENTS,
        help=f"--to verl: where the unified prompt goes (default: {TRAINING}, as in the published training)",
    )
    parser.add_argument(
        "--embed-images", action="store_true", help="--to verl: put the images into the file instead of their paths"
    )
    BadRows.add_argument(parser, "OUT")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    _check_names(args)
    with progress_bar() as tell, BadRows(args.on_bad_row, args.output) as bad:
        reader = RowReader(args.input, bad, tell)
        folder = args.image_root or (args.input.parent if args.to == "verl" else None)
        if folder:
            reader.images = ImageRoot(folder)
        count = _write(args, reader)
    summary = {
        "input": str(args.input),
        "output": str(args.output),
        "rows": count,
        **bad.summary(),
    }
    print(json.dumps(summary) if args.json else _sentence(summary))
    return 0


def _check_names(args: argparse.Namespace) -> None:
    if args.to == "verl" and format_of(args.output) != ".parquet":
        raise InputError(f"{args.output}: verl's form is Parquet; give a name that ends in .parquet")
    if args.to != "verl" and (args.prompt or args.embed_images):
        raise InputError("--prompt and --embed-images go with --to verl; rows hold neither prompt nor image")
    check_output(args.output, args.input, args.on_bad_row)


def _write(args: argparse.Namespace, reader: RowReader) -> int:
    if args.to == "verl":
        from capcurr_plugin.verl_form import VerlForm

        assert reader.images is not None
        form = VerlForm(reader.images, args.prompt or TRAINING, args.embed_images)
        return form.write(args.output, reader.converted(lambda row: form.record(row.with_capability(args.capability))))
    record = Row.choice_record if args.to == "choices" else Row.record
    return write_rows(args.output, reader.converted(lambda row: record(row.with_capability(args.capability))))


def _sentence(summary: dict[str, Any]) -> str:
    text = f"{summary['rows']:,} rows -> {summary['output']}"
    if summary["bad_rows"]:
        text += f"; {summary['bad_rows']:,} bad rows -> {summary['bad_rows_file']}"
    return text
