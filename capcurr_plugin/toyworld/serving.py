"""A tiny model behind the OpenAI protocol: `python -m capcurr_plugin.toyworld.serving FOLDER --port 8000`.

Requests that wait are answered as one batch, which on a CPU is many times as fast as one after the other. What is
sampled for a request depends on the request alone, not on what it shared a batch with, so that a run can be repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capcurr_plugin.repeatable import by_width, filled, own_draws
from capcurr_plugin.toyworld.protocol import BadRequest, Said, serve

MAX_PIXELS = 1 << 20
MAX_SEQUENCES = 128  # of a batch
MAX_TOKENS, MAX_N = 64, 64
GATHER_SECONDS = 0.01


@dataclass(frozen=True, eq=False)
class Asked:
    """One answer that is wanted."""

    prompt: str
    images: Sequence[Any]
    temperature: float
    max_tokens: int
    seed: int
    answer: asyncio.Future[Said] = field(repr=False)


def read_request(body: Any, processor: Any, loop: asyncio.AbstractEventLoop) -> list[Asked]:
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        raise BadRequest("messages: should be a list of turns")
    turns, images = [], []
    for message in body["messages"]:
        if not isinstance(message, dict) or message.get("role") not in ("system", "user", "assistant"):
            raise BadRequest("messages: a turn needs a role of system, user or assistant")
        parts = [_part(part, images) for part in _parts(message.get("content"))]
        turns.append({"role": message["role"], "content": parts})
    count = _number(body, "n", 1, MAX_N)
    wanted = _number(body, "max_tokens", _number(body, "max_completion_tokens", MAX_TOKENS, 1 << 30), 1 << 30)
    temperature = float(body.get("temperature") or 0.0)
    prompt = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    named = json.dumps([body["messages"], body.get("seed")]).encode()
    seed = int.from_bytes(hashlib.blake2b(named, digest_size=7).digest(), "big")
    return [
        Asked(prompt, images, temperature, min(wanted, MAX_TOKENS), seed + number, loop.create_future())
        for number in range(count)
    ]


def _parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def _part(part: Any, images: list[Any]) -> dict[str, str]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind == "image_url":
        images.append(_image(part.get("image_url")))
        return {"type": "image"}
    raise BadRequest("messages: a part should be a text, or an image_url with a data URL")


def _image(told: Any) -> Any:
    from PIL import Image, UnidentifiedImageError

    url = told.get("url") if isinstance(told, dict) else None
    head, mark, content = url.partition(";base64,") if isinstance(url, str) else ("", "", "")
    if not mark or not head.startswith("data:image/"):
        raise BadRequest("image_url: should be a data URL of an image")
    try:
        image = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
        if image.width * image.height > MAX_PIXELS:
            raise BadRequest(f"image_url: has over {MAX_PIXELS:,} pixels")
        return image.convert("RGB")
    except (binascii.Error, UnidentifiedImageError, OSError, ValueError) as error:
        raise BadRequest(f"image_url: holds no image ({type(error).__name__})") from None


def _number(body: dict[str, Any], name: str, default: int, most: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or not 1 <= value <= most:
        raise BadRequest(f"{name}: should be a whole number from 1 to {most:,}")
    return value


class Model:
    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        torch.set_num_threads(1)  # with more, a row's last bits hang on the thread that it falls to; and slower here
        self.processor = AutoProcessor.from_pretrained(folder)
        self.processor.tokenizer.padding_side = "left"
        self.model: Any = AutoModelForImageTextToText.from_pretrained(folder).eval()

    def answer(self, batch: Sequence[Asked]) -> list[Said]:
        sizes = [len(tokens) for tokens in self._inputs(batch)["input_ids"]]
        said: dict[int, Said] = {}
        for width, places in by_width(sizes).items():
            some = [batch[place] for place in places]
            said.update(zip(places, self._answer_as_one(some, width), strict=True))
        return [said[place] for place in range(len(batch))]

    def _inputs(self, batch: Sequence[Asked], **more: Any) -> Any:
        images = [image for asked in batch for image in asked.images]
        return self.processor(text=[asked.prompt for asked in batch], images=images or None, **more)

    def _answer_as_one(self, batch: Sequence[Asked], width: int) -> list[Said]:
        import torch

        rows = filled(batch)
        inputs = self._inputs(rows, padding="max_length", max_length=width, return_tensors="pt")
        with torch.no_grad():
            out = self.model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=max(asked.max_tokens for asked in batch),
                logits_processor=[own_draws([row.seed for row in rows], [row.temperature for row in rows])],
                pad_token_id=self.processor.tokenizer.pad_token_id,
            )
        sizes = inputs["attention_mask"].sum(1).tolist()
        tokens = out[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._told(asked, tokens[row], sizes[row]) for row, asked in enumerate(batch)]

    def _told(self, asked: Asked, tokens: list[int], size: int) -> Said:
        tokens = tokens[: asked.max_tokens]
        end = self.processor.tokenizer.eos_token_id
        ended = end in tokens
        tokens = tokens[: tokens.index(end)] if ended else tokens
        text = self.processor.tokenizer.decode(tokens, skip_special_tokens=True)
        return Said(text, "stop" if ended else "length", size, len(tokens) + ended)


class Batches:
    """Answers one after another, for as long as somebody waits."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.waiting: list[Asked] = []
        self.busy = asyncio.Lock()

    async def answer(self, body: Any) -> list[Said]:
        wanted = read_request(body, self.model.processor, asyncio.get_running_loop())
        self.waiting += wanted
        await asyncio.sleep(GATHER_SECONDS)  # others may come
        while not all(asked.answer.done() for asked in wanted):
            async with self.busy:
                if self.waiting:
                    await self._answer_some()
        return [asked.answer.result() for asked in wanted]

    async def _answer_some(self) -> None:
        batch, self.waiting = self.waiting[:MAX_SEQUENCES], self.waiting[MAX_SEQUENCES:]
        try:
            told = await asyncio.to_thread(self.model.answer, batch)
        except Exception as error:  # noqa: BLE001  each asker has to hear of it
            for asked in batch:
                asked.answer.set_exception(error)
            return
        for asked, one in zip(batch, told, strict=True):
            asked.answer.set_result(one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", default="toy", help="under which the model is served")
    args = parser.parse_args()
    serve(args.name, Batches(Model(args.folder)).answer, args.port)


if __name__ == "__main__":
    main()
