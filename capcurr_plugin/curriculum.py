"""The order of a curriculum, in files and in training: which row comes before which."""

from typing import Literal, get_args

from capcurr_plugin.rows import CAPABILITIES

Order = Literal["shuffled", "difficulty", "capability", "capability_then_difficulty"]
ORDERS: tuple[Order, ...] = get_args(Order)


def needs_pass_rate(order: Order) -> bool:
    return "difficulty" in order


def needs_capability(order: Order) -> bool:
    return order.startswith("capability")


def sort_key(order: Order, capability: str, pass_rate: float | None) -> tuple[int, float]:
    """Ascending keys are the order: capabilities as they are trained, pass rates from easy to hard. Rows of equal keys
    are left open."""
    rank = CAPABILITIES.index(capability) if needs_capability(order) else 0  # pyright: ignore[reportArgumentType]
    return rank, -(pass_rate or 0.0) if needs_pass_rate(order) else 0.0
