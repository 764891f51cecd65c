"""What a run writes of each step, and what is read off it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STEPS_FILE = "steps.jsonl"
MIN_GAIN = 0.001  # of the reward; less is no improvement


def read_steps(*files: Path) -> list[dict[str, Any]]:
    """The steps of a run in their order. After a resume a step may stand there twice: what came later counts."""
    steps: dict[int, dict[str, Any]] = {}
    for file in files:
        for step in StepsTail(file).new():
            steps[step["step"]] = steps.get(step["step"], {}) | step
    return [steps[number] for number in sorted(steps)]


def steps_files(folder: Path, supervised: bool, starts: int) -> list[Path]:
    """Of a stage. verl's SFT trainer logs to a file that it begins anew at each start."""
    return [folder / f"losses-{start}.jsonl" for start in range(1, starts + 1)] if supervised else [folder / STEPS_FILE]


def _of_sft(logged: dict[str, Any]) -> dict[str, Any]:
    """What verl's SFT trainer logs of a step."""
    return {"step": logged["step"], "loss": logged["data"].get("train/loss")}


def end_line(file: Path) -> None:
    """A kill may have cut the last line off; the next step must not be written behind it."""
    if file.exists() and not file.read_bytes().endswith(b"\n"):
        with file.open("ab") as steps:
            steps.write(b"\n")


class StepsTail:
    """The steps that a run has written since the last look."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = 0

    def new(self) -> Iterator[dict[str, Any]]:
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # it is being written, or a kill has cut it off
                self._read += len(line)
                try:
                    step = json.loads(line)
                except ValueError:  # what a kill left of a line, with the next run's first behind it
                    continue
                yield _of_sft(step) if "data" in step else step


def validation_reward(validation: Mapping[str, float]) -> float:
    """The mean over the capabilities of the validation's reward."""
    rewards = [value for name, value in validation.items() if "/reward/mean@" in name]
    return sum(rewards) / len(rewards) if rewards else float("nan")


@dataclass
class Plateau:
    """No validation of the last `patience` was better than the best before them, by more than MIN_GAIN."""

    patience: int
    min_steps: int
    rewards: list[tuple[int, float]]  # of each validation, with its step

    @property
    def reached(self) -> bool:
        if len(self.rewards) <= self.patience or self.rewards[-1][0] < self.min_steps:
            return False
        before, last = self.rewards[: -self.patience], self.rewards[-self.patience :]
        return max(reward for _, reward in last) <= max(reward for _, reward in before) + MIN_GAIN

    def __str__(self) -> str:
        step, best = max(self.rewards[: -self.patience], key=lambda item: item[1])
        return f"the validation reward has not risen above {best:.4f}, of step {step}, {self.patience} times"
