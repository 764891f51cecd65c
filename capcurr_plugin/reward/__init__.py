"""Boxed answer, verdict, score. Imports no host and no torch."""

from capcurr_plugin.reward.boxed import extract_boxed
from capcurr_plugin.reward.score import GroundTruth, compute_score, compute_score_batch, judge_with
from capcurr_plugin.reward.verdict import timed_out_verdicts, verify
from capcurr_plugin.reward.workers import warm_up

__all__ = [
    "GroundTruth",
    "compute_score",
    "compute_score_batch",
    "extract_boxed",
    "judge_with",
    "timed_out_verdicts",
    "verify",
    "warm_up",
]
