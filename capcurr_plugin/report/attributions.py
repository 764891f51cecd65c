"""Files of `capcurr attribute`, each with its summary, as the sections on wrong answers take them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from capcurr_plugin.attribution.comparing import NOT_JUDGED
from capcurr_plugin.attribution.kinds import ERRORS
from capcurr_plugin.attribution.records import OUTCOMES, summary_path
from capcurr_plugin.attribution.summary import FORMAT
from capcurr_plugin.errors import InputError
from capcurr_plugin.report.json_files import count, one_of, read_json, share

Numbers = Mapping[str, Any]

WRITER = "capcurr attribute"
CHANGED = (*OUTCOMES, NOT_JUDGED)  # what a row that two models have can be in either
ALL = "all"  # of a model's benchmarks together
MOST_MODELS = 12
MOST_COMPARISONS = 12

_KIND = {"count": count, "share": share, "wilson": [share, share], "bootstrap": ([share, share], None)}
_KINDS = {f"{kind}?": _KIND for kind in OUTCOMES}
_SCOPE = {
    "rows": count,
    "wrong": count,
    "kinds": _KINDS,
    "own_errors": {"of": count, "kinds": {f"{kind}?": _KIND for kind in ERRORS}},
}
_ESTIMATE = [(float, None), float, float]
_CORRECTED = {
    "audit": (dict, None),
    "methods": [{"method": str, "assumes": str, "kinds": {f"{kind}?": _ESTIMATE for kind in OUTCOMES}}],
}
_LENGTHS = {
    "rows": count,
    "mean": float,
    "median": float,
    "quantiles": dict.fromkeys(("5", "25", "75", "95"), float),
    "histogram": {"edges": [float], "counts": [count]},
}
_LENGTH_SETS = dict.fromkeys(("all", "right", "wrong"), (_LENGTHS, None))
_COUNTS = {str: count}
_TESTED = {"rows": count, "n01?": count, "n10?": count, "p": share, "p_holm": share, "test": str}
_COMPARISON = {
    "first": str,
    "second": str,
    "rows": count,
    "both_right": count,
    "both_wrong": count,
    "fixed": _COUNTS,
    "new": _COUNTS,
    "moved": {str: _COUNTS},
    "perception_difference": ([float, float, float], None),
    "benchmarks": {str: (_TESTED, {"reason": str})},
    "lengths": (
        {
            "pairs": count,
            "first_mean": float,
            "second_mean": float,
            "difference": [float, float, float],
            "ratio": [float, float, float],
        },
        None,
    ),
}
SHAPE = {
    "format": one_of([FORMAT]),
    "judge": {"name": str, "model": str, "prompt": count, "votes": count, "temperature": (float, None)},
    "settings": {"confidence": share},
    "models": {
        str: _SCOPE
        | {
            "of_wrong?": count,
            "benchmarks": {str: _SCOPE | {"categories": {str: _SCOPE}}},
            "corrected": (_CORRECTED, None),
            "lengths": (_LENGTH_SETS | {"unit": str, "benchmarks": {str: _LENGTH_SETS}}, None),
        }
    },
    "agreement": (
        {
            "cases": count,
            "votes": count,
            "fleiss_kappa": (float, None),
            "krippendorff_alpha": (float, None),
        },
        None,
    ),
    "comparisons": [_COMPARISON],
    "warnings": [str],
}


class Attribution(NamedTuple):
    path: Path
    summary: dict[str, Any]
    names: dict[str, str]  # of its models, as the page has them


def read_attributions(paths: Sequence[Path]) -> list[Attribution]:
    """The summaries; the files themselves are read by the browser of errors."""
    read = []
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such file; name the .jsonl that {WRITER} wrote")
        summary = read_json(summary_path(path), SHAPE, WRITER)
        _check(summary_path(path), summary)
        read.append((path, summary))
    seen = Counter(name for _, summary in read for name in summary["models"])
    found = []
    for path, summary in read:
        names = {name: name if seen[name] == 1 else f"{name} ({path.stem})" for name in summary["models"]}
        found.append(Attribution(path, summary, names))
    shown = Counter(name for one in found for name in one.names.values())
    if any(number > 1 for number in shown.values()):
        raise InputError(
            f"--attribution: {shown.most_common(1)[0][0]} is there twice; give each file once, under names that differ"
        )
    if len(shown) > MOST_MODELS:
        raise InputError(f"--attribution: {len(shown)} models; at most {MOST_MODELS} can be told apart")
    if len({one.summary["settings"]["confidence"] for one in found}) > 1:
        raise InputError("--attribution: the files have intervals of different --confidence; write one anew")
    return found


def _check(path: Path, summary: Numbers) -> None:
    """What a shape alone cannot say."""
    wrong = f"{path}: is not what {WRITER} writes"
    if not summary["models"]:
        raise InputError(f"{path}: holds no model")
    if len(summary["comparisons"]) > MOST_COMPARISONS:
        raise InputError(
            f"{path}: holds {len(summary['comparisons'])} comparisons; at most {MOST_COMPARISONS} are shown"
        )
    for comparison in summary["comparisons"]:
        for end in ("first", "second"):
            if comparison[end] not in summary["models"]:
                raise InputError(f"{wrong}: it compares {comparison[end]}, which it does not hold")
        moved = comparison["moved"]
        for kind in (*comparison["fixed"], *comparison["new"], *moved, *(to for row in moved.values() for to in row)):
            if kind not in CHANGED:
                raise InputError(f"{wrong}: {kind} is no kind")
    for name, model in summary["models"].items():
        for scope in (model, *model["benchmarks"].values()):
            unknown = [kind for kind in scope["kinds"] if kind not in OUTCOMES]
            if unknown:
                raise InputError(f"{wrong}: {unknown[0]} is no kind")
            if sum(kind["count"] for kind in scope["kinds"].values()) != scope["wrong"]:
                raise InputError(f"{wrong}: the kinds of {name} do not add up to its wrong answers")
        for lengths in length_sets(model["lengths"]):
            histogram = lengths["histogram"]
            if not _is_histogram(histogram["edges"], histogram["counts"]):
                raise InputError(f"{wrong}: a histogram of {name} has edges that do not fit its counts")


def length_sets(lengths: Numbers | None) -> list[Numbers]:
    sets = [lengths, *lengths["benchmarks"].values()] if lengths else []
    return [one[name] for one in sets for name in ("all", "right", "wrong") if one[name]]


def _is_histogram(edges: Sequence[float], counts: Sequence[int]) -> bool:
    return (
        len(counts) > 0
        and len(edges) == len(counts) + 1
        and edges[0] >= 0
        and all(low < high for low, high in pairwise(edges))
    )
