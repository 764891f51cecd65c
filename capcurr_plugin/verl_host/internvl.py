"""InternVL3 and InternVL3.5, as transformers has them (InternVLForConditionalGeneration), for verl 0.9.

verl has no code for them. What is missing is put in while verl is imported: a processor that verl accepts, prompts that
vLLM does not expand a second time, and a vision tower that takes part in every micro-batch.
"""

import functools
import math
import sys
from types import ModuleType
from typing import Any

import torch
from PIL import Image
from torch import nn

from capcurr_plugin.errors import InputError

MODEL_TYPE = "internvl"
PROCESSOR = "InternVLProcessor"


# The processor


def accept_processor(module: ModuleType) -> None:
    """`verl.utils.tokenizer.tokenizer`: `hf_processor` makes None of a processor that it does not know."""
    verls_own = module.hf_processor

    @functools.wraps(verls_own)
    def hf_processor(name_or_path: str, **kwargs: Any) -> Any:
        if _model_type(name_or_path, **kwargs) != MODEL_TYPE:
            return verls_own(name_or_path, **kwargs)
        return _processor_class().from_pretrained(name_or_path, **kwargs)

    for name in ("verl.utils.tokenizer.tokenizer", "verl.utils.tokenizer", "verl.utils"):  # which `import verl` imports
        sys.modules[name].hf_processor = hf_processor  # pyright: ignore[reportAttributeAccessIssue]


def _model_type(name_or_path: str, **kwargs: Any) -> str | None:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name_or_path, **kwargs).model_type
    except (OSError, ValueError):  # no model's folder: verl's own function says what it thinks of it
        return None


@functools.cache
def _processor_class() -> type:
    from transformers import InternVLProcessor

    class Processor(InternVLProcessor):
        """verl's agent loop hands it a text without placeholders, for the pixels alone: give it its placeholders."""

        def __call__(self, images: Any = None, text: Any = None, videos: Any = None, **kwargs: Any) -> Any:
            if images is not None and text is not None:
                texts = [text] if isinstance(text, str) else list(text)
                if len(texts) == 1 and self.image_token not in texts[0]:
                    text = [self.image_token * len(images) + texts[0]]
            return super().__call__(images=images, text=text, videos=videos, **kwargs)

    Processor.__name__ = Processor.__qualname__ = PROCESSOR  # what is saved beside a checkpoint names its class
    return Processor


# Prompts for an engine that expands images itself


def collapse_images(module: ModuleType) -> None:
    """`verl.workers.rollout.utils`: a prompt whose images are expanded is expanded by vLLM once more, in silence, and
    training goes on garbage. verl collapses Qwen's only."""
    verls_own = module.qwen2_5_vl_dedup_image_tokens

    @functools.wraps(verls_own)
    def dedup_image_tokens(prompt_ids: list[int], processor: Any) -> list[int]:
        if type(processor).__name__ != PROCESSOR:
            return verls_own(prompt_ids, processor)
        return collapsed(
            prompt_ids, processor.start_image_token_id, processor.image_token_id, processor.end_image_token_id
        )

    module.qwen2_5_vl_dedup_image_tokens = dedup_image_tokens  # pyright: ignore[reportAttributeAccessIssue]


def collapsed(prompt: list[int], start: int, context: int, end: int) -> list[int]:
    """`<img>` `<IMG_CONTEXT>`... `</img>` as one bare `<IMG_CONTEXT>`: vLLM puts the tags around it itself.

    One image's tiles stand in one pair of tags.
    """
    short: list[int] = []
    place = 0
    while place < len(prompt):
        if prompt[place] == start and prompt[place + 1 : place + 2] == [context]:
            place += 1
            while place < len(prompt) and prompt[place] == context:
                place += 1
            short.append(context)
            if prompt[place : place + 1] == [end]:
                place += 1
        else:
            short.append(prompt[place])
            place += 1
    return short


# Images


def bounded(image: Image.Image, min_pixels: int | None, max_pixels: int | None) -> Image.Image:
    """Within the bounds, at the same proportions: InternVL's processor cuts tiles by itself, so nothing is rounded to
    patches, as verl does for Qwen."""
    pixels = image.width * image.height
    scale = 1.0
    if max_pixels is not None and pixels > max_pixels:
        scale = math.sqrt(max_pixels / pixels)
    elif min_pixels is not None and pixels < min_pixels:
        scale = math.sqrt(min_pixels / pixels)
    if scale != 1.0:
        image = image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))
    return image.convert("RGB")


# Training


def prepare_for_training(module: nn.Module, sequence_parallel: int) -> None:
    """A micro-batch without images still goes through the vision tower: on many GPUs each shard's gathering waits for
    all of them, and one that has only text would hang the others."""
    if sequence_parallel > 1:
        raise InputError("InternVL cannot be trained with ulysses_sequence_parallel_size > 1; set it to 1")
    model: Any = module.get_submodule("model")
    forward = model.forward

    @functools.wraps(forward)
    def forward_with_tower(
        input_ids: Any = None, pixel_values: Any = None, inputs_embeds: Any = None, **kwargs: Any
    ) -> Any:
        if pixel_values is None and inputs_embeds is None:
            inputs_embeds = model.get_input_embeddings()(input_ids)
            features = model.get_image_features(
                pixel_values=_blank_tile(model.config.vision_config, inputs_embeds), return_dict=True
            ).pooler_output
            inputs_embeds = inputs_embeds + 0.0 * features.mean().to(inputs_embeds.dtype)
            input_ids = None
        return forward(input_ids=input_ids, pixel_values=pixel_values, inputs_embeds=inputs_embeds, **kwargs)

    model.forward = forward_with_tower


def _blank_tile(vision: Any, like: torch.Tensor) -> torch.Tensor:
    height, width = vision.image_size
    return torch.zeros((1, vision.num_channels, height, width), dtype=like.dtype, device=like.device)
