"""What VLMEvalKit's score files and judged files of a benchmark say: the headline metric, and each row's part in it.

A layout is one of VLMEvalKit's evaluators: how it names its files, where the headline stands, on which scale, and how
it follows from the rows. The headline is computed again from the rows, which shows files that are cut off or do not
belong together, and lets rows be drawn anew for intervals.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from capcurr_plugin.evaluation.host_rules import mathvision_is_right, mathvista_is_right, yes_or_no
from capcurr_plugin.evaluation.table_files import XLSX_CELL, Row, Unreadable, canonical, read_rows

if TYPE_CHECKING:
    from numpy import ndarray

Origin = Literal["rule", "judge", "random", "none", "unknown"]  # of a row's verdict

API_FAILED = "Failed to obtain answer via API"
AT_RANDOM = "Failed to predict, thus randomly generate one"
NO_JUDGE = "no GPT-based answer matching under `exact_matching` policy"
BY_RULE = "Prefetch succeed"
LIST_BY_RULE = "the letters of all figures that fit"  # what the plugin's own VisOnlyQA writes of such a row
ROUNDING = 0.01  # percentage points, of score files
ROWS_TO_AN_IMAGE = 50  # more than any image has in POPE: such a column does not tell images apart


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of a judged file."""

    index: str
    unit: str  # rows of one unit are drawn together
    part: str  # its source, or its place among the questions of a problem
    sums: tuple[float, ...]  # what the metric adds up
    right: bool | None  # None where a row can have a part of a point
    asked: bytes  # names question and answer
    told: bytes  # names the prediction

    @property
    def wrong(self) -> bool:
        """It earned nothing, not even a part of a point."""
        return self.right is False or (self.right is None and self.sums[0] == 0)


@dataclass
class Judged:
    """A judged file."""

    samples: list[Sample] = field(default_factory=list)
    rows: int = 0
    origins: Counter[Origin] = field(default_factory=Counter)
    without_verdict: int = 0  # rows that VLMEvalKit leaves out of its mean, too
    api_failed: int = 0
    cut: int = 0  # predictions that fill an xlsx cell to its limit


@dataclass(frozen=True)
class Metric:
    name: str
    unit: str  # what is drawn
    value: Callable[[ndarray], ndarray]  # in percent, from totals (columns last)
    by_part: bool = False  # totals of each part in columns of their own, parts drawn apart
    binary: bool = True  # a row is right or wrong
    of_unit: Callable[[list[Sample]], tuple[float, ...]] | None = None  # where a unit is more than the sum of its rows


@dataclass(frozen=True)
class Units:
    """What is drawn: a row of sums to each unit."""

    names: list[str]
    sums: ndarray
    strata: list[str] | None


@dataclass(frozen=True)
class Layout:
    """`judged` and `score` are what the files' names have after the names of model and data set."""

    judged: str
    score: str
    metric: Metric
    headline: Callable[[list[Row]], float | None]  # None where the file has none
    columns: tuple[str, ...]  # of the judged file, that it must have
    sample: Callable[[Row], tuple[float, ...] | None]  # what the metric adds up; None: no verdict
    origin: Callable[[Row], Origin]
    unit: Callable[[Row], str] = lambda row: ""  # "": the row itself
    part: Callable[[Row], str] = lambda row: ""
    optional: tuple[str, ...] = ()  # columns
    score_columns: tuple[str, ...] = ("split", "Overall")
    score_endings: tuple[str, ...] = (".csv",)
    tolerance: float = ROUNDING  # percentage points between the headline and what the rows give
    asks_judge: bool = True  # what the rule cannot decide
    predictions_will_do: bool = False  # without a judge no judged file is written, and the predictions are scored


# Metrics


def _share(totals: ndarray) -> ndarray:
    return 100 * totals[..., 0] / totals[..., 1]


def _f1(totals: ndarray) -> ndarray:
    import numpy

    hits, false_alarms, missed = totals[..., 0], totals[..., 1], totals[..., 2]
    return 200 * hits / numpy.maximum(2 * hits + false_alarms + missed, 1)


def _mean_of_parts(totals: ndarray) -> ndarray:
    return 100 * (totals[..., 0::2] / totals[..., 1::2]).mean(axis=-1)


