"""The reward inside verl: its reward loop, in Ray actors, with the registered manager and with verl's own."""

import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))  # the hostile answers

RIGHT = "<think> 3 + 4 </think> \\boxed{7}"
ROWS = [  # response, ground truth, score
    (RIGHT, "7", 1.0),
    (RIGHT, "8", 0.1),
    ("\\boxed{(B)}", "B", 0.9),
    ("<think> 7", "7", 0.0),
    ("<think> one half </think> \\boxed{\\int_0^1 x dx}", "\\frac{1}{2}", 1.0),
]


@pytest.fixture(scope="module")
def ray():
    import ray

    ray.init(num_cpus=4, include_dashboard=False, logging_level="error")
    yield ray
    ray.shutdown()


def compose(tokenizer_folder, *overrides):
    """The trainer's configuration, as its command composes it."""
    import verl  # noqa: F401  loads the plugin
    from hydra import compose, initialize_config_module

    with initialize_config_module("verl.trainer.config", version_base=None):
        path = f"actor_rollout_ref.model.path={tokenizer_folder}"
        return compose("ppo_trainer", overrides=["+capcurr=reward", path, *overrides])


def batch(tokenizer_folder, rows, options=None):
    """Responses as verl's rollout hands them to the reward loop."""
    import numpy as np
    import torch
    from transformers import AutoTokenizer
    from verl import DataProto

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    ids = [tokenizer(response)["input_ids"] for response, _ in rows]
    longest = max(map(len, ids))
    responses = torch.tensor([one + [tokenizer.pad_token_id] * (longest - len(one)) for one in ids])
    mask = torch.tensor([[1, 1] + [1] * len(one) + [0] * (longest - len(one)) for one in ids])
    prompts = torch.zeros(len(ids), 2, dtype=torch.long)
    columns = {
        "data_source": ["perception"] * len(rows),
        "reward_model": [{"ground_truth": truth, "style": "rule"} for _, truth in rows],
        "extra_info": [{"index": str(n), "options": options} for n in range(len(rows))],
    }
    return DataProto.from_dict(
        {"prompts": prompts, "responses": responses, "attention_mask": mask},
        {name: np.array(values, dtype=object) for name, values in columns.items()},
    )


@pytest.fixture(scope="module")
def actor(ray, tokenizer_folder):
    from verl.experimental.reward_loop.reward_loop import RewardLoopWorker

    return ray.remote(RewardLoopWorker).remote(compose(tokenizer_folder))


def test_a_batch_is_scored_in_a_ray_actor(ray, actor, tokenizer_folder):
    rows = [(response, truth) for response, truth, _ in ROWS]
    results = ray.get(actor.compute_score_batch.remote(batch(tokenizer_folder, rows)))
    assert [result["reward_score"] for result in results] == pytest.approx([score for *_, score in ROWS])
    assert results[0]["reward_extra_info"]["tier"] == "exact"
    assert results[4]["reward_extra_info"]["tier"] == "symbolic"


def test_options_reach_the_reward(ray, actor, tokenizer_folder):
    rows = [("\\boxed{a blue door}", "B")]
    (result,) = ray.get(actor.compute_score_batch.remote(batch(tokenizer_folder, rows, ["a red door", "a blue door"])))
    assert result["reward_extra_info"]["accuracy"] == 1


def test_hostile_answers_are_wrong_and_in_time_in_a_ray_actor(ray, actor, tokenizer_folder):
    from hostile_answers import CODE, HOSTILE, TRUTHS

    answers = {name: answer for name, answer in {**HOSTILE, **CODE}.items() if len(answer) < 200_000}
    assert len(answers) > 250
    late, right = [], []
    for name, answer in answers.items():
        response = f"\\boxed{{{answer}}}".encode("utf-8", "replace").decode()  # a tokenizer has no half surrogate pairs
        data = ray.put(batch(tokenizer_folder, [(response, TRUTHS.get(name, "42"))]))
        start = time.monotonic()
        (result,) = ray.get(actor.compute_score_batch.remote(data))
        if time.monotonic() - start > 2:  # a second for the verdict, and what Ray needs to ask for it
            late.append(name)
        if result["reward_extra_info"]["accuracy"]:
            right.append(name)
    assert late == []
    assert right == []


def test_verls_own_manager_scores_with_the_function(ray, tokenizer_folder):
    from verl.experimental.reward_loop.reward_loop import RewardLoopWorker

    config = compose(tokenizer_folder, "reward.reward_manager.name=naive")
    naive = ray.remote(RewardLoopWorker).remote(config)
    rows = [(response, truth) for response, truth, _ in ROWS[:4]]
    results = ray.get(naive.compute_score_batch.remote(batch(tokenizer_folder, rows)))
    assert [result["reward_score"] for result in results] == pytest.approx([score for *_, score in ROWS[:4]])


def test_settings_reach_the_reward(tokenizer_folder):
    from transformers import AutoTokenizer
    from verl.trainer.ppo.reward import load_reward_manager

    config = compose(tokenizer_folder, "reward.custom_reward_function.reward_kwargs.format_weight=0.5")
    manager = load_reward_manager(config, AutoTokenizer.from_pretrained(tokenizer_folder))
    rows = [(RIGHT, "8")]
    result = manager.loop.run_until_complete(manager.run_single(batch(tokenizer_folder, rows)))
    assert result["reward_score"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+reward.custom_reward_function.reward_kwargs.format_wieght=1", "format_wieght not known"),
        ("reward.custom_reward_function.path=mine.py", "name another reward manager"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(tokenizer_folder, override, message):
    from capcurr_plugin.verl_host.reward_manager import CapcurrRewardManager

    with pytest.raises(ValueError, match=message):
        CapcurrRewardManager(compose(tokenizer_folder, override), None)


def test_ground_truths_and_options_may_be_what_numpy_makes_of_them():
    import numpy as np

    from capcurr_plugin.reward import compute_score

    for truth, answer in [(np.int64(7), "7"), (np.float64(0.5), "1/2"), (np.array(["6", "7"], dtype=object), "7")]:
        assert compute_score("", f"\\boxed{{{answer}}}", truth)["accuracy"] == 1
        assert compute_score("", "\\boxed{9}", truth)["accuracy"] == 0
    options = np.array(["a red door", "a blue door"], dtype=object)
    assert compute_score("", "\\boxed{a blue door}", "B", {"options": options})["accuracy"] == 1
