"""`capcurr train`: the stages of a recipe as verl jobs, one after the other, each from the model of the one before."""

import argparse
import os
import shlex
import time
from pathlib import Path
from typing import Any

from capcurr_plugin.arguments import minutes, positive
from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.locks import holding
from capcurr_plugin.verl_host import preflight, watch
from capcurr_plugin.verl_host.checkpoints import model_of, newest, read_model_config, step_folder
from capcurr_plugin.verl_host.run_record import LOCK, RunRecord, StageRecord
from capcurr_plugin.verl_host.stages import FAMILIES, ROWS, Cluster, Plan, Stage, make_plan, recipes_of
from capcurr_plugin.verl_host.steps import read_steps, steps_files

STALL_MINUTES = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train a backbone by a recipe: its stages in order, each a run of verl. Run the same command again after a "
        "stop of any kind: it goes on where it stopped."
    )
    parser.add_argument("backbone", metavar="BACKBONE", help=", ".join(FAMILIES))
    for option, where in (
        ("--set", "every stage, such as trainer.logger=[console,wandb]"),
        ("--set-sft", "the stage of --recipe caption_sft that verl's SFT trainer runs"),
    ):
        parser.add_argument(
            option,
            action="extend",
            nargs="+",
            default=[],
            metavar="SETTING=VALUE",
            help=f"verl's settings, for {where}",
        )
    parser.add_argument(
        "--recipe", default="staged", help="staged (default), merged, caption_sft, or a study: see --recipe list"
    )
    data = parser.add_argument_group("data")
    data.add_argument("--data", type=Path, metavar="FOLDER", help=f"with {', '.join(ROWS[:3])} and validation rows")
    data.add_argument(
        "--rows", action="append", default=[], metavar="NAME=FILE", help=f"one row file; NAME: {', '.join(ROWS)}"
    )
    data.add_argument("--image-root", type=Path, metavar="FOLDER", help="default: the folder of each row file")
    data.add_argument("--model", metavar="FOLDER", help="where to start from; default: the published model")
    data.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/BACKBONE_RECIPE")
    data.add_argument("--seed", type=int, help="of the order of the rows and of sampling")
    cluster = parser.add_argument_group("machines")
    cluster.add_argument("--nnodes", type=positive, metavar="N", help="machines (default: 1)")
    cluster.add_argument("--gpus-per-node", type=positive, metavar="N", help="default: 8")
    cluster.add_argument("--ray-address", metavar="ADDRESS", help="of a Ray cluster that runs, such as auto")
    cluster.add_argument("--cpu", action="store_true", help="a tiny model on the CPU, for development")
    stopping = parser.add_argument_group("stopping")
    stopping.add_argument("--stop-when", choices=("plateau",), help="end a stage when its validation no longer rises")
    stopping.add_argument("--patience", type=positive, metavar="N", help="validations without a rise (default: 3)")
    stopping.add_argument("--min-steps", type=positive, metavar="N", help="of a stage, before it may end (default: 0)")
    stopping.add_argument(
        "--stall-minutes",
        type=minutes,
        default=STALL_MINUTES,
        metavar="M",
        help="stop a run without a step for so long (default: %(default)g)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print every command, and run none")


def run(args: argparse.Namespace) -> int:
    if args.recipe == "list":
        print("\n".join(f"{recipe:<28} {last}" for recipe, last in recipes_of(args.backbone).items()))
        return 0
    plan = _plan(args)
    if args.dry_run:
        _print_commands(plan)
        return 0
    preflight.check_host()
    # Two runs in one folder would spoil each other's checkpoints.
    with holding(plan.out / LOCK, f"{plan.out}: a run is under way there"):
        record = preflight.checked_record(plan, args.seed)
        preflight.check_model(plan)
        record.write(plan.out)
        for stage, of_stage in zip(plan.stages, record.stages, strict=True):
            if of_stage.done:
                print(f"{stage.number}. {stage.run}: done already, {of_stage.steps} steps", flush=True)
            else:
                _run_stage(plan, stage, record, args.stall_minutes * 60)
    last = record.stages[-1].model
    print(
        f"the model of {plan.backbone}, {plan.recipe}: {last}\nwhat ran, and what came of it: {plan.out / 'run.json'}"
    )
    return 0


def _plan(args: argparse.Namespace) -> Plan:
    overrides = []
    if args.seed is not None:
        overrides += [f"data.seed={args.seed}", f"actor_rollout_ref.actor.data_loader_seed={args.seed}"]
        overrides += [f"actor_rollout_ref.rollout.seed={args.seed}"]
    for name in ("stop_when", "patience", "min_steps"):
        if getattr(args, name) is not None:
            overrides.append(f"capcurr.{name}={getattr(args, name)}")
    return make_plan(
        backbone=args.backbone,
        recipe=args.recipe,
        out=args.out or Path("runs") / f"{args.backbone}_{args.recipe}",
        rows=dict(map(_named_rows, args.rows)),
        data=args.data,
        model=args.model,
        cluster=Cluster(args.cpu, args.nnodes, args.gpus_per_node, args.ray_address),
        image_root=args.image_root.absolute() if args.image_root else None,
        overrides=overrides + args.set,
        sft_overrides=args.set_sft,
    )


