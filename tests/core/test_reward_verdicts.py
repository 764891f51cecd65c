"""The verdict: labelled answers, options, ground truths of every kind, the graders of others."""

import pytest
from adversarial_answers import ADVERSARIAL
from labelled_answers import CASES

from capcurr_plugin.errors import InputError
from capcurr_plugin.reward import compute_score, compute_score_batch, easyr1, verdict, verify, warm_up, workers
from capcurr_plugin.reward.at_sight import same_at_sight
from capcurr_plugin.reward.prose import final_value
from capcurr_plugin.reward.verdict import Question, Verdict


@pytest.fixture(scope="module", autouse=True)
def warm():
    warm_up()


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Other programs may run beside the tests."""
    monkeypatch.setattr(workers, "SECONDS", 20.0)


@pytest.fixture(autouse=True)
def no_cache():
    verdict._cache.clear()


def response(answer):
    return f"<think> so </think> \\boxed{{{answer}}}"


def test_every_labelled_case_is_judged_as_labelled():
    wrong = [case for case in CASES if verify(case.answer, case.truth, case.options) != case.equal]
    assert len(CASES) >= 400
    assert sum(not case.equal for case in CASES) >= len(CASES) / 3
    assert wrong == []


def test_adversarial_answers_are_judged_as_labelled():
    wrong = [case for case in ADVERSARIAL if verify(case[0], case[1], case[3]) != case[2]]
    assert len(ADVERSARIAL) > 5_000
    assert wrong == []


def test_what_is_read_at_first_sight_is_what_a_closer_look_says():
    seen = 0
    for answer, truth in [(case.answer, case.truth) for case in CASES] + [case[:2] for case in ADVERSARIAL]:
        sight = same_at_sight(answer, truth)
        if sight is not None:
            seen += 1
            closer = verdict._look(answer, truth, {})
            assert isinstance(closer, Verdict)
            assert sight[0] == closer.equal, (answer, truth)
    assert seen > 300


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


def test_options_may_be_texts_in_their_order_and_the_ground_truth_an_option():
    info = {"options": ["a red door", "a blue mailbox"]}
    assert compute_score("", response("a blue mailbox"), "B", info)["accuracy"] == 1
    assert compute_score("", response("B"), "a blue mailbox", info)["accuracy"] == 1
    assert compute_score("", response("A"), "a blue mailbox", info)["accuracy"] == 0
    assert compute_score("", response("B"), "B", {"options": None, "index": "1"})["accuracy"] == 1


@pytest.mark.parametrize(
    ("truth", "answer", "equal"),
    [
        (5.0, "5.04", False),  # a float states no precision
        (5.0, "5", True),
        (("6", 7), "7.0", True),
        ([], "7", False),
        (1e20, "100000000000000000000", True),
    ],
)
def test_ground_truths_come_in_many_types(truth, answer, equal):
    assert compute_score("", response(answer), truth)["accuracy"] == equal


def test_a_ground_truth_that_is_none_is_refused():
    with pytest.raises(InputError, match="a ground truth is a string, a number or a list of them, not NoneType"):
        compute_score("", response("7"), None)


def test_a_batch_scores_as_one_by_one():
    rows = [(response(case.answer), case.truth, {"options": case.options}) for case in CASES[::7]]
    rows += [("no box", "7", None), (response("7"), ["6", "7"], None)]
    verdict._cache.clear()
    one_by_one = [compute_score("", *row) for row in rows]
    verdict._cache.clear()
    responses, truths, infos = zip(*rows, strict=True)
    assert compute_score_batch([""] * len(rows), responses, truths, infos) == one_by_one


def test_the_grader_of_the_published_runs():
    """MathRuler takes no letter with its text and no other order, and published code refuses what looks too complex."""
    for answer, truth, ours, theirs in [
        ("7", "7", 1, 1),
        ("\\frac{1}{2}", "0.5", 1, 1),
        ("B: a door", "B", 1, 0),
        ("2, 1", "1, 2", 1, 0),
        ("8", "7", 0, 0),
        ("1" * 60, "1" * 60, 1, 0),
    ]:
        assert compute_score("", response(answer), truth)["accuracy"] == ours, answer
        score = compute_score("", response(answer), truth, grader="mathruler")
        assert score["accuracy"] == theirs, answer
        assert score["tier"] == "mathruler"
    batch = compute_score_batch(["", ""], [response("7"), response("B: a door")], ["7", "B"], grader="mathruler")
    assert [score["accuracy"] for score in batch] == [1, 0]


def test_a_grader_that_is_not_there_is_named(monkeypatch):
    with pytest.raises(InputError, match="grader='mathrular' is not known: capcurr or mathruler"):
        compute_score("", response("7"), "7", grader="mathrular")
    monkeypatch.setattr(workers, "available", lambda grader: False)
    with pytest.raises(InputError, match="pip install mathruler pylatexenc"):
        compute_score("", response("7"), "7", grader="mathruler")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The area is $5$ in all.", "$5$"),
        ("so it is 1,000.99m²", "1,000.99m²"),
        ("It rises by 100%.", "100%"),
        ("The area is 5\\pi", "5\\pi"),
        ("The slope is minus 5.", "minus 5"),
        ("It is not 10, it is 12.", "12"),
        ("The final answer is $12$. I hope it is correct. [3 more notes]", "$12$"),
        ("Therefore, $\\boxed{14{,}916}$ is our answer.", "14{,}916"),
        ("The roots are $\\boxed{-2}$ and $\\boxed{1}$.", "-2, 1"),
        ("not $5$", None),
        ("less than 5", None),
        ("it is 3 or 5", None),
        ("between 3 and 5", None),
        ("no value here", None),
        ("x + 1 = 2", None),
        ("It is not true that the answer is 5", None),
        ("The answer is 5, or maybe it is 6", None),
        ("not \\boxed{5}", None),
        ("\\boxed{5} is wrong", None),
        ("\\boxed{5} \\text{ or } 6", None),
    ],
)
def test_the_value_that_a_sentence_ends_in(text, value):
    assert final_value(text) == value


# Units: one that only one side has is ignored, two different ones are different


@pytest.mark.parametrize(
    ("answer", "truth", "equal"),
    [
        ("12 cm", "12", True),
        ("12", "12\\text{ cm}", True),
        ("12 centimeters", "12 cm", True),
        ("12 cm", "12 m", False),
        ("120 mm", "12 cm", False),  # no conversion: the ground truth says which unit is asked for
        ("12 cm^2", "12 cm", False),
        ("\\$5", "5", True),
        ("\\$5", "5 cm", False),
        ("50\\%", "50", True),
        ("50\\%", "0.5", True),
        ("0.5", "50\\%", True),
        ("5\\%", "0.5", False),
        ("30^\\circ", "30", True),
        ("30^\\circ", "30 cm", False),
    ],
)
def test_units(answer, truth, equal):
    assert verify(answer, truth) == equal


def test_verdicts_are_cached():
    question = Question("\\frac{2}{4}", "0.5")
    first = verdict.decide(question)
    assert verdict._cache[question] is first
    assert verdict.decide(question) is first
    verdict.decide(Question("7" * 1_000, "8"))
    assert len(verdict._cache) == 1  # long ones would fill the memory


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(verdict, "MAX_CACHED", 10)
    for number in range(100):
        verify(str(number), "7")
    assert 0 < len(verdict._cache) <= 10
