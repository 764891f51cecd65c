"""Answers that are read at first sight: one letter, a number, a fraction, a multiple of a root.

Most answers of a training run are such, and this tells two of them apart in microseconds. It says what the later tiers
would say, or nothing.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from capcurr_plugin.reward.units import UNIT_OF

_LETTER = re.compile(r"(?:\\(?:text|textbf|mathrm|mathbf)\{)?\s*(?:[Oo]ption )?\(?([A-Ja-j])\)?[.:]?\s*\}?[.:]?")
_TRUTH_LETTER = re.compile(r"\(?([A-J])\)?")
_VALUE = re.compile(
    r"([+-]?)(\$?)(?:"
    r"([1-9]\d{0,2}(?:,\d{3}){1,3}|\d{1,15})(?:\.(\d{1,8}))?"  # a number
    r"(?:/(\d{1,9})|(?:\*|\\cdot|\s)?\\sqrt\{(\d{1,9})\})?"  # over another, or times a root
    r"|\\[dt]?frac\{([+-]?\d{1,9})\}\{(\d{1,9})\}"
    r"|\\sqrt\{(\d{1,9})\})"
    r"(?:\s*(?:\\[ ,])?\\(?:text|mathrm)\{\s*([A-Za-z]{1,20})\s*\}|\s([A-Za-z]{2,20})|(\^\\circ|\^\{\\circ\}|°|\\?%))?"
)
_SIGNS = {"^\\circ": "degree", "^{\\circ}": "degree", "°": "degree", "\\%": "%", "%": "%", "$": "usd"}


@dataclass(frozen=True, slots=True)
class Sight:
    """above / below * sqrt(root), or a letter."""

    letter: str = ""
    above: int = 0
    below: int = 1
    root: int = 1
    places: int = 0  # after the point of a decimal
    unit: str = ""


def same_at_sight(answer: str, truth: str) -> tuple[bool, bool] | None:
    """Whether they are equal, and whether that is a matter of choice; None where this takes a closer look."""
    wanted = _read_truth(truth)
    if wanted is None:
        return None
    if wanted.letter:
        match = _LETTER.fullmatch(answer)
        return (match[1].upper() == wanted.letter, True) if match else None
    given = _read(answer)
    if given is None or (given.unit and wanted.unit and given.unit != wanted.unit):
        return None
    if (given.unit == "%") != (wanted.unit == "%"):  # 50 % is 50, and it is 0.5
        return None
    equal = _same(given, wanted)
    return None if equal is None else (equal, False)


@lru_cache(4096)  # a group of rollouts shares its ground truth
def _read_truth(truth: str) -> Sight | None:
    match = _TRUTH_LETTER.fullmatch(truth)
    return Sight(letter=match[1]) if match else _read(truth)


def _read(text: str) -> Sight | None:
    match = _VALUE.fullmatch(text)
    if not match:
        return None
    sign, money, whole, decimals, divisor, factor_root, above, below, root, *units = match.groups()
    unit = next((unit for unit in (*units, money) if unit), "")
    if unit:
        unit = _SIGNS.get(unit) or UNIT_OF.get(unit.lower(), "")
        if not unit or (money and any(units)):
            return None
    minus = -1 if sign == "-" else 1
    if above:
        return Sight(above=minus * int(above), below=int(below), unit=unit) if int(below) else None
    if root:
        return Sight(above=minus, root=int(root), unit=unit)
    if decimals:
        if divisor or factor_root:
            return None
        number = int(whole.replace(",", "") + decimals)
        return Sight(above=minus * number, below=10 ** len(decimals), places=len(decimals), unit=unit)
    if divisor and not int(divisor):
        return None
    return Sight(
        above=minus * int(whole.replace(",", "")), below=int(divisor or 1), root=int(factor_root or 1), unit=unit
    )


def _same(given: Sight, wanted: Sight) -> bool | None:
    left, right = given.above * wanted.below, wanted.above * given.below
    if wanted.places:
        if given.root != 1:
            return None
        return 2 * abs(left - right) * 10**wanted.places <= given.below * wanted.below
    if given.root == wanted.root:
        return left == right
    if (left > 0) != (right > 0):
        return left * given.root == right * wanted.root == 0
    return left * left * given.root == right * right * wanted.root
