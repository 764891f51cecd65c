"""Units: which letters and words behind a number are one, and its name."""

import re

from capcurr_plugin.reward.plain import UNIT_MARK
from capcurr_plugin.reward.words import NOT_COUNTED, is_no_noun

_NAMES = {
    "mm": "millimeter millimetre", "cm": "centimeter centimetre", "dm": "decimeter decimetre", "m": "meter metre",
    "km": "kilometer kilometre", "in": "inch inches", "ft": "foot feet", "yd": "yard", "mi": "mile", "g": "gram gramme",
    "kg": "kilogram kilo", "mg": "milligram", "lb": "pound lbs", "oz": "ounce", "ton": "tonne", "s": "second sec",
    "min": "minute", "h": "hour hr", "day": "", "week": "", "month": "", "year": "yr", "ms": "millisecond",
    "l": "liter litre", "ml": "milliliter millilitre", "degree": "deg", "c": "celsius", "f": "fahrenheit",
    "rad": "radian", "n": "newton", "kn": "kilonewton", "j": "joule", "kj": "kilojoule", "w": "watt", "kw": "kilowatt",
    "v": "volt", "a": "ampere amp", "ohm": "Ω", "pa": "pascal", "kpa": "kilopascal", "hz": "hertz", "khz": "kilohertz",
    "mhz": "megahertz", "coulomb": "", "mol": "mole", "k": "kelvin", "%": "percent percentage pct", "usd": "dollar",
    "eur": "euro", "gbp": "", "jpy": "yen", "inr": "rupee", "cent": "", "unit": "",
}  # fmt: skip
UNIT_OF = {name: unit for unit, names in _NAMES.items() for name in (unit, *names.split())}
# One letter is a unit only where it cannot be a variable: set upright after a number, or after a plain number.
_LETTERS = {letter: letter.lower() for letter in "mgshlLNJWVAFK"} | {"t": "ton", "Ω": "ohm", "C": "c"}
_AMID_FORMULAS = frozenset("mm cm dm km ml kg".split())  # units that no product of variables looks like
_SPELT = {"mph": {"mi": 1, "h": -1}, "kph": {"km": 1, "h": -1}, "kmh": {"km": 1, "h": -1}}
_MONEY = {"US$": "usd", "$": "usd", "€": "eur", "£": "gbp", "\\pounds": "gbp", "¥": "jpy", "₹": "inr"}
# Behind what is counted these may follow: 5 cm long, 5 apples in total.
_ADDED = frozenset("long wide tall high deep old away apart each total in per all altogether".split())
_DEGREES = re.compile(r"(.*?)\s*(?:\^\s*\{?\s*(?:\\circ|°)\s*\}?|°|\\degree)\s*\ue000?([CF]?)", re.DOTALL)
_PERCENT = re.compile(r"(.*?)\s*\\?%", re.DOTALL)
_BRACKETED = re.compile(r"(.*\d)\s*[(\[]\s*\ue000?\s*([A-Za-z]{1,20})\s*[)\]]", re.DOTALL)
_FRACTION = re.compile(
    r"\\frac\s*\{\s*\ue000?([A-Za-z][^{}]{0,20})\}\s*\{\s*\ue000?([A-Za-z](?:[^{}]|\{[^{}]*\}){0,20})\}$"
)
_BEHIND = re.compile(
    r"(?<=[\d)}.\s\ue000])\s*"
    r"([A-Za-zµΩ](?:[A-Za-z .Ω/*·\ue000]|\\cdot|\^\s*\{?\s*-?\d\s*\}?|[²³⁻¹]|(?<=[A-Za-z])[23](?!\w))*)$"
)
_FACTOR = re.compile(r"\s*(/|\*|·|\\cdot)?\s*([A-Za-zΩ]+)\s*(?:\^\s*\{?\s*(-?\d)\s*\}?|([23]))?")
_POWER_OF_TEN = re.compile(r"10\s*\^\s*\{?\s*[+-]?\d{1,3}\s*\}?$")
_POWER_WORDS = {"square": 2, "squared": 2, "sq": 2, "cubic": 3, "cubed": 3}
_RAISED = {"²": "^2", "³": "^3", "⁻¹": "^-1", "⁻²": "^-2"}


