"""A training plan: the stages of a backbone's recipe in their order, and the verl command of each."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from capcurr_plugin import recipes
from capcurr_plugin.errors import InputError
from capcurr_plugin.row_files import ENDINGS
from capcurr_plugin.rows import CAPABILITIES

STAGES = {
    "perception": "stage1_perception",
    "textual_reasoning": "stage2_text_reasoning",
    "visual_reasoning": "stage3_visual_reasoning",
}
CAPTION_SFT = "caption_sft"  # the stage, and the recipe that it takes the first stage's place in
LAST_RUNS = {"staged": STAGES["visual_reasoning"], "merged": "merged_baseline"}
VALIDATION = "validation"
ROWS = (*CAPABILITIES, "merged", "captions", VALIDATION)
# transformers' name of each backbone's family
FAMILIES = {
    "qwen2_5_vl_7b": "qwen2_5_vl",
    "qwen3_vl_8b": "qwen3_vl",
    "internvl3_8b": "internvl",
    "internvl3_5_8b": "internvl",
}


def chain(backbone: str, recipe: str) -> list[str]:
    """The runs of a recipe, first to last."""
    last = _last_run(backbone, recipe)
    if recipe == CAPTION_SFT:
        return [CAPTION_SFT, *chain(backbone, "staged")[1:]]
    return [f"{backbone}/{STAGES[before]}" for before in recipes.settings(last)["capcurr.starts_from"]] + [last]


def recipes_of(backbone: str) -> dict[str, str]:
    """The recipes of a backbone, each with its last run."""
    if backbone not in FAMILIES:
        raise InputError(f"{backbone}: no such backbone; there are {', '.join(FAMILIES)}")
    own = {name: f"{backbone}/{run}" for name, run in LAST_RUNS.items()}
    if FAMILIES[backbone] != "internvl":  # whose images verl's SFT data set does not prepare
        own[CAPTION_SFT] = own["staged"]
    studies = [name for name in recipes.names() if name.split("/")[0] in ("ablations", "curriculum")]
    return own | {
        name.split("/")[1].removeprefix(f"{backbone}_"): name
        for name in studies
        if name.split("/")[1].startswith(f"{backbone}_")
    }


def _last_run(backbone: str, recipe: str) -> str:
    known = recipes_of(backbone)
    if recipe not in known:
        raise InputError(f"--recipe {recipe}: not a recipe of {backbone}; it has {', '.join(known)}")
    return known[recipe]


# Rows


def find_rows(folder: Path | None, named: Mapping[str, Path], wanted: str) -> list[Path]:
    """The row files that hold what a stage wants: named on the command line, or by its name in the folder."""
    if wanted in named:
        return [named[wanted]]
    found = [folder / f"{wanted}{ending}" for ending in ENDINGS if folder and (folder / f"{wanted}{ending}").exists()]
    if len(found) > 1:
        raise InputError(f"{folder}: holds {' and '.join(file.name for file in found)}; remove all but one")
    if found:
        return found
    if wanted == "merged":  # the three together are what it stands for
        return [file for capability in CAPABILITIES for file in find_rows(folder, named, capability)]
    where = f"{folder}: holds no {wanted}.jsonl or {wanted}.parquet" if folder else f"no rows of {wanted} are given"
    raise InputError(f"{where}; put them there, or name them with --rows {wanted}=FILE")


# The plan


def stage_folder(out: Path, number: int, run: str) -> Path:
    """Where a run's stage keeps its steps, its log and its checkpoints."""
    return out / f"{number}_{run.rpartition('/')[2]}"


PLAIN = re.compile(r"[\w./-]+")  # a word in which Hydra's grammar sees nothing but a word


@dataclass(frozen=True)
class Cluster:
    cpu: bool = False
    nodes: int | None = None
    gpus_per_node: int | None = None
    ray_address: str | None = None

    def words(self) -> list[str]:
        words = ["+capcurr/platform=cpu"] if self.cpu else []
        if self.nodes is not None:
            words.append(f"trainer.nnodes={self.nodes}")
        if self.gpus_per_node is not None:
            words.append(f"trainer.n_gpus_per_node={self.gpus_per_node}")
        if self.ray_address is not None:
            words.append(f"+ray_kwargs.ray_init.address={_quoted(self.ray_address)}")
        return words


@dataclass(frozen=True)
class Stage:
    number: int
    run: str
    folder: Path
    train: list[Path]
    validation: list[Path]
    settings: Mapping[str, Any]  # of the recipe, as the user's overrides leave them

    @property
    def name(self) -> str:
        return self.run.rpartition("/")[2]

    @property
    def capability(self) -> str | None:
        """Of all rows of the stage, if they have one."""
        rows = self.settings["capcurr.rows"]
        return rows if rows in CAPABILITIES else None

    @property
    def supervised(self) -> bool:
        return self.run == CAPTION_SFT

    @property
    def part(self) -> str:
        """Of a checkpoint, where the model's shards lie."""
        return "" if self.supervised else "actor"


