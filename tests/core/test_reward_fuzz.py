"""The reward on random LaTeX and random bytes."""

import random
import time

import pytest

from capcurr_plugin.reward import compute_score, verdict, verify, warm_up
from capcurr_plugin.reward.values import parse_values
from capcurr_plugin.reward.verdict import Question, Verdict, plain, tiers

PIECES = [
    *(
        r"\frac { } 1 2 10 x y + - * / ^ _ ( ) [ ] \sqrt \pi , . 3.14 % \% $ = < \le \pm cm m^2 \text{cm} \infty \cup "
        r"| ! \sin \log e i B (B) or and yes ^\circ : 1,000 0.5 \\ & \begin{pmatrix} \end{pmatrix} \left( \right) "
        r"½ − ³ million $5 \boxed{ the is answer 7 a.m. pm 3:30 \{ \} ; \ne \approx \overline{3} km/h \text{ \in"
    ).split(),
    " ",
    r"\,",
    r"\ ",
    "\n",
]


def number(chance):
    return chance.choice([str(chance.randint(0, 99)), "-3", "1,250", "x", "y", "n", r"\pi", "0", "12"])


def formula(chance, depth=2):
    if depth == 0 or chance.random() < 0.3:
        return number(chance)
    a, b = formula(chance, depth - 1), formula(chance, depth - 1)
    shapes = [r"\frac{%s}{%s}", r"\dfrac{%s}{%s}", "%s+%s", "%s - %s", r"%s \cdot %s", "(%s)(%s)", "{%s}^{2}+%s"]
    roots = [r"\sqrt{%s}", r"\left( %s \right)", "|%s|", "-(%s)", r"\sin(%s)"]
    return chance.choice(shapes) % (a, b) if chance.random() < 0.7 else chance.choice(roots) % a


def value(chance):
    """What the reward reads as a value."""
    a, b = formula(chance), formula(chance)
    shapes = ["(%s, %s)", "[%s, %s)", r"\{%s, %s\}", "%s, %s", "%s or %s", "x = %s", "y < %s", "%s : %s"]
    shape = chance.choice(shapes)
    if chance.random() < 0.5:
        return a + chance.choice(["", "", "", " cm", r"^\circ", r"\%", r"\text{ m}^2"])
    return shape % ((a, b) if shape.count("%s") == 2 else a)


def any_text(chance):
    kind = chance.random()
    if kind < 0.3:
        return value(chance)
    if kind < 0.85:
        return "".join(chance.choices(PIECES, k=chance.randint(1, 9)))
    return chance.randbytes(chance.randint(0, 30)).decode("utf-8", "surrogateescape")


def variant(chance, text):
    place = chance.randint(0, len(text))
    return text[:place] + chance.choice(PIECES) + text[place + chance.randint(0, 1) :]


@pytest.mark.slow
def test_200_000_texts():
    """Nothing escapes, a text equals itself also where it is read as a value, and no look at it takes long."""
    chance, slow = random.Random(1), []
    for _ in range(200_000):
        text = any_text(chance)
        if seconds_of_a_look(text) > LONG:
            slow.append(text)
    # Garbage of the tests before may have been collected meanwhile: whose time that is shows when it is asked again.
    for text in slow:
        verdict._cache.clear()
        assert seconds_of_a_look(text) < LONG, text
    verdict._cache.clear()


LONG = 0.5


def seconds_of_a_look(text):
    start = time.process_time()
    assert verify(text, text) == bool(text.strip()), text
    assert verdict._same_value(plain(text), plain(text)) is not False, text
    return time.process_time() - start


@pytest.mark.slow
def test_values_are_compared_alike_from_both_sides():
    """But for decimals, whose places an answer is rounded to, and not the other way round."""
    chance, compared = random.Random(2), 0
    for _ in range(40_000):
        one = value(chance)
        other = variant(chance, one) if chance.random() < 0.5 else value(chance)
        there, back = tiers(Question(one, other)), tiers(Question(other, one))
        if isinstance(there, Verdict) and isinstance(back, Verdict) and there.tier == back.tier == "value":
            compared += 1
            if not {".", ","} & set(one + other):
                assert there.equal == back.equal, (one, other)
    assert compared > 5_000


@pytest.mark.slow
def test_what_is_read_as_a_value_equals_itself():
    chance, read = random.Random(4), 0
    for _ in range(40_000):
        text = value(chance)
        same = verdict._same_value(plain(text), plain(text))
        assert same is not False, text
        read += same is True
    assert read > 30_000  # the others cannot be computed, such as 1/0


def test_whole_scores_of_random_texts():
    """The last tier included."""
    warm_up()
    chance = random.Random(3)
    for _ in range(300):
        one = any_text(chance)
        score = compute_score("", f"<think>{any_text(chance)}</think> \\boxed{{{one}}}", variant(chance, one))
        assert score["score"] == pytest.approx(0.9 * score["accuracy"] + 0.1 * score["format"])


@pytest.mark.parametrize(
    "text", ["{\\cup\\pmy", "0.5or \\infty\\pi", "\ud800", "\0", "7 is 7", "\\boxed{\\boxed{", "1e9999"]
)
def test_texts_that_once_went_wrong(text):
    parse_values(text)
    assert verify(text, text)
    assert verify(text, "42") is False
    assert verify("42", text) is False
