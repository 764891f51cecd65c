"""Two that answer by rules, behind the OpenAI protocol, where a real study asks a model:
`python -m capcurr_plugin.toyworld.rules writer --port 8000`, or `oracle`.

The writer makes a question of a caption. The oracle finds the first error of a wrong answer: it reads the scene off the
picture and each statement off the response, and is never in doubt. Neither has learned anything."""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import random
import re
from collections.abc import Callable
from typing import Any

from capcurr_plugin.data.drafts import TARGETS
from capcurr_plugin.errors import InputError
from capcurr_plugin.toyworld.claims import first_error
from capcurr_plugin.toyworld.protocol import BadRequest, Said, serve
from capcurr_plugin.toyworld.questions import DETAILS, SPATIAL
from capcurr_plugin.toyworld.scenes import Scene, read_caption, read_picture

# To an evaluator of VLMEvalKit, which asks what is answered by a response that its own rules cannot read.
NO_ANSWER = "Z"

_DESCRIPTION = re.compile(r"<description>\n(.*?)\n</description>", re.DOTALL)
_QUESTION = re.compile(r"\AQuestion:\n(.*)\Z", re.DOTALL)
_RESPONSE = re.compile(
    r"\AAnswer that counts as right: (?P<truth>.*?)\n\nThe model's response.*?:\n"
    r"<response id=(?P<id>\w+)>\n(?P<response>.*)\n</response id=(?P=id)>\Z",
    re.DOTALL,
)


def write_question(messages: list[dict[str, Any]]) -> str:
    """As `capcurr data synthesize` asks for it."""
    prompt = str(messages[-1]["content"])
    described = _DESCRIPTION.search(prompt)
    if not described:
        raise InputError("no description to write a question from")
    scene = read_caption(described[1])
    dice = random.Random(prompt)
    kinds = SPATIAL if TARGETS["spatial"] in prompt else DETAILS
    draft = dice.choice(kinds)(scene, scene, dice)
    return json.dumps({"question": draft.question, "options": draft.options, "answer": draft.right})


def find_error(messages: list[dict[str, Any]]) -> str:
    """As `capcurr attribute` asks for it: a verdict in its form."""
    content = messages[-1]["content"]
    parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    texts = [part["text"] for part in parts if part.get("type") == "text"]
    question, case = _QUESTION.search(texts[0]), _RESPONSE.search(texts[1]) if len(texts) > 1 else None
    if not question or not case:
        return NO_ANSWER
    scenes = [_scene(part["image_url"]["url"]) for part in parts if part.get("type") == "image_url"]
    found = first_error(question[1], case["truth"], case["response"], scenes[0] if scenes else None)
    told = {"id": case["id"], "kind": found.kind, "quote": found.quote, "image": found.shows, "confidence": "high"}
    return json.dumps(told)


def _scene(url: str) -> Scene:
    from PIL import Image

    content = base64.b64decode(url.partition(",")[2], validate=True)
    scene = read_picture(Image.open(io.BytesIO(content)).convert("RGB"))
    if scene is None:
        raise InputError("the picture shows no scene of the toy world")
    return scene


ROLES: dict[str, Callable[[list[dict[str, Any]]], str]] = {"writer": write_question, "oracle": find_error}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    rule = ROLES[args.role]

    async def answer(body: Any) -> list[Said]:
        try:
            return [Said(await asyncio.to_thread(rule, body["messages"]))]
        except (InputError, LookupError, TypeError, OSError) as error:
            raise BadRequest(f"{type(error).__name__}: {error}") from None

    serve(f"rules-{args.role}", answer, args.port)


if __name__ == "__main__":
    main()
