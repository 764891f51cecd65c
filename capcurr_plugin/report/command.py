"""`capcurr report OUT.html`: one page with the pictures of a curriculum's data and the numbers behind them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from capcurr_plugin.atomic import replacing
from capcurr_plugin.errors import InputError
from capcurr_plugin.progress import progress_bar
from capcurr_plugin.report.figures import check_drawing, check_folder, write_pictures
from capcurr_plugin.report.page import Section, page
from capcurr_plugin.report.pass_rate_pictures import AFTER, BEFORE, histogram_section, order_section
from capcurr_plugin.report.pass_rates import RowFile, histogram_numbers, order_of, read_measured, tally
from capcurr_plugin.row_files import BadRows, check_places

DESCRIPTION = """\
Write a page with the pictures of training data: histograms of pass rates by capability, before (--rows) and after
(--kept) a filter, and the order of a curriculum (--order). The page holds all it shows and needs no network; each
figure is also written as SVG and PNG to OUT_figures. FILE is a row file, or CAPABILITY=FILE where the rows do not name
their capability, such as perception=stage1.jsonl."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("output", metavar="OUT.html", type=Path, help="the page; it is replaced when all is well")
    add_file_arguments(parser)
    BadRows.add_argument(parser, "OUT.html")
    parser.add_argument("--json", action="store_true", help="print the numbers behind the pictures as JSON")


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    for name, text in (
        ("--rows", "rows with their pass rates"),
        ("--kept", "what a filter kept of them"),
        ("--order", "rows as they are trained; several files are stages, one after another"),
    ):
        parser.add_argument(name, metavar="FILE", type=RowFile.of, nargs="+", action="extend", default=[], help=text)


def run(args: argparse.Namespace) -> int:
    folder = _check(args)
    with replacing(args.output) as file, BadRows(args.on_bad_row, args.output) as bad:
        numbers = read_numbers(args.rows, args.kept, args.order, bad)
        sections = sections_of(numbers)
        figures = write_pictures(folder, [section.picture for section in sections if section.picture])
        note = f"{bad.count:,} bad rows are left out." if bad.count else ""
        # A name may hold bytes that are no UTF-8.
        file.write(page("Training data", sections, note).encode("utf-8", "backslashreplace"))
    summary = {"output": str(args.output), "figures": list(map(str, figures)), **numbers, **bad.summary()}
    print(json.dumps(summary) if args.json else _sentence(summary))
    return 0


def read_numbers(
    rows: Sequence[RowFile], kept: Sequence[RowFile], order: Sequence[RowFile], bad: BadRows
) -> dict[str, Any]:
    """The numbers of each picture that there are files for."""
    numbers: dict[str, Any] = {}
    if rows:
        sets = {BEFORE: rows, **({AFTER: kept} if kept else {})}
        tallies = {}
        for name, files in sets.items():
            with progress_bar() as tell:
                tallies[name] = tally(read_measured(files, bad, tell))
        named = {name: [str(file.path) for file in files] for name, files in sets.items()}
        numbers["pass_rates"] = {"files": named, **histogram_numbers(tallies)}
    if order:
        with progress_bar() as tell:
            numbers["order"] = order_of(read_measured(order, bad, tell)).numbers(order)
    return numbers


def sections_of(numbers: dict[str, Any]) -> list[Section]:
    makers = {"pass_rates": histogram_section, "order": order_section}
    return [make(numbers[name]) for name, make in makers.items() if name in numbers]


def _check(args: argparse.Namespace) -> Path:
    """Where the figures go, when all is well."""
    if args.output.suffix.lower() != ".html":
        raise InputError(f"{args.output}: the name must end in .html")
    if not args.rows and not args.order:
        what = "--kept needs --rows, the rows before the filter" if args.kept else "name rows with --rows or --order"
        raise InputError(f"nothing to show: {what}")
    if args.kept and not args.rows:
        raise InputError("--kept needs --rows, the rows before the filter")
    for file in (*args.rows, *args.kept, *args.order):
        check_places(args.output, file.path, args.on_bad_row)
    folder = args.output.with_name(f"{args.output.stem}_figures")
    check_folder(folder)
    check_drawing()
    return folder


def _sentence(summary: dict[str, Any]) -> str:
    parts = []
    if "pass_rates" in summary:
        counts = [f"{one['rows']:,}" for one in summary["pass_rates"]["all"].values()]
        parts.append(f"pass rates of {counts[0]} rows{''.join(f', {after} after the filter' for after in counts[1:])}")
    if "order" in summary:
        parts.append(f"the order of {summary['order']['rows']:,} rows")
    text = f"{'; '.join(parts)} -> {summary['output']}, figures in {Path(summary['figures'][0]).parent}"
    if summary["bad_rows"]:
        text += f"; {summary['bad_rows']:,} bad rows -> {summary['bad_rows_file']}"
    return text
