"""The tiny model's first two minutes: supervised, so that reinforcement learning has something to reward.

It first learns to see: what comes out of the vision tower becomes the words for what is in each corner. Then it learns
to speak of it, with the vision tower as it is."""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from capcurr_plugin.atomic import replacing_folder
from capcurr_plugin.prompt import UNIFIED_PROMPT
from capcurr_plugin.rows import IMAGE_MARK
from capcurr_plugin.toyworld.lessons import WHOLE, Lesson, Mix, lessons
from capcurr_plugin.toyworld.scenes import PLACES, SHAPES, Scene, any_scene, draw
from capcurr_plugin.toyworld.tiny_models import FAMILIES, Size, Words, make

SIZE = Size(width=128, layers=4, vision_width=64, side=56, learns_fast=True)  # an image token to each corner
BATCH, RATE, RISING = 16, 2e-3, 50  # lessons, learning rate, and steps until it is reached
POOL = 4  # batches, among which lessons are sorted
SEEN_AT_ONCE, SEEING_RATE, SEEING_RISING = 32, 6e-3, 20
SEEING_SHARE = 0.2  # steps of seeing to each step of lessons; they are short
VOCABULARY_LESSONS = 3_000


def words() -> Words:
    taught = islice(lessons(0, Mix()), VOCABULARY_LESSONS)
    texts = [text for lesson in taught for text in (*(m["content"] for m in lesson.messages), lesson.response)]
    for phrase in WHOLE:
        texts = [text.replace(phrase, " ") for text in texts]
    return Words([text.replace(IMAGE_MARK, "") for text in texts], WHOLE)


def warm_start(
    family: str, folder: Path, seed: int, steps: int, mix: Mix, told: Callable[[int, float], None] = lambda *_: None
) -> None:
    """Makes the model, whole or not at all."""
    with replacing_folder(folder) as part:
        _warm_start(family, part, seed, steps, mix, told)


def _warm_start(family: str, folder: Path, seed: int, steps: int, mix: Mix, told: Callable[[int, float], None]) -> None:
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    make(family, folder, words(), SIZE)
    torch.manual_seed(seed)
    processor = AutoProcessor.from_pretrained(folder)
    model: Any = AutoModelForImageTextToText.from_pretrained(folder).train()
    _teach_seeing(model, processor, seed, round(steps * SEEING_SHARE))
    for weights in _that_see(model):
        weights.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    taught = _batches(lessons(seed, mix))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / RISING) * (0.1 + 0.9 * (1 - step / steps))
        loss = model(**batch(processor, next(taught))).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        told(step + 1, loss.item())
    model.save_pretrained(folder)


def _batches(taught: Iterator[Lesson]) -> Iterator[list[Lesson]]:
    """Lessons of about one length in a batch, which saves a third of the time."""
    while True:
        some = sorted(islice(taught, POOL * BATCH), key=_length)
        yield from (some[place * BATCH : (place + 1) * BATCH] for place in range(POOL))


def _length(lesson: Lesson) -> int:
    return len(lesson.response) + sum(
        len(message["content"].replace(UNIFIED_PROMPT, "")) for message in lesson.messages
    )


def _that_see(model: Any) -> list[Any]:
    """The weights of the vision tower and the projector."""
    return [weights for name, weights in model.named_parameters() if not re.search(r"language_model\.|^lm_head", name)]


def _teach_seeing(model: Any, processor: Any, seed: int, steps: int) -> None:
    """An image token becomes the sum of the words for its corner and for what is there. A model that must find out by
    speaking that there is something to see takes many times as long."""
    import torch

    dice = random.Random(f"seeing {seed}")
    meant = _meanings(model, processor.tokenizer)
    optimizer = torch.optim.AdamW(_that_see(model), lr=SEEING_RATE, betas=(0.9, 0.98))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = SEEING_RATE * min(1.0, (step + 1) / SEEING_RISING) * (1 - step / steps)
        seen = [any_scene(dice, "train") for _ in range(SEEN_AT_ONCE)]
        inputs = processor.image_processor(images=[draw(scene) for scene in seen], return_tensors="pt")
        inputs = {name: inputs[name] for name in ("pixel_values", "image_grid_thw") if name in inputs}
        tokens = torch.stack(tuple(model.get_image_features(**inputs).pooler_output))  # corners in a row
        loss = (tokens - torch.stack([meant(scene) for scene in seen])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _meanings(model: Any, tokenizer: Any) -> Callable[[Scene], Any]:
    """For the corners of a scene: the sum of its words' vectors."""
    import torch

    vectors = model.get_input_embeddings().weight.detach()

    def of_word(word: str) -> Any:
        """As it stands in statements: what they are about, and what they say."""
        forms = [f" {word}"] if word in SHAPES else [f"{word}:", f" {word}"]
        return vectors[[tokenizer.encode(form, add_special_tokens=False)[0] for form in forms]].sum(0)

    def meant(scene: Scene) -> Any:
        corners = {place: of_word(place) for place in PLACES}
        for thing in scene.things:
            corners[thing.place] = corners[thing.place] + of_word(thing.color) + of_word(thing.shape)
        return torch.stack(list(corners.values()))

    return meant


def prompt(processor: Any, messages: Sequence[dict[str, str]]) -> str:
    """The chat, up to where the model speaks."""
    turns = []
    for message in messages:
        parts: list[dict[str, str]] = []
        for place, text in enumerate(message["content"].split(IMAGE_MARK)):
            parts += [{"type": "image"}] if place else []
            parts += [{"type": "text", "text": text}] if text else []
        turns.append({"role": message["role"], "content": parts})
    return processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)


def batch(processor: Any, taught: Sequence[Lesson]) -> dict[str, Any]:
    """What the model learns of is each lesson's response alone."""
    end = processor.tokenizer.eos_token
    texts = [prompt(processor, lesson.messages) + lesson.response + end for lesson in taught]
    images = [draw(lesson.scene) for lesson in taught if lesson.scene]
    inputs = processor(text=texts, images=images or None, padding=True, padding_side="right", return_tensors="pt")
    labels = inputs["input_ids"].clone()
    labels[inputs["attention_mask"] == 0] = -100
    for place, lesson in enumerate(taught):
        said = len(processor.tokenizer(lesson.response + end)["input_ids"])
        labels[place, : int(inputs["attention_mask"][place].sum()) - said] = -100
    return {**inputs, "labels": labels}


def main() -> None:
    from tqdm import tqdm

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--family", choices=FAMILIES, default=FAMILIES[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--mix", type=lambda text: Mix(**json.loads(text)), default=Mix(), help="as JSON")
    args = parser.parse_args()
    with tqdm(total=args.steps, desc="lessons", unit="batch") as bar:

        def told(_: int, loss: float) -> None:
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}")

        warm_start(args.family, args.folder, args.seed, args.steps, args.mix, told)


if __name__ == "__main__":
    main()
