"""What verl 0.9 gets wrong for vision-language models, put right while it is imported. A later verl is left alone.

Each mend has a test that fails when verl no longer needs it.
"""

import functools
import os
from importlib.metadata import version
from types import ModuleType
from typing import Any

from packaging.version import Version

from capcurr_plugin.ports import quiet_ports

LAST_VERL = Version("0.9.1")  # that was seen to need them


def needed() -> bool:
    return Version(version("verl")) <= LAST_VERL


def mend_position_ids(module: ModuleType) -> None:
    """`verl.utils.tensordict_utils`: three-dimensional position ids of samples that all have one length.

    Their nested tensor comes back ragged in the wrong dimension, and `maybe_fix_3d_position_ids` then only relabels it:
    a crash, or wrong positions where four times the batch is the length.
    """
    verls_own = module.maybe_fix_3d_position_ids

    @functools.wraps(verls_own)
    def maybe_fix_3d_position_ids(data: Any) -> None:
        positions = data["position_ids"] if "position_ids" in data.keys() else None  # noqa: SIM118  a TensorDict
        if positions is not None and positions.is_nested and positions.dim() == 3 and _ragged_in_samples(positions):
            samples = list(positions.values().chunk(positions.size(0)))
            data["position_ids"] = module.nested_tensor_from_tensor_list(samples, ragged_idx=2)
        verls_own(data)

    module.maybe_fix_3d_position_ids = maybe_fix_3d_position_ids  # pyright: ignore[reportAttributeAccessIssue]


def _ragged_in_samples(positions: Any) -> bool:
    """Whether the samples lie behind each other along the dimension of the four kinds of position."""
    total = int(positions.offsets()[-1])
    values = positions.values()
    return values.shape[0] == total and (positions.size(0) > 1 or values.shape[-1] != total)


def mend_text_batches(module: ModuleType) -> None:
    """`verl.models.transformers.qwen2_vl`: a micro-batch without images sends a blank one through the vision tower, and
    takes what comes out for a tensor, which in transformers 5 it is not."""
    verls_own = module._get_input_embeds

    @functools.wraps(verls_own)
    def _get_input_embeds(
        model: Any,
        input_ids: Any,
        attention_mask: Any = None,
        pixel_values: Any = None,
        pixel_values_videos: Any = None,
        image_grid_thw: Any = None,
        video_grid_thw: Any = None,
    ) -> tuple[Any, Any]:
        if pixel_values is not None or pixel_values_videos is not None:
            seen = (pixel_values, pixel_values_videos, image_grid_thw, video_grid_thw)
            return verls_own(model, input_ids, attention_mask, *seen)
        embeds = model.get_input_embeddings()(input_ids)
        vision = model.config.vision_config
        values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        blank, grid = embeds.new_zeros((16, values)), input_ids.new_tensor([[1, 4, 4]])
        features, _ = module.unpack_visual_output(model.visual(blank, grid_thw=grid))
        mask = attention_mask.to(embeds.device) if attention_mask is not None else None
        return embeds + 0.0 * features.mean(), mask

    module._get_input_embeds = _get_input_embeds  # pyright: ignore[reportAttributeAccessIssue]


def mend_process_group(module: ModuleType) -> None:
    """`verl.utils.distributed`: on the CPU verl names the backend of one device twice, which torch refuses."""
    with_ray = functools.partial(module.initialize_global_process_group_ray, backend="cpu:gloo")

    def initialize_global_process_group(timeout_second: float = 36000) -> tuple[int, int, int]:
        """For the SFT trainer, under torchrun."""
        with_ray(timeout_second=timeout_second)
        return int(os.environ["LOCAL_RANK"]), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])

    module.initialize_global_process_group_ray = with_ray  # pyright: ignore[reportAttributeAccessIssue]
    module.initialize_global_process_group = initialize_global_process_group  # pyright: ignore[reportAttributeAccessIssue]


def mend_master_port(module: ModuleType) -> None:
    """`verl.single_controller.ray.base`: the port where the workers meet is chosen long before one of them opens it,
    among those that the system gives out; whoever gets it meanwhile ends the run with EADDRINUSE."""
    group = module.RayWorkerGroup
    verls_own = group._get_master_addr_port

    @functools.wraps(verls_own)
    def _get_master_addr_port(
        self: Any, pg: Any, bundle_index: int = 0, master_port_range: list[int] | None = None
    ) -> None:
        if master_port_range is None and (ports := quiet_ports()):
            master_port_range = [ports.start, ports.stop]
        verls_own(self, pg, bundle_index=bundle_index, master_port_range=master_port_range)

    group._get_master_addr_port = _get_master_addr_port
