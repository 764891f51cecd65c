"""The statistics beside scipy's, which lives in this environment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, false_discovery_control

from capcurr_plugin.statistics import holm, mcnemar_exact, wilson_interval


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_mcnemar(first, second):
    exact = binomtest(first, first + second).pvalue if first + second else 1
    assert mcnemar_exact(first, second) == pytest.approx(exact, rel=1e-8, abs=1e-300)


@given(st.integers(1, 5000), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson(trials, data, confidence):
    successes = data.draw(st.integers(0, trials))
    theirs = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, trials, confidence) == pytest.approx(tuple(theirs), abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_no_laxer_than_a_control_of_the_false_discovery_rate(p_values):
    assert all(
        ours >= theirs - 1e-12 for ours, theirs in zip(holm(p_values), false_discovery_control(p_values), strict=True)
    )
