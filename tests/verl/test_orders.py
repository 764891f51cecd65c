"""The order of each curriculum, in the rows that verl's trainer really took, step by step."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import SMALL, run_on_cpu

from capcurr_plugin.rows import CAPABILITIES
from capcurr_plugin.verl_host.steps import read_steps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROWS, BATCH = 32 * len(CAPABILITIES), 24
STEPS = ROWS // BATCH
SHORT = ["actor_rollout_ref.rollout.n=1", "actor_rollout_ref.actor.use_kl_loss=false", "trainer.val_before_train=false"]
SHORT += [f"data.train_batch_size={BATCH}", f"actor_rollout_ref.actor.ppo_mini_batch_size={BATCH}"]
SHORT += ["trainer.save_freq=-1", "trainer.test_freq=-1"]


ORDERS = ["capability_only", "difficulty_only", "capability_x_difficulty"]


@pytest.fixture(scope="module")
def taken(toy, qwen):
    """The steps of a run in each order. All run at once: most of a run is the start of its processes."""
    with ThreadPoolExecutor(len(ORDERS)) as together:
        return dict(zip(ORDERS, together.map(lambda order: run(toy, qwen, order), ORDERS), strict=True))


def run(toy, qwen, order):
    out = toy / order
    files = ",".join(str(toy / f"{capability}.jsonl") for capability in reversed(CAPABILITIES))
    words = [f"+capcurr=curriculum/qwen3_vl_8b_{order}", "+capcurr/platform=cpu"]
    words += [f"actor_rollout_ref.model.path={qwen}", f"trainer.default_local_dir={out}"]
    words += [f"data.train_files=[{files}]", f"data.val_files={toy}/validation.jsonl", *SMALL, *SHORT]
    run_on_cpu("-m", "verl.trainer.main_ppo", *words)
    return [step["rows"] for step in read_steps(out / "steps.jsonl") if step["step"]]


@pytest.mark.parametrize("order", ORDERS)
def test_the_rows_are_trained_in_the_order_of_the_curriculum(toy, taken, order):
    known = {}
    for capability in CAPABILITIES:
        for line in (toy / f"{capability}.jsonl").read_text().splitlines():
            row = json.loads(line)
            known[row["index"]] = (CAPABILITIES.index(capability), -row["pass_rate"])
    steps = taken[order]
    assert [len(rows) for rows in steps] == [BATCH] * (2 * STEPS)
    epochs = [[row for rows in steps[start : start + STEPS] for row in rows] for start in (0, STEPS)]
    for rows in epochs:
        assert sorted(rows) == sorted(known)
        ranks, hardness = zip(*(known[row] for row in rows), strict=True)
        if order == "capability_only":
            assert list(ranks) == sorted(ranks)
            assert list(hardness) != sorted(hardness)
        elif order == "difficulty_only":
            assert list(hardness) == sorted(hardness)
            assert list(ranks) != sorted(ranks)
        else:
            pairs = list(zip(ranks, hardness, strict=True))
            assert pairs == sorted(pairs)
    assert epochs[0] != epochs[1]  # the order leaves something open, which the next epoch shuffles anew