def _mastery(samples: list[Sample]) -> tuple[float, float]:
    """WeMath's strict score of a problem: 1 for all steps and the whole right, 1/2 for right steps that were not put
    together, 0 where a step is wrong. What is missing costs nothing, as VLMEvalKit has it."""
    steps = {sample.part: sample.right for sample in samples}
    whole = steps.pop("multi", None)
    if whole is None or "1" not in steps:
        return 1.0, 1.0
    if False in steps.values():
        return 0.0, 1.0
    complete = f"{len(steps)}steps" == samples[0].unit.partition(" ")[0]
    return (0.5 if complete and not whole else 1.0), 1.0


METRICS = {
    "accuracy": Metric("accuracy", "row", _share),
    "relaxed": Metric("relaxed accuracy", "row", _share),
    "vqa": Metric("VQA accuracy", "row", _share, binary=False),
    "f1": Metric("F1", "image", _f1),
    "sources": Metric("mean accuracy over sources", "row, within its source", _mean_of_parts, by_part=True),
    "strict": Metric("score (strict)", "problem", _share, of_unit=_mastery),
    "all": Metric("aAcc", "set of figures", _share),
    "variants": Metric("average accuracy", "question with its variants", _share),
}


def units_of(samples: Iterable[Sample], metric: Metric) -> Units:
    """In an order that does not depend on the rows' order."""
    import numpy

    grouped: dict[str, list[Sample]] = {}
    parts: dict[str, None] = {}
    for sample in samples:
        unit = f"{sample.part} {sample.unit}" if metric.by_part else sample.unit
        grouped.setdefault(unit, []).append(sample)
        parts.setdefault(sample.part)
    names = sorted(grouped)
    columns = sorted(parts) if metric.by_part else [""]
    sums = numpy.array([_sums(grouped[name], metric, columns) for name in names], dtype=float)
    return Units(names, sums, [grouped[name][0].part for name in names] if metric.by_part else None)


def _sums(samples: list[Sample], metric: Metric, columns: list[str]) -> list[float]:
    if metric.of_unit:
        return list(metric.of_unit(samples))
    sums = []
    for column in columns:
        members = [sample.sums for sample in samples if not metric.by_part or sample.part == column]
        sums += [sum(values) for values in zip(*members, strict=True)] or [0.0] * len(samples[0].sums)
    return sums


def row_units(samples: Sequence[Sample]) -> bool:
    return all(sample.unit == sample.index for sample in samples)


# Reading


def read_headline(path: Path, layout: Layout) -> float | None:
    """In percent; None where the file names no overall value."""
    value = layout.headline(list(read_rows(path, layout.score_columns)))
    if value is not None and not -1e-9 <= value <= 100 + 1e-9:
        raise Unreadable(f"has {value:g} for a headline, which is no percentage")
    return value


def read_judged(path: Path, layout: Layout) -> Judged:
    judged = Judged()
    wanted = ("index", "question", "answer", "prediction", *layout.columns, *layout.optional)
    for row in read_rows(path, wanted):
        if judged.rows == 0:
            _check_columns(row, ("index", "prediction", *layout.columns))
        judged.rows += 1
        prediction = row["prediction"]
        judged.api_failed += API_FAILED in prediction
        judged.cut += len(prediction) == XLSX_CELL
        judged.origins[layout.origin(row)] += 1
        sample = _sample(row, layout)
        if sample:
            judged.samples.append(sample)
        else:
            judged.without_verdict += 1
    if not judged.samples:
        raise Unreadable("holds no judged row")
    if layout.metric.unit == "image" and not _tells_images_apart({sample.unit for sample in judged.samples}, judged):
        judged.samples = [replace(sample, unit=sample.index) for sample in judged.samples]
    return judged


def _tells_images_apart(names: set[str], judged: Judged) -> bool:
    return len(names) > 1 and len(names) * ROWS_TO_AN_IMAGE >= judged.rows


def read_predictions(path: Path) -> dict[str, bytes]:
    """A name for each row's prediction, as in `Sample.told`."""
    told = {}
    for row in read_rows(path, ("index", "prediction")):
        _check_columns(row, ("index", "prediction"))
        told[canonical(row["index"])] = _digest(row["prediction"])
    return told


def _check_columns(row: Mapping[str, str], needed: Iterable[str]) -> None:
    missing = [column for column in needed if column not in row]
    if missing:
        raise Unreadable(f"has no column {missing[0]!r}")


def _sample(row: Row, layout: Layout) -> Sample | None:
    index = canonical(row["index"])
    if not index:
        raise Unreadable("has a row without an index")
    sums = layout.sample(row)
    if sums is None:
        return None
    right = (not any(sums[1:]) if len(sums) == 3 else sums[0] == 1) if layout.metric.binary else None
    asked = _digest(row.get("question", ""), row.get("answer", ""))
    unit = layout.unit(row) or index
    return Sample(index, unit, layout.part(row), sums, right, asked, _digest(row["prediction"]))