def _named_rows(text: str) -> tuple[str, Path]:
    name, mark, path = text.partition("=")
    if not mark or name not in ROWS:
        raise InputError(f"--rows {text}: write it as NAME=FILE, with one of {', '.join(ROWS)} as NAME")
    return name, Path(path)


def _print_commands(plan: Plan) -> None:
    model = plan.model
    for stage in plan.stages:
        words = [*(["VERL_PLATFORM=cpu"] if plan.cluster.cpu else []), *plan.command(stage, model)]
        print(f"# {stage.number}. {stage.run}")
        print(" \\\n  ".join(shlex.quote(word) for word in words))
        model = str(model_of(stage.folder / "global_step_LAST", stage.part))


# Running


def _run_stage(plan: Plan, stage: Stage, record: RunRecord, stall_seconds: float) -> None:
    of_stage = record.stages[stage.number - 1]
    before = _model_before(plan, stage, record)
    checkpoint = newest(stage.folder, stage.part)
    if not (
        checkpoint and _is_last(stage, of_stage, checkpoint)
    ):  # a kill may come between a stage's end and its record
        title = f"{stage.number}/{len(plan.stages)} {stage.name}"
        print(f"{title}: {'goes on from ' + checkpoint.name if checkpoint else 'starts from ' + before}", flush=True)
        of_stage.commands.append(_command(plan, stage, of_stage, before, checkpoint))
        record.write(plan.out)
        start = time.monotonic()
        try:
            watch.run(_job(plan, stage, of_stage, title, stall_seconds))
        finally:
            of_stage.seconds += time.monotonic() - start
            record.write(plan.out)
    _finish(stage, of_stage)
    record.write(plan.out)


def _model_before(plan: Plan, stage: Stage, record: RunRecord) -> str:
    if stage.number == 1:
        return plan.model
    model = record.stages[stage.number - 2].model
    assert model is not None  # that stage is done
    read_model_config(Path(model))
    return model


def _command(plan: Plan, stage: Stage, record: StageRecord, before: str, checkpoint: Path | None) -> list[str]:
    if checkpoint is None:
        return plan.command(stage, before)
    steps = read_steps(*_steps_files(stage, record))
    return plan.resuming_command(stage, before, checkpoint, _last_step(stage, record, steps))


def _job(plan: Plan, stage: Stage, record: StageRecord, title: str, stall_seconds: float) -> watch.Job:
    environment = dict(os.environ)
    if plan.cluster.cpu:
        environment["VERL_PLATFORM"] = "cpu"
    steps = _steps_files(stage, record)[-1]
    if stage.supervised:
        environment["VERL_FILE_LOGGER_PATH"] = str(steps)
    return watch.Job(record.commands[-1], environment, stage.folder, steps, title, stall_seconds)


def _steps_files(stage: Stage, record: StageRecord) -> list[Path]:
    return steps_files(stage.folder, stage.supervised, len(record.commands))


def _is_last(stage: Stage, record: StageRecord, checkpoint: Path) -> bool:
    steps = read_steps(*_steps_files(stage, record))
    last = steps[-1]["step"] if steps else 0
    return checkpoint == step_folder(stage.folder, last) and last >= _last_step(stage, record, steps)


def _finish(stage: Stage, record: StageRecord) -> None:
    """Takes down what the stage left; an error when verl ended well and still left too little."""
    steps = read_steps(*_steps_files(stage, record))
    last = steps[-1]["step"] if steps else 0
    if last < _last_step(stage, record, steps):
        raise JobError(f"{stage.run}: verl ended without an error after step {last}, before its last; see log.txt")
    model = model_of(step_folder(stage.folder, last), stage.part)
    read_model_config(model)
    measure = "loss" if stage.supervised else "reward"
    values = [step[measure] for step in steps if step.get(measure) is not None]
    record.done, record.steps, record.model = True, last, str(model)
    record.measure, record.first, record.last = measure, values[0], values[-1]
    record.validation_last = next((step["validation"] for step in reversed(steps) if step.get("validation")), None)
    print(f"{stage.run}: {last} steps, {measure} {values[0]:.3f} -> {values[-1]:.3f}", flush=True)


def _last_step(stage: Stage, record: StageRecord, steps: list[dict[str, Any]]) -> int:
    """That a whole stage has. verl's SFT trainer does not say it, and drops what does not fill a batch."""
    if not stage.supervised:
        return steps[-1]["step"] if steps and steps[-1].get("plateau") else (steps[-1]["of"] if steps else 1)
    rows = sum(file.rows for file in record.train)
    whole = rows // int(stage.settings["data.train_batch_size"]) * int(stage.settings["trainer.total_epochs"])
    return int(stage.settings.get("trainer.total_training_steps") or whole)
