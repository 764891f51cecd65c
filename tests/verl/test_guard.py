"""The trainer's guard: it stops what should not go on, and `capcurr train` says why in one line."""

import json
from pathlib import Path

import pytest
from conftest import SMALL, run_capcurr

from capcurr_plugin.errors import JobError
from capcurr_plugin.verl_host.steps import read_steps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


# Loaded by verl in each of its processes: a server whose probabilities are those of another model.
WRONG_ROLLOUT = """
import random
from _capcurr_boot import when_executed

def spoil(module):
    right = module.TransformersServer._output
    def _output(self, request, tokens, log_probs):
        return right(self, request, tokens, [-3 * random.random() for _ in log_probs])
    module.TransformersServer._output = _output

when_executed("capcurr_plugin.verl_host.cpu.rollout", spoil)
"""


def train(toy, model, out, *more, **environment):
    command = ["train", "qwen3_vl_8b", "--recipe", "stage3_only", "--cpu", "--data", toy]
    return run_capcurr(*command, "--model", model, "--out", out, *more, **environment)


def test_a_rollout_that_disagrees_with_the_trainer_stops_the_run(toy, qwen, tmp_path):
    (tmp_path / "wrong_rollout.py").write_text(WRONG_ROLLOUT)
    wrong = {"VERL_USE_EXTERNAL_MODULES": "wrong_rollout", "PYTHONPATH": str(tmp_path)}
    done = train(toy, qwen, tmp_path / "run", "--set", *SMALL, "trainer.test_freq=-1", **wrong)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "capcurr: failed: 1/1 qwen3_vl_8b_stage3_only: step 1: the rollout's probabilities"
    )
    assert "training would go on garbage" in done.stderr
    assert not json.loads((tmp_path / "run" / "run.json").read_text())["stages"][0]["done"]


def test_a_stage_ends_when_its_validation_no_longer_rises(toy, qwen, tmp_path):
    """With a learning rate of nothing it never does."""
    settings = [*SMALL, "actor_rollout_ref.actor.optim.lr=0.0", "trainer.test_freq=1", "trainer.save_freq=100"]
    settings += ["actor_rollout_ref.rollout.val_kwargs.temperature=0"]
    done = train(
        toy, qwen, tmp_path / "run", "--stop-when", "plateau", "--patience", "2", "--min-steps", "4", "--set", *settings
    )
    assert done.returncode == 0, done.stderr
    (stage,) = json.loads((tmp_path / "run" / "run.json").read_text())["stages"]
    assert stage["done"]
    assert stage["steps"] == 4  # not before the least number of steps, and not the eight of two epochs
    assert Path(stage["model"], "model.safetensors").exists()
    folder = tmp_path / "run" / "1_qwen3_vl_8b_stage3_only"
    assert [step.get("plateau") for step in read_steps(folder / "steps.jsonl")][1:] == [False] * 3 + [True]
    assert "the validation reward has not risen above" in (folder / "log.txt").read_text()


def test_a_model_that_is_nowhere_is_one_line_before_verl_starts(toy, tmp_path):
    done = run_capcurr("train", "qwen3_vl_8b", "--data", toy, "--out", tmp_path / "run", "--set", *SMALL)
    assert done.returncode == 2
    assert done.stderr.startswith("capcurr: error: Qwen/Qwen3-VL-8B-Instruct: is not in the hub's cache")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run" / "1_stage1_perception").exists()


# Parts, without a run


@pytest.fixture
def trainer(monkeypatch):
    """A trainer in its third step, of 4 prompts with 5 responses each; verl's own part of each call does nothing."""
    import verl  # noqa: F401  loads the plugin
    from omegaconf import OmegaConf
    from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

    from capcurr_plugin.verl_host.trainer import CapabilityTrainer

    for name in ("_balance_batch", "_compute_old_log_prob"):
        monkeypatch.setattr(PPOTrainerSync, name, lambda self, batch, metrics: batch)
    made = CapabilityTrainer.__new__(CapabilityTrainer)
    rollout = {"n": 5, "full_determinism": False}
    made.config = OmegaConf.create({"data": {"train_batch_size": 4}, "actor_rollout_ref": {"rollout": rollout}})
    made._settings = OmegaConf.create({"max_lost": 0.1, "min_agreement": 0.9})
    made.parameter_sync_step, made.global_steps, made._steps_here = 1, 3, 0
    return made


class Batch:
    def __init__(self, keys):
        self.keys = keys


def keys(responses):
    return [f"uid{n // 5}_{n % 5}_0" for n in range(responses)]


def test_lost_responses_are_counted_and_too_many_stop_the_run(trainer):
    metrics = {}
    trainer._balance_batch(Batch(keys(20)), metrics)
    assert metrics["training/lost_responses"] == 0
    trainer._balance_batch(Batch([*keys(20), "uid3_4_1"]), metrics)  # a second output of one response
    assert metrics["training/lost_responses"] == 0
    trainer._balance_batch(Batch(keys(18)), metrics)
    assert metrics["training/lost_responses"] == 2
    with pytest.raises(JobError, match="step 3: 3 of 20 responses were lost on the way"):
        trainer._balance_batch(Batch(keys(17)), metrics)


def test_agreement_is_looked_at_in_the_first_steps_only(trainer):
    from capcurr_plugin.verl_host.trainer import AGREEMENT, DIFFERENCE

    wrong = {AGREEMENT: 0.5, DIFFERENCE: 0.2}
    for _ in range(3):
        trainer._compute_old_log_prob(Batch([]), {AGREEMENT: 0.95, DIFFERENCE: 0.2})
    trainer._compute_old_log_prob(Batch([]), wrong)
    trainer._steps_here = 0
    with pytest.raises(JobError, match=r"differ by 0\.200 and correlate by 0\.500, less than capcurr\.min_agreement"):
        trainer._compute_old_log_prob(Batch([]), wrong)
    trainer._compute_old_log_prob(Batch([]), {AGREEMENT: 0.5, DIFFERENCE: 0.001})  # a model that is sure of its tokens
    trainer._compute_old_log_prob(Batch([]), {})  # a run that does not ask the rollout for probabilities
