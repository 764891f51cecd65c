"""verl's checkpoints on disk: which one a run goes on from, and whether it is whole. Needs neither verl nor torch."""

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

from capcurr_plugin.errors import InputError

TRACKER = "latest_checkpointed_iteration.txt"  # verl writes it once a checkpoint is saved
MAX_HEADER_BYTES = 100 << 20  # of a safetensors file


def step_folder(folder: Path, step: int) -> Path:
    return folder / f"global_step_{step}"


def model_of(checkpoint: Path, part: str) -> Path:
    """Where verl writes the model as transformers loads it. `part`: the folder that a trainer saves its actor in."""
    return checkpoint / part / "huggingface"


def newest(folder: Path, part: str) -> Path | None:
    """The checkpoint that a killed run goes on from; None before the first. An error when it is damaged."""
    steps = sorted(_saved_steps(folder, part), reverse=True)
    if not steps:
        return None
    checkpoint = step_folder(folder, steps[0])
    damage = _damage(checkpoint, part)
    if damage is None:
        return checkpoint
    whole = next((step for step in steps[1:] if _damage(step_folder(folder, step), part) is None), None)
    from_where = f"step {whole}" if whole is not None else "the start of the stage"
    raise InputError(f"{damage}; remove {checkpoint} and run again, to go on from {from_where}")


def _saved_steps(folder: Path, part: str) -> list[int]:
    """Later folders than the tracker names were not finished."""
    tracker = folder / TRACKER
    if not tracker.exists():
        return []
    try:
        last = int(tracker.read_text())
    except ValueError:
        raise InputError(f"{tracker}: should hold the number of a step; remove it to start the stage anew") from None
    names = [path.name.removeprefix("global_step_") for path in folder.glob("global_step_*") if path.is_dir()]
    # verl keeps the last few, and of older ones the folder without the model.
    steps = [int(name) for name in names if name.isdigit() and int(name) <= last]
    return [step for step in steps if (step_folder(folder, step) / part).is_dir()]


def _damage(checkpoint: Path, part: str) -> str | None:
    """What is wrong with a checkpoint, as far as it can be seen without reading all of it."""
    folder = checkpoint / part
    shards = list(folder.glob("*_world_size_*_rank_*.pt"))
    kinds = {shard.name.split("_world_size")[0] for shard in shards}
    for kind in ("model", "optim", "extra_state"):
        if kind not in kinds:
            return f"{folder}: the checkpoint has no {kind} file"
    ranks = max(int(shard.name.split("_world_size_")[1].split("_")[0]) for shard in shards)
    if len(shards) != 3 * ranks:
        return f"{folder}: the checkpoint should have {3 * ranks} files of its ranks, and has {len(shards)}"
    loaders = list(checkpoint.glob("data*.pt"))
    if not loaders:
        return f"{checkpoint}: the checkpoint has no data.pt, which says which rows have been taken"
    for file in (*shards, *loaders):
        if not _is_whole_zip(file):
            return f"{file}: is damaged, or was not written to its end"
    return None


def _is_whole_zip(path: Path) -> bool:
    """torch saves zip files, whose list of contents stands at the end."""
    try:
        with zipfile.ZipFile(path) as file:
            return bool(file.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


# Models


def read_model_config(folder: Path) -> dict[str, Any]:
    """config.json of a model's folder, whose weights are all there and whole."""
    config = _json(folder / "config.json", "the folder holds no model that transformers loads")
    for file in _weight_files(folder):
        if not _is_whole_safetensors(file):
            raise InputError(f"{file}: is damaged, or was not written to its end")
    return config


def model_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in _weight_files(folder))


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(_json(index, "").get("weight_map", {}).values()))
        files = [folder / str(name) for name in names]
    else:
        files = [folder / "model.safetensors"]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: no such file, though the model needs it")
    return files


def _json(path: Path, otherwise: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {otherwise}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: should hold a JSON object")
    return content


def _is_whole_safetensors(path: Path) -> bool:
    """The header stands at the start and says how long the file has to be."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else MAX_HEADER_BYTES + 1
        if length > MAX_HEADER_BYTES:
            return False
        try:
            header = json.loads(file.read(length))
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return False
    return size == 8 + length + max(ends, default=0)
