"""A task that a tiny model learns within a few steps: of two answers, one is always right.

The model is trained first to answer in the unified prompt's format, with either answer, as a real model would start.
"""

import json
import random
from pathlib import Path

import tiny_models

from capcurr_plugin.prompt import UNIFIED_PROMPT, chat_messages

COLORS = {"red": (230, 20, 20), "blue": (20, 20, 230)}
WORDS = {"textual_reasoning": ("yes", "no"), "perception": tuple(COLORS), "visual_reasoning": tuple(COLORS)}


def make_rows(folder: Path, capability: str, count: int, seed: int = 0) -> Path:
    chance = random.Random(f"{capability} {seed}")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    path = folder / f"{capability}.jsonl"
    with path.open("w") as file:
        for number in range(count):
            file.write(json.dumps(_row(folder, capability, number, chance)) + "\n")
    return path


def _row(folder, capability, number, chance):
    answer = WORDS[capability][0]
    row = {
        "index": f"{capability[0]}{number}",
        "problem": f"Is {number % 10} even?",
        "answer": answer,
        "images": [],
        "source": "toy",
        "capability": capability,
        "pass_rate": round(chance.random(), 2),
    }
    if capability == "textual_reasoning":
        return row
    name = f"images/{capability}{number}.png"
    paint(folder / name, COLORS[answer], 56 + 28 * (number % 3))
    return row | {"problem": "<image>What color?", "images": [name]}


def paint(path, color, width):
    from PIL import Image

    Image.new("RGB", (width, 56), color).save(path)


def response(answer):
    return f"<think> so </think> \\boxed{{{answer}}}"


def make_model(family: str, folder: Path, steps: int = 60) -> Path:
    """A tiny model that answers any question of the task in the right format, with either word."""
    answers = [word for words in WORDS.values() for word in words]
    texts = [UNIFIED_PROMPT, "What color?", *(f"Is {n} even?" for n in range(10)), *map(response, answers)]
    tiny_models.make(family, folder, texts * 4)
    _teach(folder, steps)
    return folder


def _teach(folder, steps):
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    torch.manual_seed(0)
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    chance = random.Random(0)
    for _ in range(steps):
        optimizer.zero_grad()
        for capability in ("textual_reasoning", "perception"):
            model(**_lesson(processor, capability, chance)).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)


def _lesson(processor, capability, chance, count=16):
    from PIL import Image

    texts, images, prompts = [], [], []
    for _ in range(count):
        problem = f"Is {chance.randint(0, 9)} even?" if capability == "textual_reasoning" else "<image>What color?"
        parts = [{"type": "text", "text": chat_messages(problem, "user")[0]["content"].replace("<image>", "")}]
        if "<image>" in problem:
            parts.insert(0, {"type": "image"})
            images.append(Image.new("RGB", (56, 56), chance.choice(list(COLORS.values()))))
        prompt = processor.apply_chat_template(
            [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
        )
        prompts.append(prompt)
        texts.append(prompt + response(chance.choice(WORDS[capability])) + "<|im_end|>")
    inputs = processor(text=texts, images=images or None, return_tensors="pt", padding=True, padding_side="right")
    labels = inputs["input_ids"].clone()
    starts = processor(text=prompts, images=images or None, padding=True, padding_side="right")["attention_mask"]
    for place, mask in enumerate(starts):
        labels[place, : sum(mask)] = -100
    labels[inputs["attention_mask"] == 0] = -100
    return {**inputs, "labels": labels}
