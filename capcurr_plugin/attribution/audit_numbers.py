"""How good a judge is, from audits of its verdicts: accuracy, and by kind sensitivity, specificity, predictive value.

A sample that is stratified by verdict holds rare verdicts more often than they occur. So each stratum counts by its
size among all verdicts, not by how many of it were audited."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from capcurr_plugin.attribution.audits import Audit, Combined, combine
from capcurr_plugin.attribution.kinds import KINDS
from capcurr_plugin.attribution.records import OUTCOMES, Record
from capcurr_plugin.attribution.statistics import (
    CONFIDENCE,
    DRAWS,
    Audited,
    Rate,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    stratum_draws,
)
from capcurr_plugin.statistics import stream

if TYPE_CHECKING:
    from numpy import ndarray

SEED = 2026
EVIDENCE = 0.88  # of a verdict: with 1, intervals of rates in small cells hold the truth in 94 % of audits, not in 95


@dataclass(frozen=True)
class Joined:
    """What humans say, beside what a judge says of the same wrong answers."""

    combined: Combined
    audited: Sequence[Audited]
    absent: int  # wrong answers that the judge was not asked about

    @property
    def sizes(self) -> dict[str, int]:
        """Of the strata of which something was audited."""
        there = {one.stratum for one in self.audited}
        return {name: stratum.size for name, stratum in self.combined.strata.items() if name in there}

    def weights(self) -> list[float]:
        """How many verdicts each audited one stands for."""
        sizes, counts = self.sizes, Counter(one.stratum for one in self.audited)
        return [sizes[one.stratum] / counts[one.stratum] for one in self.audited]


def joined(records: Iterable[Record], audits: Sequence[Audit]) -> Joined:
    """The records may be another judge's of the same errors; strata and their sizes are the audits' own."""
    combined = combine(audits)
    said = {record.id: record.kind for record in records if record.id in combined.truths}
    audited = [Audited(said[id], truth, combined.stratum_of[id]) for id, truth in combined.truths.items() if id in said]
    return Joined(combined, audited, len(combined.truths) - len(audited))


def judge_numbers(
    records: Iterable[Record],
    audits: Sequence[Audit],
    *,
    confidence: float = CONFIDENCE,
    seed: int = SEED,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Ready for JSON. Rates are [value, low, high], or null where nothing was audited that they could be of."""
    both = joined(records, audits)
    combined, sizes = both.combined, both.sizes
    counts = Counter(one.stratum for one in both.audited)
    strata = {
        name: {"size": stratum.size, "sampled": stratum.sampled, "audited": counts[name]}
        for name, stratum in combined.strata.items()
    }
    rates = _rates(both, confidence, seed, draws) if both.audited else None
    return {
        "format": 1,
        "audited": len(both.audited),
        "cannot_tell": combined.cannot_tell,
        "ties": combined.ties,
        "absent": both.absent,
        "changed": combined.changed,
        "annotators": list(combined.annotators),
        "agreement": agreement(combined),
        "design": combined.design,
        "strata": strata,
        "not_covered": [name for name, one in combined.strata.items() if one.size and name not in sizes],
        "confidence": confidence,
        "accuracy": rates and rates["accuracy"],
        "accuracy_of_decided": rates and rates["accuracy_of_decided"],
        "kinds": rates and rates["kinds"],
        "confusion": confusion(both.audited),
    }


