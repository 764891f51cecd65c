"""Two models on the same rows: paired tests, benchmark by benchmark, and over averages.

Only rows that both have count, and only where both files hold the same question and answer under an index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from capcurr_plugin.evaluation.benchmark_results import Result
from capcurr_plugin.evaluation.score_files import Metric, Sample, row_units, units_of
from capcurr_plugin.statistics import (
    bootstrap_p,
    holm,
    mcnemar_exact,
    percentile_interval,
    resampled_totals,
    stream,
)

if TYPE_CHECKING:
    from numpy import ndarray


@dataclass
class Pairing:
    """The rows of a benchmark that two models share, and why others are left out."""

    first: list[Sample] = field(default_factory=list)
    second: list[Sample] = field(default_factory=list)
    only_first: list[str] = field(default_factory=list)
    only_second: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # another question or answer, or an index that is there twice
    incomplete: list[str] = field(default_factory=list)  # rows of units that are not wholly shared

    def left_out(self) -> dict[str, list[str]]:
        return {
            "only_first": self.only_first,
            "only_second": self.only_second,
            "refused": self.refused,
            "incomplete": self.incomplete,
        }


def compare(
    first: Mapping[str, Result],
    second: Mapping[str, Result],
    averages: Mapping[str, Callable[[Mapping[str, Any]], Any]],
    *,
    resamples: int,
    seed: int,
    confidence: float,
) -> dict[str, Any]:
    """What differs on each benchmark that both have, second minus first, and on each average that both have whole. An
    average takes values by benchmark and gives None where one is missing."""
    records: dict[str, dict[str, Any]] = {}
    drawn: dict[str, ndarray] = {}
    for name, result in first.items():
        if name in second:
            records[name], differences = _compare(result, second[name], resamples, seed, confidence)
            if differences is not None:
                drawn[name] = differences
    tested = [records[name] for name in drawn]
    for record, adjusted in zip(tested, holm([record["p"] for record in tested]), strict=True):
        record["p_holm"] = adjusted
    over = {}
    for name, average in averages.items():
        value = average({name: records[name]["difference"] for name in drawn})
        if value is not None:
            replicates = average(drawn)
            over[name] = {
                "difference": value,
                "interval": list(percentile_interval(replicates, confidence)),
                "p": bootstrap_p(replicates),
                "test": "paired bootstrap",
            }
    return {"benchmarks": records, "averages": over}


def _compare(
    first: Result, second: Result, resamples: int, seed: int, confidence: float
) -> tuple[dict[str, Any], ndarray | None]:
    """What is to be told, and the difference in each resample."""
    if not first.judged or not second.judged:
        return {"reason": "one of the two has no rows to pair"}, None
    metric = first.layout.metric
    pairing = pair(first.judged.samples, second.judged.samples, metric)
    record: dict[str, Any] = {"rows": len(pairing.first), "left_out": pairing.left_out()}
    if first.layout.asks_judge and first.judge != second.judge:
        record["judges"] = [first.judge, second.judge]
    if not pairing.first:
        return record | {"reason": "they share no row"}, None
    ours, theirs = units_of(pairing.first, metric), units_of(pairing.second, metric)
    values = [float(metric.value(units.sums.sum(axis=0))) for units in (ours, theirs)]
    generator = stream(seed, first.benchmark.name)
    differences = _differences(ours.sums, theirs.sums, metric, resamples, generator, ours.strata)
    record |= {
        "units": len(ours.names),
        "unit": "row" if row_units(pairing.first) and not metric.by_part else metric.unit,
        "values": values,
        "difference": values[1] - values[0],
        "interval": list(percentile_interval(differences, confidence)),
    }
    return record | _test(pairing, metric, differences), differences


def pair(first: Sequence[Sample], second: Sequence[Sample], metric: Metric) -> Pairing:
    pairing = Pairing()
    ones, others = _by_index(first), _by_index(second)
    pairing.only_first = [index for index in ones if index not in others]
    pairing.only_second = [index for index in others if index not in ones]
    shared = []
    for index in ones:
        if index in others:
            one, other = ones[index], others[index]
            same = one and other and (one.asked, one.unit, one.part) == (other.asked, other.unit, other.part)
            (shared if same else pairing.refused).append(index)
    whole = _whole(shared, [*first, *second], ones) if metric.of_unit else set(shared)
    pairing.incomplete = [index for index in shared if index not in whole]
    for index in sorted(whole):
        one, other = ones[index], others[index]
        if one and other:
            pairing.first.append(one)
            pairing.second.append(other)
    return pairing


def _by_index(samples: Sequence[Sample]) -> dict[str, Sample | None]:
    """None for an index that is there more than once."""
    counts = Counter(sample.index for sample in samples)
    return {sample.index: sample if counts[sample.index] == 1 else None for sample in samples}


def _whole(shared: Sequence[str], samples: Sequence[Sample], by_index: Mapping[str, Sample | None]) -> set[str]:
    """Of shared rows, those of units that have no other rows: a unit's value is made of all of them."""
    indexes = set(shared)
    broken = {sample.unit for sample in samples if sample.index not in indexes}
    return {index for index in shared if (one := by_index[index]) and one.unit not in broken}


def _differences(
    first: ndarray, second: ndarray, metric: Metric, resamples: int, generator: Any, strata: Sequence[str] | None
) -> ndarray:
    """Second minus first, in resamples of the units that both have."""
    import numpy

    totals = resampled_totals(numpy.hstack([first, second]), resamples, generator, strata)
    width = first.shape[1]
    return metric.value(totals[:, width:]) - metric.value(totals[:, :width])


def _test(pairing: Pairing, metric: Metric, differences: ndarray) -> dict[str, Any]:
    """McNemar's test where each row stands alone and is right or wrong; else the paired bootstrap."""
    if not metric.binary:
        return {"p": bootstrap_p(differences), "test": "paired bootstrap"}
    pairs = Counter((one.right, other.right) for one, other in zip(pairing.first, pairing.second, strict=True))
    only_second, only_first = pairs[False, True], pairs[True, False]
    if metric.unit == "row":
        test = {"p": mcnemar_exact(only_first, only_second), "test": "McNemar exact"}
    else:
        test = {"p": bootstrap_p(differences), "test": "paired bootstrap"}
    return {"n01": only_second, "n10": only_first, **test}
