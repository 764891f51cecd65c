"""The published numbers: `vlmeval_configs/published.yaml`."""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import yaml

from capcurr_plugin.errors import InputError


@dataclass(frozen=True)
class Published:
    backbone: str
    kind: str  # base, merged, staged, or the name of another model
    averages: dict[str, float]
    benchmarks: dict[str, float]
    errors: dict[str, float]
    response_tokens: float | None

    @property
    def name(self) -> str:
        return f"{self.backbone}/{self.kind}"


@lru_cache
def load_published() -> dict[str, Published]:
    """By `backbone/kind`."""
    content = yaml.safe_load((files("vlmeval_configs") / "published.yaml").read_text(encoding="utf-8"))
    entries = [
        Published(
            backbone,
            kind,
            numbers.get("averages", {}),
            numbers.get("benchmarks", {}),
            numbers.get("errors", {}),
            numbers.get("response_tokens"),
        )
        for backbone, kinds in content.items()
        for kind, numbers in kinds.items()
    ]
    return {entry.name: entry for entry in entries}


def published_for(model: str) -> Published | None:
    """Of a model that is named like an alias, as `Qwen3_VL_8B_Staged` is, or like another published model."""
    backbone, _, kind = model.removesuffix("_Local").lower().rpartition("_")
    entries = load_published()
    return entries.get(f"{backbone}/{kind}") or next((e for e in entries.values() if e.kind == model), None)


def published_as(name: str) -> Published:
    entries = load_published()
    if name not in entries:
        raise InputError(f"{name!r}: no such published model; there are {', '.join(entries)}")
    return entries[name]
