"""The unified prompt: its text, where it goes, and that it is written down once."""

from pathlib import Path

import jinja2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capcurr_plugin.prompt import (
    EVALUATION,
    PLACEMENTS,
    TRAINING,
    UNIFIED_PROMPT,
    chat_messages,
    easyr1_template,
    system_message,
    user_turn,
)

CHECKOUT = Path(__file__).resolve().parents[2]

TEXT = (
    r"You FIRST think about the reasoning process as an internal monologue and then provide the final answer. "
    r"The reasoning process MUST BE enclosed within <think> </think> tags. The final answer MUST BE put in \boxed{}. "
    r"i.e. <think> reasoning here </think> \boxed{final answer here}"
)
TEMPLATE = jinja2.Template(easyr1_template())


def test_text():
    assert UNIFIED_PROMPT == TEXT


def test_placements():
    assert PLACEMENTS == ("user", "system", "none")
    assert TRAINING == "user"
    assert EVALUATION == "system"


def test_prompt_in_the_user_turn():
    assert chat_messages(" How many?\n", "user") == [{"role": "user", "content": f"How many? {TEXT}"}]
    assert system_message("user") is None


def test_prompt_as_system_message():
    assert chat_messages(" How many?\n", "system") == [
        {"role": "system", "content": TEXT},
        {"role": "user", "content": " How many?\n"},
    ]


def test_no_prompt():
    assert chat_messages(" How many?\n", "none") == [{"role": "user", "content": " How many?\n"}]
    assert system_message("none") is None


def test_template_text():
    assert easyr1_template() == "{{ content | trim }} " + TEXT


@settings(deadline=None)
@example("")
@example("How many?\n")
@example("\n\n  How many? \t\r\n")
@example("\u00a0\u3000\x1c wide and odd spaces \u2028\x1f\x85")
@example("{{ content }}")
@example("{% raw %} {% if x %}")
@example("{# a comment #}")
@example("<b> & 'quotes' \"too\" \\boxed{1}")
@given(st.text())
def test_template_renders_the_user_turn(problem):
    assert TEMPLATE.render(content=problem) == user_turn(problem, "user")


@settings(deadline=None)
@given(st.text(alphabet="{}%# \n\\-ax|"))
def test_template_renders_jinja_syntax_as_it_stands(problem):
    assert TEMPLATE.render(content=problem) == user_turn(problem, "user")


@pytest.mark.parametrize(
    "fragment",
    ["internal monologue", "MUST BE enclosed", "final answer MUST BE", "reasoning here </think>", "FIRST think about"],
)
def test_written_down_once(fragment):
    folders = ("capcurr_plugin", "verl_recipes", "vlmeval_configs")
    files = [file for folder in folders for file in (CHECKOUT / folder).rglob("*") if file.is_file()]
    texts = {file.relative_to(CHECKOUT).as_posix(): file.read_bytes() for file in files if file.suffix != ".pyc"}
    assert [name for name, text in texts.items() if fragment.encode() in text] == ["capcurr_plugin/prompt.py"]
