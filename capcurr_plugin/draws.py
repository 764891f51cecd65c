"""Sampling in which what is drawn for a request hangs on its own seed alone, not on what shares its batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def own_draws(seeds: Sequence[int], temperatures: Sequence[float]) -> Any:
    """For `generate(logits_processor=[...], do_sample=False)`, one of each to a row of the batch: the largest of the
    logits with Gumbel noise on them is a draw from their softmax. At temperature 0 there is no noise."""
    import torch

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    spread = torch.tensor(temperatures)[:, None]

    def noisy(_: Any, scores: Any) -> Any:
        if not bool(spread.any()):
            return scores
        draws = torch.stack([torch.rand(scores.shape[1], generator=generator) for generator in generators])
        return scores - spread * torch.log(-torch.log(draws.clamp(1e-20, 1 - 1e-7)))

    return noisy
