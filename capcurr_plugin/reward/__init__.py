"""Boxed answer, verdict, score. Imports no host and no torch."""

from capcurr_plugin.reward.boxed import extract_boxed
from capcurr_plugin.reward.score import compute_score, compute_score_batch
from capcurr_plugin.reward.verdict import verify
from capcurr_plugin.reward.workers import warm_up

__all__ = ["compute_score", "compute_score_batch", "extract_boxed", "verify", "warm_up"]