def confusion(audited: Iterable[Audited]) -> dict[str, dict[str, int]]:
    """Of each true kind, how often the judge said what; plain counts."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for one in audited:
        found[one.truth][one.verdict] += 1
    return {truth: dict(sorted(said.items())) for truth, said in sorted(found.items())}


def agreement(combined: Combined) -> dict[str, Any] | None:
    """Between annotators, on what several could tell; plain counts, whatever the design."""
    shared = [kinds for kinds in combined.told if len(kinds) > 1]
    if not shared:
        return None
    pair = combined.pairs if len(combined.pairs) == 2 else None
    ids = sorted(pair[0].keys() & pair[1].keys()) if pair else []
    return {
        "cases": len(shared),
        "all_same": sum(len(set(kinds)) == 1 for kinds in shared),
        "cohen_kappa": cohen_kappa(*([one[id] for id in ids] for one in pair)) if pair else None,
        "fleiss_kappa": fleiss_kappa(shared) if len({len(kinds) for kinds in shared}) == 1 else None,
        "krippendorff_alpha": krippendorff_alpha(shared),
    }


def effective_confusion(records: Iterable[Record], audits: Sequence[Audit]) -> dict[str, dict[str, float]]:
    """Of each true kind, how often the judge said what: weighted, and scaled so that each true kind has as many as its
    weighted cases are worth (Kish's effective size). For use where rates are carried to other errors."""
    both = joined(records, audits)
    found: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for one, weight in zip(both.audited, both.weights(), strict=True):
        found[one.truth].append((one.verdict, weight))
    return {truth: _scaled(cases) for truth, cases in sorted(found.items())}


def _scaled(cases: Sequence[tuple[str, float]]) -> dict[str, float]:
    scale = _effective([weight for _, weight in cases]) / sum(weight for _, weight in cases)
    scaled: dict[str, float] = defaultdict(float)
    for verdict, weight in cases:
        scaled[verdict] += scale * weight
    return dict(sorted(scaled.items()))


def _effective(weights: Sequence[float]) -> float:
    return sum(weights) ** 2 / sum(weight * weight for weight in weights)


def effective_rates(records: Iterable[Record], audits: Sequence[Audit]) -> dict[str, tuple[Rate, Rate]]:
    """Sensitivity and specificity of each kind that was found and was not always found, as `effective_confusion`."""
    both = joined(records, audits)
    weighted = list(zip(both.audited, both.weights(), strict=True))
    rates = {}
    for kind in KINDS:
        of_kind = [(one.verdict == kind, weight) for one, weight in weighted if one.truth == kind]
        of_others = [(one.verdict != kind, weight) for one, weight in weighted if one.truth != kind]
        if of_kind and of_others:
            rates[kind] = _rate(of_kind), _rate(of_others)
    return rates


def _rate(cases: Sequence[tuple[bool, float]]) -> Rate:
    size = _effective([weight for _, weight in cases])
    share = sum(weight for right, weight in cases if right) / sum(weight for _, weight in cases)
    return Rate(share * size, size)


# Rates with intervals


def _rates(both: Joined, confidence: float, seed: int, draws: int) -> dict[str, Any]:
    """Each rate is a ratio of shares of all verdicts: once as audited, and once in each draw of the posterior."""
    import numpy as np

    value, drawn = _shares(both, seed, draws)
    errors = slice(len(KINDS))

    def rate(ratio: Callable[[ndarray], tuple[ndarray, ndarray]]) -> list[float] | None:
        return _with_interval(ratio(value), ratio(drawn), confidence)

    def right(shares: ndarray) -> ndarray:
        return np.trace(shares[:, :, errors], axis1=1, axis2=2)

    return {
        "accuracy": rate(lambda shares: (right(shares), shares.sum(axis=(1, 2)))),
        "accuracy_of_decided": rate(lambda shares: (right(shares), shares[:, :, errors].sum(axis=(1, 2)))),
        "kinds": {
            kind: {
                "found": sum(one.truth == kind for one in both.audited),
                "said": sum(one.verdict == kind for one in both.audited),
                "sensitivity": rate(lambda shares, k=k: (shares[:, k, k], shares[:, k].sum(axis=1))),
                "specificity": rate(lambda shares, k=k: _told_from(shares, k)),
                "predictive_value": rate(lambda shares, k=k: (shares[:, k, k], shares[:, :, k].sum(axis=1))),
            }
            for k, kind in enumerate(KINDS)
            if value[0, k].any() or value[0, :, k].any()
        },
    }


def _told_from(shares: ndarray, k: int) -> tuple[ndarray, ndarray]:
    """Of what is not of a kind: how much is said not to be."""
    others = shares.sum(axis=(1, 2)) - shares[:, k].sum(axis=1)
    return others - (shares[:, :, k].sum(axis=1) - shares[:, k, k]), others


def _shares(both: Joined, seed: int, draws: int) -> tuple[ndarray, ndarray]:
    """The shares of all verdicts by truth and by what was said: (1, truths, said) as audited, (draws, truths, said)."""
    import numpy as np

    shape = (len(KINDS), len(OUTCOMES))
    value, drawn = np.zeros((1, *shape)), np.zeros((draws, *shape))
    generator, total = stream(seed, "judge"), sum(both.sizes.values())
    truths = sorted({KINDS.index(one.truth) for one in both.audited})
    weight = len({one.verdict for one in both.audited}) / len(both.sizes)  # one to each verdict, in all
    for name, size in sorted(both.sizes.items()):
        counts = np.zeros(shape)
        for one in both.audited:
            if one.stratum == name:
                counts[KINDS.index(one.truth), OUTCOMES.index(one.verdict)] += 1
        # What was said is known in a stratum of one verdict; any kind that occurs may be the truth.
        said = np.flatnonzero(counts.any(axis=0)).tolist()
        cells = np.ix_(truths, said)
        possible = counts[cells]
        value[0][cells] += size / total * possible / possible.sum()
        prior = weight * _prior(truths, said)
        of_stratum = stratum_draws(possible.ravel(), size, generator, draws, prior.ravel(), EVIDENCE)
        drawn[(slice(None), *cells)] += size / total * of_stratum.reshape(draws, *possible.shape)
    return value, drawn


def _prior(truths: Sequence[int], said: Sequence[int]) -> ndarray:
    """Half of it on what is right, half on errors of any kind: with as much on each kind, the judge would seem wrong
    where little was audited."""
    import numpy as np

    prior = np.empty((len(truths), len(said)))
    for column, verdict in enumerate(said):
        is_right = np.array(truths) == verdict
        wrong = int((~is_right).sum())
        share = 0.5 if wrong < len(truths) and wrong else 1.0
        prior[:, column] = np.where(is_right, share, share / max(wrong, 1))
    return prior / len(said)


def _with_interval(
    value: tuple[ndarray, ndarray], drawn: tuple[ndarray, ndarray], confidence: float
) -> list[float] | None:
    import numpy as np

    if not value[1][0] > 1e-12:
        return None
    there = drawn[1] > 1e-12
    tail = (1 - confidence) / 2
    share = float(value[0][0] / value[1][0])
    low, high = np.quantile(drawn[0][there] / drawn[1][there], [tail, 1 - tail])
    return [_within(one) for one in (share, min(share, float(low)), max(share, float(high)))]


def _within(share: float) -> float:
    return min(1.0, max(0.0, share))
