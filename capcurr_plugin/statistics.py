"""Intervals and tests: seeded, and the same on every machine.

Draws are whole numbers from PCG64 by numpy's `integers`, which needs no floating-point function of the machine. What is
drawn are units: rows, or groups of rows that belong together. A statistic is a function of the totals of what its units
add up to, so that any ratio of sums (an accuracy, an F1) is computed anew in each resample.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import ndarray
    from numpy.random import Generator

DRAWN_AT_ONCE = 1 << 20  # a block of draws that caches hold


def stream(seed: int, *names: str) -> Generator:
    """Random numbers of their own for these names, whatever else is drawn."""
    from numpy.random import PCG64, Generator, SeedSequence

    return Generator(PCG64(SeedSequence(seed, spawn_key=[zlib.crc32(name.encode()) for name in names])))


def resampled_totals(
    sums: ndarray, resamples: int, generator: Generator, strata: Sequence[str] | None = None
) -> ndarray:
    """The totals (resamples x columns) of as many units (rows of `sums`) as there are, drawn with replacement; with
    `strata`, as many from each stratum as it has."""
    import numpy

    totals = numpy.zeros((resamples, sums.shape[1]))
    for members in _members(strata, len(sums)):
        columns = numpy.ascontiguousarray(sums[members].T, dtype=float)
        count = columns.shape[1]
        constant = (columns == columns[:, :1]).all(axis=1)  # as the number of rows is: nothing to draw
        totals[:, constant] += count * columns[constant, 0]
        kind = numpy.uint16 if count <= 1 << 16 else numpy.uint32
        block = max(1, DRAWN_AT_ONCE // count)
        for start in range(0, resamples, block):
            rows = slice(start, min(start + block, resamples))
            drawn = generator.integers(0, count, size=(rows.stop - rows.start, count), dtype=kind)
            for number in numpy.flatnonzero(~constant):
                totals[rows, number] += columns[number][drawn].sum(axis=1)
    return totals


def _members(strata: Sequence[str] | None, count: int) -> list[list[int]]:
    if strata is None:
        return [list(range(count))]
    return [[i for i, stratum in enumerate(strata) if stratum == one] for one in sorted(set(strata))]


def bootstrap(
    sums: ndarray,
    statistic: Callable[[ndarray], ndarray],
    resamples: int,
    generator: Generator,
    strata: Sequence[str] | None = None,
) -> ndarray:
    """The statistic in each resample; `statistic` takes totals, columns last."""
    return statistic(resampled_totals(sums, resamples, generator, strata))


def percentile_interval(replicates: ndarray, confidence: float) -> tuple[float, float]:
    import numpy

    tail = (1 - confidence) / 2
    low, high = numpy.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_p(differences: ndarray) -> float:
    """Two-sided, of no difference: twice the smaller share of replicates on either side of zero, and never 0."""
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(differences)))


def wilson_interval(successes: float, trials: int, confidence: float) -> tuple[float, float]:
    """Of a share, from 0 to 1. It has a width also where all trials ended alike."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    return low, 1.0 if successes == trials else min(1.0, middle + half)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact p of McNemar's test, from the counts of pairs that only one side has right."""
    discordant = only_first + only_second
    tail = term = 1
    for chosen in range(1, min(only_first, only_second) + 1):
        term = term * (discordant - chosen + 1) // chosen
        tail += term
    return min(1.0, 2 * tail / (1 << discordant))  # whole numbers of any size: correctly rounded


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for their number, so that the chance of any false finding among them stays bounded."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
