"""The reward: the boxed answer, the verdict, the score."""

import re
import time
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capcurr_plugin.reward import compute_score, extract_boxed, verify

LATEX = st.text(alphabet="\\{}boxedftraclgh$ ,./-+()0123456789AaBİß\u0663²½\n")


def both(function, *texts):
    """The verdict of a relation that has to be symmetric."""
    forward, backward = function(*texts), function(*reversed(texts))
    assert forward == backward
    return forward


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{A}", "A"),
        (r"so \boxed{ 42 } it is", "42"),
        (r"\boxed {A}", "A"),
        (r"\fbox{A}", "A"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\sqrt{\frac{a_{1}}{b^{2}}}}", r"\sqrt{\frac{a_{1}}{b^{2}}}"),
        (r"\boxed{\text{(B)}}", r"\text{(B)}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\}}", r"\}"),
        (r"\boxed{\{}", r"\{"),
        (r"\boxed{x \\ {y}}", r"x \\ {y}"),
        ("\\boxed{1\n2}", "1\n2"),
        (r"\boxed{A} or \boxed{B}", "B"),
        (r"\fbox{A} or \boxed{B}", "B"),
        (r"\boxed{A} or \fbox{B}", "B"),
        (r"\boxed{A} or \boxed{B", "A"),
        (r"\boxed{A} or \boxed{{B}", "A"),
        (r"\boxed{A} or \boxed", "A"),
        (r"\boxed{A} or \boxed B", "B"),
        (r"\boxed 7", "7"),
        (r"so \boxed -3.5 it is", "-3.5"),
        (r"$\boxed 7$.", "7"),
        (r"\boxed7", "7"),
        (r"\boxed \frac{1}{2}", r"\frac{1}{2}"),
        (r"\boxed x=5.", "x=5"),
        (r"\boxed{A}, as the \boxed format asks", "A"),
        (r"\boxed{A}, in a \boxed.", "A"),
        (r"\boxed{A} and a \boxed (as I was told)", "A"),
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"\boxed{\fbox{5} cm}", "5"),
        (r"<think> \boxed{B} </think> \boxed{A}", "A"),
        (r"<think> \boxed{B} </think> A", "B"),
        (r"<think> \boxed{B} </think> \boxed{}", None),
        (r"\boxed{a \} b}", r"a \} b"),
        (r"\boxed{{\}}}", r"{\}}"),
        ("\\\\boxed{A}", "A"),
        (r"\boxed{ \boxed{A}", "A"),
        (r"the set { 1 has \boxed{A}", "A"),
        (r"} ends } it \boxed{A} {", "A"),
        (r"{{ \boxed{\frac{1}{2}} }}}}", r"\frac{1}{2}"),
        (r"f(x) = \{ \boxed{A}", "A"),
        (r"\boxed", None),
        (r"\boxed{", None),
        (r"\boxed{A", None),
        (r"\boxed{A\}", None),
        (r"\boxed{{A}", None),
        (r"\boxed{}", None),
        (r"\boxed{  }", None),
        (r"\boxedA}", None),
        (r"boxed{A}", None),
        (r"\unboxed{A}", None),
        (r"\Boxed{A}", None),
        ("{A}", None),
        ("", None),
    ],
)
def test_extract_boxed(text, answer):
    assert extract_boxed(text) == answer


@settings(deadline=None)
@example("\\")
@example("\\boxed{\\")
@example("\ud800\\boxed{\ud800}")
@given(st.one_of(st.text(), LATEX))
def test_extract_boxed_of_any_text(text):
    answer = extract_boxed(text)
    assert answer is None or (answer in text and answer == answer.strip() != "")


@given(st.text(alphabet="{}a "), st.text(alphabet="{}a "))
def test_extract_boxed_amid_any_braces(before, after):
    assert extract_boxed(before + r"\boxed{\frac{1}{2}}" + after) == r"\frac{1}{2}"


