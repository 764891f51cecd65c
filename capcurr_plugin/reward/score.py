"""The reward: nine tenths for the right answer, one tenth for the format that the unified prompt asks for."""

import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from capcurr_plugin.errors import InputError
from capcurr_plugin.reward import workers
from capcurr_plugin.reward.boxed import extract_boxed
from capcurr_plugin.reward.verdict import Grader, Question, Verdict, decide, decide_all

FORMAT_WEIGHT = 0.1
NO_ANSWER = Verdict(False, "none")

GroundTruth = str | float | Iterable[str | float]

# Spaces before a sign are only looked at from where they begin, so that a long run of them takes linear time.
_SPACED = re.compile(r"(?:(?<!\s)\s+)?([<>/])\s*")


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: GroundTruth,
    extra_info: Mapping[str, Any] | None = None,
    *,
    format_weight: float = FORMAT_WEIGHT,
    grader: Grader = "capcurr",
    **_: Any,
) -> dict[str, Any]:
    """verl's custom reward function. verl optimises `score` and logs the other keys.

    `ground_truth` may be a list: any of its entries is right. `extra_info["options"]`, the text of each letter, lets
    the text of an option count as its letter. `grader="mathruler"` judges as the published runs did.
    """
    options = extra_info.get("options") if extra_info else None
    if type(ground_truth) is str and options is None and grader == "capcurr":  # the usual case, made short
        answer = extract_boxed(solution_str)
        found = NO_ANSWER if answer is None else decide(Question(answer, ground_truth))
        return _score(solution_str, found, format_weight)
    verdict = NO_ANSWER
    for question in _questions(solution_str, ground_truth, options, grader):
        verdict = decide(question)
        if verdict.equal:
            break
    return _score(solution_str, verdict, format_weight)


def compute_score_batch(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[GroundTruth],
    extra_infos: Sequence[Mapping[str, Any] | None] | None = None,
    *,
    format_weight: float = FORMAT_WEIGHT,
    grader: Grader = "capcurr",
    **_: Any,
) -> list[dict[str, Any]]:
    """The same for a batch; what takes long runs on all cores."""
    infos = extra_infos if extra_infos is not None else [None] * len(solution_strs)
    rows = zip(data_sources, solution_strs, ground_truths, infos, strict=True)
    asked = [
        _questions(response, truth, info.get("options") if info else None, grader)
        for _source, response, truth, info in rows
    ]
    verdicts = iter(decide_all([question for questions in asked for question in questions]))
    scores = []
    for response, questions in zip(solution_strs, asked, strict=True):
        found = [next(verdicts) for _ in questions]
        best = next((verdict for verdict in found if verdict.equal), found[-1] if found else NO_ANSWER)
        scores.append(_score(response, best, format_weight))
    return scores


def judge_with(grader: workers.Grader, response: str, ground_truth: GroundTruth) -> bool | None:
    """Whether another grader takes the answer for right; None when it does not say so in time."""
    answer = extract_boxed(response)
    asked = _SPACED.sub(r"\1", response) if grader == "mathruler" else answer
    if answer is None or asked is None:
        return False
    late = False
    for truth in _truths(ground_truth):
        try:
            if workers.ask(grader, asked, truth):
                return True
        except workers.TimedOut:
            late = True
    return None if late else False


def _score(response: str, verdict: Verdict, format_weight: float) -> dict[str, Any]:
    accuracy = 1.0 if verdict.equal else 0.0
    format_score = 1.0 if follows_format(response) else 0.0
    return {
        "score": (1 - format_weight) * accuracy + format_weight * format_score,
        "accuracy": accuracy,
        "format": format_score,
        "response_length": len(response),
        "tier": verdict.tier,
        "timed_out": 1.0 if verdict.timed_out else 0.0,
    }


def follows_format(response: str) -> bool:
    r"""The published rule: `<think>.*</think>.*\\boxed\\{.*\\}.*`, over the whole response but for spaces at tags."""
    if _matches(response):
        return True
    return "think" in response and _matches(_SPACED.sub(r"\1", response))


def _matches(response: str) -> bool:
    if not response.startswith("<think>"):
        return False
    closed = response.find("</think>", 7)
    boxed = response.find("\\boxed{", closed + 8) if closed >= 0 else -1
    return boxed >= 0 and response.find("}", boxed + 7) >= 0


def _questions(response: str, ground_truth: GroundTruth, options: Any, grader: Grader) -> list[Question]:
    """One for each acceptable answer; none when the response has no answer."""
    if grader == "mathruler":
        return _published_questions(response, ground_truth)
    if grader != "capcurr":
        raise InputError(f"grader={grader!r} is not known: capcurr or mathruler")
    answer = extract_boxed(response)
    if answer is None:
        return []
    return [Question(answer, truth, _options(options)) for truth in _truths(ground_truth)]


def _published_questions(response: str, ground_truth: GroundTruth) -> list[Question]:
    if not workers.available("mathruler"):
        raise InputError("grader='mathruler' needs what is not installed: pip install mathruler pylatexenc")
    bare = _SPACED.sub(r"\1", response)
    start = bare.rfind("\\boxed{")
    return [Question(bare[start:], truth, (), "mathruler") for truth in _truths(ground_truth)] if start >= 0 else []


def _truths(ground_truth: GroundTruth) -> list[str]:
    if isinstance(ground_truth, str):
        return [ground_truth]
    if isinstance(ground_truth, float) and ground_truth.is_integer() and abs(ground_truth) < 1e15:
        return [str(int(ground_truth))]
    if isinstance(ground_truth, Real):
        return [str(ground_truth)]
    if not isinstance(ground_truth, Iterable):
        raise InputError(f"a ground truth is a string, a number or a list of them, not {type(ground_truth).__name__}")
    return [truth for entry in ground_truth for truth in _truths(entry)]


def _options(options: Any) -> tuple[tuple[str, str], ...]:
    """The text of each letter, from a mapping or from the texts in their order."""
    if options is None:
        return ()
    pairs = options.items() if isinstance(options, Mapping) else zip("ABCDEFGHIJ", options, strict=False)
    return tuple((str(letter).upper(), str(text)) for letter, text in pairs if text is not None)
