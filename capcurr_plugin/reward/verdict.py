"""Whether an answer is right, decided by the cheapest tier that can decide it."""

import re
from dataclasses import dataclass
from typing import Literal

from capcurr_plugin.reward import workers
from capcurr_plugin.reward.values import equal, parse_values

MAX_CACHED, MAX_CACHED_LENGTH = 100_000, 1_000  # verdicts, and the characters of each
MAX_FORMULA = 500  # characters that are worth a symbolic look
MAX_LENGTH = 4_000  # of an answer that is looked at; longer ones are wrong unless they are the ground truth itself

Tier = Literal["exact", "choice", "value", "words", "symbolic", "none"]


@dataclass(frozen=True, slots=True)
class Verdict:
    equal: bool
    tier: Tier  # that decided; "none" when nobody knew better
    timed_out: bool = False
    undecided: bool = False  # for a reason that has nothing to do with the answer, such as workers that still start


_DRESS = re.compile(
    r"\\(?:text|textnormal|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|boldsymbol|mbox|operatorname|boxed|fbox)\s*\{([^{}]*)\}"
)
_DRESS_DEPTH = 4
_NOISE = re.compile(
    r"(?<!\\)\\[,;:!> ]|\\left(?![A-Za-z])|\\right(?![A-Za-z])|\\displaystyle|\\q?quad|(?<!\\)\\[()\[\]]"
)
_FRAC = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z]{2})")  # escaped once too often
_PREFIX = re.compile(r"(?:the\s+)?(?:final\s+)?answer(?:\s+is)?\s*:?\s+(?=\S)", re.IGNORECASE)
_LOOSE_SPACE = re.compile(r"\s+(?=[^\w\s]|$)|(?<=[^\w\s,])\s+|^\s+")
_LETTER = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+)?(?:option|answer|choice)\s*(?:is)?\s*:?\s*)?[(\[{]?([A-J])[)\]}]?\s*[.:)]?\s*",
    re.IGNORECASE,
)
_LETTER_FIRST = re.compile(r"[(\[]?([A-J])(?:[)\]]\s*[.:]?|[.:])\s*(.+)", re.IGNORECASE | re.DOTALL)
_LETTERS = re.compile(r"[(\[]?\s*([A-J])\s*[)\]]?(?:(?:\s*(?:,|;|&|and)\s*)+[(\[]?\s*([A-J])\s*[)\]]?)+", re.IGNORECASE)
_TRUTH_LETTER = re.compile(r"[(\[]?([A-J])[)\].:]?")
_TRUTH_LETTERS = re.compile(r"[A-J](?:\s*,\s*[A-J])+")
_WORDS = re.compile(r"[^\W\d_][^\W_]*(?:[\s'/-]+[^\W_]+)*", re.UNICODE)
_WORDY = re.compile(r"(?=.*[^\W\d_]{2})[\w\s.,'\"!?-]+|\d+")
_FIGURE = re.compile(r"\\(?:angle|triangle|measuredangle|overrightarrow|widehat|odot|square)(?![A-Za-z])")
_SAME_WORDS = {"true": "yes", "false": "no", "correct": "yes", "incorrect": "no"}
_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_NUMBER_WORDS = {word: str(n) for n, word in enumerate(_SMALL)} | {word: str(10 * n) for n, word in enumerate(_TENS, 2)}


def decide(answer: str, truth: str, options: dict[str, str] | None = None) -> Verdict:
    """The verdict, from the cache when the same pair was decided before: a group of rollouts repeats itself."""
    key = (answer, truth, tuple(sorted(options.items())) if options else None)
    verdict = _cache.get(key)
    if verdict is None:
        if len(_cache) >= MAX_CACHED:
            _cache.clear()
        verdict = _decide(answer, truth, options)
        if len(answer) + len(truth) <= MAX_CACHED_LENGTH and not verdict.undecided:
            _cache[key] = verdict
    return verdict


_cache: dict[tuple[str, str, tuple[tuple[str, str], ...] | None], Verdict] = {}


def _decide(answer: str, truth: str, options: dict[str, str] | None) -> Verdict:
    if answer.strip() == truth.strip():
        return Verdict(bool(truth.strip()), "exact")
    if len(answer) > MAX_LENGTH or len(truth) > MAX_LENGTH:
        return Verdict(False, "exact")
    choice = _choice(answer, truth, options)
    if choice is not None:
        return Verdict(choice, "choice")
    given, wanted = plain(answer), plain(truth)
    if not given or not wanted:
        return Verdict(False, "exact")
    if given == wanted or (given.casefold() == wanted.casefold() and _is_prose(given)):
        return Verdict(True, "exact")
    if _WORDY.fullmatch(given) and _WORDY.fullmatch(wanted) and _words(given) == _words(wanted):
        return Verdict(True, "words")
    if _WORDS.fullmatch(given) and _WORDS.fullmatch(wanted):
        return Verdict(False, "words")
    if _FIGURE.search(given) and _FIGURE.search(wanted):  # letters that name points do not multiply
        return Verdict(False, "words")
    value = _same_value(given, wanted)
    if value is not None:
        return Verdict(value, "value")
    return _symbolic(given, wanted) if _is_formula(given) and _is_formula(wanted) else Verdict(False, "none")