def _digest(*texts: str) -> bytes:
    return hashlib.blake2b("\0".join(map(canonical, texts)).encode("utf-8", "replace"), digest_size=12).digest()


# Cells


def _credit(text: str) -> float | None:
    """Of a row: from 0 to 1, None for no verdict."""
    text = canonical(text).lower()
    if text in ("true", "false"):
        return float(text == "true")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _one(credit: float | None) -> tuple[float, float] | None:
    return None if credit is None else (credit, 1.0)


def _number(row: Row | None, column: str, scale: float = 1) -> float:
    text = (row or {}).get(column)
    if text is None:
        raise Unreadable(f"does not say {column!r} where it is expected")
    try:
        value = float(canonical(text.strip().removesuffix("%")))
    except ValueError:
        raise Unreadable(f"has {text[:40]!r} for {column!r}") from None
    if not math.isfinite(value):
        raise Unreadable(f"has {text[:40]!r} for {column!r}")
    return value * scale


def _where(rows: list[Row], column: str, value: str) -> Row | None:
    return next((row for row in rows if row.get(column) == value), None)


# Headlines


def _only_row(scale: float) -> Callable[[list[Row]], float | None]:
    """Of files with a row to each split, where one split is all there is."""

    def headline(rows: list[Row]) -> float | None:
        if not rows:
            raise Unreadable("has no row")
        return None if len(rows) > 1 else _number(rows[0], "Overall", scale)

    return headline


def _overall_row(column: str, value: str, at: str, scale: float = 1) -> Callable[[list[Row]], float | None]:
    return lambda rows: _number(_where(rows, column, value), at, scale)


# Rows


def _mcq_origin(row: Row) -> Origin:
    log = row["log"]
    if AT_RANDOM in log:
        return "random"
    if NO_JUDGE in log:
        return "none"
    cut = len(log) == XLSX_CELL
    said = " ".join(log.removeprefix("Match Log: ").removesuffix(". ").split())
    prediction = " ".join(row["prediction"].split())
    by_rule = said in (prediction, LIST_BY_RULE) or (cut and prediction.startswith(said))
    return "rule" if by_rule else "judge"


def _retried_origin(log: str) -> Origin:
    log = log.strip()
    if log == BY_RULE:
        return "rule"
    return "judge" if log.endswith("Succeed") else "none"


def _mathverse_origin(row: Row) -> Origin:
    """The judge extracts every answer; it need not compare one that is the ground truth to the letter."""
    if _retried_origin(row["log_extract"]) == "none":
        return "none"
    return _retried_origin(row["log_score"])


def _yes_no_origin(row: Row) -> Origin:
    if yes_or_no(row["prediction"]) != "Unknown":
        return "rule"
    return "judge" if row["extracted"] in ("Yes", "No") else "none"


def _pope(row: Row) -> tuple[float, float, float]:
    """A row counts once for each of the samplings that it belongs to."""
    weight = float(row["category"].count(",") + 1)
    truth, said = row["answer"] == "Yes", row["extracted"] == "Yes"
    return weight * (truth and said), weight * (said and not truth), weight * (truth and not said)


def _figures(row: Row) -> str:
    """HallusionBench's index is category, subcategory, kind of input, set, figure, question."""
    parts = row["index"].split("_")
    return "_".join((*parts[:2], parts[3])) if len(parts) == 6 else ""


def _problem(row: Row) -> str:
    return f"{row['key'].partition('_')[0]} {canonical(row['id'])}"


def _place(row: Row) -> str:
    return row["key"].rpartition("_")[2]


def _wemath_by_rule(row: Row) -> tuple[float, float]:
    """How VLMEvalKit scores WeMath without a judge: the letter after the last `Answer`."""
    tail = re.sub(r"[><:.]", "", row["prediction"].split("Answer")[-1].strip()).strip()
    return float(tail[:1] in tuple("ABCDEFGH") and tail[:1] == row["answer"]), 1.0


def _wemath_origin(row: Row) -> Origin:
    return _mcq_origin(row) if "log" in row else "rule"


def _wemath_sample(row: Row) -> tuple[float, float] | None:
    return _one(_credit(row["hit"])) if "hit" in row else _wemath_by_rule(row)


