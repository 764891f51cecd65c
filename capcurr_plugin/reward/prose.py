"""The value that a text in words gives: answers and ground truths are sometimes written out.

Only what stands right behind a word such as "is" counts, up to the end of its sentence, and only when nothing nearby
denies it or offers another.
"""

import re
from itertools import pairwise

from capcurr_plugin.reward.boxed import extract_boxed
from capcurr_plugin.reward.words import DENIAL, OPEN, OTHER_SUBJECT

SHORT = 300  # characters; a text that is no longer has one sentence with a value, or leaves the value open
MAX_LOOK = 2_000  # characters at the end of a text, or after the words "final answer"

_WORD = re.compile(
    r"(?<![\\A-Za-z])(?:[^\W\d_]{4,}|the|is|are|was|it's|so|not|and|or|get|for|has|than)(?![A-Za-z])", re.IGNORECASE
)
_FINAL = re.compile(r"final answer\b(?:\s+is)?\s*:?", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?;](?=\s|\\?\"|$)|\n|<\|")
_CUE = re.compile(
    r"(?:\b(?:is|are|was|were|it's|equals|equal|be|becomes|gets?|has|have|find that|find|therefore|thus|hence|so"
    r"|answer)(?:\s+(?:clearly|simply|definitely|indeed))?\b"
    r"|\b\w*(?:creas|ris|fall|grow|drop)\w* by\b|(?<=[A-Za-z])\s?:)"
    r"(?:\s*(?:approximately|about|exactly|simply|just|then|:|,))*\s*",
    re.IGNORECASE,
)
_CLAIMED = re.compile(
    r"\s*,?\s*is\s+(?:the|our|my)\s+(?:final\s+|correct\s+)?(?:answer|solution|result)\b", re.IGNORECASE
)
_ANSWERED = re.compile(r"\s*(yes|no)\s*(,.{0,200})?", re.IGNORECASE | re.DOTALL)
_FILLER = re.compile(r"\s*I hope\b", re.IGNORECASE)
_COUNTED = re.compile(r"\s(?:that|which|who|where|with|in|on|of|ago|for|at)\b.*", re.DOTALL)
_PRICE = re.compile(r"([-+]?\d[\d.,]{0,60}\s?[$€£¥])\s.*", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.,$\\^_{])[-+]?\d[\d,]{0,60}(?:\.\d{1,60})?(?![\w^_}(]|\.\d)")
# Within a line, but for formulas that are set apart
_MATH = re.compile(r"\$\$(?s:.+?)\$\$|\\\[(?s:.+?)\\\]|(?<!\\)\$[^\n]+?(?<!\\)\$|\\\([^\n]+?\\\)")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]{0,200}\}){0,200}\}){1,500})\}")
_BETWEEN_BOXES = re.compile(r"(?:[\s,;+${}]|\\q?quad|\\[()]|\\text|(?:\w{1,20} )?\band\b)*")
_DENIED_BEFORE = re.compile(r"(?:\bnot|\bnever|n't|\bneither|\bnor|\bexcept)\W*$", re.IGNORECASE)
_OR = re.compile(r"[\s$]*(?:\\text\s*\{)?\W*or\W*", re.IGNORECASE)
_DENIED_AFTER = re.compile(
    r"[\s$.?!]*(?:\\text\s*\{\s*)?(?:is\s+(?:not|wrong|incorrect|false)|or\b|\?|no\b)", re.IGNORECASE
)


def final_value(text: str) -> str | None:
    """What a text in words, or one with a box in it, gives; None when it is no such text, or leaves the value open."""
    last_box = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    final = next(reversed(list(_FINAL.finditer(text))), None)
    if final and final.start() > last_box:
        found = _after_final_answer(text[final.end() : final.end() + MAX_LOOK])
        if found:
            return found
    end = text[-MAX_LOOK:]
    if last_box >= 0:
        return None if _box_in_doubt(end) else _boxes(end) or extract_boxed(text)
    if not _WORD.search(_MATH.sub(" ", end)):
        return None
    if _ANSWERED.fullmatch(end):
        return _yes_or_no([end])
    sentences = [sentence for sentence in _sentences(end) if sentence.strip() and not _FILLER.match(sentence)]
    if len(text) <= SHORT and len(sentences) > 1:
        return _yes_or_no(sentences) if _ANSWERED.fullmatch(sentences[0]) else None
    for sentence in reversed(sentences):
        if _CUE.search(sentence):
            return _given(sentence)
    return _yes_or_no(sentences)


def _yes_or_no(sentences: list[str]) -> str | None:
    """ "Yes, they are similar" says yes."""
    match = _ANSWERED.fullmatch(sentences[0]) if sentences else None
    if not match or OPEN.search(match[2] or "") or re.search(r"\b(?:yes|no)\b", (match[2] or "").lower()):
        return None
    return match[1]


def _after_final_answer(text: str) -> str | None:
    sentence = next((sentence for sentence in _sentences(text) if sentence.strip()), "")
    given = _given("answer: " + sentence, final=True)
    numbers = _NUMBER.findall(given or "")
    if given and len(numbers) == 1 and _WORD.search(given) and "\\" not in given:
        return numbers[0]  # Final answer: it took 3 hours to grow
    return given


def _sentences(text: str) -> list[str]:
    """Split where no formula goes on."""
    kept = [match.span() for match in _MATH.finditer(text)]
    sentences, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        if not any(a < end.start() < b - 1 for a, b in kept):
            sentences.append(text[start : end.start()])
            start = end.end()
    return [*sentences, text[start:]]


def _given(sentence: str, *, final: bool = False) -> str | None:
    """What stands behind the last cue of a sentence. `final`: it has been announced as the answer."""
    claimed = _CLAIMED.search(sentence)
    sentence = sentence[: claimed.start()] if claimed else sentence
    blank = _MATH.sub(_blank, sentence)
    cues = list(_CUE.finditer(blank))
    if not cues:
        return None
    value = sentence[cues[-1].end() :].replace('\\"', " ").strip(' "')
    claim = re.split(r"[\d¤]", blank[: cues[-1].start()])[-1]  # "not 10, which is" denies the 10
    before = blank[max(0, cues[-1].start() - 80) : cues[-1].start()]
    if DENIAL.search(claim) or DENIAL.search(value) or OPEN.search(value):
        return None
    if not final and (OPEN.search(before) or OTHER_SUBJECT.search(before)):
        return None
    price = _PRICE.fullmatch(value)
    return price[1] if price else _COUNTED.sub("", value).strip() or None


def _blank(match: re.Match[str]) -> str:
    return "¤" * len(match[0])


def _box_in_doubt(text: str) -> bool:
    """What stands around the last box denies it, or offers another answer."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return False
    before, after = text[: boxes[-1].start()], boxes[-1].end()
    offered = len(boxes) > 1 and _OR.fullmatch(text, boxes[-2].end(), boxes[-1].start())
    return bool(offered or _DENIED_BEFORE.search(before) or _DENIED_AFTER.match(text, after))


def _boxes(text: str) -> str | None:
    """The boxes at the end, when they are several with only "and" between them, as one list."""
    boxes = list(_BOX.finditer(text))
    start = len(boxes) - 1
    for place, (one, other) in reversed(list(enumerate(pairwise(boxes)))):
        if other.start() - one.end() > 40 or not _BETWEEN_BOXES.fullmatch(text, one.end(), other.start()):
            break
        start = place
    return ", ".join(box[1] for box in boxes[start:]) if len(boxes) - start > 1 else None
