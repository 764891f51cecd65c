"""`capcurr score FILE`: responses scored against their ground truths, and beside another grader."""

import argparse
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from capcurr_plugin.errors import InputError
from capcurr_plugin.progress import progress_bar
from capcurr_plugin.reward import GroundTruth, compute_score, extract_boxed, judge_with, warm_up, workers
from capcurr_plugin.reward.score import FORMAT_WEIGHT
from capcurr_plugin.row_files import ENDINGS, BadRows, RecordReader, check_output, write_rows
from capcurr_plugin.rows import OPTION_LETTERS, RowError

Against = Literal["math-verify", "mathruler"]
AGAINST: tuple[Against, ...] = get_args(Against)

RESPONSE_COLUMNS = ("response", "responses", "output", "prediction", "predictions", "solution_str")
TRUTH_COLUMNS = ("ground_truth", "gts", "answer", "solution")
CHUNK = 512  # answers that are held at a time
SHOWN = 20  # disagreements that are printed
BUCKETS = 50  # of times, to each power of ten: medians are right to 5 %

DESCRIPTION = f"""\
Score responses against ground truths as the training reward does. FILE holds JSON objects (or Parquet rows) with a
response ({", ".join(RESPONSE_COLUMNS)}; a list counts each of its entries) and a ground truth
({", ".join(TRUTH_COLUMNS)}; a list holds what is acceptable): rows with predictions, and what verl's
trainer.rollout_data_dir and validation_data_dir hold, are read as they are. capability (or data_source), source,
index and options (or option_A, option_B, ...) are used where they are present."""


@dataclass(frozen=True, slots=True)
class Item:
    """One response of the file."""

    index: str
    capability: str
    source: str
    response: str
    truth: GroundTruth
    options: Any


@dataclass(frozen=True, slots=True)
class Scored:
    item: Item
    score: dict[str, Any]
    seconds: float
    other: bool | None  # what the other grader says; None when it has not answered in time
    other_seconds: float

    def record(self, against: Against | None) -> dict[str, Any]:
        item = self.item
        record = {
            "index": item.index,
            "capability": item.capability,
            "source": item.source,
            "answer": extract_boxed(item.response),
            "ground_truth": item.truth,
            **self.score,
            "seconds": round(self.seconds, 6),
        }
        return record | ({"against": against, "other_accuracy": self.other} if against else {})


@dataclass
class Group:
    answers: int = 0
    accuracy: float = 0.0
    format: float = 0.0
    score: float = 0.0

    def add(self, score: dict[str, Any]) -> None:
        self.answers += 1
        self.accuracy += score["accuracy"]
        self.format += score["format"]
        self.score += score["score"]

    def means(self) -> dict[str, Any]:
        return {"answers": self.answers} | {
            name: round(getattr(self, name) / self.answers, 6) for name in ("accuracy", "format", "score")
        }


@dataclass
class Times:
    """How long answers took, in buckets: a file may have any number of them."""

    count: int = 0
    longest: float = 0.0
    _buckets: Counter[int] = field(default_factory=Counter)

    def add(self, seconds: float) -> None:
        self.count += 1
        self.longest = max(self.longest, seconds)
        self._buckets[round(BUCKETS * math.log10(max(seconds, 1e-9)))] += 1

    def median(self) -> float:
        seen = 0
        for bucket, count in sorted(self._buckets.items()):
            seen += count
            if 2 * seen >= self.count:
                return min(10 ** (bucket / BUCKETS), self.longest)
        return 0.0


