"""Multiple choice: which letter an answer names."""

import re
from collections.abc import Callable, Mapping

from capcurr_plugin.reward.plain import plain
from capcurr_plugin.reward.prose import final_value
from capcurr_plugin.reward.words import DENIAL, OPEN, are_words, same_but_for_case, same_label, same_words

Options = Mapping[str, str]  # the text of each letter
Same = Callable[[str, str], bool | None]

_TRUTH = re.compile(r"[(\[]?([A-J])[)\].:]?")
_SEVERAL_TRUTHS = re.compile(r"[A-J](?:\s*,\s*[A-J])+")
_CALLED = r"(?:(?:the\s+)?(?:correct\s+)?(?:option|answer|choice)\s*(?:is)?\s*:?\s*)?"
_ALONE = re.compile(rf"{_CALLED}[(\[{{]?([A-J])[)\]}}]?\s*[.:),;!]?\s*", re.IGNORECASE)
_SEVERAL = re.compile(r"[(\[]?\s*[A-J]\s*[)\]]?(?:(?:\s*(?:,|;|&|and)\s*)+[(\[]?\s*[A-J]\s*[)\]]?)+", re.IGNORECASE)
_WITH_TEXT = re.compile(
    rf"{_CALLED}(?:[(\[]([A-J])[)\]]\s*[.:]?|([A-J])(?:[.):]|\s*[-–]\s*|,\s*|(?=\()|(?=\s(?:because|since)\b))|(?<=\s)([A-J]),?(?=\s))\s*(.+)",
    re.IGNORECASE | re.DOTALL,
)
_SAID = re.compile(r"\b(?:option|answer|choice)(?:\s+is|\s*:)?\s+[(\[]?([A-J])[)\]]?(?![\w'])")
_DOUBT = re.compile(r"\b(?:or|unlikely|likely|everything|rest|guess|excluded|out|else|maybe|perhaps)\b", re.IGNORECASE)
_CHOSEN = re.compile(
    r"(?:therefore,? |so |thus,? |hence,? |i (?:choose|pick|select) )?(?:it is |it's )?[(\[]?([A-J])[)\]]?"
    r"(?: is (?:the )?(?:correct|right)(?: answer| option| choice)?)?",
    re.IGNORECASE,
)
_TEXT_FIRST = re.compile(r"(.{1,80}?)\s*\(([A-J])\)", re.DOTALL)
_ABBREVIATED = re.compile(r"[A-Za-z]\.\s?[A-Za-z](?:\.|$)")
# A letter that stands for itself; the article and the pronoun are words.
_OTHER_LETTER = re.compile(
    r"[(\[][A-Ja-j][)\]]|(?<![\w'\\])(?:[B-HJb-hj](?![\w'])|[AIai](?=\s*(?:[).,:;/?]|$|or\b|and\b)))"
)


def judge_choice(given: str, wanted: str, options: Options, same_value: Same) -> bool | None:
    """For a ground truth of one letter or several; None when it is none."""
    if _SEVERAL_TRUTHS.fullmatch(wanted):
        letters = re.findall(r"\b[A-J]\b", given.upper()) if _SEVERAL.fullmatch(given) else []
        return bool(letters) and sorted(set(letters)) == sorted(set(re.findall(r"[A-J]", wanted)))
    letter = _wanted_letter(wanted, options)
    if letter is None:
        return None
    alone = _ALONE.fullmatch(given)
    if alone:
        return alone[1].upper() == letter
    if _SEVERAL.fullmatch(given):
        return False
    chosen = _CHOSEN.fullmatch(given)
    if chosen:
        return chosen[1].upper() == letter
    text_first = _TEXT_FIRST.fullmatch(given)
    if text_first:
        return text_first[2] == letter and _fits(text_first[1], letter, options, same_value)
    with_text = _WITH_TEXT.fullmatch(given)
    if with_text and not _ABBREVIATED.match(given):
        named = (with_text[1] or with_text[2] or with_text[3]).upper()
        return named == letter and _fits(with_text[4].strip(), letter, options, same_value)
    if options:
        said = _option_said(given, options, same_value) or _option_said(final_value(given) or "", options, same_value)
        return said == letter
    said = {match.upper() for match in _SAID.findall(given)}
    return (
        said == {letter}
        and not DENIAL.search(given)
        and not OPEN.search(given)
        and len(set(_OTHER_LETTER.findall(given))) <= 1
    )


def _wanted_letter(wanted: str, options: Options) -> str | None:
    """The letter that a ground truth is, or the one whose option it spells out."""
    match = _TRUTH.fullmatch(wanted)
    if match:
        return match[1]
    spelt = [letter for letter, text in options.items() if plain(text) == wanted]
    return spelt[0] if len(spelt) == 1 else None


def _fits(text: str, letter: str, options: Options, same_value: Same) -> bool:
    """What stands beside a letter does not contradict it."""
    if letter in options:
        bare = text[1:-1].strip() if text.startswith("(") and text.endswith(")") else text
        return letter in {_option_said(text, options, same_value), _option_said(bare, options, same_value)}
    return not DENIAL.search(text) and not _DOUBT.search(text) and not _OTHER_LETTER.search(text)


def _option_said(given: str, options: Options, same_value: Same) -> str | None:
    """The one option whose text it is: to the letter, else in other words, else by value."""

    def same_both_ways(one: str, other: str) -> bool | None:  # a decimal option takes in what rounds to it
        return same_value(one, other) and same_value(other, one)

    for same in (str.__eq__, same_but_for_case, same_label, _same_words, same_both_ways, same_value):
        found = [letter for letter, text in options.items() if same(given, plain(text))]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _same_words(one: str, other: str) -> bool:
    return are_words(one) and are_words(other) and same_words(one, other)
