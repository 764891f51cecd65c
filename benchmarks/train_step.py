"""What a training step on the CPU costs, beside the same step with verl's own waiting, and with next to none.

    .envs/verl/bin/python benchmarks/train_step.py

Each line is the median over the steps of one run of verl's trainer, the first two left out; text and images in turn.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "tests" / "verl"), str(CHECKOUT / "tests" / "models")]

import toy_task  # noqa: E402  # pyright: ignore[reportMissingImports]  the task of the tests

from capcurr_plugin.verl_host.steps import STEPS_FILE, read_steps  # noqa: E402

STEPS = 12
POLLS = {"verl's poll, 2 s": 2.0, "ours, 0.05 s": 0.05, "next to none, 0.002 s": 0.002}
SETTINGS = [
    "+capcurr/platform=cpu",
    "data.train_batch_size=8",
    "data.max_prompt_length=256",
    "data.max_response_length=24",
    "data.min_pixels=null",
    "data.max_pixels=null",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    f"trainer.total_training_steps={STEPS}",
    "trainer.save_freq=-1",
    "trainer.test_freq=-1",
    "trainer.val_before_train=false",
]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = toy_task.make_model("qwen3_vl", folder / "model", steps=10)
        for capability, run in (
            ("textual_reasoning", "stage2_text_reasoning"),
            ("perception", "stage1_perception"),
        ):
            rows = toy_task.make_rows(folder, capability, 8 * STEPS)
            medians = {title: step_seconds(folder, model, rows, run, poll) for title, poll in POLLS.items()}
            least = min(medians.values())
            for title, seconds in medians.items():
                print(f"{capability:<18} {title:<22} {seconds:6.2f} s a step   {seconds / least:5.2f}x", flush=True)


def step_seconds(folder: Path, model: Path, rows: Path, run: str, poll: float) -> float:
    out = folder / f"{run}_{poll}"
    words = [f"+capcurr=qwen3_vl_8b/{run}", *SETTINGS, f"capcurr.poll_seconds={poll}"]
    words += [f"actor_rollout_ref.model.path={model}", f"trainer.default_local_dir={out}"]
    words += [f"data.train_files={rows}", f"data.val_files={rows}"]
    environment = os.environ | {"VERL_PLATFORM": "cpu", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-m", "verl.trainer.main_ppo", *words], env=environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        sys.exit(done.stderr[-3000:])
    return statistics.median(step["seconds"] for step in read_steps(out / STEPS_FILE)[2:])


if __name__ == "__main__":
    main()