def _any_point(row: Row) -> tuple[float, float] | None:
    """ChartQA counts the best match with any of the acceptable answers."""
    credit = _credit(row["eval_score"])
    return None if credit is None else (float(credit > 0), 1.0)


_MCQ = Layout(
    judged="_{judge}_result",
    score="_acc",
    metric=METRICS["accuracy"],
    headline=_only_row(100),
    columns=("hit", "log"),
    sample=lambda row: _one(_credit(row["hit"])),
    origin=_mcq_origin,
)

LAYOUTS = {
    "mcq": _MCQ,
    "cvbench": Layout(
        judged="_{judge}_result",
        score="_acc",
        metric=METRICS["sources"],
        headline=_only_row(100),
        columns=("hit", "log", "source"),
        sample=lambda row: _one(_credit(row["hit"])),
        origin=_mcq_origin,
        part=lambda row: row["source"],
    ),
    "wemath": Layout(
        judged="_{judge}",
        score="_{judge}_score",
        metric=METRICS["strict"],
        headline=lambda rows: _number(rows[0] if rows else None, "Score (Strict)"),
        columns=("id", "key"),
        optional=("hit", "log"),
        sample=_wemath_sample,
        origin=_wemath_origin,
        unit=_problem,
        part=_place,
        score_columns=("Score (Strict)",),
        predictions_will_do=True,
    ),
    "mathvista": Layout(
        judged="_{judge}",
        score="_{judge}_score",
        metric=METRICS["accuracy"],
        headline=_overall_row("Task&Skill", "Overall", "acc"),
        columns=("answer", "answer_option", "answer_type", "choices", "log", "question_type", "res"),
        sample=lambda row: _one(float(mathvista_is_right(row))),
        origin=lambda row: _retried_origin(row["log"]),
        score_columns=("Task&Skill", "acc"),
    ),
    "mathvision": Layout(
        judged="_{judge}",
        score="_{judge}_score",
        metric=METRICS["accuracy"],
        headline=_overall_row("Subject", "Overall", "acc"),
        columns=("answer", "choices", "log", "res"),
        sample=lambda row: _one(float(mathvision_is_right(row))),
        origin=lambda row: _retried_origin(row["log"]),
        tolerance=1,  # some answers are equal to a computer algebra only
        score_columns=("Subject", "acc"),
    ),
    "mathverse": Layout(
        judged="_{judge}_score",
        score="_{judge}_score",
        metric=METRICS["accuracy"],
        headline=_only_row(1),
        columns=("log_extract", "log_score", "score"),
        sample=lambda row: _one(_credit(row["score"])),
        origin=_mathverse_origin,
    ),
    "pope": Layout(
        judged="_auxmatch",
        score="_score",
        metric=METRICS["f1"],
        headline=_overall_row("split", "Overall", "Overall"),
        columns=("answer", "category", "extracted"),
        optional=("image_source",),
        sample=_pope,
        origin=_yes_no_origin,
        unit=lambda row: canonical(row.get("image_source", "")),
    ),
    "hallusion": Layout(
        judged="_auxmatch",
        score="_score",
        metric=METRICS["all"],
        headline=_overall_row("split", "Overall", "aAcc"),
        columns=("extracted", "score"),
        sample=lambda row: _one(_credit(row["score"])),
        origin=_yes_no_origin,
        unit=_figures,
        score_columns=("split", "aAcc"),
    ),
    "dynamath": Layout(
        judged="_{judge}",
        score="_{judge}_score",
        metric=METRICS["variants"],
        headline=_overall_row("Setting", "Average", "Overall", 100),
        columns=("correct", "parse", "qid"),
        sample=lambda row: _one(_credit(row["correct"])),
        # Whether the rule or the judge read an answer is not written down.
        origin=lambda row: "unknown" if _credit(row["parse"]) else "none",
        unit=lambda row: canonical(row["qid"]),
        score_columns=("Setting", "Overall"),
    ),
    "chartqa": Layout(
        judged="_results",
        score="_acc",
        metric=METRICS["relaxed"],
        headline=_only_row(1),
        columns=("eval_score",),
        sample=_any_point,
        origin=lambda row: "rule",
        score_endings=(".csv", ".json"),
        asks_judge=False,
    ),
    "textvqa": Layout(
        judged="_results",
        score="_acc",
        metric=METRICS["vqa"],
        headline=_only_row(1),
        columns=("eval_score",),
        sample=lambda row: _one(_credit(row["eval_score"])),
        origin=lambda row: "rule",
        score_endings=(".csv", ".json"),
        asks_judge=False,
    ),
}
