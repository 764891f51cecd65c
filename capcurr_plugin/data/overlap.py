"""`capcurr data overlap`: training rows that leak benchmarks, by their images or by their texts."""

import argparse
import codecs
import contextlib
import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from capcurr_plugin import jsonl
from capcurr_plugin.arguments import positive
from capcurr_plugin.atomic import replacing
from capcurr_plugin.data import lookalikes, wordings
from capcurr_plugin.data.benchmark_tables import find_tables
from capcurr_plugin.data.lookalikes import Fingerprinter, Lookalikes
from capcurr_plugin.data.matching import ALONE, KINDS, Benchmarks, Judged, Kind, Matcher, Touch
from capcurr_plugin.data.wordings import Questions
from capcurr_plugin.errors import InputError
from capcurr_plugin.evaluation.suites import load_suites
from capcurr_plugin.images import require_pillow
from capcurr_plugin.progress import progress_bar
from capcurr_plugin.row_files import (
    ENDINGS,
    BadRows,
    NothingLeft,
    RowReader,
    check_output,
    check_places,
    format_of,
    write_rows,
)
from capcurr_plugin.rows import ImageRoot

REPORT_ENDINGS = (*jsonl.ENDINGS, ".csv")
REPORT_COLUMNS = (
    "file",
    "line",
    "index",
    "benchmark",
    "benchmark_index",
    "kinds",
    "image",
    "image_distance",
    "text_similarity",
)

REPEATED = 100  # rows that match one benchmark's question; it is worth a remark, for it may be a template
SHOWN = 5  # remarks of that sort

