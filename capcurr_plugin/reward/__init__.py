"""Boxed answer, verdict, score. Imports no host and no torch."""

from capcurr_plugin.reward.boxed import extract_boxed
from capcurr_plugin.reward.score import compute_score
from capcurr_plugin.reward.verdict import verify

__all__ = ["compute_score", "extract_boxed", "verify"]
