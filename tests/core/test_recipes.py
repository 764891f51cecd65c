"""The recipes beside the published runs."""

import json
from pathlib import Path

import pytest
import yaml

from capcurr_plugin import cli, recipes

PUBLISHED = json.loads(Path(__file__).with_name("published_runs.json").read_text())
# The sections that all runs share, under EasyR1's full names.
SHARED = {
    "data": "data.",
    "algorithm": "algorithm.",
    "actor": "worker.actor.",
    "rollout": "worker.rollout.",
    "trainer": "trainer.",
}
FULL_NAMES = {
    "worker.actor.enable_gradient_checkpointing": "worker.actor.model.enable_gradient_checkpointing",
    "worker.actor.freeze_vision_tower": "worker.actor.model.freeze_vision_tower",
    "worker.actor.lr": "worker.actor.optim.lr",
    "worker.actor.weight_decay": "worker.actor.optim.weight_decay",
    "worker.actor.strategy": "worker.actor.optim.strategy",
    "worker.actor.dtype": "worker.actor.fsdp.torch_dtype",
    "worker.actor.lr_warmup_ratio": "worker.actor.optim.lr_warmup_ratio",
}
NOT_SETTINGS = {"trainer.hardware", "worker.actor.full_shard"}  # verl shards in full unless told otherwise


def published(name):
    """Every value of a published run under EasyR1's names."""
    values = {}
    for section, prefix in SHARED.items():
        for key, value in PUBLISHED["base"][section].items():
            if key == "validation":
                values |= {f"worker.rollout.val_override_config.{name}": v for name, v in value.items()}
            elif prefix + key not in NOT_SETTINGS:
                values[FULL_NAMES.get(prefix + key, prefix + key)] = value
    return values | PUBLISHED["runs"][name]


def test_every_published_run_is_a_recipe():
    assert len(PUBLISHED["runs"]) == 29
    assert recipes.names() == sorted(PUBLISHED["runs"])


@pytest.mark.parametrize("name", sorted(PUBLISHED["runs"]))
def test_a_recipe_sets_what_the_published_run_set(name):
    ours, theirs = recipes.easyr1_settings(name), published(name)
    assert len(theirs) > 35
    assert {key: ours[key] for key in theirs} == theirs
    backbone = next(backbone for backbone in PUBLISHED["backbones"] if backbone in name)
    assert ours["worker.actor.model.model_path"] == PUBLISHED["backbones"][backbone]
    assert ours["worker.reward.reward_function_kwargs.format_weight"] == PUBLISHED["base"]["reward"]["format_weight"]


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_names_its_rows_and_the_stages_before_it(name):
    values = recipes.settings(name)
    assert values["capcurr.rows"] == PUBLISHED["rows"][name]
    assert values["capcurr.starts_from"] == PUBLISHED["starts_from"][name]


@pytest.mark.parametrize("name", recipes.names())
def test_dynamic_batches_hold_as_many_tokens_as_the_published_ones(name):
    """EasyR1 fills a batch up to its micro batch size times the longest sequence; verl is told the tokens."""
    values = recipes.settings(name)
    length = values["data.max_prompt_length"] + values["data.max_response_length"]
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    update, experience = (
        values[f"{actor}.ppo_micro_batch_size_per_gpu"],
        values[f"{rollout}.log_prob_micro_batch_size_per_gpu"],
    )
    assert values[f"{actor}.ppo_max_token_len_per_gpu"] == update * length
    assert values[f"{rollout}.log_prob_max_token_len_per_gpu"] == experience * length
    assert values["actor_rollout_ref.ref.log_prob_max_token_len_per_gpu"] == experience * length


def test_recipes_are_printed_as_json(capsys):
    assert cli.main(["recipes", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert list(runs) == recipes.names()
    stage2 = runs["internvl3_8b/stage2_text_reasoning"]
    assert stage2["easyr1"]["algorithm.kl_coef"] == stage2["verl"]["actor_rollout_ref.actor.kl_loss_coef"] == 0.05
    assert stage2["easyr1"]["worker.actor.optim.lr"] == 3e-7


def test_recipes_are_listed(capsys):
    assert cli.main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == recipes.names()
    assert "Starts from the model that perception left" in next(line for line in lines if "qwen3_vl_8b/stage2" in line)


def test_the_command_of_a_recipe_is_shown(capsys):
    assert cli.main(["recipes", "show", "qwen3_vl_8b/stage1_perception"]) == 0
    command = capsys.readouterr().out.replace("\\\n", " ").split()
    assert command[:4] == ["python", "-m", "verl.trainer.main_ppo", "+capcurr=qwen3_vl_8b/stage1_perception"]
    assert not any("model.path" in word for word in command)
    assert cli.main(["recipes", "show", "qwen3_vl_8b/stage2_text_reasoning"]) == 0
    assert "actor_rollout_ref.model.path=EARLIER_STAGE" in capsys.readouterr().out
    assert cli.main(["recipes", "show", "qwen3_vl_8b/stage1_perception", "--expand"]) == 0
    expanded = capsys.readouterr().out
    assert "+data.max_pixels=4194304" in expanded
    assert "+capcurr=" not in expanded


def test_a_recipe_is_an_easyr1_file(capsys):
    assert cli.main(["recipes", "show", "internvl3_8b/stage2_text_reasoning", "--for", "easyr1"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["worker"]["actor"]["optim"] == {
        "lr": 3e-7,
        "weight_decay": 0.01,
        "lr_warmup_ratio": 0.05,
        "strategy": "adamw_bf16",
    }
    path, function = config["worker"]["reward"]["reward_function"].rsplit(":", 1)
    assert Path(path).name == "easyr1.py"
    assert Path(path).exists()
    assert function == "compute_score"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("qwen3_vl_8b/stage4", "qwen3_vl_8b/merged_baseline, qwen3_vl_8b/stage1_perception"),
        ("stage1_perception", "near it: internvl3_5_8b/stage1_perception"),
        ("../../secret", "see capcurr recipes"),
        ("backbone/qwen3_vl_8b", "no such recipe"),
    ],
)
def test_an_unknown_recipe_is_one_clear_line(capsys, name, near):
    assert cli.main(["recipes", "show", name]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"capcurr: error: {name}: no such recipe; ")
    assert near in errors
    assert errors.count("\n") == 1
