"""What a response in the toy world's words states, and which of it is wrong. The scene is known: nothing is guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from capcurr_plugin.attribution.kinds import Kind
from capcurr_plugin.reward import extract_boxed
from capcurr_plugin.toyworld.scenes import COLORS, PLACES, SHAPES, Scene

_COLORS, _SHAPES, _PLACES = ("|".join(words) for words in (COLORS, SHAPES, PLACES))

_OF_PLACE = re.compile(rf"({_PLACES}): ({_COLORS}|{_SHAPES})")
_OF_COLOR = re.compile(rf"({_COLORS}): ({_PLACES}|\d{{1,6}})")
_SUM = re.compile(r"(\d{1,6}) ([+-]) (\d{1,6}) = (-?\d{1,6})")
_OPTION = re.compile(r"^([A-D])[.:] (.*)$", re.MULTILINE)  # in the forms of the rows, and of VLMEvalKit
_THINKING = re.compile(r"<think>(.*?)</think>", re.DOTALL)


@dataclass(frozen=True)
class Finding:
    """The first error that a wrong answer hangs on."""

    kind: Kind
    quote: str
    shows: str  # what the scene has instead, in words


def first_error(question: str, truth: str, response: str, scene: Scene | None) -> Finding:
    """Statement by statement: is it about what was asked, does the scene have it, is the sum right, and does the boxed
    answer follow from the last of them?"""
    thinking = _THINKING.search(response)
    boxed = extract_boxed(response)
    if boxed is None or thinking is None:
        return Finding("format_or_extraction", response.strip()[-80:], "")
    statements = [text for part in thinking[1].split(". ") if (text := part.strip().rstrip("."))]
    last: str | None = None  # what the statements come to
    for text in statements:
        finding, last = _of_statement(text, question, scene, last)
        if finding:
            return finding
    options = dict(_options(question))
    if boxed.strip() in (truth, options.get(truth)):
        return Finding("answer_is_right", "", "")
    if last is None or not statements:
        return Finding("format_or_extraction", thinking[1].strip()[-80:] or response.strip()[-80:], "")
    return Finding("reasoning", _box(response, boxed), f"the statements come to {last}")


def _of_statement(text: str, question: str, scene: Scene | None, last: str | None) -> tuple[Finding | None, str | None]:
    if found := _SUM.fullmatch(text):
        return _of_sum(text, found, question, last)
    if scene is None or not (told := _told(text)):
        return Finding("format_or_extraction", text, "a statement in no form that is known"), last
    subject, said = told
    options = dict(_options(question))
    answers = said in options.values() if options else said.isdigit()
    if not _is_asked(subject, question) or not answers:
        return Finding("question_comprehension", text, f"the question asks for something else than {text}"), last
    shown = _shown(subject, said, scene)
    if said not in shown:
        return Finding("perception", text, f"{subject}: {' or '.join(shown) or 'nothing'}"), last
    return None, said


def _options(question: str) -> list[tuple[str, str]]:
    return [(letter, text.strip()) for letter, text in _OPTION.findall(question)]


def _told(text: str) -> tuple[str, str] | None:
    """What a statement about the scene is about, and what it says of it."""
    found = _OF_PLACE.fullmatch(text) or _OF_COLOR.fullmatch(text)
    return (found[1], found[2]) if found else None


def _is_asked(subject: str, question: str) -> bool:
    before_options = _OPTION.split(question)[0]
    return re.search(rf"\b{subject}", before_options) is not None  # or more than one of it


def _shown(subject: str, said: str, scene: Scene) -> list[str]:
    """What the scene has for a subject, in the words of the statement."""
    if subject in PLACES:
        return [thing.color if said in COLORS else thing.shape for thing in scene.things if thing.place == subject]
    things = scene.of_color(subject)
    return [str(len(things))] if said.isdigit() else [thing.place for thing in things]


def _of_sum(text: str, found: re.Match[str], question: str, last: str | None) -> tuple[Finding | None, str | None]:
    first, sign, second, result = (str(part) for part in found.groups())
    asked = re.findall(r"\d+", question)
    if first not in (*asked, last) or second not in asked:
        return Finding("question_comprehension", text, f"the question has {', '.join(asked)}"), last
    right = int(first) + int(second) if sign == "+" else int(first) - int(second)
    if int(result) != right:
        return Finding("reasoning", text, f"{first} {sign} {second} = {right}"), last
    return None, result


def _box(response: str, boxed: str) -> str:
    whole = f"\\boxed{{{boxed}}}"
    return whole if whole in response else boxed
