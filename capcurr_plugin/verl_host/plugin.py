"""What verl loads at the end of `import verl`, in the trainer and in every Ray worker: keep it light.

verl swallows an error in here (it logs at debug level); `capcurr doctor --for verl` shows it.
"""

from importlib import import_module
from types import ModuleType
from typing import Any

from _capcurr_boot import when_executed
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin


class RecipeSearchPath(SearchPathPlugin):
    """Lets every verl command compose `+capcurr=...`. Registered here, so other Hydra programs do not see the group."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="capcurr-plugin", path="pkg://verl_recipes")


Plugins.instance().register(RecipeSearchPath)
# Registering needs verl's reward loop, which takes seconds to import; only some of verl's processes ever do.
when_executed(
    "verl.experimental.reward_loop.reward_manager",
    lambda _: import_module("capcurr_plugin.verl_host.reward_manager"),
)


def _order_rows(module: ModuleType) -> None:
    """Rows that have an order of their own are not shuffled by verl, which has no setting for the sampler."""
    verls_own = module.create_rl_sampler

    def create_rl_sampler(data_config: Any, dataset: Any) -> Any:
        if getattr(dataset, "order", None) is None:
            return verls_own(data_config, dataset)
        from capcurr_plugin.verl_host.order import OrderSampler

        return OrderSampler(dataset)

    module.create_rl_sampler = create_rl_sampler  # pyright: ignore[reportAttributeAccessIssue]


when_executed("verl.trainer.ppo.utils", _order_rows)
