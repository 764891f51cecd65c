"""The reward: nine tenths for the right answer, one tenth for the format that the unified prompt asks for."""

from typing import Any

from capcurr_plugin.reward.boxed import extract_boxed
from capcurr_plugin.reward.verdict import verify

FORMAT_WEIGHT = 0.1


def follows_format(response: str) -> bool:
    """The whole response is one think block and then a boxed answer."""
    start, _, rest = response.strip().partition("<think>")
    _, closed, after = rest.partition("</think>")
    return start == "" and closed != "" and extract_boxed(after) is not None


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    *,
    format_weight: float = FORMAT_WEIGHT,
    **_: Any,
) -> dict[str, float]:
    """verl's custom reward function. verl optimises `score` and logs the other keys."""
    answer = extract_boxed(solution_str)
    accuracy = float(answer is not None and verify(answer, ground_truth))
    format_score = float(follows_format(solution_str))
    score = (1 - format_weight) * accuracy + format_weight * format_score
    return {"score": score, "accuracy": accuracy, "format": format_score}
