"""Units: which letters and words behind a number are one, and its name."""

import re

from capcurr_plugin.reward.plain import UNIT_MARK
from capcurr_plugin.reward.words import NOT_COUNTED

UNITS = {
    "mm": "millimeter millimetre mm", "cm": "centimeter centimetre cm", "dm": "decimeter decimetre dm",
    "m": "meter metre", "km": "kilometer kilometre km", "in": "inch inches in", "ft": "foot feet ft", "yd": "yard yd",
    "mi": "mile mi", "g": "gram gramme", "kg": "kilogram kilo kg", "mg": "milligram mg", "lb": "pound lb",
    "oz": "ounce oz", "ton": "ton tonne", "s": "second sec", "min": "minute min", "h": "hour hr", "day": "day",
    "week": "week", "month": "month", "year": "year yr", "ms": "millisecond ms", "l": "liter litre",
    "ml": "milliliter millilitre ml", "degree": "degree deg", "c": "celsius", "f": "fahrenheit", "rad": "radian rad",
    "n": "newton", "j": "joule", "w": "watt", "v": "volt", "a": "ampere amp", "ohm": "ohm", "pa": "pascal pa",
    "hz": "hertz hz", "mph": "mph", "%": "percent percentage pct", "usd": "dollar usd", "eur": "euro eur", "gbp": "gbp",
    "jpy": "yen jpy", "cent": "cent", "unit": "unit", "mol": "mole mol", "k": "kelvin", "kw": "kilowatt kw",
    "kj": "kilojoule kj",
}  # fmt: skip
# One letter is a unit only where it cannot be a variable: set upright after a number, or after a plain number.
LETTER_UNITS = {letter: letter.lower() for letter in "mgshltLNJWVACFK"} | {"t": "ton", "Ω": "ohm"}
AMID_FORMULAS = frozenset("mm cm dm km ml kg".split())  # units that no product of variables looks like
UNIT_OF = {alias: unit for unit, aliases in UNITS.items() for alias in aliases.split()}
_MONEY = {"$": "usd", "€": "eur", "£": "gbp", "¥": "jpy"}
# Behind what is counted these may follow: 5 cm long, 5 apples in total.
_ADDED = frozenset("long wide tall high deep old away apart each total in per all altogether".split())
_DEGREES = re.compile(r"(.*?)\s*(?:\^\s*\{?\s*(?:\\circ|°)\s*\}?|°|\\degree)\s*\ue000?([CF]?)", re.DOTALL)
_PERCENT = re.compile(r"(.*?)\s*\\?%", re.DOTALL)
_BEHIND = re.compile(
    r"(?<=[\d)}.\s\ue000])\s*([A-Za-zµΩ][A-Za-z .]*(?:\s*/\s*[A-Za-z]+)?(?:\s*\^\s*\{?-?[23]\}?|[23²³])?"
    r"(?:\s*/\s*[A-Za-z]+)?)$"
)
_POWER_WORDS = {"square ": "^2", "squared": "^2", "sq ": "^2", "sq.": "^2", "cubic ": "^3", "cubed": "^3"}


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
    match = _BEHIND.search(text)
    if not match or "\\" in text[match.start() :]:
        return text, None, False
    before = text[: match.start()].rstrip()
    upright = before.endswith(UNIT_MARK)
    before = before.rstrip(UNIT_MARK).rstrip()
    apart = upright or match.start(1) != match.start() or match[1][0] == "m" or "/" in match[1]
    unit = unit_name(match[1], letters_too=apart)
    return (before, unit, upright or _is_no_variable(match[1])) if unit else (text, None, False)


def is_known(unit: str) -> bool:
    return all(part.partition("^")[0] in UNITS for part in unit.split("/"))


def _is_no_variable(text: str) -> bool:
    """No product of variables looks like it."""
    letters = re.match(r"[A-Za-z]*", text)[0]  # pyright: ignore[reportOptionalSubscript]  it matches nothing, too
    return letters in AMID_FORMULAS or (len(letters) > 3 and is_known(unit_name(text, letters_too=True) or ""))


def unit_name(text: str, *, letters_too: bool) -> str | None:
    """The canonical name; any noun is the unit of what it counts."""
    text = text.strip().replace("²", "^2").replace("³", "^3").replace("{", "").replace("}", "").strip(" .")
    text = re.sub(r"^degrees?\s+(?=[A-Z])", "", text, flags=re.IGNORECASE)
    text = re.sub(r"^per ", "/", text).replace(" per ", "/")
    power = ""
    for word, suffix in _POWER_WORDS.items():
        if word in text.lower():
            text, power = re.sub(word, "", text, flags=re.IGNORECASE).strip(), suffix
    raised = re.fullmatch(r"(.+?)\s*\^?\s*([23])", text)
    if raised:
        text, power = raised[1], f"^{raised[2]}"
    names = [_part(part.strip(" ."), letters_too) for part in text.split("/")]
    return None if None in names else "/".join(map(str, names)) + power


def _part(text: str, letters_too: bool) -> str | None:
    if len(text) == 1:
        return LETTER_UNITS.get(text) if letters_too else None
    words = text.lower().split()
    single = [_singular(word) for word in words]
    for name in (text.lower(), " ".join(single)):
        if name in UNIT_OF:
            return UNIT_OF[name]
    if words and _unit_word(words[0]) and all(word in _ADDED for word in words[1:]):
        return _unit_word(words[0])
    counted = 0 < len(words) <= 3 and all(len(word) > 1 and word.isalpha() for word in words)
    if not counted or not NOT_COUNTED.isdisjoint(words) or any(_unit_word(word) for word in words) or len(text) < 3:
        return None
    return " ".join(word for word in single if word not in _ADDED) or None


def _unit_word(word: str) -> str | None:
    return UNIT_OF.get(word) or UNIT_OF.get(_singular(word))


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word