def split_unit(text: str) -> tuple[str, str | None, bool]:
    """The text without the unit before or after it, that unit, and whether it is one without doubt: money, a sign, or
    set upright; other letters behind a formula may be variables."""
    for sign, unit in _MONEY.items():
        if text.startswith((sign, f"-{sign}")):
            return text.replace(sign, "", 1).strip(), unit, True
        if text.endswith(sign):
            return text[: -len(sign)].strip(), unit, True
    degrees = _DEGREES.fullmatch(text)
    if degrees:
        return degrees[1], degrees[2].lower() or "degree", bool(degrees[2])
    percent = _PERCENT.fullmatch(text)
    if percent:
        return percent[1], "%", True
    return _behind(text)


def _behind(text: str) -> tuple[str, str | None, bool]:
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed and bracketed[2].lower() in UNIT_OF:
        return bracketed[1], UNIT_OF[bracketed[2].lower()], True
    fraction = _FRACTION.search(text)
    if fraction:
        unit = unit_name(f"{fraction[1]}/{fraction[2]}", letters_too=True)
        if unit:
            return text[: fraction.start()].strip(), unit, True
    match = _BEHIND.search(text)
    if not match:
        return text, None, False
    before = text[: match.start()].rstrip()
    upright = before.endswith(UNIT_MARK)
    before = before.rstrip(UNIT_MARK).rstrip()
    apart = upright or match.start(1) != match.start() or match[1][0] in "mNJVWK" or "/" in match[1]
    apart = apart or bool(_POWER_OF_TEN.search(before))
    unit = unit_name(match[1].replace(UNIT_MARK, " "), letters_too=apart)
    return (before, unit, upright or _is_no_variable(match[1], unit)) if unit else (text, None, False)


def _is_no_variable(text: str, unit: str) -> bool:
    """No product of variables looks like it."""
    letters = re.match(r"[A-Za-z]*", text)[0]  # pyright: ignore[reportOptionalSubscript]  it matches nothing, too
    return letters in _AMID_FORMULAS or (len(letters) > 3 and is_known(unit))


def unit_name(text: str, *, letters_too: bool) -> str | None:
    """The canonical name, such as kg*m*s^-2; any noun is the unit of what it counts."""
    for sign, power in _RAISED.items():
        text = text.replace(sign, power)
    text = re.sub(r"^degrees?\s+(?=[A-Z])", "", text.strip(" ."), flags=re.IGNORECASE)
    physical = _physical(re.sub(r"\bper\b", "/", text), letters_too)
    return physical if physical else _noun(text)


def is_known(unit: str) -> bool:
    return all(part.partition("^")[0] in _NAMES for part in unit.split("*"))


def _physical(text: str, letters_too: bool) -> str | None:
    """Known units, multiplied and divided."""
    powers: dict[str, int] = {}
    end, sign, power_word = 0, 1, 1
    text = " ".join(word for place, word in enumerate(text.split()) if not place or word.lower() not in _ADDED)
    while end < len(text):
        match = _FACTOR.match(text, end)
        if not match:
            return None
        end = match.end()
        sign = -1 if match[1] == "/" else 1 if match[1] else sign
        if match[2].lower() in _POWER_WORDS:
            word = match[2].lower()
            if word.endswith("d") and powers:  # meters squared
                powers[next(reversed(powers))] *= _POWER_WORDS[word]
            else:
                power_word = _POWER_WORDS[word]
            continue
        power = sign * int(match[3] or match[4] or 1) * power_word
        power_word = 1
        spelt = _SPELT.get(match[2].lower()) or {_known(match[2], letters_too) or "": 1}
        for unit, times in spelt.items():
            powers[unit] = powers.get(unit, 0) + times * power
    if not powers or "" in powers or power_word != 1:
        return None
    return "*".join(unit if power == 1 else f"{unit}^{power}" for unit, power in sorted(powers.items()) if power)


def _known(word: str, letters_too: bool) -> str | None:
    if len(word) == 1:
        return _LETTERS.get(word) if letters_too else None
    return UNIT_OF.get(word.lower()) or UNIT_OF.get(_singular(word.lower()))


def _noun(text: str) -> str | None:
    words = text.lower().split()
    counted = 0 < len(words) <= 3 and all(len(word) > 1 and word.isalpha() for word in words) and len(text) > 2
    if not counted or not NOT_COUNTED.isdisjoint(words) or any(map(is_no_noun, words)):
        return None
    if any(_known(word, letters_too=False) for word in words):
        return None
    return " ".join(_singular(word) for word in words if word not in _ADDED) or None


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word
