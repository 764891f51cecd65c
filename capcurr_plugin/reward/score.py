"""The reward: nine tenths for the right answer, one tenth for the format that the unified prompt asks for."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from capcurr_plugin.reward.boxed import extract_boxed
from capcurr_plugin.reward.verdict import Verdict, decide

FORMAT_WEIGHT = 0.1
BATCH_THREADS = 8  # slow verdicts wait for other processes; fast ones do not gain from threads
_SPACED = re.compile(r"\s*([<>/])\s*")
NO_ANSWER = Verdict(False, "exact")

GroundTruth = str | int | float | Sequence[str]


def follows_format(response: str) -> bool:
    """The whole response is one think block and then a boxed answer; spaces around the tags are forgiven."""
    start, opened, rest = response.lstrip().partition("<think>")
    if not opened:
        start, opened, rest = _SPACED.sub(r"\1", response).lstrip().partition("<think>")
    _, closed, after = rest.rpartition("</think>")
    return opened != "" and start == "" and closed != "" and extract_boxed(after) is not None


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: GroundTruth,
    extra_info: dict[str, Any] | None = None,
    *,
    format_weight: float = FORMAT_WEIGHT,
    **_: Any,
) -> dict[str, Any]:
    """verl's custom reward function. verl optimises `score` and logs the other keys.

    `ground_truth` may be a list: any of its entries is right. `extra_info["options"]`, letter to text, lets the text of
    an option count as its letter.
    """
    answer = extract_boxed(solution_str)
    verdict = NO_ANSWER if answer is None else _any_right(answer, ground_truth, (extra_info or {}).get("options"))
    accuracy, format_score = float(verdict.equal), float(follows_format(solution_str))
    return {
        "score": (1 - format_weight) * accuracy + format_weight * format_score,
        "accuracy": accuracy,
        "format": format_score,
        "response_length": len(solution_str),
        "tier": verdict.tier,
        "timed_out": float(verdict.timed_out),
    }


def compute_score_batch(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[GroundTruth],
    extra_infos: Sequence[dict[str, Any] | None] | None = None,
    *,
    format_weight: float = FORMAT_WEIGHT,
    **_: Any,
) -> list[dict[str, Any]]:
    """All responses of a batch; those that need the symbolic workers share them."""
    infos = extra_infos if extra_infos is not None else [None] * len(solution_strs)
    rows = zip(data_sources, solution_strs, ground_truths, infos, strict=True)
    with ThreadPoolExecutor(BATCH_THREADS) as threads:
        return list(threads.map(lambda row: compute_score(*row, format_weight=format_weight), rows))


def _any_right(answer: str, ground_truth: GroundTruth, options: dict[str, str] | None) -> Verdict:
    truths = [str(ground_truth)] if isinstance(ground_truth, str | int | float) else [str(t) for t in ground_truth]
    verdict = NO_ANSWER
    for truth in truths:
        verdict = decide(answer, truth, options)
        if verdict.equal:
            break
    return verdict
