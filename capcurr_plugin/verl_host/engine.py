"""verl's FSDP engine, which can leave parts of the model frozen and train InternVL.

It takes verl's place in the registry for the platform at hand; a run in which nothing is frozen goes as before.
"""
# verl's decorator hides the type of the class that it registers:
# pyright: reportAttributeAccessIssue=false

import re
from typing import Any

from torch import nn
from verl.utils.device import get_device_name, get_vendor
from verl.workers.engine import EngineRegistry, FSDPEngineWithLMHead

from capcurr_plugin.verl_host import internvl
from capcurr_plugin.verl_host.freeze import Freeze, freeze

WRAPPERS = re.compile(r"_(fsdp_wrapped|checkpoint_wrapped)_module\.|_orig_mod\.")  # in names of wrapped parameters
BACKENDS = ["fsdp", "fsdp2"]


class CapabilityEngine(FSDPEngineWithLMHead):
    _frozen: frozenset[str] = frozenset()

    def _build_module(self) -> nn.Module:
        module = super()._build_module()
        if self.model_config.hf_config.model_type == internvl.MODEL_TYPE:
            internvl.prepare_for_training(module, self.engine_config.ulysses_sequence_parallel_size)
        return module

    def _build_fsdp_module(self, module: nn.Module) -> nn.Module:
        """After adapters are in, and before the parameters are sharded. The reference policy has none that train."""
        asked: Freeze | None = self.engine_config.get("freeze")
        if asked is not None and not self.engine_config.forward_only:
            parts = freeze(module, asked) if asked.wanted else {}
            self._frozen = frozenset(name for names in parts.values() for name in names)
            if self._frozen and self.engine_config.strategy == "fsdp":
                # One flat parameter for what trains and what does not would be refused.
                object.__setattr__(self.engine_config, "use_orig_params", True)
            if self.rank == 0:
                print(f"capcurr: {_told(module, parts)}", flush=True)
        return super()._build_fsdp_module(module)

    def _build_optimizer(self, module: nn.Module) -> Any:
        """With all parameters, so that a checkpoint fits whatever is frozen: a frozen one gets no state."""
        lost = [
            name
            for name, parameter in module.named_parameters()
            if WRAPPERS.sub("", name) in self._frozen and parameter.requires_grad
        ]
        if lost:
            raise RuntimeError(f"capcurr: sharding has made {len(lost)} frozen parameters train again: {lost[:3]}")
        return super()._build_optimizer(module)


class CpuEngine(CapabilityEngine):
    def _build_fsdp_module(self, module: nn.Module) -> nn.Module:
        """verl offloads a model that only goes forward to pinned memory, which belongs to an accelerator."""
        forward_only = self.engine_config.forward_only
        if not forward_only:
            return super()._build_fsdp_module(module)
        object.__setattr__(self.engine_config, "forward_only", False)
        try:
            return super(CapabilityEngine, self)._build_fsdp_module(module)
        finally:
            object.__setattr__(self.engine_config, "forward_only", forward_only)


def _told(module: nn.Module, parts: dict[str, list[str]]) -> str:
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    if not parts:
        return f"{trained:,} of {sum(sizes.values()):,} parameters train; nothing is frozen"
    frozen = ", ".join(f"{part} ({sum(sizes[name] for name in names):,})" for part, names in parts.items())
    return f"{trained:,} of {sum(sizes.values()):,} parameters train; frozen: {frozen}"


EngineRegistry.register("language_model", BACKENDS, get_device_name(), get_vendor())(
    CpuEngine if get_device_name() == "cpu" else CapabilityEngine
)
