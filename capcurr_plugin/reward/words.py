"""English as far as answers use it: numbers in words, words that say the same, and words that change a value."""

import re
from fractions import Fraction

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SMALL = {word: n for n, word in enumerate(_ONES)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
          "ninth": 9, "tenth": 10, "hundredth": 100, "thousandth": 1000}  # fmt: skip
_PARTS |= {"halves": 2} | {f"{word}s": n for word, n in _PARTS.items() if word != "half"}
NEGATIVE = ("negative ", "minus ")

# After a number these are no unit: with them it is another number, a bound, a choice, or denied.
NOT_COUNTED = frozenset(
    "a about above and another approximately at below besides billion but could cubed denied dozen double either else "
    "except factorial false fewer for from greater gross higher hundred hundreds if incorrect invalid is isn isnt it "
    "larger least less lower may maybe might million more most neither never no none nor not of off on only onward "
    "onwards or otherwise over perhaps plus point possibly right root score should smaller squared tens than the then "
    "thousand thousands times to too trillion triple twice under unless up upward upwards was were will with without "
    "wrong x y z minus are be does doesn been has have correct was lakh crore dozens quadrillion quintillion doubled "
    "tripled quadrupled halved negated modulo mod choose infinity exp log ln sqrt sin cos tan nan undefined unknown "
    "alpha beta gamma delta theta lambda sigma omega phi pi versus vs anything whatever alternatively unequal unlikely "
    "impossible untrue erroneous mistaken disproved refuted plusminus".split()
) | frozenset(_SMALL) | frozenset(_PARTS)  # fmt: skip

DENIAL = re.compile(
    r"\b(?:not|no|never|neither|nor|nobody|none|wrong|incorrect|false|falsely|untrue|except|exclud\w+|unless|invalid"
    r"|cannot|anything but|rather than|instead of|hardly|impossible|unlikely|eliminat\w+|mistaken?|myth|disput\w+"
    r"|doubt\w*|refus\w+|rule[sd]? out|ruled|least)\b|n't\b",
    re.IGNORECASE,
)
# Words beside an answer that leave it open.
OPEN = re.compile(
    r"\b(?:or|either|maybe|perhaps|possibly|probably|alternatively|between|than|least|most|if|assuming|could|might|may"
    r"|would|guess|unknown|else)\b",
    re.IGNORECASE,
)
# Words before "is" that make something else of the answer its subject.
OTHER_SUBJECT = re.compile(
    r"\b(?:bound|everything|all|others?|twice|half|double|square[sd]?|root|cube[sd]?|plus|minus|divided|times|opposite"
    r"|negative|reciprocal|inverse|but|claims?|thinks?|says?|first|second|candidates?|seems?)\b",
    re.IGNORECASE,
)
_PARTS_OF_A_WHOLE = re.compile(r"\w+(?:illions?|nths?|[rfxe]ths?|ieths?|fold)")
_ARTICLE = re.compile(r"^(?:the|an|a(?=\s+(?:[^\W\d_]{3}|[^\W\d_]-)))\s+(?!(?:sin|cos|tan|cot|sec|csc|log|exp)\b)")
_SAME = {"true": "yes", "false": "no", "correct": "yes", "incorrect": "no"}
_WORDS = re.compile(r"[^\W\d_][\w']*(?:[\s/&-]+\w[\w']*)*!?", re.UNICODE)
_SHORT = frozenset("no ok up on off in out".split())
_LONG_WORD = re.compile(r"[^\W\d_]{3}")


def spoken(text: str) -> Fraction | None:
    """The number that words say: minus twenty-one, two hundred and five, one third."""
    text = text.casefold().strip()
    for sign in NEGATIVE:
        if text.startswith(sign):
            value = spoken(text[len(sign) :]) if not text[len(sign) :].startswith(NEGATIVE) else None
            return None if value is None else -value
    words = text.replace("-", " ").split()
    if not 0 < len(words) <= 12 or not all(map(str.isalpha, words)):
        return None
    if len(words) > 1 and words[-1] in _PARTS:
        above = _whole(words[:-1]) if words[0] != "a" else 1
        return None if above is None else Fraction(above, _PARTS[words[-1]])
    whole = _whole(words)
    return None if whole is None else Fraction(whole)


