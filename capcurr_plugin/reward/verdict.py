"""Whether an answer equals the ground truth: the same text once dress is taken off, or the same rational number."""

import re
from fractions import Fraction

MAX_LENGTH = 10_000  # of an answer that is compared at all

_DRESS = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_DRESS_DEPTH = 4
_NOISE = re.compile(r"\\[,;:!]|\$|\\left|\\right")
_LOOSE_SPACE = re.compile(r"\s+(?=\W|$)|(?<=\W)\s+|^\s+")  # beside anything but letters and digits
_FRACTION = re.compile(r"([+-]?)\\[dt]?frac\{(-?\d{1,40})\}\{(\d{1,40})\}")
_NUMBER = re.compile(r"[+-]?(?:\d{1,40}|\d{1,3}(?:,\d{3}){1,12})(?:\.\d{1,40})?(?:/\d{1,40})?")
_LETTER = re.compile(r"\(?([A-Ja-j])[).:]?")


def verify(answer: str, ground_truth: str) -> bool:
    if len(answer) > MAX_LENGTH or len(ground_truth) > MAX_LENGTH:
        return False
    given, wanted = _plain(answer), _plain(ground_truth)
    if given == wanted:
        return wanted != ""
    number = _number(given)
    return number is not None and number == _number(wanted)


def _plain(text: str) -> str:
    for _ in range(_DRESS_DEPTH):
        text = _DRESS.sub(r"\1", text)
    text = _LOOSE_SPACE.sub("", _NOISE.sub("", text)).rstrip(".").casefold()
    letter = _LETTER.fullmatch(text)
    return letter[1] if letter else text


def _number(text: str) -> Fraction | None:
    fraction = _FRACTION.fullmatch(text)
    text = f"{fraction[1]}{fraction[2]}/{fraction[3]}" if fraction else text
    if not _NUMBER.fullmatch(text):
        return None
    numerator, _, denominator = text.replace(",", "").partition("/")
    divisor = Fraction(denominator or 1)
    return Fraction(numerator) / divisor if divisor else None
