"""What an answer says without the dress that means nothing: fonts, spaces, delimiters, a leading "the answer is"."""

import re
from functools import lru_cache

UNIT_MARK = "\ue000"  # stands before what was set upright after a number: there "m" is a unit and no variable

_FULL_WIDTH = {0xFF01 + n: 0x21 + n for n in range(94)} | dict.fromkeys(map(ord, "−–﹣‑‐"), "-")
_FULL_WIDTH |= {ord("’"): "'", ord("‘"): "'", ord("⟨"): "(", ord("⟩"): ")", ord("ℝ"): r"\mathbb{R}"}
_FULL_WIDTH |= dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff"))  # these have no width at all
_LATEX = frozenset("\\$~∠△{")
_FONTS = (
    "text textnormal textbf textit textrm textsf texttt mathrm mathbf mathit mathsf mathcal boldsymbol bm bf rm mbox "
    "operatorname underline emph large textstyle ce boxed fbox"
).split()
_DRESS = re.compile(
    rf"([\d}})]\s*(?:\\[,;:! ])?\s*)?\\(?:{'|'.join(_FONTS)}|textcolor\s*\{{\w{{1,20}}\}})\s*\{{([^{{}}]*)\}}"
)
_DRESS_DEPTH = 4
_UNIT_TEXT = re.compile(r"\s*[A-Za-zµΩ]{1,3}(?:\s*/\s*[A-Za-z]{1,3})?\s*")
_NOISE = re.compile(
    r"(?<!\\)\\[,;:!> ]|\\left(?![A-Za-z])|\\right(?![A-Za-z])|\\displaystyle|\\q?quad|(?<!\\)\\[()\[\]]|~"
    r"|\\(?:large|Large|textstyle|bf|it|rm)(?![A-Za-z])"
)
_SIGNS = (("\\lbrace", "\\{"), ("\\rbrace", "\\}"), ("\\langle", "("), ("\\rangle", ")"), ("\\&", "&"),
          ("\\Omega", "Ω"), ("\\colon", ":"), ("{:}", ":"))  # fmt: skip
_QUOTES = (("<answer>", "</answer>"), ("**", "**"), ("*", "*"), ("_", "_"), ("`", "`"), ('"', '"'), ("“", "”"),
           ("'", "'"), ("{", "}"))  # fmt: skip
_FRAC = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z]{2})")  # escaped once too often
_PREFIX = re.compile(
    r"^(?:so\s+|thus,?\s+|therefore,?\s+|hence,?\s+)?(?:(?:the|my|our)\s+)?(?:final\s+|correct\s+)?answer"
    r"(?:\s+is|\s*:)*\s*(?::\s*|\s)(?=\S)",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    r"^(?:about|approximately|roughly|around|exactly|a total of|in total,|\\approx(?![A-Za-z])|≈)\s*(?=[-\d$\\])"
)
_IN_TOTAL = re.compile(r"(?<=\d)\s+(?:in total|in all|altogether)$")
_TIMES = re.compile(r"(?<=\d)\s*x\s*(?=10\s*\^)")
_LOOSE_SPACE = re.compile(r"(?<!!)\s(?=[^\w\s\ue000]|$)|(?<=[^\w\s,.!])\s|^\s")
_MONEY = re.compile(r"\\\$\s*\d|\d\s*\\\$")
_BRACED_COMMA = re.compile(r"\{\s*,\s*\}")
_FIGURE = re.compile(
    r"(?:\\(angle|triangle|measuredangle)|(∠)|(△)|\b(angle|triangle)\s)\s*\{?\s*([A-Z]{1,4}|\d)(?![A-Za-z\d])\s*\}?"
)


@lru_cache(1024)  # a group of rollouts shares its ground truth
def plain(text: str) -> str:
    return with_units(text).replace(UNIT_MARK, " ")


@lru_cache(1024)
def with_units(text: str) -> str:
    """The plain text with a mark before what was set upright after a number."""
    text = text.replace(UNIT_MARK, "")
    if not text.isascii():
        text = text.translate(_FULL_WIDTH)
    if not _LATEX.isdisjoint(text):
        text = _without_latex(text)
    text = _TIMES.sub("*", _IN_TOTAL.sub("", text.strip()))
    text = _FIGURE.sub(_figure, text)
    text = _BRACED_COMMA.sub(",", text).strip()
    if "\n" not in text:  # what stands on another line is read as prose
        text = _PREFIX.sub("", text, count=1)
    text = _LOOSE_SPACE.sub("", re.sub(r"\s+", " ", _ABOUT.sub("", text))).strip(" ")
    while len(text) > 1 and text[-1] in ".。;,\\" and text[-2:] != "..":
        text = text[:-1].rstrip()
    return _without_quotes(text)


def _without_quotes(text: str) -> str:
    for start, end in _QUOTES:
        if text.startswith(start) and text.endswith(end) and len(text) > len(start + end):
            inside = text[len(start) : -len(end)]
            if start != "{" or inside.replace(" ", "").isalpha():  # braces may hold a set
                return inside
    return text


def _without_latex(text: str) -> str:
    for _ in range(_DRESS_DEPTH):
        undressed = _DRESS.sub(_upright, text)
        if undressed == text:
            break
        text = undressed
    if "begin" not in text:
        text = _DOUBLED.sub(r"\\", text)
    text = re.sub(r",\\!\s*", ",", text)
    for command, sign in _SIGNS:
        text = text.replace(command, sign)
    text = _FRAC.sub(r"\\frac", _NOISE.sub(" ", text))
    if _MONEY.search(text):  # any other $ is a delimiter
        return text.replace("\\$", "\0").replace("$", " ").replace("\0", "$")
    return text if text.count("$") == 1 else text.replace("\\$", " ").replace("$", " ")


def _upright(match: re.Match[str]) -> str:
    before, content = match[1] or "", match[2]
    is_unit = (
        before and _UNIT_TEXT.fullmatch(content) and content.strip().lower() not in ("am", "pm", "and", "or", "to")
    )
    return f"{before}{UNIT_MARK}{content.strip()} " if is_unit else f"{before} {content} "


def _figure(match: re.Match[str]) -> str:
    r"""\angle ABC as one symbol; it is \angle CBA, too."""
    points = match[5]
    kind = "triangle" if "triangle" in (match[1], match[4]) or match[3] else "angle"
    if kind == "angle":
        points = min(points, points[::-1])
    return f" \\{kind}_{{{points}}} "
