"""What a judge's verdicts say about the truth, given how often the judge errs.

Three situations, each with its own estimates:

- Only the judge's accuracy is known: `share_bounds` says which shares are possible, and no more can be said.
- The judge was audited elsewhere, on other errors: `rogan_gladen` and `posterior_share`, for one kind against the
  rest, and `unmixed_shares`, for all kinds. They hold if the judge errs here as often as there.
- A sample of these very verdicts was audited: `audited_shares`, when it was drawn at random within strata, and
  `prediction_powered`, when it was drawn at random from all. They need no further assumption.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy import ndarray
    from numpy.random import Generator

CONFIDENCE = 0.95
DRAWS = 4_000
GRID, RATES = 401, 1_000  # shares at which a posterior is computed, and draws of the judge's rates


class Estimate(NamedTuple):
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Rate:
    """How often something happened: a sensitivity is right verdicts among errors of a kind."""

    count: float  # whole, unless it stands for a weighted sample of as much weight
    of: float

    @property
    def share(self) -> float:
        return self.count / self.of


def share_bounds(share: float, accuracy: float) -> tuple[float, float]:
    """Between which shares of a kind the truth lies when a judge that is right in so many of these cases says `share`.
    Of its errors, any number may be false alarms and the others misses: each false alarm makes the truth smaller."""
    errors = 1 - accuracy
    most_alarms = min(errors, share)
    least_alarms = max(0.0, share - accuracy)  # right alarms are right verdicts, of which there are no more
    return max(0.0, share + errors - 2 * most_alarms), min(1.0, share + errors - 2 * least_alarms)


# The judge was audited elsewhere


def rogan_gladen(
    verdicts: Rate, sensitivity: Rate, specificity: Rate, confidence: float = CONFIDENCE
) -> Estimate | None:
    """The share that leads to such verdicts at such rates of error, with the interval of Lang and Reiczigel (2014),
    which carries the uncertainty of all three. None when the judge's verdicts do not depend on the truth."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    raw = sensitivity.share + specificity.share - 1
    n, n_se, n_sp = verdicts.of + z * z, sensitivity.of + 2, specificity.of + 2
    q = (verdicts.count + z * z / 2) / n
    se, sp = (sensitivity.count + 1) / n_se, (specificity.count + 1) / n_sp
    told = se + sp - 1
    if raw <= 0 or told <= 0:
        return None
    p = (q + sp - 1) / told
    variances = q * (1 - q) / n + p * p * se * (1 - se) / n_se + (1 - p) ** 2 * sp * (1 - sp) / n_sp
    shift = 2 * z * z * (p * se * (1 - se) / n_se - (1 - p) * sp * (1 - sp) / n_sp)
    half = z * math.sqrt(variances) / told
    value = (verdicts.share + specificity.share - 1) / raw
    return Estimate(_within(value), _within(p + shift - half), _within(p + shift + half))


def posterior_share(
    verdicts: Rate, sensitivity: Rate, specificity: Rate, generator: Generator, confidence: float = CONFIDENCE
) -> Estimate:
    """Bayes' estimate from flat priors on the share and on both rates: the median and the middle of the posterior."""
    import numpy as np

    se = generator.beta(sensitivity.count + 1, sensitivity.of - sensitivity.count + 1, RATES)
    sp = generator.beta(specificity.count + 1, specificity.of - specificity.count + 1, RATES)
    shares = np.linspace(0, 1, GRID)
    log_likelihood = np.empty((GRID, RATES))
    for row, share in enumerate(shares):
        q = np.clip(share * se + (1 - share) * (1 - sp), 1e-12, 1 - 1e-12)
        log_likelihood[row] = verdicts.count * np.log(q) + (verdicts.of - verdicts.count) * np.log1p(-q)
    weights = np.exp(log_likelihood - log_likelihood.max()).sum(axis=1)
    cumulative = np.cumsum(weights) / weights.sum()
    tail = (1 - confidence) / 2
    low, value, high = (float(np.interp(point, cumulative, shares)) for point in (tail, 0.5, 1 - tail))
    return Estimate(value, low, high)


def unmixed_shares(
    verdicts: Mapping[str, int],
    confusion: Mapping[str, Mapping[str, float]],
    generator: Generator,
    confidence: float = CONFIDENCE,
) -> dict[str, Estimate]:
    """The shares of all kinds that lead to such verdicts. `confusion`: of each true kind, how often the judge said
    what. Intervals by resampling the verdicts and, within each true kind, the audit."""
    import numpy as np

    kinds = sorted(confusion)
    said = sorted({*verdicts, *(name for row in confusion.values() for name in row)})
    counts = np.array([verdicts.get(name, 0) for name in said], float)
    audit = np.array([[confusion[kind].get(name, 0) for name in said] for kind in kinds], float)
    total = int(counts.sum())
    value = _unmixed(counts[None], (audit / audit.sum(axis=1, keepdims=True))[None])[0]
    drawn = generator.multinomial(total, counts / total, DRAWS).astype(float)
    # Flat priors: an answer that a small audit did not see may still be given.
    rates = np.stack([generator.dirichlet(row + 1 / len(said), DRAWS) for row in audit], axis=1)
    return _estimates(kinds, value, _unmixed(drawn, rates), confidence)


