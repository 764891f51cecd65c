"""What is looked at before verl starts: verl, the model, the rows, the disk. Nothing of it takes a GPU."""

import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from capcurr_plugin import parquet
from capcurr_plugin.errors import InputError
from capcurr_plugin.progress import progress_bar
from capcurr_plugin.row_files import BadRows, RecordReader, RowReader
from capcurr_plugin.rows import ImageRoot, Row, RowError
from capcurr_plugin.verl_host.checkpoints import model_bytes, read_model_config
from capcurr_plugin.verl_host.run_record import RowFile, RunRecord, StageRecord, read_record, sha256, versions
from capcurr_plugin.verl_host.stages import FAMILIES, Plan, Stage

# A checkpoint of bfloat16 holds the model, two moments as large, and the model once more for transformers.
CHECKPOINT_SIZES, CHECKPOINT_SIZES_FP32 = 4, 8


def check_host() -> None:
    if find_spec("verl") is None:
        raise InputError(f"verl is not installed beside this capcurr ({sys.executable}); see capcurr doctor")


def check_model(plan: Plan) -> None:
    """A folder must hold a whole model of the backbone's family, and the disk have room for its checkpoints."""
    folder = Path(plan.model)
    if not folder.is_dir():
        _check_hub(plan.model)
        return
    family = read_model_config(folder).get("model_type")
    if family != FAMILIES[plan.backbone]:
        raise InputError(
            f"{folder}: holds a model of the family {family}, and {plan.backbone} is {FAMILIES[plan.backbone]}"
        )
    keeps = "trainer.max_actor_ckpt_to_keep"
    sizes = CHECKPOINT_SIZES_FP32 if plan.cluster.cpu else CHECKPOINT_SIZES
    # One more: the next is written before the oldest goes.
    kept = 1 + max(stage.settings[keeps] or 1 for stage in plan.stages if not stage.supervised)
    needed = model_bytes(folder) * sizes * kept
    free = shutil.disk_usage(plan.out).free
    if free < needed:
        raise InputError(
            f"{plan.out}: {free / 1e9:.1f} GB are free, and a stage's {kept} checkpoints take about "
            f"{needed / 1e9:.1f} GB; make room, or keep fewer: --set {keeps}=1"
        )


def _check_hub(name: str) -> None:
    """A name on the hub, in the cache or to be fetched."""
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise InputError(f"{name}: no such folder; --model takes a model's folder, or its name on the hub")
    from huggingface_hub import model_info, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    try:
        model_info(name, timeout=20)
    except Exception as error:  # noqa: BLE001  the hub client raises what its transport raises
        raise InputError(
            f"{name}: is not in the hub's cache, and the hub cannot be asked ({type(error).__name__}); "
            "give the model's folder with --model"
        ) from None


def checked_record(plan: Plan, seed: int | None) -> RunRecord:
    """Of this run, with its row files read through once; what an earlier start has done is kept."""
    counted: dict[Path, RowFile] = {}
    for stage in plan.stages:
        for file in (*stage.train, *stage.validation):
            if file not in counted:
                counted[file] = _count(file, plan)
    stages = [
        StageRecord(stage.run, [counted[file] for file in stage.train], [counted[file] for file in stage.validation])
        for stage in plan.stages
    ]
    for stage, of_stage in zip(plan.stages, stages, strict=True):
        _check_batch(stage, of_stage)
    fresh = RunRecord(
        plan.backbone, plan.recipe, plan.model, list(plan.overrides), list(plan.sft_overrides), seed, versions(), stages
    )
    earlier = read_record(plan.out)
    if earlier is not None and any(stage.commands for stage in earlier.stages):
        difference = earlier.same_run(fresh)
        if difference:
            raise InputError(f"{plan.out}: holds another run: {difference}; give another --out")
        fresh.stages = earlier.stages
    return fresh


def _count(file: Path, plan: Plan) -> RowFile:
    """Every row and the existence of every image, so that a bad one is found before a GPU waits for it."""
    with BadRows("fail", plan.out / file.name) as bad, progress_bar() as tell:
        if any(stage.supervised and file in stage.train for stage in plan.stages):
            rows = sum(1 for _ in RecordReader(file, bad, tell).read(_check_conversation))
        else:
            reader = RowReader(file, bad, tell)
            # verl's form holds the images, or their full paths: verl's data set looks at them.
            if not (file.suffix == ".parquet" and parquet.holds_verl_form(file)):
                reader.images = ImageRoot(plan.image_root or file.parent)
            rows = sum(1 for _ in _fit_for_stages(reader, plan))
    return RowFile(str(file), rows, sha256(file))


def _fit_for_stages(reader: RowReader, plan: Plan) -> Iterator[Row]:
    """The rows, each with what the stages that take it go by."""
    file = reader.path
    takers = [stage for stage in plan.stages if file in (*stage.train, *stage.validation)]
    by_capability = any(stage.capability is None for stage in takers)
    by_pass_rate = any("difficulty" in str(stage.settings.get("data.order")) for stage in takers if file in stage.train)
    for row in reader:
        if by_capability and row.capability is None:
            reader.refuse("column 'capability' is missing, which a run on all three needs of each row", row.record())
        if by_pass_rate and row.pass_rate is None:
            reader.refuse("column 'pass_rate' is missing, which the order by difficulty goes by", row.record())
        yield row


def _check_conversation(record: dict[str, Any]) -> None:
    """A row of what `capcurr data captions` writes for verl."""
    if not record.get("messages") or not record.get("images"):
        raise RowError("is no conversation about an image; write captions with capcurr data captions IN OUT.parquet")
    for image in record["images"]:
        if not Path(image["image"]).is_file():
            raise RowError(f"image {image['image']!r} does not exist")


def _check_batch(stage: Stage, record: StageRecord) -> None:
    rows, batch = sum(file.rows for file in record.train), int(stage.settings["data.train_batch_size"])
    if rows < batch:
        raise InputError(
            f"{', '.join(map(str, stage.train))}: {rows} rows are fewer than a batch of {batch}, so that {stage.run} "
            "would have no step; give more rows, or --set data.train_batch_size=N"
        )
