"""Two models on the same questions: which errors were mended, which are new, and of which kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from capcurr_plugin.attribution.lengths import paired_lengths
from capcurr_plugin.attribution.shares import Drawing
from capcurr_plugin.evaluation.comparison import compare, pair
from capcurr_plugin.evaluation.results import Model
from capcurr_plugin.statistics import bootstrap, percentile_interval, stream

NOT_JUDGED = "not_judged"  # wrong, and without a record: its server failed


def compare_kinds(
    first: Model, second: Model, kinds: Mapping[tuple[str, str, str], str], drawing: Drawing
) -> dict[str, Any]:
    """`kinds`: by model, benchmark and index."""
    fixed, new, moved = Counter[str](), Counter[str](), dict[str, Counter[str]]()
    units: dict[tuple[str, str], list[float]] = {}
    both_right = both_wrong = 0
    for name in sorted(first.results.keys() & second.results.keys()):
        one, other = first.results[name], second.results[name]
        if not one.judged or not other.judged:
            continue
        pairing = pair(one.judged.samples, other.judged.samples, one.layout.metric)
        for ours, theirs in zip(pairing.first, pairing.second, strict=True):
            before, after = (
                kinds.get((model.name, name, sample.index), NOT_JUDGED) if sample.wrong else None
                for model, sample in ((first, ours), (second, theirs))
            )
            both_right += before is None and after is None
            if before is not None and after is not None:
                both_wrong += 1
                moved.setdefault(before, Counter())[after] += 1
            elif before is not None:
                fixed[before] += 1
            elif after is not None:
                new[after] += 1
            sums = units.setdefault((name, ours.unit), [0.0, 0.0, 0.0])
            sums[0] += before == "perception"
            sums[1] += after == "perception"
            sums[2] += 1
    settings = {"resamples": drawing.resamples, "seed": drawing.seed, "confidence": drawing.confidence}
    tested = compare(first.results, second.results, {}, **settings)["benchmarks"]
    return {
        "first": first.name,
        "second": second.name,
        "rows": int(sum(sums[2] for sums in units.values())),
        "both_right": both_right,
        "both_wrong": both_wrong,
        "fixed": dict(fixed),
        "new": dict(new),
        "moved": {kind: dict(counts) for kind, counts in moved.items()},
        "perception_difference": _difference(units, drawing) if units else None,
        "benchmarks": {name: _shown(cell) for name, cell in tested.items()},
        "lengths": paired_lengths(first.results, second.results, **settings),
    }


def _shown(cell: dict[str, Any]) -> dict[str, Any]:
    wanted = ("rows", "values", "difference", "interval", "n01", "n10", "p", "p_holm", "test", "reason", "judges")
    return {name: cell[name] for name in wanted if name in cell}


def _difference(units: Mapping[tuple[str, str], list[float]], drawing: Drawing) -> list[float]:
    """Of the shares of all rows that have an error of perception, second minus first, in a paired bootstrap."""
    import numpy as np

    sums = np.array([units[name] for name in sorted(units)])
    totals = sums.sum(axis=0)
    replicates = bootstrap(
        sums, lambda t: (t[:, 1] - t[:, 0]) / t[:, 2], drawing.resamples, stream(drawing.seed, "perception")
    )
    return [float((totals[1] - totals[0]) / totals[2]), *percentile_interval(replicates, drawing.confidence)]