def seconds(text):
    """The best of four in time of the processor, because other programs run beside this one."""
    times = []
    for _ in range(4):
        start = time.process_time()
        extract_boxed(text)
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: "\\boxed{" * 3 * n, id="opened"),
        pytest.param(lambda n: "\\boxed{" * n + "}" * n, id="nested"),
        pytest.param(lambda n: "\\boxed{A}" * n, id="repeated"),
        pytest.param(lambda n: "{" * 7 * n, id="braces"),
        pytest.param(lambda n: "}" * 7 * n, id="closing-braces"),
        pytest.param(lambda n: "\\boxed" + " " * 6 * n, id="spaces"),
        pytest.param(lambda n: "\\" * 7 * n, id="backslashes"),
        pytest.param(lambda n: "\\boxed" * n, id="without-braces"),
    ],
)
def test_extract_boxed_takes_linear_time(make):
    n = 50_000  # 1 MB of open boxes
    small, large = seconds(make(n // 4)), seconds(make(n))
    assert large < 8 * small + 0.1  # a quadratic look takes minutes; some of these take microseconds


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("B)", "B"),
        ("B:", "B"),
        ("$B$", "B"),
        (" B ", "B"),
        (r"\text{B}", "B"),
        (r"\text{(B)}", "B"),
        (r"\text{B}.", "B"),
        (r"\text{ B }", "B"),
        (r"\textbf{B}", "B"),
        (r"\mathrm{B}", "B"),
        (r"\mathbf{(B)}", "B"),
        ("7", "7"),
        ("+7", "7"),
        ("7.0", "7"),
        ("7.", "7"),
        ("007", "7"),
        ("$7$", "7"),
        (r"\,7\!", "7"),
        ("-0", "0"),
        ("0.50", "0.5"),
        ("1/2", "0.5"),
        ("2/4", "1/2"),
        ("-1/2", "-0.5"),
        (r"\frac{1}{2}", "1/2"),
        (r"\frac{1}{2}", "0.5"),
        (r"\dfrac{3}{4}", "0.75"),
        (r"\tfrac{3}{4}", "0.75"),
        (r"\frac{-1}{2}", "-0.5"),
        (r"-\frac{1}{2}", "-0.5"),
        (r"\frac{6}{3}", "2"),
        ("1,000", "1000"),
        ("1,234,567.50", "1234567.5"),
        ("Red Circle", "red circle"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        ("x^{2}", "x^{2}"),
    ],
)
def test_verify_right(answer, truth):
    assert both(verify, answer, truth) is True


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("A", "B"),
        ("AB", "A"),
        ("", "A"),
        ("", ""),
        ("$ $", ""),
        ("7", "8"),
        ("7", "-7"),
        ("70", "7"),
        ("7.01", "7"),
        ("1/0", "1/0.0"),
        ("1/0", "2/0"),
        ("1/0", "0"),
        ("1,2", "12"),
        ("1,00", "100"),
        ("12,34", "1234"),
        ("1000", "1"),
        (r"\frac{1}{2}", "2"),
        (r"\frac{1}{2}", "12"),
        ("x+1", "x-1"),
        # Mixed numbers: one and a half is not eleven halves.
        ("1 1/2", "11/2"),
        (r"1\frac{1}{2}", "11/2"),
        (r"1 \frac{1}{2}", "11/2"),
        (r"\frac{1}{2}3", "1/23"),
    ],
)
def test_verify_wrong(answer, truth):
    assert both(verify, answer, truth) is False


@settings(deadline=None)
@example("1/0", "1/0")
@example("\ud800", "0")
@example("9" * 5000, "1" * 5000)
@example("1/" + "0" * 40, "0")
@given(st.one_of(st.text(), LATEX), st.one_of(st.text(), LATEX))
def test_verify_any_text(answer, truth):
    assert both(verify, answer, truth) in (True, False)


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_verify_integers(first, second):
    assert verify(str(first), str(second)) == (first == second)
    assert verify(f"{first:,}", f"{first}.0")


@given(st.integers(-1000, 1000), st.integers(1, 1000), st.integers(-1000, 1000), st.integers(1, 1000))
def test_verify_fractions(a, b, c, d):
    assert verify(f"{a}/{b}", rf"\frac{{{c}}}{{{d}}}") == (Fraction(a, b) == Fraction(c, d))
    assert verify(f"{a}/{b}", rf"\frac{{{a}}}{{{b}}}")


def test_verify_of_what_is_far_too_long_takes_the_same_text_only():
    assert verify("1" * 20_000, "1" * 20_000)
    assert not verify("1" * 20_000, "1" * 20_001)
    assert not verify("1", "1" * 1_000_000)


def test_a_decimal_ground_truth_states_its_precision():
    assert verify("1/3", "0.333")
    assert not verify("0.333", "1/3")
    assert verify("b", "B")


