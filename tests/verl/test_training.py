"""Training in the real verl on the CPU: three chained stages, killed in the second, and InternVL's first two."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import SMALL, kill_capcurr_at, run_capcurr, run_on_cpu
from processes import left_naming

from capcurr_plugin.rows import CAPABILITIES
from capcurr_plugin.verl_host.steps import StepsTail, read_steps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

STAGES = ["1_stage1_perception", "2_stage2_text_reasoning", "3_stage3_visual_reasoning"]
KILLED_AT = 3


def train(toy, model, out, *more):
    return ["train", "qwen3_vl_8b", "--data", toy, "--model", model, "--out", out, "--cpu", *more]


@pytest.fixture(scope="module")
def runs(toy, qwen, internvl):
    """Both at once: what a run takes is mostly the start of its processes, one after the other."""
    with ThreadPoolExecutor(2) as both:
        started = both.submit(run_staged, toy, qwen), both.submit(run_undisturbed, toy, internvl)
        return tuple(run.result() for run in started)


@pytest.fixture(scope="module")
def staged(runs):
    return runs[0]


@pytest.fixture(scope="module")
def undisturbed(runs):
    return runs[1]


def run_staged(toy, qwen):
    """Three stages; `capcurr train` is killed in the middle of the second, and run again."""
    out = toy / "staged"
    command = train(toy, qwen, out, "--set", *SMALL)
    kill_capcurr_at(KILLED_AT, out / STAGES[1] / "steps.jsonl", *command)
    left = left_naming(out / STAGES[1])
    again = run_capcurr(*command)
    return {"out": out, "left": left, "again": again, "record": json.loads((out / "run.json").read_text())}


def run_undisturbed(toy, internvl):
    """InternVL's first two stages, by verl's own command, on the same rows."""
    model, folders = internvl, []
    for run, rows in (("stage1_perception", "perception"), ("stage2_text_reasoning", "textual_reasoning")):
        folder = toy / "internvl_runs" / run
        words = [f"+capcurr=internvl3_8b/{run}", "+capcurr/platform=cpu", f"actor_rollout_ref.model.path={model}"]
        words += [f"data.train_files={toy}/{rows}.jsonl", f"data.val_files={toy}/validation.jsonl"]
        words += [f"trainer.default_local_dir={folder}", *SMALL, "actor_rollout_ref.actor.kl_loss_coef=0.01"]
        words += ["actor_rollout_ref.actor.grad_clip=1.0"]
        folders.append((folder, run_on_cpu("-m", "verl.trainer.main_ppo", *words)))
        model = folder / "global_step_8" / "actor" / "huggingface"
    return folders


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def changed(before, after):
    """The names of the tensors that differ in any bit."""
    import torch

    one, other = weights(before), weights(after)
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def of_vision(names):
    return {name for name in names if "visual" in name or "vision_tower" in name}


def model_after(folder, step=8):
    return folder / f"global_step_{step}" / "actor" / "huggingface"


def test_all_stages_are_done_after_the_kill_and_a_second_run(staged):
    assert staged["left"] == []  # nothing went on without its parent
    assert staged["again"].returncode == 0, staged["again"].stderr
    assert "stage1_perception: done already, 8 steps" in staged["again"].stdout
    assert "2/3 stage2_text_reasoning: goes on from global_step_" in staged["again"].stdout
    stages = staged["record"]["stages"]
    assert [stage["done"] for stage in stages] == [True] * 3
    assert [stage["steps"] for stage in stages] == [8] * 3
    assert [len(stage["commands"]) for stage in stages] == [1, 2, 1]
    assert staged["record"]["versions"]["verl"] == "0.9.1"
    assert all(file["rows"] == 32 and len(file["sha256"]) == 64 for stage in stages for file in stage["train"])


@pytest.fixture(scope="module")
def repeated(staged):
    """The second stage once more, by the command of its first run, which was killed; nobody kills this one."""
    folder = staged["out"].with_name("repeated")
    words = [word for word in staged["record"]["stages"][1]["commands"][0] if "trainer.default_local_dir=" not in word]
    run_on_cpu(*words[1:], f"trainer.default_local_dir={folder}")
    return folder


def test_a_run_that_was_killed_ends_as_one_that_was_not(staged, repeated):
    """To the bit: each weight, and each number of each step."""
    killed = staged["out"] / STAGES[1]
    assert changed(model_after(killed), model_after(repeated)) == set()
    ours, theirs = numbers(killed), numbers(repeated)
    assert ours.keys() == theirs.keys() == set(range(9))
    for step, told in theirs.items():
        if told["validation"] is None:  # the checkpoint's step was validated when the run went on from it
            ours[step]["validation"] = None
        assert ours[step] == told, step


def numbers(folder):
    """By step; of a step that was trained twice, the later ones."""
    return {step["step"]: step | {"seconds": None} for step in read_steps(folder / "steps.jsonl")}


def test_each_stage_starts_from_the_model_of_the_one_before(staged, qwen):
    starts = [
        next(word for word in stage["commands"][0] if word.startswith("actor_rollout_ref.model.path="))
        for stage in staged["record"]["stages"]
    ]
    models = [str(qwen), *(stage["model"] for stage in staged["record"]["stages"][:2])]
    assert starts == [f"actor_rollout_ref.model.path={model}" for model in models]


def test_no_step_is_trained_twice_but_those_after_the_last_checkpoint(staged):
    resumed_from = next(
        word for word in staged["record"]["stages"][1]["commands"][1] if word.startswith("trainer.resume_from_path=")
    )
    checkpoint = int(resumed_from.rpartition("_")[2])
    assert checkpoint >= KILLED_AT - 1
    trained = [line["step"] for line in StepsTail(staged["out"] / STAGES[1] / "steps.jsonl").new() if "reward" in line]
    before = len(trained) - (8 - checkpoint)
    assert trained[:before] == list(range(1, before + 1))
    assert trained[before:] == list(range(checkpoint + 1, 9))


def test_the_rows_come_in_the_order_of_an_undisturbed_run(staged, undisturbed):
    for stage, (folder, _) in zip(STAGES, undisturbed, strict=False):
        ours = [step.get("rows") for step in read_steps(staged["out"] / stage / "steps.jsonl") if step["step"]]
        theirs = [step.get("rows") for step in read_steps(folder / "steps.jsonl") if step["step"]]
        assert len(theirs) == 8
        assert ours == theirs
        for epoch in (theirs[:4], theirs[4:]):
            assert len({row for rows in epoch for row in rows}) == 32


def rewards(folder):
    return [step["reward"] for step in read_steps(folder / "steps.jsonl") if "reward" in step]


def test_the_reward_rises(staged, undisturbed):
    for folder in (*(staged["out"] / stage for stage in STAGES), *(folder for folder, _ in undisturbed)):
        got = rewards(folder)
        assert len(got) == 8
    learning = (staged["out"] / STAGES[0], staged["out"] / STAGES[1], *(folder for folder, _ in undisturbed))
    halves = [(sum(got[:4]) / 4, sum(got[4:]) / 4) for got in map(rewards, learning)]
    assert sum(second - first for first, second in halves) / 4 > 0.05
    # What the first stage has learned of images; who only knows the format gets 0.55.
    assert sum(rewards(staged["out"] / STAGES[2])) / 8 > 0.65


def test_rollout_and_trainer_agree_and_nothing_is_lost(staged, undisturbed):
    for folder in (*(staged["out"] / stage for stage in STAGES), *(folder for folder, _ in undisturbed)):
        steps = [step for step in read_steps(folder / "steps.jsonl") if "reward" in step]
        assert all(step["agreement"] is None or step["agreement"] > 0.99 for step in steps)  # None: all are certain
        assert steps[0]["agreement"] > 0.999
        assert all(step["lost"] == 0 for step in steps)


def test_validation_is_reported_by_capability(staged, undisturbed):
    for folder in (staged["out"] / STAGES[0], undisturbed[1][0]):
        validated = {
            step["step"]: step["validation"] for step in read_steps(folder / "steps.jsonl") if step.get("validation")
        }
        assert sorted(validated) == [0, 4, 8]
        for capability in CAPABILITIES:
            assert f"val-core/{capability}/reward/mean@1" in validated[8]


def test_the_vision_tower_trains_in_the_first_stage_and_is_frozen_in_the_second(staged, undisturbed, qwen, internvl):
    """Bit by bit, also over the kill and the resume."""
    for base, (first, second) in (
        (qwen, (staged["out"] / STAGES[0], staged["out"] / STAGES[1])),
        (internvl, (undisturbed[0][0], undisturbed[1][0])),
    ):
        vision = of_vision(weights(base))
        assert len(vision) > 20
        trained = changed(base, model_after(first))
        assert len(of_vision(trained)) > 0.6 * len(vision)
        frozen = changed(model_after(first), model_after(second))
        assert of_vision(frozen) == set()
        assert len(frozen) > 0.9 * (len(weights(base)) - len(vision))


def test_the_run_says_what_trains(staged, undisturbed):
    first = (staged["out"] / STAGES[0] / "log.txt").read_text()
    second = (staged["out"] / STAGES[1] / "log.txt").read_text()
    assert "parameters train; nothing is frozen" in first
    assert "parameters train; frozen: model.visual (" in second
    assert "parameters train; frozen: model.vision_tower (" in undisturbed[1][1]
    assert "verl runs on the CPU, for development and tests" in undisturbed[0][1]


def test_a_frozen_parameter_has_no_optimizer_state(staged):
    import torch

    kept = {}
    for stage in STAGES[:2]:
        actor = staged["out"] / stage / "global_step_8" / "actor"
        state = torch.load(actor / "optim_world_size_1_rank_0.pt", weights_only=False)
        assert sum(len(group["params"]) for group in state["param_groups"]) == len(weights(actor / "huggingface"))
        kept[stage] = len(state["state"])
    model = weights(model_after(staged["out"] / STAGES[1]))
    assert kept[STAGES[1]] == len(model) - len(of_vision(model))
    assert kept[STAGES[0]] > kept[STAGES[1]]
