"""Whether an answer is right, decided by the cheapest tier that can decide it."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from capcurr_plugin.reward import workers
from capcurr_plugin.reward.at_sight import same_at_sight
from capcurr_plugin.reward.choice import Options, judge_choice
from capcurr_plugin.reward.equality import equal
from capcurr_plugin.reward.formulas import comparable
from capcurr_plugin.reward.plain import plain, with_units
from capcurr_plugin.reward.prose import final_value
from capcurr_plugin.reward.values import Value, parse_values
from capcurr_plugin.reward.words import are_words, same_but_for_case, same_label, same_list, same_words

MAX_CACHED, MAX_CACHED_LENGTH = 100_000, 400  # verdicts, and the characters of each
MAX_LENGTH = 4_000  # of an answer that is looked at as it stands

Tier = Literal["exact", "choice", "value", "words", "symbolic", "mathruler", "none"]
Grader = Literal["capcurr", "mathruler"]


@dataclass(frozen=True, slots=True)
class Verdict:
    equal: bool
    tier: Tier  # that decided; "none" when nobody knew better
    timed_out: bool = False
    final: bool = True  # False when it timed out for a reason that has nothing to do with the answer


class Question(NamedTuple):
    """`grader` "mathruler" is asked as in the published runs: `answer` is then what the response says from its last box
    on, and no tier comes before."""

    answer: str
    truth: str
    options: tuple[tuple[str, str], ...] = ()
    grader: Grader = "capcurr"


class Open(NamedTuple):
    """What takes a grader in a worker."""

    grader: workers.Grader
    tier: Tier
    given: str
    wanted: str


_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})|(\d{1,2})/(\d{1,2})/(\d{2,4})|\d{3}-\d{4}")


def verify(answer: str, ground_truth: str, options: Options | None = None) -> bool:
    """Whether an answer, what stands in the box, says what the ground truth says."""
    return decide(Question(answer, ground_truth, tuple((options or {}).items()))).equal


def decide(question: Question) -> Verdict:
    """The verdict, from the cache when it was decided before: a group of rollouts repeats itself."""
    verdict = _cache.get(question)
    if verdict is None:
        found = tiers(question)
        verdict = _keep(question, _ask(found) if isinstance(found, Open) else found)
    return verdict


def decide_all(questions: Sequence[Question]) -> list[Verdict]:
    """The verdicts of a batch, those that take a worker on all cores; their time begins when a worker is free."""
    found = {question: _cache.get(question) or tiers(question) for question in dict.fromkeys(questions)}
    verdicts = {question: _keep(question, v) for question, v in found.items() if isinstance(v, Verdict)}
    undecided = {question: asked for question, asked in found.items() if isinstance(asked, Open)}
    if undecided:
        workers.warm_up()
        with ThreadPoolExecutor(workers.pool().size) as threads:
            for question, verdict in zip(undecided, threads.map(_ask, undecided.values()), strict=True):
                verdicts[question] = _keep(question, verdict)
    return [verdicts[question] for question in questions]


def timed_out_verdicts() -> int:
    """How many verdicts of this process have timed out."""
    return _timed_out


_cache: dict[Question, Verdict] = {}
_timed_out = 0


def _keep(question: Question, verdict: Verdict) -> Verdict:
    if verdict.final and len(question.answer) + len(question.truth) <= MAX_CACHED_LENGTH:
        if len(_cache) >= MAX_CACHED:
            _cache.clear()
        _cache[question] = verdict
    return verdict


def tiers(question: Question) -> Verdict | Open:
    """All tiers but the last, which needs another process."""
    if question.grader == "mathruler":
        return Open("mathruler", "mathruler", question.answer, question.truth)
    answer, truth, options = question.answer.strip(), question.truth.strip(), dict(question.options)
    if answer == truth:
        return Verdict(bool(truth), "exact")
    sight = same_at_sight(answer, truth)
    if sight is not None and not (options and not sight[1]):  # a number may be the text of an option
        equal, is_choice = sight
        return Verdict(equal, "choice" if is_choice else "value")
    workers.start()  # so that they are warm before the first slow case
    return _look(answer, truth, options)


def _look(answer: str, truth: str, options: Options) -> Verdict | Open:
    if max(len(answer), len(truth)) > MAX_LENGTH or "\\boxed" in answer or "\\boxed" in truth:
        return _written_out(answer, truth, options) or Verdict(False, "exact")
    given, wanted = plain(answer), plain(truth)
    choice = judge_choice(given, wanted, options, _same_value_of)
    if choice is not None:
        return Verdict(choice, "choice")
    if not given or not wanted:
        return Verdict(False, "exact")
    if given == wanted or same_but_for_case(given, wanted):
        return Verdict(True, "exact")
    if are_words(given) and are_words(wanted) and same_words(given, wanted):
        return Verdict(True, "words")
    if _DATE.fullmatch(given) or _DATE.fullmatch(wanted):
        return Verdict(_same_date(given, wanted), "words")
    label = same_label(given, wanted)
    if label is not None:
        return Verdict(label, "words")
    value = _same_value(with_units(answer), with_units(truth))
    if value is not None:
        return Verdict(value, "value")
    if same_list(given, wanted):
        return Verdict(True, "words")
    written_out = _written_out(answer, truth, options)
    if written_out is not None:
        return written_out
    if are_words(given) and are_words(wanted):
        return Verdict(False, "words")
    if comparable(given, wanted) and workers.available("math-verify"):
        return Open("math-verify", "symbolic", given, wanted)
    return Verdict(False, "none")


def _written_out(answer: str, truth: str, options: Options) -> Verdict | Open | None:
    """By the value that a text in words ends in."""
    given, wanted = (final_value(text) or text for text in (answer, truth))
    if len(given) + len(wanted) >= len(answer) + len(truth):  # nothing was left out
        return None
    return _look(given, wanted, options)


def _ask(asked: Open) -> Verdict:
    global _timed_out
    try:
        return Verdict(bool(workers.ask(asked.grader, asked.given, asked.wanted)), asked.tier)
    except workers.TimedOut as late:
        _timed_out += 1
        return Verdict(False, asked.tier, timed_out=True, final=late.answer_is_slow)


def _same_date(given: str, wanted: str) -> bool:
    """Dates and telephone numbers are no sums."""
    parts = [re.findall(r"\d+", text) for text in (given, wanted) if _DATE.fullmatch(text)]
    return len(parts) == 2 and [int(part) for part in parts[0]] == [int(part) for part in parts[1]]


def _same_value_of(given: str, wanted: str) -> bool:
    return bool(_same_value(with_units(given), with_units(wanted)))


def _same_value(given: str, wanted: str) -> bool | None:
    answers = _values(given)
    if not answers:
        return None
    verdicts = [equal(answer, truth) for answer in answers for truth in _values(wanted, decimal_comma=False)]
    if True in verdicts:
        return True
    return None if None in verdicts or not verdicts else False


@lru_cache(512)
def _values(text: str, *, decimal_comma: bool = True) -> tuple[Value, ...]:
    """A ground truth such as 3,4 is two values."""
    return tuple(parse_values(text, decimal_comma=decimal_comma))
