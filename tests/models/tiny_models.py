"""Tiny random vision-language models of the three families, saved as verl loads them."""

from pathlib import Path

WIDTH, LAYERS = 64, 2
QWEN_TAGS = ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
INTERNVL_TAGS = ["<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
TURNS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
FAMILIES = ("qwen2_5_vl", "qwen3_vl", "internvl")


def make(family: str, folder: Path, texts: list[str] = ()) -> Path:
    """`texts` train a tokenizer that says them in few tokens; without any, every byte is a token."""
    import torch

    torch.manual_seed(0)
    tokenizer = _tokenizer(family, texts)
    processor, model = {"qwen2_5_vl": _qwen2_5_vl, "qwen3_vl": _qwen3_vl, "internvl": _internvl}[family](tokenizer)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    for part in (model, processor, tokenizer):
        part.save_pretrained(folder)
    return folder


def teach(folder: Path, words: str) -> None:
    """Set a saved model's weights so that it answers everything with these words. Each letter may occur once: the next
    token follows from the last alone."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    tokens = tokenizer.encode(f"\n{words}<|im_end|>", add_special_tokens=False)
    assert len(set(tokens)) == len(tokens) < WIDTH
    directions = torch.eye(len(tokens), WIDTH)
    language = model.model.language_model
    with torch.no_grad():
        for layer in language.layers:  # nothing is added to what a token itself says
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        language.embed_tokens.weight[tokens] = directions
        model.lm_head.weight.zero_()
        model.lm_head.weight[tokens[1:]] = 10 * directions[:-1]
    model.save_pretrained(folder)


def _template(family):
    image = "<IMG_CONTEXT>\n" if family == "internvl" else "<|vision_start|><|image_pad|><|vision_end|>"
    return (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
        "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
        + image
        + "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def _tokenizer(family, texts):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(letters)}, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words.decoder = decoders.ByteLevel()
    if texts:
        words.train_from_iterator(
            texts, trainers.BpeTrainer(vocab_size=2000, initial_alphabet=letters, show_progress=False)
        )
    tags = TURNS + (INTERNVL_TAGS if family == "internvl" else QWEN_TAGS)
    words.add_special_tokens([AddedToken(tag, special=True, normalized=False) for tag in tags])
    named = {"additional_special_tokens": tags}
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


def _text(tokenizer, **more):
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
        **more,
    }


def _qwen_tokens(tokenizer):
    number = tokenizer.convert_tokens_to_ids
    return {
        "image_token_id": number("<|image_pad|>"),
        "video_token_id": number("<|video_pad|>"),
        "vision_start_token_id": number("<|vision_start|>"),
        "vision_end_token_id": number("<|vision_end|>"),
        "tie_word_embeddings": False,
    }


def _qwen_vision(**more):
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        **more,
    }


def _qwen2_5_vl(tokenizer):
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    size = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=size),
        chat_template=tokenizer.chat_template,
    )
    rope = {"rope_type": "default", "type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    vision = _qwen_vision(depth=2, patch_size=14, window_size=56, fullatt_block_indexes=[1])
    config = Qwen2_5_VLConfig(
        text_config=_text(tokenizer, rope_parameters=rope), vision_config=vision, **_qwen_tokens(tokenizer)
    )
    return processor, Qwen2_5_VLForConditionalGeneration(config)


def _qwen3_vl(tokenizer):
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    size = {"shortest_edge": 64 * 64, "longest_edge": 128 * 128}
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size, patch_size=16, merge_size=2, temporal_patch_size=2),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(size=size, patch_size=16),
        chat_template=tokenizer.chat_template,
    )
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    vision = _qwen_vision(depth=3, patch_size=16, num_position_embeddings=64, deepstack_visual_indexes=[0, 1])
    config = Qwen3VLConfig(
        text_config=_text(tokenizer, head_dim=16, rope_parameters=rope),
        vision_config=vision,
        **_qwen_tokens(tokenizer),
    )
    return processor, Qwen3VLForConditionalGeneration(config)


def _internvl(tokenizer):
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    size = {"height": 56, "width": 56}
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(
            size=size, crop_to_patches=True, min_patches=1, max_patches=4, patch_size=14
        ),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=tokenizer.chat_template,
    )
    vision = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "attention_bias": True,
        "intermediate_size": 64,
        "image_size": [56, 56],
        "patch_size": [14, 14],
        "use_mean_pooling": True,
    }
    config = InternVLConfig(
        text_config=_text(tokenizer, model_type="qwen2"),
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    return processor, InternVLForConditionalGeneration(config)
