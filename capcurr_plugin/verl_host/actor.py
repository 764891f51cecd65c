"""verl's actor settings for FSDP, with two more: `freeze_projector` and `freeze_parameters`.

`freeze_vision_tower` is verl's own setting, which verl 0.9 reads nowhere; `engine.py` does.
"""

from dataclasses import dataclass
from typing import Any

from verl.workers.config import FSDPActorConfig

from capcurr_plugin.verl_host.freeze import Freeze


@dataclass
class CapabilityActorConfig(FSDPActorConfig):
    freeze_projector: bool | None = None
    freeze_parameters: str | None = None


def asked_of(actor: Any) -> Freeze:
    return Freeze(
        vision_tower=bool(actor.freeze_vision_tower),
        projector=getattr(actor, "freeze_projector", None),
        parameters=getattr(actor, "freeze_parameters", None),
    )
