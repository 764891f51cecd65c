"""Generation in batches in which an answer hangs on its request alone, to the bit, and not on what shares its batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeVar

# On one thread, what a row comes to differs in its last bits with the width of its padding, and in batches of few rows,
# for which matrices are multiplied in another way: on the CPU that was tried, in those of up to three.
WIDTH_STEP, FEWEST_ROWS = 16, 8

T = TypeVar("T")


def width_of(tokens: int) -> int:
    """To which a prompt is padded, alone and in any batch."""
    return -(-tokens // WIDTH_STEP) * WIDTH_STEP


def by_width(sizes: Sequence[int]) -> dict[int, list[int]]:
    """The places of prompts that can be a batch."""
    places = defaultdict(list)
    for place, size in enumerate(sizes):
        places[width_of(size)].append(place)
    return dict(places)


def filled(batch: Sequence[T]) -> list[T]:
    """With copies at its end, where there are too few."""
    return [*batch, *[batch[0]] * (FEWEST_ROWS - len(batch))]


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
