"""verl's synchronous trainer with a guard: `trainer.v1.trainer_mode=capcurr`.

It stops a run that goes on but should not: one whose rollout and trainer disagree about the model, whose responses get
lost, or whose validation reward no longer rises. It writes each step to `steps.jsonl` beside the checkpoints, with the
rows that were trained on.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import torch
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf, open_dict
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.device import get_device_name

from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.verl_host.steps import STEPS_FILE, Plateau, end_line, read_steps, validation_reward

AGREEMENT_STEPS = 3  # a rollout that is wrong is wrong from the first step on
AGREEMENT = "training/rollout_actor_probs_pearson_corr"
DIFFERENCE = "training/rollout_probs_diff_mean"
SMALL_DIFFERENCE = 0.02  # of a model that is sure of every token, nothing but rounding is left to correlate


@register_trainer("capcurr")
class CapabilityTrainer(PPOTrainerSync):
    def __init__(self, config: DictConfig) -> None:
        with open_dict(config):
            config.trainer.v1.trainer_mode = "sync"  # which verl's own parts ask for
        _check_platform(config)
        super().__init__(config)
        self._settings: Any = config.get("capcurr") or OmegaConf.create()
        if self._settings.get("poll_seconds") is not None:
            self.replay_buffer.poll_interval = float(self._settings.poll_seconds)
        self._steps_file = Path(config.trainer.default_local_dir) / STEPS_FILE
        self._rows: list[str] = []
        self._validation: dict[str, float] | None = None
        self._steps_here = 0
        self._trains = False

    @property
    def _repeats(self) -> bool:
        """To the bit; our rollout can do that."""
        return self.config.actor_rollout_ref.rollout.full_determinism and get_device_name() == "cpu"

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        if self._repeats:
            for loader in (self.train_dataloader, self.val_dataloader):
                loader.collate_fn = _numbered(loader.collate_fn)

    def on_init_end(self) -> None:
        super().on_init_end()
        self._steps_file.parent.mkdir(parents=True, exist_ok=True)
        end_line(self._steps_file)

    def _next_train_batch(self, num_prompts: int | None = None) -> Any:
        batch = super()._next_train_batch(num_prompts)
        self._rows += [str(index) for index in batch["index"]]
        return batch

    def _balance_batch(self, batch: Any, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Called with what the rollout has brought, before verl fills the gaps with padding."""
        wanted = self.config.data.train_batch_size // self.parameter_sync_step * self.config.actor_rollout_ref.rollout.n
        lost = wanted - len({key.rpartition("_")[0] for key in batch.keys})
        metrics["training/lost_responses"] = lost
        if lost > float(self._settings.get("max_lost", 1.0)) * wanted:
            raise JobError(
                f"step {self.global_steps}: {lost} of {wanted} responses were lost on the way, which the agent loop's "
                f"log says more of; capcurr.max_lost allows a share of {self._settings.max_lost:g}"
            )
        if self._repeats:
            _put_in_order(batch)
        return super()._balance_batch(batch, metrics, *args, **kwargs)

    def _compute_old_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:
        batch = super()._compute_old_log_prob(batch, metrics)
        self._steps_here += 1
        agreement, difference = metrics.get(AGREEMENT, math.nan), metrics.get(DIFFERENCE, math.nan)
        least = float(self._settings.get("min_agreement", -1.0))
        if self._steps_here <= AGREEMENT_STEPS and agreement < least and difference > SMALL_DIFFERENCE:
            raise JobError(
                f"step {self.global_steps}: the rollout's probabilities of its tokens and the trainer's differ by "
                f"{difference:.3f} and correlate by {agreement:.3f}, less than capcurr.min_agreement={least:g}: the "
                "two do not hold the same model or do not see the same prompt, and training would go on garbage"
            )
        return batch

    def _validate(self) -> dict[str, float]:
        # verl adds up in the order in which responses arrive, which the last digits show.
        validation = {name: round(float(value), 12) for name, value in super()._validate().items()}
        if self._trains:
            self._validation = validation
        else:  # verl validates once before the first step
            step = {"step": self.global_steps, "of": self.total_training_steps, "validation": validation}
            self._write(step)
        return validation

    def on_train_begin(self) -> None:
        super().on_train_begin()
        self._trains = True

    def _compute_metrics(self, batch: Any, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """The last call of a step."""
        super()._compute_metrics(batch, metrics, *args, **kwargs)
        step = {
            "step": self.global_steps,
            "of": self.total_training_steps,
            "rows": self._rows,
            "reward": metrics["critic/score/mean"],
            "response_length": metrics["response_length/mean"],
            "seconds": metrics["timing_s/step"],
            "entropy": _number(metrics.get("actor/entropy")),
            "kl": _number(metrics.get("actor/kl_loss")),
            "agreement": _number(metrics.get(AGREEMENT)),
            "lost": metrics["training/lost_responses"],
            "validation": self._validation,
        }
        step["plateau"] = self._ends_on_plateau()
        self._write(step)
        self._rows, self._validation = [], None

    def _ends_on_plateau(self) -> bool:
        last = self.global_steps >= self.total_training_steps
        if self._validation is None or last or self._settings.get("stop_when") != "plateau":
            return False
        earlier = [step for step in read_steps(self._steps_file) if step["step"] < self.global_steps]
        validated = [step for step in earlier if step.get("validation")]
        rewards = [(step["step"], validation_reward(step["validation"])) for step in validated]
        rewards.append((self.global_steps, validation_reward(self._validation)))
        plateau = Plateau(int(self._settings.patience), int(self._settings.min_steps), rewards)
        if not plateau.reached:
            return False
        print(f"capcurr: {plateau}; the run ends at step {self.global_steps}", flush=True)
        self._save_checkpoint()
        self.total_training_steps = self.global_steps  # verl's loop ends after it
        return True

    def _write(self, step: dict[str, Any]) -> None:
        with self._steps_file.open("a") as file:
            file.write(json.dumps(step, default=float) + "\n")


def _numbered(collate: Callable[[list[Any]], dict[str, Any]]) -> Callable[[list[Any]], dict[str, Any]]:
    """verl names a request by its row's priority, which has to tell equal rows apart."""

    def collated(rows: list[Any]) -> dict[str, Any]:
        return collate(rows) | {"priority": torch.arange(len(rows))}

    return collated


def _put_in_order(batch: Any) -> None:
    """By row and response, not as they happened to arrive: sums of floats hang on their order."""
    told = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["index", "responses"])
    content = [
        (str(index), response.tolist()) for index, response in zip(told["index"], told["responses"], strict=True)
    ]
    batch.reorder(sorted(range(len(content)), key=content.__getitem__))


def _number(value: float | None) -> float | None:
    """JSON has no NaN, which a correlation is when one side does not vary."""
    return None if value is None or math.isnan(value) else float(value)


def _check_platform(config: DictConfig) -> None:
    wanted, have = config.trainer.device, get_device_name()
    if wanted == "cpu" and have != "cpu":
        raise InputError("trainer.device=cpu, but verl runs on another platform: set VERL_PLATFORM=cpu")
    if have == "cpu":
        print("capcurr: verl runs on the CPU, for development and tests; no real model trains here", flush=True)
        if not ray.cluster_resources().get("GPU"):
            raise InputError("on the CPU, Ray must be told of logical GPUs: +ray_kwargs.ray_init.num_gpus=1")
