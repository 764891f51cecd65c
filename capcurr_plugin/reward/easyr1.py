"""The reward in EasyR1's batch form: `worker.reward.reward_function=.../reward/easyr1.py:compute_score`."""

from typing import Any

from capcurr_plugin.reward.score import FORMAT_WEIGHT, compute_score_batch


def compute_score(reward_inputs: list[dict[str, Any]], format_weight: float = FORMAT_WEIGHT) -> list[dict[str, float]]:
    scores = compute_score_batch(
        ["" for _ in reward_inputs],
        [row["response"] for row in reward_inputs],
        [row["ground_truth"] for row in reward_inputs],
        format_weight=format_weight,
    )
    return [{"overall": s["score"], "format": s["format"], "accuracy": s["accuracy"]} for s in scores]
