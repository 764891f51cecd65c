"""`capcurr report OUT.html`: one page with the figures of a study and the numbers behind them."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

from capcurr_plugin.atomic import replacing
from capcurr_plugin.errors import InputError
from capcurr_plugin.progress import progress_bar
from capcurr_plugin.report.attributions import Attribution, read_attributions
from capcurr_plugin.report.error_kinds import (
    change_numbers,
    change_sections,
    corrected_numbers,
    corrected_section,
    kind_numbers,
    kinds_section,
)
from capcurr_plugin.report.errors_browser import ERRORS, MOST_ERRORS, SEED, errors_section, read_errors
from capcurr_plugin.report.figures import check_drawing, check_folder, write_pictures
from capcurr_plugin.report.lengths import length_numbers, lengths_section
from capcurr_plugin.report.page import Section, page
from capcurr_plugin.report.pass_rate_pictures import AFTER, BEFORE, histogram_section, order_section
from capcurr_plugin.report.pass_rates import RowFile, histogram_numbers, order_of, read_measured, tally
from capcurr_plugin.report.scores import read_results, score_sections
from capcurr_plugin.report.training import training_numbers, training_section
from capcurr_plugin.row_files import BadRows, check_places

DESCRIPTION = """\
Write the page of a study: scores beside the published ones (--results), what kinds of errors are left and single ones
to browse (--attribution), training curves (--train), and the training data: histograms of pass rates before (--rows)
and after (--kept) a filter, and the order of a curriculum (--order). Any of these will do. The page holds all it shows
and needs no network; each figure is also written as SVG and PNG to OUT_figures."""


OPTIONS = ("--results", "--attribution", "--train", "--rows", "--order")
TITLE = "Capability curriculum"
MAX_ABOUT = 20_000  # characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("output", metavar="OUT.html", type=Path, help="the page; it is replaced when all is well")
    for name, metavar, text in (
        ("--results", "FILE.json", "scores, as capcurr results --json or capcurr eval wrote them"),
        ("--attribution", "FILE.jsonl", "wrong answers, as capcurr attribute wrote them, its summary beside"),
        ("--train", "DIR", "the folder of a run of capcurr train"),
    ):
        parser.add_argument(name, metavar=metavar, type=Path, nargs="+", action="extend", default=[], help=text)
    add_file_arguments(parser)
    parser.add_argument("--title", default=TITLE, help="of the page")
    parser.add_argument(
        "--about", metavar="FILE.txt", type=Path, help="what readers should know first, in paragraphs, below the title"
    )
    parser.add_argument(
        "--errors",
        metavar="N",
        type=int,
        default=ERRORS,
        help=f"how many single errors can be browsed ({ERRORS}; 0: none; at most {MOST_ERRORS:,})",
    )
    parser.add_argument("--seed", metavar="N", type=int, default=SEED, help=f"of which errors these are ({SEED})")
    BadRows.add_argument(parser, "OUT.html")
    parser.add_argument("--json", action="store_true", help="print the numbers behind the figures as JSON")


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    for name, text in (
        ("--rows", "rows with their pass rates: a row file, or CAPABILITY=FILE where the rows name no capability"),
        ("--kept", "what a filter kept of them"),
        ("--order", "rows as they are trained; several files are stages, one after another"),
    ):
        parser.add_argument(name, metavar="FILE", type=RowFile.of, nargs="+", action="extend", default=[], help=text)


def run(args: argparse.Namespace) -> int:
    folder = _check(args)
    with replacing(args.output) as file, BadRows(args.on_bad_row, args.output) as bad:
        attributions = read_attributions(args.attribution)
        numbers = read_study(args.results, attributions, args.train)
        numbers |= read_numbers(args.rows, args.kept, args.order, bad)
        sections = sections_of(numbers)
        if attributions and args.errors:
            with progress_bar() as tell:
                errors = read_errors(attributions, args.errors, args.seed, tell)
            numbers["errors"] = errors.numbers()
            sections.append(errors_section(errors))
        figures = write_pictures(folder, [section.picture for section in sections if section.picture])
        notes = _paragraphs(args.about) if args.about else []
        notes += [f"{bad.count:,} bad rows are left out."] if bad.count else []
        for piece in page(args.title, sections, notes):
            file.write(piece.encode("utf-8", "backslashreplace"))  # a name may hold bytes that are no UTF-8
        size = file.tell()
    summary = {"output": str(args.output), "bytes": size, "figures": list(map(str, figures)), **numbers}
    summary |= bad.summary()
    print(json.dumps(summary) if args.json else _sentence(summary))
    return 0


def read_study(results: Sequence[Path], attributions: Sequence[Attribution], train: Sequence[Path]) -> dict[str, Any]:
    """The numbers of each section that there are files for, without the training data."""
    numbers: dict[str, Any] = {}
    if results:
        numbers["scores"] = read_results(results)
    if attributions:
        numbers["kinds"] = kind_numbers(attributions)
        numbers["corrected"] = corrected_numbers(attributions)
        numbers["changes"] = change_numbers(attributions)
        numbers["lengths"] = length_numbers(attributions)
    if train:
        numbers["training"] = training_numbers(train)
    return numbers


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
    makers = {
        "scores": score_sections,
        "kinds": kinds_section,
        "corrected": corrected_section,
        "changes": change_sections,
        "lengths": lengths_section,
        "training": training_section,
        "pass_rates": histogram_section,
        "order": order_section,
    }
    made = [make(numbers[name]) for name, make in makers.items() if numbers.get(name)]
    return [section for one in made for section in (one if isinstance(one, list) else [one])]


def _paragraphs(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_ABOUT + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--about {path}: cannot be read ({getattr(error, 'strerror', 'it is no UTF-8')})") from None
    if len(text) > MAX_ABOUT:
        raise InputError(f"--about {path}: has over {MAX_ABOUT:,} characters")
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def _check(args: argparse.Namespace) -> Path:
    """Where the figures go, when all is well."""
    if args.output.suffix.lower() != ".html":
        raise InputError(f"{args.output}: the name must end in .html")
    if args.kept and not args.rows:
        raise InputError("--kept needs --rows, the rows before the filter")
    read = [*args.results, *args.attribution, *(file.path for file in (*args.rows, *args.kept, *args.order))]
    if not read and not args.train:
        raise InputError(f"nothing to show: name files with {', '.join(OPTIONS[:-1])} or {OPTIONS[-1]}")
    if not 0 <= args.errors <= MOST_ERRORS:
        raise InputError(f"--errors is {args.errors}; use a number from 0 to {MOST_ERRORS:,}")
    for path in read:
        check_places(args.output, path, args.on_bad_row)
    folder = args.output.with_name(f"{args.output.stem}_figures")
    check_folder(folder)
    check_drawing()
    return folder


def _sentence(summary: dict[str, Any]) -> str:
    text = f"{'; '.join(_told(summary))} -> {summary['output']} ({summary['bytes'] / (1 << 20):,.1f} MiB)"
    if summary["figures"]:
        text += f", figures in {Path(summary['figures'][0]).parent}"
    if summary["bad_rows"]:
        text += f"; {summary['bad_rows']:,} bad rows -> {summary['bad_rows_file']}"
    return text


def _told(summary: dict[str, Any]) -> Iterator[str]:
    if "scores" in summary:
        yield f"scores of {_counted(summary['scores']['models'], 'model')}"
    if "kinds" in summary:
        models = summary["kinds"]["models"]
        yield f"{sum(model['wrong'] for model in models.values()):,} wrong answers of {_counted(models, 'model')}"
    if "errors" in summary:
        yield f"{summary['errors']['shown']:,} of {summary['errors']['of']:,} errors to browse"
    if "training" in summary:
        yield f"training curves of {_counted(summary['training']['runs'], 'run')}"
    if "pass_rates" in summary:
        counts = [f"{one['rows']:,}" for one in summary["pass_rates"]["all"].values()]
        yield f"pass rates of {counts[0]} rows{''.join(f', {after} after the filter' for after in counts[1:])}"
    if "order" in summary:
        yield f"the order of {summary['order']['rows']:,} rows"


def _counted(things: Sized, name: str) -> str:
    return f"{len(things):,} {name}{'s' if len(things) != 1 else ''}"
