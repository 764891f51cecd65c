"""Intervals and tests: against exact sums, and their coverage by simulation with fixed seeds."""

import math
from fractions import Fraction

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capcurr_plugin.statistics import (
    bootstrap,
    bootstrap_p,
    holm,
    mcnemar_exact,
    percentile_interval,
    resampled_totals,
    stream,
    wilson_interval,
)

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)
COUNTS = st.integers(0, 300)


def share(totals):
    return totals[..., 0] / totals[..., 1]


def rows(*values):
    return numpy.array([[value, 1.0] for value in values])


# Draws


def test_draws_are_the_same_everywhere():
    totals = resampled_totals(numpy.arange(10.0)[:, None], 8, stream(1, "MathVista_MINI"))
    assert totals[:, 0].tolist() == [56, 40, 38, 33, 35, 49, 56, 39]


def test_each_name_has_its_own_stream():
    sums = numpy.arange(100.0)[:, None]
    one, same, other, later = (
        resampled_totals(sums, 50, stream(*key)).tolist() for key in ((1, "a"), (1, "a"), (1, "b"), (2, "a"))
    )
    assert one == same
    assert one not in (other, later)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**40))
def test_totals_are_of_as_many_units_as_there_are(units, columns, seed):
    values = numpy.arange(units * columns, dtype=float).reshape(units, columns)
    sums = numpy.column_stack([values, numpy.ones(units)])
    totals = resampled_totals(sums, 30, stream(seed))
    assert (totals[:, -1] == units).all()
    assert (totals[:, :-1] >= units * values.min(axis=0)).all()
    assert (totals[:, :-1] <= units * values.max(axis=0)).all()


def test_strata_keep_their_sizes():
    strata = ["a"] * 3 + ["b"] * 7
    sums = numpy.array([[stratum == "a", stratum == "b"] for stratum in strata], dtype=float)
    sums = numpy.column_stack([sums, range(10)])
    totals = resampled_totals(sums, 200, stream(1), strata)
    assert (totals[:, 0] == 3).all()
    assert (totals[:, 1] == 7).all()
    assert totals[:, 2].min() >= 7 * 3
    assert len(set(totals[:, 2])) > 20


def test_more_units_than_two_bytes_count():
    sums = numpy.ones((70_000, 1))
    sums[-1] = 1e9  # drawn once in a resample, on average
    drawn = resampled_totals(sums, 200, stream(3))[:, 0] // 1e9
    assert 0.7 < drawn.mean() < 1.3


def test_spread_is_that_of_a_mean():
    values = rows(*[1.0] * 300 + [0.0] * 700)
    replicates = bootstrap(values, share, 20_000, stream(5))
    assert replicates.mean() == pytest.approx(0.3, abs=0.001)
    assert replicates.std() == pytest.approx(math.sqrt(0.3 * 0.7 / 1000), rel=0.02)


# Coverage


def covered(make, statistic, truth, *, runs=400, resamples=600, strata=None):
    """How often the 95 % interval holds the truth."""
    world = numpy.random.default_rng(7)
    inside = 0
    for run in range(runs):
        replicates = bootstrap(make(world), statistic, resamples, stream(run), strata)
        low, high = percentile_interval(replicates, 0.95)
        inside += low <= truth <= high
    return inside / runs


@pytest.mark.parametrize(("units", "chance"), [(200, 0.7), (800, 0.5), (200, 0.93)])
def test_an_accuracys_interval_covers(units, chance):
    share_covered = covered(lambda world: rows(*world.binomial(1, chance, units).astype(float)), share, chance)
    assert 0.92 <= share_covered <= 0.975


def clustered(world, clusters=150, size=10):
    """Rows of a cluster are mostly alike, as variants of a question are."""
    easy = world.beta(0.5, 0.5, clusters)
    return world.binomial(1, easy[:, None], (clusters, size)).astype(float)


def test_clusters_must_be_drawn_whole():
    def by_cluster(world):
        right = clustered(world)
        return numpy.column_stack([right.sum(axis=1), numpy.full(len(right), right.shape[1])])

    assert 0.92 <= covered(by_cluster, share, 0.5, runs=300) <= 0.975
    assert covered(lambda world: rows(*clustered(world).ravel()), share, 0.5, runs=100, resamples=200) < 0.75


def test_an_f1s_interval_covers():
    def counts(world):
        truth, said = world.random(400) < 0.5, world.random(400)
        said = numpy.where(truth, said < 0.9, said < 0.2)
        return numpy.column_stack([truth & said, said & ~truth, truth & ~said]).astype(float)

    def f1(totals):
        return 2 * totals[..., 0] / (2 * totals[..., 0] + totals[..., 1] + totals[..., 2])

    assert 0.92 <= covered(counts, f1, 2 * 0.45 / (2 * 0.45 + 0.1 + 0.05)) <= 0.975


def test_a_paired_test_errs_as_often_as_it_says():
    """Two models that are equally good, right on mostly the same rows."""
    world = numpy.random.default_rng(11)
    found = []
    for run in range(400):
        easy = world.random(300)
        first, second = ((world.random(300) < easy).astype(float) for _ in range(2))
        totals = resampled_totals(numpy.column_stack([first, second]), 600, stream(run))
        found.append(bootstrap_p(totals[:, 1] - totals[:, 0]) <= 0.05)
    assert 0.02 <= sum(found) / len(found) <= 0.085


# Exact tests


@given(COUNTS, COUNTS)
def test_mcnemar_is_a_two_sided_binomial_test(first, second):
    p = mcnemar_exact(first, second)
    total = first + second
    exact = Fraction(2 * sum(math.comb(total, k) for k in range(min(first, second) + 1)), 2**total)
    assert p == pytest.approx(float(min(Fraction(1), exact)), rel=1e-12)
    assert p == mcnemar_exact(second, first)


def test_mcnemar_of_many_pairs():
    assert mcnemar_exact(0, 0) == 1
    assert mcnemar_exact(5000, 0) == 0  # below the smallest number there is
    assert mcnemar_exact(900, 0) == 2.0 ** (1 - 900)
    assert mcnemar_exact(2500, 2500) == 1
    assert mcnemar_exact(10, 20) == pytest.approx(0.0987, abs=1e-4)


@given(P_VALUES)
def test_holm_is_stepwise_bonferroni(p_values):
    adjusted = holm(p_values)
    assert len(adjusted) == len(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    assert min(adjusted) == min(1.0, len(p_values) * min(p_values))
    ordered = [a for _, a in sorted(zip(p_values, adjusted, strict=True))]
    assert ordered == sorted(ordered)
    shuffled = holm(p_values[::-1])[::-1]
    assert shuffled == adjusted


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.integers(1, 5000), st.data(), st.floats(0.5, 0.999))
def test_wilson_holds_the_share_and_has_a_width(trials, data, confidence):
    successes = data.draw(st.integers(0, trials))
    low, high = wilson_interval(successes, trials, confidence)
    assert 0 <= low <= successes / trials <= high <= 1
    assert high - low > 0
    mirrored = wilson_interval(trials - successes, trials, confidence)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_wilson_by_hand():
    assert wilson_interval(8, 10, 0.95) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(10, 10, 0.95) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_a_bootstrap_p_is_never_zero():
    ones = numpy.ones(999)
    assert bootstrap_p(ones) == pytest.approx(2 / 1000)
    assert bootstrap_p(-ones) == pytest.approx(2 / 1000)
    assert bootstrap_p(0 * ones) == 1
