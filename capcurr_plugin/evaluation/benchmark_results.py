"""A model's result on a benchmark: what the files say, what speaks against it, and which of several runs it is from."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capcurr_plugin.evaluation.responses import read_responses
from capcurr_plugin.evaluation.run_folders import Candidate, judge_name
from capcurr_plugin.evaluation.score_files import (
    LAYOUTS,
    ROUNDING,
    Judged,
    Layout,
    Units,
    read_headline,
    read_judged,
    read_predictions,
    row_units,
    units_of,
)
from capcurr_plugin.evaluation.suites import Benchmark
from capcurr_plugin.evaluation.table_files import Unreadable

if TYPE_CHECKING:
    from numpy import ndarray

TELLING = 0.01  # of the rows: from this share on, an oddity of rows speaks against the value
FEW_UNITS = 50  # with fewer, a bootstrap interval is too narrow
EXACT = "exact_matching"
WEMATH_PROBLEMS = 525  # what VLMEvalKit divides by, however many there are


@dataclass
class Responses:
    """What the side-car says of the responses behind the predictions."""

    rows: int = 0
    unparsed: int = 0  # no final box
    truncated: int = 0  # ended by the limit of tokens
    with_tokens: int = 0
    tokens: int = 0

    @property
    def mean_tokens(self) -> float | None:
        return self.tokens / self.with_tokens if self.with_tokens else None


@dataclass
class Result:
    benchmark: Benchmark
    candidate: Candidate
    value: float | None = None  # percent
    computed: float | None = None  # the same, from the rows
    agrees: bool = False
    judged: Judged | None = None
    judged_path: Path | None = None
    units: Units | None = None
    responses: Responses | None = None
    notes: list[str] = field(default_factory=list)  # good to know
    doubts: list[str] = field(default_factory=list)  # reasons not to take the value at its word
    short: bool = False  # fewer rows than the benchmark has

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.benchmark.layout]

    @property
    def judge(self) -> str | None:
        return judge_name(self.candidate.judge) if self.layout.asks_judge else "none needed"

    @property
    def complete(self) -> bool:
        return self.value is not None and self.agrees and not self.short and not self.candidate.found.under_way

    @property
    def unit(self) -> str:
        rows = self.judged is not None and row_units(self.judged.samples) and not self.layout.metric.by_part
        return "row" if rows else self.layout.metric.unit

    @property
    def can_be_drawn(self) -> bool:
        """The rows give the value, so that rows drawn anew give its spread."""
        return self.units is not None and self.agrees


@dataclass
class Missing:
    """Why a model has no result on a benchmark."""

    reason: str


def choose(
    candidates: Iterable[Candidate], benchmark: Benchmark, judge: str | None, shown: Callable[[Path], str]
) -> Result | Missing:
    """The newest complete result; without one the newest that has a value."""
    newest_first = sorted(candidates, key=lambda c: (c.time, c.found.run, c.judge or ""), reverse=True)
    asks = LAYOUTS[benchmark.layout].asks_judge
    fitting = [c for c in newest_first if not judge or not asks or judge_name(c.judge) in (None, judge_name(judge))]
    if newest_first and not fitting:
        return Missing(f"judged by {', '.join(_judges(newest_first))} only")
    read: list[Result] = []
    for candidate in fitting:
        read.append(_load(candidate, benchmark, shown))
        if read[-1].complete:
            break
    best = next((r for r in read if r.complete), None) or next((r for r in read if r.value is not None), None)
    if best is None:
        return Missing("; ".join(read[0].doubts) if read else "not run")
    passed_over = [r for r in read if r is not best and r.candidate.time >= best.candidate.time]
    for result in passed_over:
        best.notes.append(f"{_run(result)} is newer, and was passed over: {'; '.join(result.doubts)}")
    _tell_of_others(best, newest_first, judge)
    return best


def _tell_of_others(best: Result, candidates: Sequence[Candidate], judge: str | None) -> None:
    others = [name for name in _judges(candidates) if name != best.judge]
    if others and best.layout.asks_judge and not judge:
        best.notes.append(f"also judged by {', '.join(others)}; choose with --judge")
    if judge and best.layout.asks_judge and best.candidate.judge is None:
        best.notes.append("its files do not name the judge")
    folders = dict.fromkeys(c.found.folder for c in candidates)
    if len(folders) > 1:
        best.notes.append(f"chosen from {len(folders)} runs")


def _judges(candidates: Iterable[Candidate]) -> list[str]:
    return list(dict.fromkeys(name for c in candidates if (name := judge_name(c.judge))))


def _run(result: Result) -> str:
    by_judge = f" by {result.judge}" if result.judge and result.layout.asks_judge else ""
    return f"{result.candidate.found.run}{by_judge}"


# One result


def _load(candidate: Candidate, benchmark: Benchmark, shown: Callable[[Path], str]) -> Result:
    result = Result(benchmark, candidate, notes=list(candidate.notes))
    status = candidate.found.status
    if candidate.found.under_way:
        result.doubts.append("its run has not ended, or was killed")
    if status.error:
        result.doubts.append(f"its run reports: {status.error}")
    score = _read_score(result, shown)
    _read_rows(result, shown)
    _compare(result, score)
    if result.judged:
        _check_rows(result, result.judged)
        _check_predictions(result, result.judged, shown)
    _read_side_car(result)
    return result


def _read_score(result: Result, shown: Callable[[Path], str]) -> float | None:
    path = result.candidate.score
    if path is None:
        result.doubts.append(_why_no_score(result))
        return None
    try:
        value = read_headline(path, result.layout)
    except Unreadable as error:
        result.doubts.append(f"{shown(path)} {error}" + _verifier(result))
        return None
    if value is None:
        result.notes.append("its score file has a row to each split and none over all; computed over all rows")
        return math.nan
    return value


def _why_no_score(result: Result) -> str:
    candidate = result.candidate
    if _pickled(result, result.layout.score):
        return "its score was written as a pickle only, which is not read"
    if candidate.judged:
        return "judged, but without a score file: its run has not ended, or failed"
    if candidate.predictions:
        return f"predicted, but not judged ({candidate.found.status.skipped or 'its run has not ended, or failed'})"
    return "its run has written no predictions yet"


def _verifier(result: Result) -> str:
    written = any(rest.startswith("_detailed_results") for rest in result.candidate.found.files)
    return " (written by --use-verifier, whose files are not read)" if written else ""


def _pickled(result: Result, form: str) -> bool:
    return form.format(judge=result.candidate.judge) + ".pkl" in result.candidate.found.files


def _read_rows(result: Result, shown: Callable[[Path], str]) -> None:
    candidate, path = result.candidate, result.candidate.judged
    if path is None and result.layout.predictions_will_do and candidate.score and candidate.predictions:
        path = candidate.predictions
        if candidate.judge != EXACT:
            result.doubts.append(f"judged by rule: {result.judge} did not work when this was evaluated")
    if path is None:
        if candidate.score:
            pickled = _pickled(result, result.layout.judged)
            what = "was written as a pickle only, which is not read" if pickled else "is missing"
            result.doubts.append(f"its judged file {what}: no interval, and no check of its score")
        return
    try:
        result.judged = read_judged(path, result.layout)
    except Unreadable as error:
        result.doubts.append(f"{shown(path)} {error}")
        return
    result.judged_path = path
    result.units = units_of(result.judged.samples, result.layout.metric)
    result.computed = float(result.layout.metric.value(result.units.sums.sum(axis=0)))


def _compare(result: Result, score: float | None) -> None:
    """Whether the score file and the rows say the same."""
    if score is None:
        return
    if math.isnan(score):  # of a file without an overall value
        result.value, result.agrees = result.computed, result.computed is not None
        return
    result.value = score
    if result.computed is None:
        return
    gap = abs(score - result.computed)
    result.agrees = gap <= result.layout.tolerance
    if result.agrees:
        if gap > ROUNDING:
            result.notes.append(
                f"its rows give {result.computed:.2f} here: some answers are equal to a computer algebra only"
            )
        return
    if result.candidate.shared_score:
        result.value, result.agrees = result.computed, True
        result.notes.append(f"its score file is of another judge ({score:.2f}); computed from the rows")
        return
    why = "files are cut off, or of different runs"
    if result.benchmark.layout == "wemath" and result.units and len(result.units.names) != WEMATH_PROBLEMS:
        why = f"VLMEvalKit divides by {WEMATH_PROBLEMS} problems, and these are {len(result.units.names)}"
    result.doubts.append(f"its score file says {score:.2f}, its rows give {result.computed:.2f}: {why}")


def _check_rows(result: Result, judged: Judged) -> None:
    origins, candidate = judged.origins, result.candidate
    expected = result.benchmark.rows
    if expected and judged.rows != expected:
        result.short = judged.rows < expected
        limit = " (its run was given --limit)" if candidate.found.status.limited and result.short else ""
        result.doubts.append(f"{_rows(judged.rows)}, where the benchmark has {expected:,}{limit}")
    elif candidate.found.status.limited:
        result.doubts.append("its run was given --limit")
    repeated = len(judged.samples) - len({sample.index for sample in judged.samples})
    if repeated:
        result.doubts.append(f"{_rows(repeated)} with the index of another row")
    odd = {
        "without a verdict, which VLMEvalKit leaves out": judged.without_verdict,
        "answered at random, because no option could be made out": origins["random"],
        "with a failure of the API instead of an answer": judged.api_failed,
        "with a prediction as long as an xlsx cell can be, which may be cut off": judged.cut,
    }
    if origins["none"]:
        odd[_what_no_verdict_means(result)] = origins["none"]
    for what, count in odd.items():
        if count:
            (result.doubts if count >= TELLING * judged.rows else result.notes).append(f"{_rows(count)} {what}")
    if result.units and result.can_be_drawn:
        result.notes += _of_units(result, result.units)


def _of_units(result: Result, units: Units) -> list[str]:
    if (units.sums == units.sums[0]).all() and not (result.unit == "row" and result.computed in (0, 100)):
        return ["its units are all alike, which gives no interval"]
    if len(units.names) < FEW_UNITS:
        return [f"its interval is from {len(units.names)} units only, and too narrow"]
    return []


def _what_no_verdict_means(result: Result) -> str:
    judge = result.judge or "the judge"
    if judge == EXACT:
        return "that the rule could not read, counted as wrong"
    if result.benchmark.layout in ("mcq", "cvbench", "wemath"):
        return f"left to the rule, because {judge} did not work, counted as wrong"
    return "that neither the rule nor the judge could read"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _check_predictions(result: Result, judged: Judged, shown: Callable[[Path], str]) -> None:
    """A judged file may be older than the predictions: VLMEvalKit does not judge again where it finds one."""
    path = result.candidate.predictions
    if path is None or path == result.judged_path:
        return
    try:
        told = read_predictions(path)
    except Unreadable as error:
        result.doubts.append(f"{shown(path)} {error}")
        return
    then = {sample.index: sample.told for sample in judged.samples}
    missing = len(told.keys() - then.keys()) - judged.without_verdict
    changed = sum(told.get(index) != name for index, name in then.items())
    if missing > 0:
        result.doubts.append(f"{missing:,} of the predictions were not judged")
    if changed:
        result.doubts.append(f"{changed:,} of the judged predictions are not those in the prediction file")


def _read_side_car(result: Result) -> None:
    path = result.candidate.responses
    if path is None:
        return
    counts = Responses()
    try:
        for response in read_responses(path):
            counts.rows += 1
            counts.unparsed += response.response is not None and response.answer is None
            counts.truncated += response.finish_reason == "length"
            tokens: Any = response.completion_tokens
            if type(tokens) is int and 0 <= tokens < 1 << 40:
                counts.with_tokens += 1
                counts.tokens += tokens
    except OSError as error:
        result.doubts.append(f"{path.name} cannot be read ({error.strerror})")
        return
    result.responses = counts
    if result.judged and counts.rows != result.judged.rows:
        result.notes.append(f"{path.name} holds {counts.rows:,} responses to {result.judged.rows:,} rows")


def shown_below(folders: Sequence[Path]) -> Callable[[Path], str]:
    """How a file is named to the user: below the folder as it was given."""
    roots = [(folder.resolve(), folder) for folder in folders]

    def shown(path: Path) -> str:
        for root, given in roots:
            if root == path or root in path.parents:
                return os.path.normpath(given / path.relative_to(root))
        return str(path)

    return shown


# Numbers


def replicates_of(result: Result, resamples: int, seed: int) -> ndarray | None:
    from capcurr_plugin.statistics import bootstrap, stream

    if not result.can_be_drawn or result.units is None:
        return None
    generator = stream(seed, result.benchmark.name)
    return bootstrap(result.units.sums, result.layout.metric.value, resamples, generator, result.units.strata)


def interval_of(result: Result, replicates: ndarray | None, confidence: float) -> tuple[list[float], str] | None:
    """Low, high and the method. Where all units are alike, resamples are too, and say nothing."""
    from capcurr_plugin.statistics import percentile_interval, wilson_interval

    if replicates is None or result.units is None or result.computed is None:
        return None
    if replicates.min() < replicates.max():
        return list(percentile_interval(replicates, confidence)), "percentile bootstrap"
    trials = len(result.units.names)
    if result.computed not in (0, 100) or result.unit != "row":
        return None
    return [100 * end for end in wilson_interval(result.computed / 100 * trials, trials, confidence)], "Wilson"
