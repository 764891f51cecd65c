"""`capcurr recipes`: the published runs, as verl composes them and under the names of EasyR1, where they were trained.

The files of `verl_recipes` are small and use little of Hydra: a list of defaults that are merged in order, and values
that stand for another one. That much is read here, so that recipes can be looked at without verl; a test beside verl
holds it to what Hydra composes.
"""

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from capcurr_plugin.errors import InputError

PARTS = ("backbone", "platform", "stage")  # folders whose files are parts of recipes
ADDED = (  # settings that verl's own configuration does not have
    "data.min_pixels",
    "data.max_pixels",
    "data.order",
    "data.image_sizes",
    "actor_rollout_ref.actor.freeze_p",
    "capcurr.",
)
REFERENCE = re.compile(r"\$\{([\w.]+)\}")

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
# EasyR1's name of each setting, and where verl has it.
EASYR1_NAMES = {
    "data.rollout_batch_size": "data.train_batch_size",
    "data.val_batch_size": "data.val_batch_size",
    "data.max_prompt_length": "data.max_prompt_length",
    "data.max_response_length": "data.max_response_length",
    "data.shuffle": "data.shuffle",
    "data.seed": "data.seed",
    "data.min_pixels": "data.min_pixels",
    "data.max_pixels": "data.max_pixels",
    "data.filter_overlong_prompts": "data.filter_overlong_prompts",
    "algorithm.adv_estimator": "algorithm.adv_estimator",
    "algorithm.use_kl_loss": f"{ACTOR}.use_kl_loss",
    "algorithm.kl_penalty": f"{ACTOR}.kl_loss_type",
    "algorithm.kl_coef": f"{ACTOR}.kl_loss_coef",
    "worker.actor.global_batch_size": f"{ACTOR}.ppo_mini_batch_size",
    "worker.actor.micro_batch_size_per_device_for_update": f"{ACTOR}.ppo_micro_batch_size_per_gpu",
    "worker.actor.micro_batch_size_per_device_for_experience": f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu",
    "worker.actor.max_grad_norm": f"{ACTOR}.grad_clip",
    "worker.actor.clip_ratio_low": f"{ACTOR}.clip_ratio_low",
    "worker.actor.clip_ratio_high": f"{ACTOR}.clip_ratio_high",
    "worker.actor.padding_free": "actor_rollout_ref.model.use_remove_padding",
    "worker.actor.dynamic_batching": f"{ACTOR}.use_dynamic_bsz",
    "worker.actor.model.model_path": "actor_rollout_ref.model.path",
    "worker.actor.model.enable_gradient_checkpointing": "actor_rollout_ref.model.enable_gradient_checkpointing",
    "worker.actor.model.freeze_vision_tower": f"{ACTOR}.freeze_vision_tower",
    "worker.actor.optim.lr": f"{ACTOR}.optim.lr",
    "worker.actor.optim.weight_decay": f"{ACTOR}.optim.weight_decay",
    "worker.actor.optim.lr_warmup_ratio": f"{ACTOR}.optim.lr_warmup_steps_ratio",
    "worker.actor.optim.strategy": f"{ACTOR}.fsdp_config.model_dtype",
    "worker.actor.fsdp.torch_dtype": f"{ACTOR}.fsdp_config.model_dtype",
    "worker.actor.offload.offload_params": f"{ACTOR}.fsdp_config.param_offload",
    "worker.actor.offload.offload_optimizer": f"{ACTOR}.fsdp_config.optimizer_offload",
    "worker.ref.fsdp.enable_cpu_offload": "actor_rollout_ref.ref.fsdp_config.param_offload",
    "worker.rollout.n": f"{ROLLOUT}.n",
    "worker.rollout.temperature": f"{ROLLOUT}.temperature",
    "worker.rollout.top_p": f"{ROLLOUT}.top_p",
    "worker.rollout.gpu_memory_utilization": f"{ROLLOUT}.gpu_memory_utilization",
    "worker.rollout.tensor_parallel_size": f"{ROLLOUT}.tensor_model_parallel_size",
    "worker.rollout.val_override_config.temperature": f"{ROLLOUT}.val_kwargs.temperature",
    "worker.rollout.val_override_config.top_p": f"{ROLLOUT}.val_kwargs.top_p",
    "worker.rollout.val_override_config.n": f"{ROLLOUT}.val_kwargs.n",
    "worker.reward.reward_function_kwargs.format_weight": "reward.custom_reward_function.reward_kwargs.format_weight",
    "trainer.total_epochs": "trainer.total_epochs",
    "trainer.val_freq": "trainer.test_freq",
    "trainer.save_freq": "trainer.save_freq",
    "trainer.save_limit": "trainer.max_actor_ckpt_to_keep",
    "trainer.nnodes": "trainer.nnodes",
    "trainer.n_gpus_per_node": "trainer.n_gpus_per_node",
    "trainer.project_name": "trainer.project_name",
    "trainer.experiment_name": "trainer.experiment_name",
}
# Parameters of two bytes make an optimizer of two bytes: one setting in verl, two in EasyR1.
EASYR1_VALUES = {
    "worker.actor.optim.strategy": {"bfloat16": "adamw_bf16", "fp32": "adamw"},
    "worker.actor.fsdp.torch_dtype": {"bfloat16": "bf16", "fp32": "fp32"},
}