DESCRIPTION = """\
Find training rows that hold questions or images of benchmarks, and write the rows without them. A benchmark is a table
of VLMEvalKit. A row touches a benchmark by
  exact-image     the same image file
  near-image      the same picture, stored anew, resized, made brighter or cropped a little
  exact-text      the same question
  near-text       most of the question's words, in their order
  image-and-text  an image and the text of one question, which may be short
A question with little of its own, such as "Is there a dog?", matches by its text only beside its image."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("rows", metavar="ROWS", type=Path, nargs="+", help=f"row files: {', '.join(ENDINGS)}")
    parser.add_argument(
        "--benchmarks",
        metavar="DIR_OR_TSV",
        type=Path,
        nargs="+",
        default=[],
        help="tables, and folders of them (default: $LMUData, else ~/LMUData)",
    )
    parser.add_argument(
        "--suite",
        metavar="NAME",
        nargs="+",
        default=[],
        help=f"of a folder, only these: {', '.join(load_suites().suites)}, or names of benchmarks",
    )
    parser.add_argument(
        "--image-root", metavar="DIR", type=Path, help="where the rows' image paths start (default: ROWS' folder)"
    )
    parser.add_argument(
        "--compare", choices=["images", "texts"], nargs="+", default=["images", "texts"], help="default: both"
    )
    out = parser.add_argument_group("what is written")
    out.add_argument("--report", metavar="FILE", type=Path, help=f"every match: {', '.join(REPORT_ENDINGS)}")
    out.add_argument("--out", metavar="FILE", type=Path, help="the rows that stay; others go to FILE.dropped.jsonl")
    out.add_argument("--drop", choices=KINDS, nargs="+", help=f"which matches drop a row (default: {', '.join(ALONE)})")
    out.add_argument("--json", action="store_true", help="print the summary as JSON")
    near = parser.add_argument_group("what is near")
    near.add_argument(
        "--image-distance",
        metavar="BITS",
        type=_distance,
        default=lookalikes.DISTANCE,
        help=f"bits of {lookalikes.BITS} in which hashes of near images may differ (default: %(default)s)",
    )
    near.add_argument(
        "--text-similarity",
        metavar="SHARE",
        type=_share,
        default=wordings.SIMILARITY,
        help="share of a question's runs of words that a near text holds (default: %(default)s)",
    )
    near.add_argument(
        "--ngram", metavar="N", type=positive, default=wordings.NGRAM, help="words in a run (default: %(default)s)"
    )
    near.add_argument(
        "--min-runs",
        metavar="N",
        type=positive,
        default=wordings.MIN_RUNS,
        help="runs of its own that a question needs for its text alone to tell (default: %(default)s)",
    )
    BadRows.add_argument(parser, "OUT")


def _distance(text: str) -> int:
    number = int(text)
    if not 0 <= number < lookalikes.BITS // 2:
        raise argparse.ArgumentTypeError(f"{text} is not 0 to {lookalikes.BITS // 2 - 1}")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return number


def run(args: argparse.Namespace) -> int:
    tables = find_tables(args.benchmarks, args.suite)
    _check(args, tables)
    summary = Summary(frozenset(args.drop or ALONE))
    with BadRows(args.on_bad_row, args.out or args.report or args.rows[0]) as bad, Fingerprinter() as fingerprinter:
        texts = Questions(args.ngram, args.text_similarity, args.min_runs)
        known = Benchmarks(Lookalikes(args.image_distance), texts, fingerprinter, bad, args.compare)
        for table in tables:
            known.read(table)
        known.close()
        nothing_left = _write(args, _judged(args, known, bad), known, summary)
    found = summary.report(args, known) | bad.summary()
    print(json.dumps(found) if args.json else "\n".join(_table(found)))
    if nothing_left:
        raise nothing_left
    return 0


def _check(args: argparse.Namespace, tables: Sequence[Path]) -> None:
    if "images" in args.compare:
        require_pillow()
    if args.drop and not args.out:
        raise InputError("--drop says which rows --out leaves out; give --out, too")
    if args.report and not args.report.name.lower().endswith(REPORT_ENDINGS):
        raise InputError(f"{args.report}: the name must end in {', '.join(REPORT_ENDINGS)}")
    if args.report and args.report == args.out:
        raise InputError(f"{args.report}: is both the report and the output; give one another name")
    twice = next((path for place, path in enumerate(args.rows) if path in args.rows[:place]), None)
    if twice:
        raise InputError(f"{twice}: is given twice")
    for source in [*args.rows, *tables]:
        if args.out:
            check_output(args.out, source, args.on_bad_row)
            check_places(_dropped(args.out), source, args.on_bad_row)
        if args.report:
            check_places(args.report, source, args.on_bad_row)


def _dropped(output: Path) -> Path:
    return output.with_name(f"{output.name}.dropped.jsonl")


def _judged(args: argparse.Namespace, known: Benchmarks, bad: BadRows) -> Iterator[Judged]:
    """Every good row of every file."""
    homes: dict[str, Path] = {}  # of each index, where all rows go into one file
    for path in args.rows:
        with progress_bar() as tell:
            matcher = Matcher(RowReader(path, bad, tell), known, ImageRoot(args.image_root or path.parent))
            yield from matcher.judged(homes if args.out and len(args.rows) > 1 else None)


# What is written


class NoneStays(NothingLeft):
    """Every row touches a benchmark."""


def _write(args: argparse.Namespace, rows: Iterator[Judged], known: Benchmarks, summary: "Summary") -> NoneStays | None:
    """The report, the rows that stay, and those that do not; says when none stays."""
    rows = summary.counted(rows, known)
    with contextlib.ExitStack() as outputs:
        if args.report:
            rows = _reported(args.report, rows, known, outputs)
        if not args.out:
            for _ in rows:
                pass
            return None
        dropped = Dropped(_dropped(args.out), known, outputs)
        try:
            write_rows(args.out, _staying(rows, summary, dropped))
        except NoneStays as error:  # which rows they are is worth having all the same
            return error
        if not summary.dropped:
            dropped.path.unlink(missing_ok=True)  # that an earlier run left
    return None


def _staying(rows: Iterator[Judged], summary: "Summary", dropped: "Dropped") -> Iterator[dict[str, Any]]:
    for judged in rows:
        if judged.kinds & summary.drop:
            dropped.add(judged)
            summary.dropped += 1
        else:
            yield judged.row.record()
    if summary.dropped == summary.rows:
        raise NoneStays("every row touches a benchmark, so that nothing is left to write")


class Dropped:
    """The rows that do not stay, each with what it touches."""

    def __init__(self, path: Path, known: Benchmarks, outputs: contextlib.ExitStack) -> None:
        self.path = path
        self._known, self._outputs = known, outputs
        self._file: IO[bytes] | None = None

    def add(self, judged: Judged) -> None:
        if self._file is None:
            self._file = self._outputs.enter_context(replacing(self.path))
        record = judged.row.record() | {"overlap": [_record(touch, self._known) for touch in judged.touches]}
        self._file.write(jsonl.dumps(record).encode() + b"\n")


def _reported(path: Path, rows: Iterator[Judged], known: Benchmarks, outputs: contextlib.ExitStack) -> Iterator[Judged]:
    """The same rows; what they touch is written to a file."""
    file = outputs.enter_context(replacing(path))
    write = _csv_writer(file) if path.suffix.lower() == ".csv" else _jsonl_writer(path, file, outputs)
    for judged in rows:
        place = {"file": str(judged.file), "line": judged.number, "index": judged.row.index}
        for touch in judged.touches:
            write(place | _record(touch, known))
        yield judged


def _csv_writer(file: IO[bytes]) -> Callable[[dict[str, Any]], object]:
    table: csv.DictWriter[str] = csv.DictWriter(codecs.getwriter("utf-8")(file, "backslashreplace"), REPORT_COLUMNS)
    table.writeheader()
    return lambda record: table.writerow(record | {"kinds": " ".join(record["kinds"])})


def _jsonl_writer(path: Path, file: IO[bytes], outputs: contextlib.ExitStack) -> Callable[[dict[str, Any]], object]:
    out = outputs.enter_context(jsonl.compressing(file, format_of(path)))
    return lambda record: out.write(jsonl.dumps(record).encode("utf-8", "backslashreplace") + b"\n")


def _record(touch: Touch, known: Benchmarks) -> dict[str, Any]:
    asked = known.asked[touch.question]
    return {
        "benchmark": asked.benchmark,
        "benchmark_index": asked.index,
        "kinds": list(touch.kinds),
        "image": touch.image,
        "image_distance": touch.image_distance,
        "text_similarity": None if touch.text_similarity is None else round(touch.text_similarity, 4),
    }


@dataclass
class Summary:
    """How many rows touch what."""

    drop: frozenset[Kind]
    rows: int = 0
    touching: int = 0
    dropped: int = 0
    by_benchmark: dict[str, Counter[str]] = field(default_factory=dict)  # rows, by kind, and "any"
    by_question: Counter[int] = field(default_factory=Counter)

    def counted(self, rows: Iterator[Judged], known: Benchmarks) -> Iterator[Judged]:
        for judged in rows:
            self.rows += 1
            self.touching += bool(judged.touches)
            kinds = {(known.asked[touch.question].benchmark, kind) for touch in judged.touches for kind in touch.kinds}
            for benchmark, kind in kinds | {(benchmark, "any") for benchmark, _ in kinds}:
                self.by_benchmark.setdefault(benchmark, Counter())[kind] += 1
            self.by_question.update(touch.question for touch in judged.touches)
            yield judged

    def report(self, args: argparse.Namespace, known: Benchmarks) -> dict[str, Any]:
        repeated = [(question, rows) for question, rows in self.by_question.items() if rows >= REPEATED]
        repeated.sort(key=lambda one: (-one[1], known.place(one[0])))
        report = {
            "rows": self.rows,
            "touching": self.touching,
            "benchmarks": {
                name: {**counts, **{kind: self.by_benchmark.get(name, Counter())[kind] for kind in ("any", *KINDS)}}
                for name, counts in known.counts.items()
            },
            "blank_images": known.blank,
            "template_questions": known.texts.templates,
            "repeated": [
                {"benchmark": known.asked[question].benchmark, "index": known.asked[question].index, "rows": rows}
                for question, rows in repeated
            ],
            "report": str(args.report) if args.report else None,
        }
        if args.out:
            staying = {"output": str(args.out), "kept": self.rows - self.dropped, "dropped": self.dropped}
            report |= staying | {"dropped_file": str(_dropped(args.out)) if self.dropped else None}
        return report


HEADINGS = ("any kind", "exact image", "near image", "exact text", "near text", "image+text")


def _table(report: dict[str, Any]) -> Iterator[str]:
    yield f"{'':<34} {'':>9} rows that touch it by"
    yield f"{'benchmark':<34} {'questions':>9} {' '.join(f'{heading:>11}' for heading in HEADINGS)}"
    for name, counts in report["benchmarks"].items():
        numbers = " ".join(f"{counts[kind]:>11,}" for kind in ("any", *KINDS))
        yield f"{name:<34} {counts['questions']:>9,} {numbers}"
    yield ""
    yield f"{report['touching']:,} of {report['rows']:,} rows touch a benchmark"
    if report["template_questions"]:
        yield f"{report['template_questions']:,} questions have too little of their own to be found by their text alone"
    if report["blank_images"]:
        yield f"{report['blank_images']:,} images of benchmarks have a single colour and match nothing"
    for one in report["repeated"][:SHOWN]:
        yield f"{one['benchmark']} {one['index']}: {one['rows']:,} rows touch it; a template rather than a leak?"
    if len(report["repeated"]) > SHOWN:
        yield f"... and {len(report['repeated']) - SHOWN:,} more such questions; --json lists them"
    if "output" in report:
        yield f"{report['kept']:,} rows -> {report['output']}"
        if report["dropped"]:
            yield f"{report['dropped']:,} rows dropped -> {report['dropped_file']}"
    if report["report"]:
        yield f"matches -> {report['report']}"
    if report["bad_rows"]:
        yield f"{report['bad_rows']:,} bad rows -> {report['bad_rows_file']}"
