"""What a run writes of each step, and what is read off it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEPS_FILE = "steps.jsonl"
MIN_GAIN = 0.001  # of the reward; less is no improvement


def read_steps(file: Path) -> list[dict[str, Any]]:
    """The steps of a run in their order. After a resume a step may stand there twice: the later one counts."""
    steps = {step["step"]: step for step in _lines(file)}
    return [steps[number] for number in sorted(steps)]


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    if not file.exists():
        return
    for line in file.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # the run was killed while it wrote its last line
            continue


def validation_reward(validation: Mapping[str, float]) -> float:
    """The mean over the capabilities of the validation's reward."""
    rewards = [value for name, value in validation.items() if "/reward/mean@" in name]
    return sum(rewards) / len(rewards) if rewards else float("nan")


@dataclass
class Plateau:
    """No validation of the last `patience` was better than the best before them, by more than MIN_GAIN."""

    patience: int
    min_steps: int
    rewards: list[tuple[int, float]] = field(default_factory=list)

    def add(self, step: int, reward: float) -> None:
        self.rewards.append((step, reward))

    @property
    def reached(self) -> bool:
        if len(self.rewards) <= self.patience or self.rewards[-1][0] < self.min_steps:
            return False
        before, last = self.rewards[: -self.patience], self.rewards[-self.patience :]
        return max(reward for _, reward in last) <= max(reward for _, reward in before) + MIN_GAIN

    def __str__(self) -> str:
        step, best = max(self.rewards[: -self.patience], key=lambda item: item[1])
        return f"the validation reward has not risen above {best:.4f}, of step {step}, {self.patience} times"