def names() -> list[str]:
    """The recipes, such as qwen3_vl_8b/stage1_perception."""
    return sorted(
        f"{file.parent.name}/{file.stem}" for file in _root().glob("*/*.yaml") if file.parent.name not in PARTS
    )


def settings(name: str) -> dict[str, Any]:
    """What a recipe sets, as verl's paths and their values."""
    if name not in names():
        near = [known for known in names() if name.split("/")[-1] in known or name.split("/")[0] in known]
        raise InputError(f"{name}: no such recipe; {'near it: ' + ', '.join(near) if near else 'see capcurr recipes'}")
    return file_settings(name)


def file_settings(name: str) -> dict[str, Any]:
    """What any file of the group sets, with the files that it is composed of."""
    flat = dict(_flat(_merged(name)))
    return {path: _resolved(value, flat) for path, value in flat.items()}


def easyr1_settings(name: str) -> dict[str, Any]:
    """The same under EasyR1's names."""
    values = settings(name)
    named = {easyr1: values[verl] for easyr1, verl in EASYR1_NAMES.items() if verl in values}
    return {key: EASYR1_VALUES[key][value] if key in EASYR1_VALUES else value for key, value in named.items()}


def description(name: str) -> str:
    """What stands above a recipe's settings."""
    lines = _file(name).read_text().splitlines()[1:]
    return " ".join(line[2:] for line in lines if line.startswith("# "))


def _root() -> Path:
    return Path(str(files("verl_recipes"))) / "capcurr"


def _file(name: str) -> Path:
    return _root() / f"{name}.yaml"


def _merged(name: str) -> dict[str, Any]:
    content = yaml.safe_load(_file(name).read_text())
    merged: dict[str, Any] = {}
    for default in content.pop("defaults", ["_self_"]):
        _merge(merged, content if default == "_self_" else _merged(default.removeprefix("/capcurr/")))
    return merged


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        path = f"{above}.{key}" if above else key
        if isinstance(value, dict):
            yield from _flat(value, path)
        else:
            yield path, value


def _resolved(value: Any, flat: dict[str, Any]) -> Any:
    match = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return flat[match[1]] if match else value


# The command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "List the published runs; `capcurr recipes show NAME` prints the command that runs one."
    parser.add_argument(
        "--json", action="store_true", help="print what every recipe sets, as verl and as EasyR1 name it"
    )
    parser.set_defaults(name=None)
    actions = parser.add_subparsers(metavar="ACTION")
    show = actions.add_parser("show", help="print the command of one recipe", allow_abbrev=False)
    show.add_argument("name", metavar="NAME", help="such as qwen3_vl_8b/stage1_perception")
    show.add_argument(
        "--for",
        dest="engine",
        choices=("verl", "easyr1"),
        default="verl",
        help="verl's command, or EasyR1's config file",
    )
    show.add_argument("--expand", action="store_true", help="verl: spell every setting out")


def run(args: argparse.Namespace) -> int:
    if args.name is not None:
        print(easyr1_config(args.name) if args.engine == "easyr1" else verl_command(args.name, expand=args.expand))
    elif args.json:
        runs = {name: {"easyr1": easyr1_settings(name), "verl": settings(name)} for name in names()}
        print(json.dumps({"runs": runs}))
    else:
        for name in names():
            print(f"{name:<48} {description(name)}".rstrip())
    return 0


def verl_command(name: str, *, expand: bool) -> str:
    values = settings(name)
    starts = "actor_rollout_ref.model.path=EARLIER_STAGE" if values["capcurr.starts_from"] else ""
    words = (
        [f"{_mark(path)}{path}={_hydra(value)}" for path, value in values.items()] if expand else [f"+capcurr={name}"]
    )
    files = ["data.train_files=TRAIN.parquet", "data.val_files=VALIDATION.parquet"]
    lines = ["python -m verl.trainer.main_ppo", *map(shlex.quote, words), *files, *filter(None, [starts])]
    return " \\\n  ".join(lines)


def _mark(path: str) -> str:
    """verl's configuration has no such key, so Hydra wants to hear that it is added."""
    return "+" if path.startswith(ADDED) or ".reward_kwargs." in path else ""


def _hydra(value: Any) -> str:
    return json.dumps(value).replace('"', "") if isinstance(value, list | bool | None) else str(value)


def easyr1_config(name: str) -> str:
    """A configuration file for `python -m verl.trainer.main config=...` of EasyR1."""
    nested: dict[str, Any] = {}
    for path, value in easyr1_settings(name).items():
        *above, key = path.split(".")
        at = nested
        for part in above:
            at = at.setdefault(part, {})
        at[key] = value
    reward = files("capcurr_plugin") / "reward" / "easyr1.py"
    nested["worker"]["reward"] |= {"reward_type": "batch", "reward_function": f"{reward}:compute_score"}
    nested["data"] |= {"prompt_key": "problem", "answer_key": "answer", "image_key": "images"}
    head = f"# {name}, for EasyR1. Give data.train_files, data.val_files, data.image_dir and data.format_prompt.\n"
    return head + yaml.safe_dump(nested, sort_keys=False)
