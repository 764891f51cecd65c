"""What verl loads at the end of `import verl`, in the trainer and in every Ray worker: keep it light.

verl swallows an error in here (it logs at debug level); `capcurr doctor --for verl` shows it.
"""

import os
from importlib import import_module
from types import ModuleType
from typing import Any

from _capcurr_boot import when_executed
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from capcurr_plugin.verl_host import mends

HOST = "capcurr_plugin.verl_host"


class RecipeSearchPath(SearchPathPlugin):
    """Lets every verl command compose `+capcurr=...`. Registered here, so other Hydra programs do not see the group."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="capcurr-plugin", path="pkg://verl_recipes")


def _import_at(module: str, ours: str) -> None:
    """Registering a part takes verl's own, which takes seconds to import, and few of verl's processes ever do."""
    when_executed(module, lambda _: import_module(f"{HOST}.{ours}"))


def _change_at(module: str, ours: str, change: str) -> None:
    """Before anyone has taken a name from the module."""
    when_executed(module, lambda executed: getattr(import_module(f"{HOST}.{ours}"), change)(executed))


def _order_rows(module: ModuleType) -> None:
    """Rows that have an order of their own are not shuffled by verl, which has no setting for the sampler."""
    verls_own = module.create_rl_sampler

    def create_rl_sampler(data_config: Any, dataset: Any) -> Any:
        if getattr(dataset, "order", None) is None:
            return verls_own(data_config, dataset)
        from capcurr_plugin.verl_host.order import OrderSampler

        return OrderSampler(dataset)

    module.create_rl_sampler = create_rl_sampler  # pyright: ignore[reportAttributeAccessIssue]


def _carry_freeze(module: ModuleType) -> None:
    """verl's actor settings hold `freeze_vision_tower`, and its engine never hears of it."""
    settings = module.FSDPActorConfig
    verls_own = settings.__post_init__

    def __post_init__(self: Any) -> None:
        verls_own(self)
        from capcurr_plugin.verl_host.actor import asked_of

        self.engine.freeze = asked_of(self)

    settings.__post_init__ = __post_init__


def _offer_rollout(module: ModuleType) -> None:
    module.RolloutReplicaRegistry.register(
        "transformers", lambda: import_module(f"{HOST}.cpu.rollout").TransformersReplica
    )


def _offer_rollout_adapter(module: ModuleType) -> None:
    module._ROLLOUT_REGISTRY["transformers", "async"] = f"{HOST}.cpu.rollout.TransformersAdapter"


Plugins.instance().register(RecipeSearchPath)
_import_at("verl.experimental.reward_loop.reward_manager", "reward_manager")
_import_at("verl.workers.engine", "engine")
_import_at("verl.trainer.ppo.v1", "trainer")
when_executed("verl.trainer.ppo.utils", _order_rows)
when_executed("verl.workers.config.actor", _carry_freeze)
_change_at("verl.utils.tokenizer.tokenizer", "internvl", "accept_processor")
_change_at("verl.workers.rollout.utils", "internvl", "collapse_images")
when_executed("verl.workers.rollout.replica", _offer_rollout)
when_executed("verl.workers.rollout.base", _offer_rollout_adapter)
if mends.needed():
    _change_at("verl.utils.tensordict_utils", "mends", "mend_position_ids")
    _change_at("verl.models.transformers.qwen2_vl", "mends", "mend_text_batches")
    _change_at("verl.single_controller.ray.base", "mends", "mend_master_port")
if os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu":
    import_module(f"{HOST}.cpu.platform")
    if mends.needed():
        _change_at("verl.utils.distributed", "mends", "mend_process_group")
