"""The verdict on labelled answers, on hostile ones, and on random ones."""

import threading
import time

import pytest
from hostile_answers import CODE, HOSTILE, TRUTHS
from hypothesis import example, given, settings
from hypothesis import strategies as st
from labelled_answers import CASES

from capcurr_plugin.reward import compute_score, compute_score_batch, easyr1, verdict, verify, warm_up, workers
from capcurr_plugin.reward.values import parse_values

# The last tier is math-verify, which is asked in a process of its own; cases it decides are few.
LIMIT_SECONDS = 1.5


@pytest.fixture(scope="module", autouse=True)
def warm():
    warm_up()


@pytest.fixture(autouse=True)
def no_cache():
    verdict._cache.clear()


def test_every_labelled_case_is_judged_as_labelled():
    wrong = [case for case in CASES if verify(case.answer, case.truth, case.options) != case.equal]
    assert len(CASES) >= 400
    assert sum(not case.equal for case in CASES) >= len(CASES) / 3
    assert wrong == []


def response(answer):
    return f"<think> so </think> \\boxed{{{answer}}}"


def score_in_time(name):
    answer = HOSTILE.get(name, CODE.get(name, ""))
    start = time.monotonic()
    equal = verify(answer, TRUTHS.get(name, "42"))
    return name, equal, time.monotonic() - start


@pytest.mark.slow
def test_hostile_answers_are_wrong_and_in_time():
    results = [score_in_time(name) for name in (*HOSTILE, *CODE)]
    assert len(results) >= 60
    assert [r for r in results if r[1]] == []
    assert [r for r in results if r[2] > LIMIT_SECONDS] == []


@pytest.mark.slow
def test_huge_responses_are_scored_in_time():
    huge = {name: answer for name, answer in HOSTILE.items() if len(answer) > 500_000}
    assert len(huge) > 10
    late = []
    for name, answer in huge.items():
        start = time.monotonic()
        compute_score("", response(answer), "42")
        if time.monotonic() - start > LIMIT_SECONDS:
            late.append(name)
    assert late == []


def test_nothing_of_an_answer_is_executed(tmp_path):
    canary = tmp_path / "canary"
    for code in CODE.values():
        filled = code.replace("{canary}", str(canary))
        verify(filled, "42")
        compute_score("", response(filled), "42")
    time.sleep(0.2)
    assert not canary.exists()


# Workers


@pytest.mark.slow
def test_a_worker_that_overruns_is_replaced_and_the_batch_goes_on(monkeypatch):
    """Python's own start-up stands in for an answer that takes long: no reply comes before the deadline."""
    before = {worker.process.pid for worker in workers.pool().all}
    monkeypatch.setattr(workers, "SECONDS", 1e-4)
    answers = [response("\\int_0^1 x^2 dx"), response("7")]
    scores = compute_score_batch([""] * 2, answers, ["\\frac{1}{3}", "7"])
    assert [(s["accuracy"], s["timed_out"]) for s in scores] == [(0.0, 1.0), (1.0, 0.0)]
    monkeypatch.undo()
    warm_up()
    assert {worker.process.pid for worker in workers.pool().all} != before
    verdict._cache.clear()
    assert compute_score("", answers[0], "\\frac{1}{3}")["accuracy"] == 1


def test_a_dead_worker_is_replaced(monkeypatch):
    for worker in workers.pool().all:
        worker.process.kill()
        worker.process.wait()
    with pytest.raises(workers.TimedOut):
        workers.pool().ask("1", "1")
    for worker in workers.pool().all:
        if worker.process.poll() is not None:
            with pytest.raises(workers.TimedOut):
                workers.pool().ask("1", "1")
    warm_up()
    assert workers.pool().ask("x+1", "1+x")
    assert not workers.pool().ask("x+1", "x+2")


def test_a_timed_out_verdict_is_told(monkeypatch):
    class Late:
        def ask(self, answer, truth):
            raise workers.TimedOut(cold=False)

    monkeypatch.setattr(workers, "pool", Late)
    score = compute_score("", response("\\int_0^1 x dx"), "\\frac{1}{2}")
    assert (score["accuracy"], score["timed_out"], score["tier"]) == (0.0, 1.0, "symbolic")


def test_the_symbolic_tier_decides_what_the_others_cannot():
    score = compute_score("", response("\\int_0^1 x\\,dx"), "\\frac{1}{2}")
    assert (score["accuracy"], score["tier"], score["timed_out"]) == (1.0, "symbolic", 0.0)


# Scores


def test_a_ground_truth_may_be_a_list_or_a_number():
    assert compute_score("", response("7"), ["6", "7"])["accuracy"] == 1
    assert compute_score("", response("8"), ["6", "7"])["accuracy"] == 0
    assert compute_score("", response("7.0"), 7)["accuracy"] == 1
    assert compute_score("", response("1/2"), 0.5)["accuracy"] == 1


def test_options_make_a_text_count_as_its_letter():
    options = {"A": "a red door", "B": "a blue mailbox"}
    assert compute_score("", response("a blue mailbox"), "B", {"options": options})["accuracy"] == 1
    assert compute_score("", response("B: a red door"), "B", {"options": options})["accuracy"] == 0


def test_easyr1_gets_its_keys():
    scores = easyr1.compute_score(
        [{"response": response("7"), "ground_truth": "7"}, {"response": "7", "ground_truth": "7"}]
    )
    assert scores == [
        {"overall": 1.0, "format": 1.0, "accuracy": 1.0},
        {"overall": 0.0, "format": 0.0, "accuracy": 0.0},
    ]


def test_verdicts_are_cached_across_threads():
    verify("\\frac{2}{4}", "0.5")
    found = []
    thread = threading.Thread(target=lambda: found.append(("\\frac{2}{4}", "0.5", None) in verdict._cache))
    thread.start()
    thread.join()
    assert found == [True]


# Random answers

PIECES = (
    r"\frac { } 1 2 10 x y + - * / ^ _ ( ) [ ] \sqrt \pi , . 3.14 % \% $ = < \le \pm cm m^2 \text{cm} \infty \cup "
    r"| ! \sin "
    r"\log e i B (B) or and yes ^\circ : 1,000 0.5 \\ & \begin{pmatrix} \end{pmatrix} \left( \right) ½ − ³ million $5"
).split()
latex = st.lists(st.sampled_from([*PIECES, " "]), min_size=1, max_size=8).map("".join)


@settings(max_examples=2_000, deadline=None, derandomize=True)
@given(latex | st.text(max_size=40))
@example("{\\cup\\pmy")
def test_an_answer_equals_itself_and_nothing_escapes(text):
    parse_values(text)
    assert verify(text, text) == bool(text.strip())


def decided_without_a_worker(text, other):
    given, wanted = verdict.plain(text), verdict.plain(other)
    return verdict._same_value(given, wanted)


@settings(max_examples=2_000, deadline=None, derandomize=True)
@given(latex, latex)
@example("B\\cup1", "\\pi!\\cup1")
def test_values_are_compared_alike_from_both_sides(one, other):
    """But for a decimal ground truth, whose places an answer is rounded to, and not the other way round."""
    if "." not in one + other:
        assert decided_without_a_worker(one, other) == decided_without_a_worker(other, one)