def _unmixed(counts: ndarray, rates: ndarray, steps: int = 400) -> ndarray:
    """The most likely shares, by expectation and maximisation: (cases, kinds) from counts (cases, said) and rates
    (cases, kinds, said)."""
    import numpy as np

    shares = np.full(rates.shape[:2], 1 / rates.shape[1])
    frequencies = counts / counts.sum(axis=1, keepdims=True)
    for _ in range(steps):
        mixture = np.einsum("ck,cks->cs", shares, rates)
        ratio = np.divide(frequencies, mixture, out=np.zeros_like(mixture), where=mixture > 0)
        shares = shares * np.einsum("cs,cks->ck", ratio, rates)
        shares /= shares.sum(axis=1, keepdims=True)
    return shares


# A sample of these verdicts was audited


@dataclass(frozen=True)
class Audited:
    """One verdict that a human has looked at."""

    verdict: str
    truth: str
    stratum: str  # within which it was drawn at random


def audited_shares(
    strata: Mapping[str, int], audit: Sequence[Audited], generator: Generator, confidence: float = CONFIDENCE
) -> dict[str, Estimate]:
    """The shares of all true kinds: what the audit found in each stratum, by the stratum's size among all verdicts.
    With strata of one verdict each, these are the judge's predictive values. Intervals from the posterior of each
    stratum."""
    import numpy as np

    found: dict[str, Counter[str]] = {stratum: Counter() for stratum in strata}
    for one in audit:
        found[one.stratum][one.truth] += 1
    empty = [stratum for stratum, counts in found.items() if not counts and strata[stratum]]
    if empty:
        raise ValueError(f"nothing was audited of {', '.join(empty)}")
    kinds = sorted({one.truth for one in audit})
    total = sum(strata.values())
    value, draws = np.zeros(len(kinds)), np.zeros((DRAWS, len(kinds)))
    for stratum, size in strata.items():
        if not size:
            continue
        counts = np.array([found[stratum][kind] for kind in kinds], float)
        value += size / total * counts / counts.sum()
        draws += size / total * stratum_draws(counts, size, generator)
    return _estimates(kinds, value, draws, confidence)


def stratum_draws(
    counts: ndarray,
    size: int,
    generator: Generator,
    draws: int = DRAWS,
    prior: ndarray | None = None,
    evidence: float = 1.0,
) -> ndarray:
    """Draws of a stratum's shares: what was audited is known, the rest is as likely as the audit and a prior say, which
    is flat unless it is given. Evidence is what one audited verdict weighs in that."""
    audited = int(counts.sum())
    shares = generator.dirichlet(evidence * counts + (1 / len(counts) if prior is None else prior), draws)
    if size <= audited:
        return (counts / audited)[None].repeat(draws, axis=0)
    rest = generator.multinomial(size - audited, shares)
    return (counts + rest) / size


def prediction_powered(
    all_said: Sequence[bool],
    audited_said: Sequence[bool],
    audited_true: Sequence[bool],
    confidence: float = CONFIDENCE,
) -> Estimate:
    """The share of one kind from all verdicts, corrected by an audit of some, drawn at random from all of them (PPI++
    of Angelopoulos and others, 2023, with the weight of the verdicts tuned by the audit)."""
    import numpy as np

    every, said, truth = (np.asarray(values, float) for values in (all_said, audited_said, audited_true))
    n, size, spread = len(said), len(every), every.var()
    together = ((said - said.mean()) * (truth - truth.mean())).mean()
    tuned = min(1.0, max(0.0, together / ((1 + n / size) * spread))) if spread else 0.0
    left = truth - tuned * said
    value = tuned * every.mean() + left.mean()
    half = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(tuned**2 * spread / size + left.var(ddof=1) / n)
    return Estimate(_within(value), _within(value - half), _within(value + half))


# Agreement


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Of two judges on the same cases: how much of what chance leaves open they agree on."""
    pairs = list(zip(first, second, strict=True))
    agree = sum(one == other for one, other in pairs) / len(pairs)
    ones, others = Counter(first), Counter(second)
    chance = sum(ones[kind] * others[kind] for kind in ones) / len(pairs) ** 2
    return 1.0 if chance == 1 else (agree - chance) / (1 - chance)


def fleiss_kappa(cases: Sequence[Sequence[str]]) -> float:
    """Of as many verdicts on each case, from whichever judges."""
    counts = [Counter(case) for case in cases]
    votes = len(cases[0])
    if any(len(case) != votes for case in cases) or votes < 2:
        raise ValueError("each case needs the same number of verdicts, two at least")
    agree = sum((sum(n * n for n in count.values()) - votes) / (votes * (votes - 1)) for count in counts) / len(cases)
    totals = Counter(verdict for case in cases for verdict in case)
    chance = sum((n / (votes * len(cases))) ** 2 for n in totals.values())
    return 1.0 if chance == 1 else (agree - chance) / (1 - chance)


def krippendorff_alpha(cases: Sequence[Sequence[str]]) -> float:
    """Of any number of verdicts on each case; cases with one verdict say nothing."""
    several = [Counter(case) for case in cases if len(case) > 1]
    totals: Counter[str] = Counter()
    for count in several:
        totals.update(count)
    values = sum(totals.values())
    if not several:
        raise ValueError("no case has two verdicts")
    apart = sum((sum(c.values()) ** 2 - sum(n * n for n in c.values())) / (sum(c.values()) - 1) for c in several)
    chance = (values * values - sum(n * n for n in totals.values())) / (values - 1)
    return 1.0 if chance == 0 else 1 - apart / chance


def _estimates(kinds: Sequence[str], value: Any, draws: ndarray, confidence: float) -> dict[str, Estimate]:
    import numpy as np

    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return {kind: Estimate(float(value[n]), float(low[n]), float(high[n])) for n, kind in enumerate(kinds)}


def _within(share: float) -> float:
    return min(1.0, max(0.0, float(share)))