@dataclass
class Summary:
    against: Against | None
    total: Group = field(default_factory=Group)
    groups: dict[str, dict[str, Group]] = field(
        default_factory=lambda: {"capability": defaultdict(Group), "source": defaultdict(Group)}
    )
    times: dict[str, Times] = field(default_factory=lambda: defaultdict(Times))  # by tier
    right: Counter[str] = field(default_factory=Counter)  # by tier
    timed_out: int = 0
    without_answer: int = 0
    slowest: tuple[float, str] = (0.0, "")
    agreed: int = 0
    other_seconds: float = 0.0
    other_timed_out: int = 0
    disagreements: list[dict[str, Any]] = field(default_factory=list)
    more_disagreements: int = 0

    def add(self, scored: Scored) -> None:
        score, item = scored.score, scored.item
        self.total.add(score)
        self.groups["capability"][item.capability].add(score)
        self.groups["source"][item.source].add(score)
        self.times[score["tier"]].add(scored.seconds)
        self.right[score["tier"]] += int(score["accuracy"])
        self.timed_out += int(score["timed_out"])
        self.without_answer += extract_boxed(item.response) is None
        self.slowest = max(self.slowest, (scored.seconds, item.index))
        if self.against:
            self._compare(scored)

    def _compare(self, scored: Scored) -> None:
        self.other_seconds += scored.other_seconds
        self.other_timed_out += scored.other is None
        if bool(scored.other) == bool(scored.score["accuracy"]):
            self.agreed += 1
        elif len(self.disagreements) < SHOWN:
            self.disagreements.append(scored.record(self.against))
        else:
            self.more_disagreements += 1

    def report(self, wall_seconds: float) -> dict[str, Any]:
        report: dict[str, Any] = {
            "total": self.total.means(),
            "by": {by: {name: g.means() for name, g in sorted(groups.items())} for by, groups in self.groups.items()},
            "tiers": {
                tier: {
                    "answers": times.count,
                    "right": self.right[tier],
                    "median_seconds": round(times.median(), 6),
                    "max_seconds": round(times.longest, 6),
                }
                for tier, times in sorted(self.times.items(), key=lambda pair: -pair[1].count)
            },
            "without_answer": self.without_answer,
            "timed_out": self.timed_out,
            "slowest": {"index": self.slowest[1], "seconds": round(self.slowest[0], 6)},
            "wall_seconds": round(wall_seconds, 3),
        }
        if self.against:
            report["against"] = {
                "grader": self.against,
                "agreement": round(self.agreed / self.total.answers, 6),
                "disagreements": len(self.disagreements) + self.more_disagreements,
                "timed_out": self.other_timed_out,
                "seconds": round(self.other_seconds, 3),
                "shown": self.disagreements,
            }
        return report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", metavar="FILE", type=Path, help=f"the responses: {', '.join(ENDINGS)}")
    parser.add_argument("--response", metavar="COLUMN", help="the column of the response, when it is another one")
    parser.add_argument("--truth", metavar="COLUMN", help="the column of the ground truth, when it is another one")
    parser.add_argument("--bare", action="store_true", help="the responses are bare answers, without a box")
    parser.add_argument("--against", choices=AGAINST, help="ask another grader too, and show where the two differ")
    parser.add_argument("--format-weight", metavar="W", type=float, default=FORMAT_WEIGHT, help="of the score (0.1)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write each answer with its score to this file")
    BadRows.add_argument(parser, "FILE")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    _check(args)
    summary = Summary(args.against)
    start = time.monotonic()
    with progress_bar() as tell, BadRows(args.on_bad_row, args.out or args.file) as bad:
        scored = _tallied(_scored(_items(args, RecordReader(args.file, bad, tell)), args), summary)
        if args.out:
            write_rows(args.out, (one.record(args.against) for one in scored))
        else:
            for _ in scored:
                pass
        if not summary.total.answers:
            raise bad.nothing_left(args.file)
    report = summary.report(time.monotonic() - start) | bad.summary()
    print(json.dumps(report) if args.json else "\n".join(_table(report)))
    return 0


def _check(args: argparse.Namespace) -> None:
    if not 0 <= args.format_weight <= 1:
        raise InputError(f"--format-weight is {args.format_weight:g}; it must lie between 0 and 1")
    if args.against and not workers.available(args.against):
        raise InputError(
            f"--against {args.against}: not installed; pip install {' '.join(workers.MODULES[args.against])}"
        )
    if args.out:
        check_output(args.out, args.file, args.on_bad_row)


# Rows


def _items(args: argparse.Namespace, reader: RecordReader) -> Iterator[Item]:
    def parse(record: dict[str, Any]) -> list[Item]:
        responses = _column(record, args.response, RESPONSE_COLUMNS, "response")
        truth = _truth(_column(record, args.truth, TRUTH_COLUMNS, "ground truth"))
        if isinstance(responses, str) or responses is None:
            responses = [responses]
        if not isinstance(responses, list) or not all(isinstance(r, str | None) for r in responses):
            raise RowError("the response is neither a text nor a list of texts")
        index = str(record.get("index", record.get("id", reader.number)))
        capability = _name(record, "capability", "data_source")
        source, options = _name(record, "source"), _options(record)
        texts = [("" if r is None else f"\\boxed{{{r}}}" if args.bare else r) for r in responses]
        return [Item(index, capability, source, text, truth, options) for text in texts]

    for items in reader.read(parse):
        yield from items


def _column(record: dict[str, Any], named: str | None, names: Iterable[str], what: str) -> Any:
    found = [name for name in ([named] if named else names) if name in record]
    if not found:
        wanted = f"column {named!r} is missing" if named else f"no column holds the {what} ({', '.join(names)})"
        raise RowError(f"{wanted}; name it with --{'truth' if what == 'ground truth' else 'response'}")
    return record[found[0]]


