"""Which parameters of a vision-language model a run leaves as they are."""

import re
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from capcurr_plugin.errors import InputError

PROJECTORS = re.compile(r"(PatchMerger|MultiModalProjector)$")  # the ends of their classes' names


@dataclass(frozen=True)
class Freeze:
    """`projector` None: as the model is built, so that Qwen's mergers, which lie in its vision tower, are frozen with
    it, and InternVL's projector, which lies outside, trains. `parameters`: a regular expression on their names."""

    vision_tower: bool = False
    projector: bool | None = None
    parameters: str | None = None

    @property
    def wanted(self) -> bool:
        return self.vision_tower or bool(self.projector) or self.parameters is not None


def freeze(model: nn.Module, what: Freeze) -> dict[str, list[str]]:
    """Keeps the parameters from training; what was frozen, by part."""
    frozen = _parts(model, what)
    parameters = dict(model.named_parameters())
    for names in frozen.values():
        for name in names:
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise InputError("nothing would train: every parameter of the model is frozen")
    return frozen


def _parts(model: nn.Module, what: Freeze) -> dict[str, list[str]]:
    names = [name for name, _ in model.named_parameters()]
    projector = [name for name in names if name.startswith(tuple(f"{path}." for path in _projectors(model)))]
    parts: dict[str, list[str]] = {}
    if what.vision_tower:
        path = vision_tower(model)
        spared = set(projector) if what.projector is False else set()
        parts[path] = [name for name in names if name.startswith(f"{path}.") and name not in spared]
    if what.projector:
        if not projector:
            raise InputError(f"actor.freeze_projector: no projector was found in {type(model).__name__}")
        parts["projector"] = projector
    if what.parameters is not None:
        parts[f"/{what.parameters}/"] = _matching(names, what.parameters)
    return parts


def _matching(names: list[str], pattern: str) -> list[str]:
    try:
        found = [name for name in names if re.search(pattern, name)]
    except re.error as error:
        raise InputError(f"actor.freeze_parameters={pattern!r} is no regular expression: {error}") from error
    if not found:
        raise InputError(
            f"actor.freeze_parameters={pattern!r} matches no parameter; there are {', '.join(names[:3])}..."
        )
    return found


def vision_tower(model: nn.Module) -> str:
    """The path of the module that the model's vision_config describes: its name differs between families."""
    config = getattr(getattr(model, "config", None), "vision_config", None)
    found = [
        path
        for path, module in model.named_modules()
        if isinstance(module, PreTrainedModel) and type(module.config) is type(config)
    ]
    outermost = [path for path in found if not any(path.startswith(f"{other}.") for other in found)]
    if config is None or len(outermost) != 1:
        where = ", ".join(outermost) or "none"
        raise InputError(f"actor.freeze_vision_tower: {type(model).__name__} should have one vision tower, has {where}")
    return outermost[0]


def _projectors(model: nn.Module) -> list[str]:
    return [path for path, module in model.named_modules() if PROJECTORS.search(type(module).__name__)]