def _symbolic(given: str, wanted: str) -> Verdict:
    if not workers.available():
        return Verdict(False, "none")
    try:
        return Verdict(workers.pool().ask(given, wanted), "symbolic")
    except workers.TimedOut as late:
        return Verdict(False, "symbolic", timed_out=True, undecided=late.cold)


def _is_formula(text: str) -> bool:
    """Worth a symbolic look: it has a digit or LaTeX, and is not long."""
    return len(text) <= MAX_FORMULA and ("\\" in text or any(map(str.isdigit, text)))


def verify(answer: str, ground_truth: str, options: dict[str, str] | None = None) -> bool:
    return decide(answer, ground_truth, options).equal


def plain(text: str) -> str:
    """The text without LaTeX dress and spaces that mean nothing."""
    if "\\" in text or "$" in text:
        for _ in range(_DRESS_DEPTH):
            text = _DRESS.sub(r" \1 ", text)
        text = _DOUBLED.sub(r"\\", text) if "begin" not in text else text
        text = re.sub(r",\\!\s*", ",", _unboxed(text))
        text = _FRAC.sub(r"\\frac", _NOISE.sub(" ", text))
    if "\\$" in text:  # money, and any other $ is a delimiter
        text = text.replace("\\$", "\0").replace("$", " ").replace("\0", "$")
    elif text.count("$") != 1:
        text = text.replace("$", " ")
    text = _PREFIX.sub("", text.replace("{,}", ",").strip())
    text = _LOOSE_SPACE.sub("", text)
    text = re.sub(r"\s+", " ", text).strip(" ")
    while len(text) > 1 and text[-1] in ".。":
        text = text[:-1].rstrip()
    return text


def _unboxed(text: str) -> str:
    text = text.strip()
    while text.startswith(("\\boxed{", "\\fbox{")) and text.endswith("}"):
        text = text[text.index("{") + 1 : -1].strip()
    return text


def _is_prose(text: str) -> bool:
    """The case of its letters does not matter: all of them stand in words."""
    return "\\" not in text and all(len(word) > 2 for word in re.findall(r"[^\W\d_]+", text))


def _choice(answer: str, truth: str, options: dict[str, str] | None) -> bool | None:
    """For a ground truth of one letter or several; None when it is none, or the answer may still be a value."""
    truth, given = plain(truth), plain(answer)
    if _TRUTH_LETTERS.fullmatch(truth):
        letters = re.findall(r"\b[A-J]\b", given.upper()) if _LETTERS.fullmatch(given) else []
        return bool(letters) and sorted(set(letters)) == sorted(set(re.findall(r"[A-J]", truth)))
    match = _TRUTH_LETTER.fullmatch(truth)
    if not match:
        return None
    letter = match[1]
    found = _LETTER.fullmatch(given)
    if found:
        return found[1].upper() == letter
    if _LETTERS.fullmatch(given):
        return False
    first = _LETTER_FIRST.fullmatch(given)
    named = re.fullmatch(
        r"(?:option|answer|choice)\s*:?\s*[(\[]?([A-J])[)\]]?\s*[:.]?\s*(.*)", given, re.IGNORECASE | re.DOTALL
    )
    first = first or named
    if first:
        if first[1].upper() != letter:
            return False
        rest = first[2].strip()
        return not rest or not options or letter not in options or _same_text(rest, options[letter])
    if options and letter in options:
        return _same_text(given, options[letter])
    return False


def _same_text(given: str, wanted: str) -> bool:
    given, wanted = plain(given), plain(wanted)
    return _words(given) == _words(wanted) or bool(_same_value(given, wanted))


def _same_value(given: str, wanted: str) -> bool | None:
    answers = parse_values(_digits(given))
    if not answers:
        return None
    truths = parse_values(_digits(wanted))
    verdicts = [equal(answer, truth) for answer in answers for truth in truths]
    if True in verdicts:
        return True
    return False if False in verdicts else None


def _digits(text: str) -> str:
    """Number words as digits."""
    return _NUMBER_WORDS.get(text.casefold(), text)


def _words(text: str) -> str:
    text = re.sub(r"^(?:the|an?)\s+", "", text.casefold().strip(" .,!?\"'"))
    text = re.sub(r"[\s_-]+", " ", text)
    tens, _, ones = text.partition(" ")
    if tens in _TENS and ones in _SMALL[1:10]:
        return str(int(_NUMBER_WORDS[tens]) + int(_NUMBER_WORDS[ones]))
    return _SAME_WORDS.get(text, _NUMBER_WORDS.get(text, text))