def _whole(words: list[str]) -> int | None:
    total = part = 0
    last = ""
    for word in words:
        if word in _SMALL:
            if last in _SMALL and not (last in _TENS and 0 < _SMALL[word] < 10):
                return None  # "two three" is no number
            part += _SMALL[word]
        elif word == "hundred" and 0 < part < 100:
            part *= 100
        elif word in SCALES and part:
            total, part = total + part * SCALES[word], 0
        elif word != "and" or last not in ("hundred", *SCALES):
            return None
        last = word
    return None if last == "and" else total + part


def is_no_noun(word: str) -> bool:
    """Millionths, twelfths, twofold: they change the number."""
    return bool(_PARTS_OF_A_WHOLE.fullmatch(word)) and word not in ("month", "months", "tenth")


def are_words(text: str) -> bool:
    """A word or a phrase, with a word of three letters at least: shorter ones may be names of variables or points."""
    return bool(_WORDS.fullmatch(text) and _LONG_WORD.search(text)) or text.casefold() in _SHORT


def same_but_for_case(one: str, other: str) -> bool:
    """Where the letters stand in words; a name of points or variables is another one in small letters."""
    if one.casefold() != other.casefold() or "\\" in one:
        return False
    return one.casefold() in _SHORT or all(len(word) > 2 for word in re.findall(r"[^\W\d_]+", one))


def same_words(one: str, other: str) -> bool:
    return _folded(one) == _folded(other)


def _folded(text: str) -> str:
    text = re.sub(r"\s*&\s*", " and ", text)
    text = re.sub(r"(?<=[^\W\d_])[\s_-]+(?=[^\W\d_])|\s+", " ", text.casefold().strip(" !.,"))
    text = _ARTICLE.sub("", text)
    number = spoken(text)
    return _SAME.get(text, text if number is None else str(number))


def same_list(one: str, other: str) -> bool:
    """Lists of words in any order."""
    lists = [[part.strip() for part in re.split(r",\s*(?:and\s)?|\sand\s|\s?&\s?|;", text)] for text in (one, other)]
    if len(lists[0]) != len(lists[1]) or len(lists[0]) < 2 or not all(map(are_words, lists[0] + lists[1])):
        return False
    return sorted(map(_folded, lists[0])) == sorted(map(_folded, lists[1]))


# Labels: Q1 2020, CO2, BMW, XVI. Their letters do not multiply.

_LABEL = re.compile(r"(?!.*(?<![A-Za-z])[a-z]{3})[A-Za-z0-9+&]+(?:[\s-][A-Za-z0-9+&]+){0,5}")
_LIKE_A_LABEL = re.compile(
    r"(?!.*\d\s?[APap][Mm]$).*?(?:[A-Z]\d|[A-Z]&[A-Z]|[A-Z]{2}|\d[A-Z][A-Z\d]|[A-Z][a-z]\d|^[A-Z][a-z]?\^?[+])"
)
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉⁺⁻", "0123456789+-")
_SUBSCRIPT = re.compile(r"(?<=[A-Za-z])\s*_\s*\{?\s*(\d{1,3})\s*\}?\s*|\s*\^\s*\{?\s*(\d?[+-])\s*\}?")


def same_label(one: str, other: str) -> bool | None:
    """Of two names of letters and digits; None when they are none."""
    labels = [_SUBSCRIPT.sub(lambda match: match[1] or match[2], text.translate(_SUBSCRIPTS)) for text in (one, other)]
    if not all(_LABEL.fullmatch(label) for label in labels) or not any(map(_LIKE_A_LABEL.match, labels)):
        return None
    if not all(any(map(str.isalpha, label)) for label in labels):
        return None
    names = [re.sub(r"[\s-]+", " ", label) for label in labels]
    return names[0] == names[1] or (not any(map(_is_mixed, names)) and names[0].lower() == names[1].lower())


def _is_mixed(name: str) -> bool:
    """Co is another element than CO."""
    return name not in (name.lower(), name.upper())
