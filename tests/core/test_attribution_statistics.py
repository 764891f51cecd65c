"""Estimates from judged errors: against numbers worked out elsewhere, and against planted truths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capcurr_plugin.attribution.shares import Drawing, Kinds, interval_to_show, scope_numbers
from capcurr_plugin.attribution.statistics import (
    Audited,
    Rate,
    audited_shares,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    posterior_share,
    prediction_powered,
    rogan_gladen,
    share_bounds,
    unmixed_shares,
)
from capcurr_plugin.statistics import stream, wilson_interval

KINDS = ("perception", "reasoning", "knowledge", "question_comprehension")
SAID = [[0.85, 0.09, 0.02, 0.04], [0.15, 0.75, 0.05, 0.05], [0.10, 0.20, 0.65, 0.05], [0.20, 0.15, 0.05, 0.60]]
TRUE = np.array([0.70, 0.18, 0.05, 0.07])


def test_the_published_share_and_accuracy_leave_a_wide_range():
    assert share_bounds(0.869, 0.825) == pytest.approx((0.694, 0.956))


@given(*[st.floats(0, 1) for _ in range(3)])
def test_the_truth_lies_within_the_bounds(truth, sensitivity, specificity):
    said = truth * sensitivity + (1 - truth) * (1 - specificity)
    accuracy = truth * sensitivity + (1 - truth) * specificity
    low, high = share_bounds(said, accuracy)
    assert low - 1e-9 <= truth <= high + 1e-9


def test_a_judge_without_errors_needs_no_correction():
    sure = Rate(10_000, 10_000)
    found = rogan_gladen(Rate(300, 1000), sure, sure)
    assert found is not None
    assert found.value == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx(wilson_interval(300, 1000, 0.95), abs=0.002)


def test_a_judge_that_knows_nothing_tells_nothing():
    assert rogan_gladen(Rate(500, 1000), Rate(50, 100), Rate(50, 100)) is None
    found = posterior_share(Rate(500, 1000), Rate(50, 100), Rate(50, 100), stream(1, "p"))
    assert found.low < 0.05 and found.high > 0.95


def test_rogan_and_gladen_by_hand():
    found = rogan_gladen(Rate(770, 1000), Rate(90, 100), Rate(70, 100))
    assert found is not None
    assert found.value == pytest.approx((0.77 + 0.70 - 1) / (0.90 + 0.70 - 1))


def test_alike_wrong_answers_do_not_make_a_share_certain():
    alike = [Kinds("M", "B", str(n), str(n), "", "perception") for n in range(20)]
    mixed = [*alike[5:], *(Kinds("M", "B", str(n), str(n), "", "reasoning") for n in range(5))]
    drawing = Drawing(200, 1, 0.95)
    certain = scope_numbers(alike, 40, drawing, "M")["kinds"]["perception"]
    assert certain["bootstrap"] == [1, 1]
    assert interval_to_show(certain) == certain["wilson"] == list(wilson_interval(20, 20, 0.95))
    share = scope_numbers(mixed, 40, drawing, "M")["kinds"]["perception"]
    assert interval_to_show(share) == share["bootstrap"] != share["wilson"]


def test_kinds_are_unmixed():
    counts = dict(zip(KINDS, np.rint(1_000_000 * TRUE @ np.array(SAID)).astype(int).tolist(), strict=True))
    confusion = {
        k: dict(zip(KINDS, (100_000 * np.array(row)).tolist(), strict=True)) for k, row in zip(KINDS, SAID, strict=True)
    }
    found = unmixed_shares(counts, confusion, stream(1, "u"))
    assert [found[kind].value for kind in KINDS] == pytest.approx(TRUE.tolist(), abs=0.002)
    assert sum(one.value for one in found.values()) == pytest.approx(1)


def test_audited_shares_by_hand():
    audit = (
        [Audited("p", "p", "p")] * 8
        + [Audited("p", "r", "p")] * 2
        + [Audited("r", "r", "r")] * 9
        + [Audited("r", "p", "r")]
    )
    found = audited_shares({"p": 300, "r": 100}, audit, stream(1, "a"))
    assert found["p"].value == pytest.approx(0.75 * 0.8 + 0.25 * 0.1)
    assert found["p"].low < found["p"].value < found["p"].high
    with pytest.raises(ValueError, match="nothing was audited of r"):
        audited_shares({"p": 300, "r": 100}, audit[:10], stream(1, "a"))


def test_what_is_wholly_audited_is_known():
    audit = [Audited("p", "p", "p")] * 8 + [Audited("p", "r", "p")] * 2
    assert audited_shares({"p": 10}, audit, stream(1, "a"))["p"] == pytest.approx((0.8, 0.8, 0.8))


# Coverage of planted truths. A thousand simulations leave a coverage of 95 % between 93.6 and 96.4 %, nearly always.

SIMULATIONS = 1_000


def simulated(number, share=0.8, sensitivity=0.9, specificity=0.7, errors=1_000):
    chance = np.random.default_rng(number)
    truth = chance.random(errors) < share
    said = np.where(truth, chance.random(errors) < sensitivity, chance.random(errors) > specificity)
    return chance, truth, said


def covered(estimate):
    hits = sum(estimate(number) for number in range(SIMULATIONS))
    return hits / SIMULATIONS


@pytest.mark.slow
def test_the_uncorrected_share_misses_the_truth():
    def hit(number):
        _, _, said = simulated(number)
        low, high = wilson_interval(int(said.sum()), len(said), 0.95)
        return low <= 0.8 <= high

    assert covered(hit) < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rogan_gladen", "posterior"])
def test_what_corrects_by_another_audit_covers_the_truth(method):
    def hit(number):
        chance, _, said = simulated(number)
        rates = (
            Rate(int(said.sum()), len(said)),
            Rate(chance.binomial(200, 0.9), 200),
            Rate(chance.binomial(200, 0.7), 200),
        )
        found = rogan_gladen(*rates) if method == "rogan_gladen" else posterior_share(*rates, stream(number, "p"))
        return found is not None and found.low <= 0.8 <= found.high

    assert 0.93 <= covered(hit) <= 0.97


@pytest.mark.slow
def test_a_random_audit_with_all_verdicts_covers_the_truth():
    def hit(number):
        chance, truth, said = simulated(number)
        audited = chance.choice(len(said), 200, replace=False)
        found = prediction_powered(said, said[audited], truth[audited])
        return found.low <= 0.8 <= found.high

    assert 0.93 <= covered(hit) <= 0.97


@pytest.mark.slow
def test_an_audit_by_strata_covers_the_truth_of_these_errors():
    def hit(number):
        chance, truth, said = simulated(number)
        audited = [
            n for verdict in (True, False) for n in chance.choice(np.flatnonzero(said == verdict), 100, replace=False)
        ]
        audit = [Audited(str(said[n]), str(truth[n]), str(said[n])) for n in audited]
        found = audited_shares({"True": int(said.sum()), "False": int((~said).sum())}, audit, stream(number, "a"))[
            "True"
        ]
        return found.low <= truth.mean() <= found.high

    assert 0.93 <= covered(hit) <= 0.97


# Agreement


def test_cohens_kappa_by_hand():
    first, second = ["y"] * 25 + ["n"] * 25, ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)  # agree 0.7, by chance 0.5
    assert cohen_kappa(["y", "n"], ["y", "n"]) == 1
    assert cohen_kappa(["y", "y"], ["y", "y"]) == 1


def test_fleiss_kappa_of_its_well_known_example():
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    cases = [[str(kind) for kind, count in enumerate(row) for _ in range(count)] for row in counts]
    assert fleiss_kappa(cases) == pytest.approx(0.20993, abs=1e-5)
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa([["a", "b"], ["a"]])


def test_krippendorffs_alpha_of_its_well_known_example():
    """Three coders, of whom some left cases out."""
    table = [
        "* * * * * 3 4 1 2 1 1 3 3 * 3".split(),
        "1 * 2 1 3 3 4 3 * * * * * * *".split(),
        "* * 2 1 3 4 4 * 2 1 1 3 3 * 4".split(),
    ]
    cases = [[value for value in case if value != "*"] for case in zip(*table, strict=True)]
    assert krippendorff_alpha(cases) == pytest.approx(0.691, abs=5e-4)


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=2, max_size=2), min_size=1, max_size=30))
def test_agreement_is_at_most_one(cases):
    first, second = zip(*cases, strict=True)
    for value in (cohen_kappa(first, second), fleiss_kappa(cases), krippendorff_alpha(cases)):
        assert value <= 1
        if first == second:
            assert value == 1
