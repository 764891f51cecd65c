"""What an answer says without the dress that means nothing: fonts, spaces, delimiters, a leading "the answer is"."""

import re
from functools import lru_cache

UNIT_MARK = "\ue000"  # stands before what was set upright after a number: there "m" is a unit and no variable

_FULL_WIDTH = {0xFF01 + n: 0x21 + n for n in range(94)} | dict.fromkeys(map(ord, "−–﹣"), "-")
_FULL_WIDTH |= dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff"))  # these have no width at all
_LATEX = frozenset("\\$~∠△")
_FONTS = (
    "text textnormal textbf textit textrm textsf texttt mathrm mathbf mathit mathsf mathcal boldsymbol bm bf rm mbox "
    "operatorname underline boxed fbox"
).split()
_DRESS = re.compile(
    rf"([\d}})]\s*(?:\\[,;:! ])?\s*)?\\(?:{'|'.join(_FONTS)}|textcolor\s*\{{\w{{1,20}}\}})\s*\{{([^{{}}]*)\}}"
)
_DRESS_DEPTH = 4
_UNIT_TEXT = re.compile(r"\s*[A-Za-zµΩ]{1,3}(?:\s*/\s*[A-Za-z]{1,3})?\s*")
_NOISE = re.compile(
    r"(?<!\\)\\[,;:!> ]|\\left(?![A-Za-z])|\\right(?![A-Za-z])|\\displaystyle|\\q?quad|(?<!\\)\\[()\[\]]|~"
)
_FRAC = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z]{2})")  # escaped once too often
_PREFIX = re.compile(
    r"^(?:so\s+|thus,?\s+|therefore,?\s+|hence,?\s+)?(?:(?:the|my|our)\s+)?(?:final\s+|correct\s+)?answer"
    r"(?:\s+is|\s*:)*\s*(?::\s*|\s)(?=\S)",
    re.IGNORECASE,
)
_ABOUT = re.compile(r"^(?:about|approximately|roughly|around|\\approx(?![A-Za-z])|≈)\s*(?=[-\d$\\])")
_TIMES = re.compile(r"(?<=\d)\s*x\s*(?=10\s*\^)")
_LOOSE_SPACE = re.compile(r"(?<!!)\s(?=[^\w\s\ue000]|$)|(?<=[^\w\s,.!])\s|^\s")
_MONEY = re.compile(r"\\\$\s*\d|\d\s*\\\$")
_BRACED_COMMA = re.compile(r"\{\s*,\s*\}")
_FIGURE = re.compile(r"(?:\\(angle|triangle|measuredangle)|(∠)|(△))\s*\{?\s*([A-Z]{1,4})(?![A-Za-z])\s*\}?")


@lru_cache(1024)  # a group of rollouts shares its ground truth
def plain(text: str) -> str:
    return with_units(text).replace(UNIT_MARK, " ") if UNIT_MARK in with_units(text) else with_units(text)


@lru_cache(1024)
def with_units(text: str) -> str:
    """The plain text with a mark before what was set upright after a number."""
    text = text.replace(UNIT_MARK, "")
    if not text.isascii():
        text = text.translate(_FULL_WIDTH)
    if not _LATEX.isdisjoint(text):
        text = _without_latex(text)
    text = _TIMES.sub("*", text.strip())
    for quote, end in (("**", "**"), ('"', '"'), ("“", "”"), ("'", "'")):
        if text.startswith(quote) and text.endswith(end) and len(text) > 2 * len(quote):
            text = text[len(quote) : -len(end)]
    text = _BRACED_COMMA.sub(",", text).strip()
    if "\n" not in text:  # what stands on another line is read as prose
        text = _PREFIX.sub("", text, count=1)
    text = _LOOSE_SPACE.sub("", re.sub(r"\s+", " ", _ABOUT.sub("", text))).strip(" ")
    while len(text) > 1 and text[-1] in ".。;,\\" and text[-2:] != "..":
        text = text[:-1].rstrip()
    return text


def _without_latex(text: str) -> str:
    for _ in range(_DRESS_DEPTH):
        undressed = _DRESS.sub(_upright, text)
        if undressed == text:
            break
        text = undressed
    if "begin" not in text:
        text = _DOUBLED.sub(r"\\", text)
    text = re.sub(r",\\!\s*", ",", text).replace("\\lbrace", "\\{").replace("\\rbrace", "\\}")
    text = _FRAC.sub(r"\\frac", _NOISE.sub(" ", text))
    text = _FIGURE.sub(_figure, text)
    if _MONEY.search(text):  # any other $ is a delimiter
        return text.replace("\\$", "\0").replace("$", " ").replace("\0", "$")
    return text if text.count("$") == 1 else text.replace("\\$", " ").replace("$", " ")


def _upright(match: re.Match[str]) -> str:
    before, content = match[1] or "", match[2]
    is_unit = before and _UNIT_TEXT.fullmatch(content) and content.strip().lower() not in ("am", "pm")
    return f"{before}{UNIT_MARK}{content.strip()} " if is_unit else f"{before} {content} "


def _figure(match: re.Match[str]) -> str:
    r"""\angle ABC as one symbol; it is \angle CBA, too."""
    points = match[4]
    kind = "triangle" if match[1] == "triangle" or match[3] else "angle"
    if kind == "angle":
        points = min(points, points[::-1])
    return f" \\{kind}_{{{points}}} "
