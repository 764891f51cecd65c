"""How large a share of wrong answers each kind has, with intervals.

Shares are of all wrong answers, those without a verdict among them. The four kinds that are errors of the model itself
also have their shares among each other, which is how MMErroR counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from capcurr_plugin.attribution.kinds import ERRORS
from capcurr_plugin.attribution.records import OUTCOMES
from capcurr_plugin.statistics import percentile_interval, resampled_totals, stream, wilson_interval


@dataclass(frozen=True, slots=True)
class Kinds:
    """What is needed of a record."""

    model: str
    benchmark: str
    index: str
    unit: str
    category: str
    kind: str


@dataclass(frozen=True)
class Drawing:
    resamples: int
    seed: int
    confidence: float


def scope_numbers(wrong: Sequence[Kinds], rows: int, drawing: Drawing, *names: str) -> dict[str, Any]:
    """Of the wrong answers of a model, of one benchmark, or of a category. `names` name the scope."""
    import numpy as np

    counts = Counter(one.kind for one in wrong)
    own = {kind: counts[kind] for kind in ERRORS if counts[kind]}
    scope: dict[str, Any] = {
        "rows": rows,
        "wrong": len(wrong),
        "kinds": {},
        "own_errors": {"of": sum(own.values()), "kinds": {}},
    }
    if not wrong:
        return scope
    totals = resampled_totals(_sums(wrong), drawing.resamples, stream(drawing.seed, *names))
    every = totals.sum(axis=1)
    errors = totals[:, : len(ERRORS)].sum(axis=1)
    for place, kind in enumerate(OUTCOMES):
        if counts[kind]:
            scope["kinds"][kind] = _share(counts[kind], len(wrong), totals[:, place] / every, drawing.confidence)
        if kind in own:
            among = totals[errors > 0, place] / errors[errors > 0]
            scope["own_errors"]["kinds"][kind] = _share(
                own[kind], sum(own.values()), np.asarray(among), drawing.confidence
            )
    return scope


def _sums(wrong: Sequence[Kinds]) -> Any:
    """A row of counts by kind to each unit: rows of one unit, such as a question's variants, are drawn together."""
    import numpy as np

    units: dict[tuple[str, str], list[int]] = {}
    for one in wrong:
        units.setdefault((one.benchmark, one.unit), [0] * len(OUTCOMES))[OUTCOMES.index(one.kind)] += 1
    return np.array([units[name] for name in sorted(units)], float)


def _share(count: int, of: int, replicates: Any, confidence: float) -> dict[str, Any]:
    return {
        "count": count,
        "share": count / of,
        "wilson": list(wilson_interval(count, of, confidence)),
        "bootstrap": list(percentile_interval(replicates, confidence)),
    }


def interval_to_show(share: Mapping[str, Any]) -> list[float]:
    """The bootstrap's, but Wilson's where all that could be drawn is alike: no width would say that it is certain."""
    low, high = share["bootstrap"] or share["wilson"]
    return [low, high] if low < high else list(share["wilson"])


def model_numbers(
    wrong: Sequence[Kinds], rows: dict[str, Counter[str]], model: str, drawing: Drawing
) -> dict[str, Any]:
    """Of one model: overall, by benchmark, and by category. `rows`: by benchmark and category, right and wrong."""
    benchmarks = {}
    for benchmark, of_categories in rows.items():
        own = [one for one in wrong if one.benchmark == benchmark]
        named = sorted({one.category for one in own} - {""})
        benchmarks[benchmark] = scope_numbers(own, of_categories.total(), drawing, model, benchmark) | {
            "categories": {
                category: scope_numbers(
                    [one for one in own if one.category == category],
                    of_categories[category],
                    drawing,
                    *(model, benchmark, category),
                )
                for category in named
            }
        }
    every = sum(counts.total() for counts in rows.values())
    return scope_numbers(wrong, every, drawing, model) | {"benchmarks": benchmarks}
