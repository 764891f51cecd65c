"""How much judges agree: one with itself over several votes, and several on the same wrong answers. Undecided votes say
nothing, and are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from capcurr_plugin.attribution.records import UNDECIDED
from capcurr_plugin.attribution.statistics import cohen_kappa, fleiss_kappa, krippendorff_alpha


def of_votes(votes: Sequence[Sequence[str]]) -> dict[str, Any] | None:
    """Of a judge with itself, on wrong answers on which every vote has a verdict."""
    several = [kinds for kinds in votes if len(kinds) > 1 and UNDECIDED not in kinds]
    if not several:
        return None
    return {
        "cases": len(several),
        "votes": len(several[0]),
        "fleiss_kappa": fleiss_kappa(several),
        "krippendorff_alpha": krippendorff_alpha(several),
    }


def between_judges(verdicts: Mapping[str, Mapping[str, str]]) -> dict[str, Any] | None:
    """`verdicts`: by judge and wrong answer. None where no two judges have a verdict on the same."""
    decided = {
        judge: {id: kind for id, kind in kinds.items() if kind != UNDECIDED} for judge, kinds in verdicts.items()
    }
    ids = sorted({id for kinds in decided.values() for id in kinds})
    several = [kinds for id in ids if len(kinds := [one[id] for one in decided.values() if id in one]) > 1]
    if not several:
        return None
    of_all = [kinds for kinds in several if len(kinds) == len(decided)]
    pairs = {}
    for one, other in combinations(decided, 2):
        shared = sorted(decided[one].keys() & decided[other].keys())
        if shared:
            first, second = ([decided[judge][id] for id in shared] for judge in (one, other))
            same = sum(ours == theirs for ours, theirs in zip(first, second, strict=True))
            pairs[f"{one} and {other}"] = {
                "cases": len(shared),
                "same": same,
                "cohen_kappa": cohen_kappa(first, second),
            }
    return {
        "cases": len(several),
        "pairs": pairs,
        "fleiss_kappa": fleiss_kappa(of_all) if of_all else None,
        "krippendorff_alpha": krippendorff_alpha(several),
    }
