"""Tiny random vision-language models of the three families, saved as verl, VLMEvalKit and the engines load any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAMILIES = ("qwen2_5_vl", "qwen3_vl", "internvl")
QWEN_TAGS = ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
INTERNVL_TAGS = ["<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
TURNS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
HEADS = 4


@dataclass(frozen=True)
class Size:
    width: int = 64
    layers: int = 2
    vision_width: int = 32
    side: int = 112  # pixels, to which larger images are shrunk; a multiple of 56
    learns_fast: bool = False  # from the first step on


@dataclass(frozen=True)
class Words:
    """What the tokenizer knows, beside single bytes. `whole` phrases are a token each, and then `texts` are split into
    words before pieces of them are; without any, whole sentences can become a token."""

    texts: Sequence[str] = ()
    whole: Sequence[str] = ()


def make(family: str, folder: Path, words: Words = Words(), size: Size = Size()) -> Path:
    import torch

    torch.manual_seed(0)
    tokenizer = _tokenizer(family, words)
    makers = {"qwen2_5_vl": _qwen2_5_vl, "qwen3_vl": _qwen3_vl, "internvl": _internvl}
    processor, model = makers[family](tokenizer, size)
    if size.learns_fast:
        _spread(model, size)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    for part in (model, processor, tokenizer):
        part.save_pretrained(folder)
    return folder


# Standard deviations of random weights. A large model's small ones would take a small model long to grow.
USUAL, OF_LAYERS, OF_WORDS = 0.02, 0.06, 1.0
ADDS = ("o_proj.weight", "down_proj.weight")  # of a layer: what is added to the words


def _spread(model: Any, size: Size) -> None:
    """What the layers add is little beside what the words themselves are, so that words can be looked up early."""
    import torch

    words = model.get_input_embeddings().weight
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() < 2:
                continue
            spread = OF_WORDS if weights is words else OF_LAYERS
            shrunk = (2 * size.layers) ** -0.5 if name.endswith(ADDS) else 1.0
            weights.mul_(shrunk * spread / USUAL)


def _template(family: str) -> str:
    image = "<IMG_CONTEXT>\n" if family == "internvl" else "<|vision_start|><|image_pad|><|vision_end|>"
    return (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
        "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
        + image
        + "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def _tokenizer(family: str, known: Words) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(letters)}, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=bool(known.whole))
    words.decoder = decoders.ByteLevel()
    if known.texts:
        words.train_from_iterator(
            known.texts, trainers.BpeTrainer(vocab_size=2000, initial_alphabet=letters, show_progress=False)
        )
    tags = TURNS + (INTERNVL_TAGS if family == "internvl" else QWEN_TAGS)
    words.add_special_tokens([AddedToken(tag, special=True, normalized=False) for tag in tags])
    words.add_tokens([AddedToken(phrase, normalized=False) for phrase in known.whole])
    named: dict[str, Any] = {"additional_special_tokens": tags}
    if family == "internvl":
        keys = ("start_image_token", "end_image_token", "context_image_token", "video_token")
        named = {"extra_special_tokens": dict(zip(keys, INTERNVL_TAGS, strict=True))}
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=4096,
        chat_template=_template(family),
        **named,
    )


def _text(tokenizer: Any, size: Size, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": size.width,
        "intermediate_size": 2 * size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
        **more,
    }


def _by_axis(size: Size) -> list[int]:
    """How a head's rotations are shared out over time, height and width."""
    half = size.width // HEADS // 2
    return [half - 2 * (half // 3), half // 3, half // 3]


def _qwen_tokens(tokenizer: Any) -> dict[str, Any]:
    number = tokenizer.convert_tokens_to_ids
    return {
        "image_token_id": number("<|image_pad|>"),
        "video_token_id": number("<|video_pad|>"),
        "vision_start_token_id": number("<|vision_start|>"),
        "vision_end_token_id": number("<|vision_end|>"),
        "tie_word_embeddings": False,
    }


def _qwen_vision(size: Size, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": size.vision_width,
        "intermediate_size": 2 * size.vision_width,
        "num_heads": 2,
        "out_hidden_size": size.width,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        **more,
    }


def _qwen2_5_vl(tokenizer: Any, size: Size) -> tuple[Any, Any]:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,  # pyright: ignore[reportAttributeAccessIssue]  made when it is asked for
    )

    pixels = {"shortest_edge": 56 * 56, "longest_edge": size.side**2}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=pixels),
        chat_template=tokenizer.chat_template,
    )
    rope = {"rope_type": "default", "type": "default", "rope_theta": 10000.0, "mrope_section": _by_axis(size)}
    vision = _qwen_vision(size, depth=2, patch_size=14, window_size=56, fullatt_block_indexes=[1])
    config = Qwen2_5_VLConfig(
        text_config=_text(tokenizer, size, rope_parameters=rope), vision_config=vision, **_qwen_tokens(tokenizer)
    )
    return processor, Qwen2_5_VLForConditionalGeneration(config)


def _qwen3_vl(tokenizer: Any, size: Size) -> tuple[Any, Any]:
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    pixels = {"shortest_edge": 64 * 64, "longest_edge": (size.side // 56 * 64) ** 2}
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, patch_size=16, merge_size=2, temporal_patch_size=2),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(size=pixels, patch_size=16),
        chat_template=tokenizer.chat_template,
    )
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": _by_axis(size), "mrope_interleaved": True}
    vision = _qwen_vision(size, depth=3, patch_size=16, num_position_embeddings=64, deepstack_visual_indexes=[0, 1])
    config = Qwen3VLConfig(
        text_config=_text(tokenizer, size, head_dim=size.width // HEADS, rope_parameters=rope),
        vision_config=vision,
        **_qwen_tokens(tokenizer),
    )
    return processor, Qwen3VLForConditionalGeneration(config)


def _internvl(tokenizer: Any, size: Size) -> tuple[Any, Any]:
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    pixels = {"height": 56, "width": 56}
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(
            size=pixels,
            crop_to_patches=True,
            min_patches=1,
            max_patches=(size.side // 56) ** 2,
            patch_size=14,  # pyright: ignore[reportCallIssue]  kept with what it does not name
        ),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=pixels),
        image_seq_length=4,
        chat_template=tokenizer.chat_template,
    )
    vision = {
        "hidden_size": size.vision_width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "attention_bias": True,
        "intermediate_size": 2 * size.vision_width,
        "image_size": [56, 56],
        "patch_size": [14, 14],
        "use_mean_pooling": True,
    }
    config = InternVLConfig(
        text_config=_text(tokenizer, size, model_type="qwen2"),
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    return processor, InternVLForConditionalGeneration(config)