@dataclass(frozen=True)
class Plan:
    backbone: str
    recipe: str
    model: str
    out: Path
    stages: list[Stage]
    cluster: Cluster
    image_root: Path | None = None
    overrides: Sequence[str] = field(default_factory=list)
    sft_overrides: Sequence[str] = field(default_factory=list)

    def command(self, stage: Stage, model: str) -> list[str]:
        """That starts the stage."""
        return [*self._words(stage, model), "trainer.resume_mode=disable"]

    def resuming_command(self, stage: Stage, model: str, checkpoint: Path, last_step: int) -> list[str]:
        """That goes on from a checkpoint."""
        words = ["trainer.resume_mode=resume_path", f"trainer.resume_from_path={_quoted(str(checkpoint))}"]
        if stage.supervised:
            # From the end of an epoch on, verl's SFT trainer goes through an epoch without rows, and counts it.
            epochs = int(stage.settings["trainer.total_epochs"]) + 1
            words += [f"trainer.total_epochs={epochs}", f"trainer.total_training_steps={last_step}"]
        return [*self._words(stage, model), *words]

    def _words(self, stage: Stage, model: str) -> list[str]:
        if stage.supervised:
            return [*self._sft_words(stage, model), *self.sft_overrides]
        return [*self._rl_words(stage, model), *self.overrides]

    def _sft_words(self, stage: Stage, model: str) -> list[str]:
        processes = 1 if self.cluster.cpu else self.cluster.gpus_per_node or stage.settings["trainer.n_gpus_per_node"]
        return [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1"),
            *(f"--nproc_per_node={processes}", "-m", "verl.trainer.sft_trainer", f"+capcurr={stage.run}"),
            *(["+capcurr/platform=cpu_sft"] if self.cluster.cpu else []),
            f"trainer.n_gpus_per_node={processes}",
            f"model.path={_quoted(model)}",
            f"data.train_files={_list(stage.train)}",
            f"trainer.default_local_dir={_quoted(str(stage.folder))}",
        ]

    def _rl_words(self, stage: Stage, model: str) -> list[str]:
        words = [
            sys.executable,
            "-m",
            "verl.trainer.main_ppo",
            f"+capcurr={stage.run}",
            *self.cluster.words(),
            f"actor_rollout_ref.model.path={_quoted(model)}",
            f"data.train_files={_list(stage.train)}",
            f"data.val_files={_list(stage.validation)}",
            f"trainer.default_local_dir={_quoted(str(stage.folder))}",
        ]
        if stage.capability:
            words.append(f"+data.capability={stage.capability}")
        if self.image_root:
            words.append(f"+data.image_root={_quoted(str(self.image_root))}")
        return words


def make_plan(
    backbone: str,
    recipe: str,
    out: Path,
    rows: Mapping[str, Path],
    data: Path | None,
    model: str | None,
    cluster: Cluster,
    image_root: Path | None,
    overrides: Sequence[str],
    sft_overrides: Sequence[str],
) -> Plan:
    stages = []
    if cluster.cpu and (cluster.ray_address or (cluster.nodes or 1) > 1):
        raise InputError("--cpu: runs on this machine, in a Ray of its own; leave --ray-address and --nnodes out")
    if recipe == CAPTION_SFT and (cluster.nodes or 1) > 1:
        raise InputError("--nnodes: the caption stage runs on one machine; run its stages apart, or give --nnodes 1")
    for number, run in enumerate(chain(backbone, recipe), 1):
        supervised = run == CAPTION_SFT
        own = recipes.file_settings(run) if supervised else recipes.settings(run)
        settings = own | dict(map(_override, sft_overrides if supervised else overrides))
        stages.append(
            Stage(
                number=number,
                run=run,
                folder=stage_folder(out, number, run).absolute(),
                train=[file.absolute() for file in find_rows(data, rows, settings["capcurr.rows"])],
                validation=[] if supervised else [file.absolute() for file in find_rows(data, rows, VALIDATION)],
                settings=settings,
            )
        )
    base = model or stages[-1].settings["actor_rollout_ref.model.path"]
    return Plan(backbone, recipe, base, out.absolute(), stages, cluster, image_root, overrides, sft_overrides)


def _override(word: str) -> tuple[str, Any]:
    path, mark, value = word.lstrip("+~").partition("=")
    if not mark or not path:
        raise InputError(f"{word}: not a setting of verl; write it as path=value")
    try:
        return path, yaml.safe_load(value)
    except yaml.YAMLError:
        return path, value


def _quoted(text: str) -> str:
    """As Hydra reads it: a path may hold what its grammar has a meaning for."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return text if PLAIN.fullmatch(text) else f"'{escaped}'"


def _list(files: Sequence[Path]) -> str:
    return f"[{','.join(_quoted(str(file)) for file in files)}]"
