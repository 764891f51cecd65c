"""`capcurr data overlap`: training rows that leak benchmarks, by their images or by their texts."""

import argparse
import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capcurr_plugin import jsonl
from capcurr_plugin.atomic import replacing
from capcurr_plugin.data import lookalikes, wordings
from capcurr_plugin.data.benchmark_tables import find_tables
from capcurr_plugin.data.lookalikes import Fingerprinter, Lookalikes
from capcurr_plugin.data.matching import KINDS, Benchmarks, Judged, Kind, Matcher, Touch
from capcurr_plugin.data.wordings import Questions
from capcurr_plugin.errors import InputError
from capcurr_plugin.evaluation.suites import load_suites
from capcurr_plugin.images import require_pillow
from capcurr_plugin.progress import progress_bar
from capcurr_plugin.ray_jobs import add_ray_arguments, mapped_by
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

REPEATED = 100  # rows that match one benchmark's question; it is worth a remark, for it may be a template
SHOWN = 5  # remarks of that sort

DESCRIPTION = """\
Find training rows that hold questions or images of benchmarks, and write the rows without them. A benchmark is a table
of VLMEvalKit. A row touches a benchmark by
  exact-image     an image with the same pixels
  near-image      the same picture, stored anew, resized, made brighter or cropped a little
  exact-text      the same question
  near-text       most of the question's words, in their order; of a long question
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
    out.add_argument("--report", metavar="FILE", type=Path, help=f"every match: {', '.join(jsonl.ENDINGS)}")
    out.add_argument(
        "--out", metavar="FILE", type=Path, help="the rows that stay, of one ROWS; others go to FILE.dropped.jsonl"
    )
    out.add_argument(
        "--drop",
        metavar="KIND",
        choices=KINDS,
        nargs="+",
        default=KINDS,
        help="which of the above matches keep a row out of --out (default: any)",
    )
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
        help=f"share of a question's runs of {wordings.NGRAM} words that a near text holds (default: %(default)s)",
    )
    add_ray_arguments(parser, "take the images' fingerprints")
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
    summary = Summary(frozenset(args.drop))
    with contextlib.ExitStack() as opened:
        cluster = opened.enter_context(mapped_by(args))
        bad = opened.enter_context(BadRows(args.on_bad_row, args.out or args.report or args.rows[0]))
        # What is wrong with these is said before tables are read, which takes its time.
        sources = [(RowReader(path, bad), ImageRoot(args.image_root or path.parent)) for path in args.rows]
        report = _lines(args.report, opened) if args.report else None
        drop = _lines(_dropped(args.out), opened) if args.out else None
        known = Benchmarks(
            Lookalikes(args.image_distance),
            Questions(args.text_similarity),
            opened.enter_context(Fingerprinter(cluster=cluster)),
            bad,
            args.compare,
        )
        for table in tables:
            known.read(table)
        known.close()
        rows = summary.counted(_judged(sources, known), known)
        if report:
            rows = _reported(rows, known, report)
        nothing_left = _write(args.out, rows, known, summary, drop) if drop else _use_up(rows)
    found = summary.report(args, known) | bad.summary()
    print(json.dumps(found) if args.json else "\n".join(_table(found)))
    if nothing_left:
        raise nothing_left
    return 0


def _check(args: argparse.Namespace, tables: Sequence[Path]) -> None:
    if "images" in args.compare:
        require_pillow()
    if args.drop is not KINDS and not args.out:
        raise InputError("--drop says which rows --out leaves out; give --out, too")
    if args.out and len(args.rows) > 1:
        raise InputError("--out takes the rows of one file; run it once for each, or leave --out out")
    if args.report and not args.report.name.lower().endswith(jsonl.ENDINGS):
        raise InputError(f"{args.report}: the name must end in {', '.join(jsonl.ENDINGS)}")
    if args.report and args.out and args.report.resolve() in (args.out.resolve(), _dropped(args.out).resolve()):
        raise InputError(f"{args.report}: is both the report and an output; give one another name")
    for source in [*args.rows, *tables]:
        if args.out:
            check_output(args.out, source, args.on_bad_row)
            check_places(_dropped(args.out), source, args.on_bad_row)
        if args.report:
            check_places(args.report, source, args.on_bad_row)


def _dropped(output: Path) -> Path:
    return output.with_name(f"{output.name}.dropped.jsonl")


def _judged(sources: Sequence[tuple[RowReader, ImageRoot]], known: Benchmarks) -> Iterator[Judged]:
    """Every good row of every file."""
    for reader, root in sources:
        with progress_bar() as reader.tell:
            yield from Matcher(reader, known, root).judged()


def _use_up(rows: Iterator[Judged]) -> None:
    for _ in rows:
        pass


# What is written

Write = Callable[[dict[str, Any]], object]


class NoneStays(NothingLeft):
    """Every row touches a benchmark."""


def _write(path: Path, rows: Iterator[Judged], known: Benchmarks, summary: "Summary", drop: Write) -> NoneStays | None:
    """The rows that stay, and those that do not; says when none stays: which ones they are is worth having."""
    try:
        write_rows(path, _staying(rows, known, summary, drop))
    except NoneStays as error:
        return error
    return None


def _lines(path: Path, opened: contextlib.ExitStack) -> Write:
    """Writes objects to a file of JSON Lines, which is there when what is opened is closed."""
    out = opened.enter_context(jsonl.compressing(opened.enter_context(replacing(path)), format_of(path)))
    return lambda record: out.write(jsonl.dumps(record).encode("utf-8", "backslashreplace") + b"\n")


def _staying(rows: Iterator[Judged], known: Benchmarks, summary: "Summary", drop: Write) -> Iterator[dict[str, Any]]:
    for judged in rows:
        if judged.kinds & summary.drop:
            drop(judged.row.record() | {"overlap": [_record(touch, known) for touch in judged.touches]})
            summary.dropped += 1
        else:
            yield judged.row.record()
    if summary.dropped == summary.rows:
        raise NoneStays("every row touches a benchmark, so that nothing is left to write")


def _reported(rows: Iterator[Judged], known: Benchmarks, write: Callable[[dict[str, Any]], object]) -> Iterator[Judged]:
    """The same rows; what they touch is written."""
    for judged in rows:
        place = {"file": str(judged.file), "line": judged.number, "index": judged.row.index}
        for touch in judged.touches:
            write(place | _record(touch, known))
        yield judged


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
            report |= staying | {"dropped_file": str(_dropped(args.out))}
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
        if report["dropped"]:  # else the file is empty
            yield f"{report['dropped']:,} rows dropped -> {report['dropped_file']}"
    if report["report"]:
        yield f"matches -> {report['report']}"
    if report["bad_rows"]:
        yield f"{report['bad_rows']:,} bad rows -> {report['bad_rows_file']}"