def _truth(value: Any) -> GroundTruth:
    entries = value if isinstance(value, list) else [value]
    if not entries or not all(isinstance(e, str | int | float) and not isinstance(e, bool) for e in entries):
        raise RowError("the ground truth is neither a text nor a number nor a list of them")
    if not all(str(entry).strip() for entry in entries):
        raise RowError("the ground truth is empty")
    return value


def _name(record: dict[str, Any], *columns: str) -> str:
    return next((str(record[column]) for column in columns if record.get(column) is not None), "(none)")


def _options(record: dict[str, Any]) -> Any:
    options = record.get("options")
    if options is None:
        texts = {letter: record.get(f"option_{letter}") for letter in OPTION_LETTERS}
        return {letter: text for letter, text in texts.items() if isinstance(text, str)} or None
    if not isinstance(options, list | dict):
        raise RowError("column 'options' is neither a list of texts nor an object of letters")
    return options


# Scores


def _scored(items: Iterator[Item], args: argparse.Namespace) -> Iterator[Scored]:
    """In the order of the file; what takes long runs on all cores."""
    warm_up()

    def score(item: Item) -> Scored:
        start = time.perf_counter()
        info = {"options": item.options}
        scored = compute_score("", item.response, item.truth, info, format_weight=args.format_weight)
        between = time.perf_counter()
        other = judge_with(args.against, item.response, item.truth) if args.against else None
        return Scored(item, scored, between - start, other, time.perf_counter() - between)

    with ThreadPoolExecutor(workers.pool().size) as threads:
        while chunk := list(islice(items, CHUNK)):
            yield from threads.map(score, chunk)


def _tallied(scored: Iterator[Scored], summary: Summary) -> Iterator[Scored]:
    for one in scored:
        summary.add(one)
        yield one


# What is printed


def _table(report: dict[str, Any]) -> Iterator[str]:
    yield f"{'':<32} {'answers':>9} {'accuracy':>9} {'format':>8} {'score':>8}"
    for by, groups in report["by"].items():
        for name, means in groups.items():
            yield _means(f"{by} {name}", means)
    yield _means("all", report["total"])
    yield ""
    yield f"{'decided by':<32} {'answers':>9} {'right':>9} {'median':>8} {'slowest':>8}"
    for tier, numbers in report["tiers"].items():
        times = f"{_duration(numbers['median_seconds']):>8} {_duration(numbers['max_seconds']):>8}"
        yield f"{tier:<32} {numbers['answers']:>9,} {numbers['right']:>9,} {times}"
    slowest = f"the slowest, {_short(report['slowest']['index'], 32)}, took {_duration(report['slowest']['seconds'])}"
    yield ""
    yield f"{report['without_answer']:,} without an answer, {report['timed_out']:,} timed out; {slowest}"
    if report["bad_rows"]:
        yield f"{report['bad_rows']:,} bad rows -> {report['bad_rows_file']}"
    if "against" in report:
        yield from _comparison(report["against"])


def _means(name: str, means: dict[str, Any]) -> str:
    shares = f"{means['accuracy']:>9.1%} {means['format']:>8.1%} {means['score']:>8.3f}"
    return f"{_short(name, 32):<32} {means['answers']:>9,} {shares}"


def _comparison(against: dict[str, Any]) -> Iterator[str]:
    grader = against["grader"]
    yield ""
    timed_out = f", {against['timed_out']:,} timed out there" if against["timed_out"] else ""
    yield f"{against['agreement']:.1%} judged as by {grader}; {against['disagreements']:,} differ{timed_out}"
    if against["shown"]:
        yield f"{'index':<16} {'ground truth':<26} {'answer':<34} {'here':<16} {grader}"
    for one in against["shown"]:
        here = f"{_word(one['accuracy'])} ({one['tier']})"
        texts = f"{_short(one['index'], 16):<16} {_short(one['ground_truth'], 26):<26} {_short(one['answer'], 34):<34}"
        yield f"{texts} {here:<16} {_word(one['other_accuracy'])}"
    if against["disagreements"] > len(against["shown"]):
        yield f"... and {against['disagreements'] - len(against['shown']):,} more; --out FILE holds all"


def _word(accuracy: float | None) -> str:
    return "timed out" if accuracy is None else "right" if accuracy else "wrong"


def _short(value: Any, width: int) -> str:
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return text if len(text) <= width else text[: width - 1] + "…"


def _duration(seconds: float) -> str:
    return (
        f"{seconds * 1e6:.0f} us"
        if seconds < 1e-3
        else f"{seconds * 1e3:.0f} ms"
        if seconds < 1
        else f"{seconds:.2f} s"
    )