@pytest.mark.parametrize(
    ("response", "follows"),
    [
        (r"<think> I see it. </think> \boxed{A}", True),
        ("\n <think>\nI see it.\n</think>\n\n\\boxed{A}\n", True),
        (r"<think> I see it. </think> The answer is \boxed{A}.", True),
        (r"<think> maybe \boxed{B} </think> \boxed{A}", True),
        (r"<think> the set {1, 2 </think> \boxed{A}", True),
        (r"Well: <think> I see it. </think> \boxed{A}", False),
        (r"<think> I see it. \boxed{A}", False),
        (r"<think> I see it. \boxed{A} </think>", False),
        (r"I see it. </think> \boxed{A}", False),
        (r"</think> <think> \boxed{A}", False),
        (r"\boxed{A} <think> I see it. </think>", False),
        (r"<think> I see it. </think> A", False),
        (r"<think> I see it. </think> \boxed{}", True),  # the published rule asks for no more
        (r"<think> I see it. </think> \boxed{A", False),
        (r"<think> I see it. </think> \fbox{A}", False),
        (r"< think > I see it. < / think > \boxed{A}", True),
        ("<think>\n I see it.\n</ think>\\boxed{A}", True),
        (r"<think> a </think> b </think> \boxed{A}", True),
        (r"<think></think>\boxed{A}", True),
        (r"<Think> I see it. </Think> \boxed{A}", False),
        (r"\boxed{A}", False),
        ("", False),
    ],
)
def test_format(response, follows):
    assert compute_score("any", response, "A")["format"] == float(follows)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (r"<think> a </think> \boxed{A}", {"score": 1.0, "accuracy": 1.0, "format": 1.0}),
        (r"\boxed{A}", {"score": 0.9, "accuracy": 1.0, "format": 0.0}),
        (r"<think> a </think> \boxed{B}", {"score": 0.1, "accuracy": 0.0, "format": 1.0}),
        (r"\boxed{B}", {"score": 0.0, "accuracy": 0.0, "format": 0.0}),
        ("<think> a </think> A", {"score": 0.0, "accuracy": 0.0, "format": 0.0}),
    ],
)
def test_score(response, expected):
    score = compute_score("perception", response, "A")
    assert {name: score[name] for name in expected} == pytest.approx(expected)
    assert score["response_length"] == len(response)
    assert all(type(score[name]) is float for name in expected)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_format_weight(weight):
    right = compute_score("any", r"\boxed{A}", "A", format_weight=weight)
    well_formed = compute_score("any", r"<think> a </think> \boxed{B}", "A", format_weight=weight)
    assert [right[name] for name in ("score", "accuracy", "format")] == pytest.approx([1 - weight, 1, 0])
    assert [well_formed[name] for name in ("score", "accuracy", "format")] == pytest.approx([weight, 0, 1])


def test_score_takes_what_verl_passes():
    options = {"extra_info": {"index": "r1"}, "reward_router_address": None, "reward_model_tokenizer": None}
    score = compute_score(data_source="any", solution_str=r"\boxed{A}", ground_truth="A", **options)
    assert score["accuracy"] == 1


TAGS = st.lists(
    st.sampled_from(["<think>", "</think>", "\\boxed{", "}", "< ", " /", " think", ">", "7", " ", "\n"])
).map("".join)


@settings(deadline=None, max_examples=500, derandomize=True)
@given(TAGS)
@example("<think></think>\\boxed{</think>}")
def test_format_is_the_published_rule(response):
    rule = re.compile(r"<think>.*</think>.*\\boxed\{.*\}.*", re.DOTALL)
    follows = rule.fullmatch(re.sub(r"\s*(<|>|/)\s*", r"\1", response))
    assert compute_score("", response, "7")["format"] == float(follows is not None)


@pytest.mark.parametrize("filler", [" ", "<", "< think", "</think>", "<think>", "\\boxed{"])
def test_format_takes_linear_time(filler):
    response = "<think> x" + filler * 200_000
    start = time.process_time()
    compute_score("", response, "7")
    assert time.process_time() - start < 5  # a quadratic look would take hours


@settings(deadline=None)
@given(st.one_of(st.text(), LATEX.map(lambda text: f"<think>{text}</think> \\boxed{{{text}}}")), LATEX)
def test_score_of_any_text(response, truth):
    score = compute_score("any", response, truth)
    assert set(score) == {"score", "accuracy", "format", "response_length", "tier", "timed_out"}
    assert score["score"] == pytest.approx(0.9 * score["accuracy"] + 0.1 * score["format"])
