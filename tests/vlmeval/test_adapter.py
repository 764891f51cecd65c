"""The adapter: what evaluators get to see of a response."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vlmeval.config import supported_VLM  # noqa: F401  the adapter comes with it

from capcurr_plugin.vlmeval_host.adapter import CapabilityAdapter, final_answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"<think> it is A </think> \boxed{B}", "B"),
        (r"<think> \boxed{A} </think> \boxed{B}", "B"),
        (r"\boxed{\text{B}}", "B"),
        (r"\boxed{\textbf{\text{a blue mailbox}}}", "a blue mailbox"),
        (r"\boxed{$42$}", "42"),
        (r"\boxed{\(42\)}", "42"),
        (r"\boxed{42\%}", "42%"),
        (r"\boxed{\$1{,}000}", "$1,000"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\text{A} and \text{B}}", r"\text{A} and \text{B}"),
        (r"\boxed{}", None),
        (r"\boxed{\text{}}", None),
        ("The answer is B.", None),
        (r"<think> it is A \boxed{", None),
        ("", None),
    ],
)
def test_the_final_answer(response, answer):
    assert final_answer(response) == answer


@given(st.text())
def test_a_response_without_a_box_is_handed_on_as_it_is(text):
    if final_answer(text) is None:
        assert CapabilityAdapter().postprocess(text) == text


@given(st.text(), st.text(alphabet=st.characters(blacklist_characters="\\{}$"), min_size=1))
def test_an_answer_in_a_box_is_found_after_any_text(text, answer):
    found = final_answer(f"{text} \\boxed{{{answer}}}")
    assert found == (answer.strip() or final_answer(text))
