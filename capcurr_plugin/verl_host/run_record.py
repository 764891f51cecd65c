"""`run.json`: what a training run is made of, and what came of each stage so far."""

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from capcurr_plugin.atomic import replacing
from capcurr_plugin.errors import InputError

FILE, LOCK = "run.json", ".lock"
PACKAGES = ("capcurr-plugin", "verl", "torch", "transformers", "ray", "vllm", "sglang", "TransferQueue", "tensordict")
HASH_BLOCK = 1 << 20


@dataclass
class RowFile:
    path: str
    rows: int
    sha256: str


@dataclass
class StageRecord:
    run: str
    train: list[RowFile]
    validation: list[RowFile]
    commands: list[list[str]] = field(default_factory=list)  # one for each start
    done: bool = False
    steps: int = 0
    seconds: float = 0.0
    model: str | None = None  # that the stage left
    measure: str | None = None  # reward, or loss
    first: float | None = None  # in the first step
    last: float | None = None
    validation_last: dict[str, float] | None = None


@dataclass
class RunRecord:
    backbone: str
    recipe: str
    model: str
    overrides: list[str]
    sft_overrides: list[str]
    seed: int | None
    versions: dict[str, str]
    stages: list[StageRecord]

    def same_run(self, other: "RunRecord") -> str | None:
        """What differs between two records of what should be one run; None when nothing does."""
        for name in ("backbone", "recipe", "model", "overrides", "sft_overrides"):
            if getattr(self, name) != getattr(other, name):
                return f"{name} was {getattr(self, name)!r} and now is {getattr(other, name)!r}"
        for mine, theirs in zip(self.stages, other.stages, strict=True):
            for files in ("train", "validation"):
                if [f.sha256 for f in getattr(mine, files)] != [f.sha256 for f in getattr(theirs, files)]:
                    return f"the {files} rows of {mine.run} have changed"
        return None

    def write(self, out: Path) -> None:
        with replacing(out / FILE) as file:
            file.write(json.dumps(asdict(self), indent=2).encode() + b"\n")


def read_record(out: Path) -> RunRecord | None:
    path = out / FILE
    if not path.exists():
        return None
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        stages = [
            StageRecord(
                **{
                    **stage,
                    "train": [RowFile(**file) for file in stage["train"]],
                    "validation": [RowFile(**file) for file in stage["validation"]],
                }
            )
            for stage in values.pop("stages")
        ]
        return RunRecord(**values, stages=stages)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: is not what capcurr train writes ({error}); give another --out") from None


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
