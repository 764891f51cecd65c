"""Tiny models that say what a test wants."""

from pathlib import Path

from capcurr_plugin.toyworld.tiny_models import FAMILIES, Size, Words
from capcurr_plugin.toyworld.tiny_models import make as make_with

__all__ = ["FAMILIES", "make", "teach"]


def make(family: str, folder: Path, texts: list[str] = ()) -> Path:
    """`texts` train a tokenizer that says them in few tokens; without any, every byte is a token."""
    return make_with(family, folder, Words(texts))


def teach(folder: Path, words: str) -> None:
    """Set a saved model's weights so that it answers everything with these words. Each letter may occur once: the next
    token follows from the last alone."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    tokens = tokenizer.encode(f"\n{words}<|im_end|>", add_special_tokens=False)
    assert len(set(tokens)) == len(tokens) < Size().width
    directions = torch.eye(len(tokens), Size().width)
    language = model.model.language_model
    with torch.no_grad():
        for layer in language.layers:  # nothing is added to what a token itself says
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        language.embed_tokens.weight[tokens] = directions
        model.lm_head.weight.zero_()
        model.lm_head.weight[tokens[1:]] = 10 * directions[:-1]
    model.save_pretrained(folder)
