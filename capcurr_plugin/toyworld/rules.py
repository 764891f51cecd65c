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

from aiohttp import web

from capcurr_plugin.data.drafts import TARGETS
from capcurr_plugin.errors import InputError
from capcurr_plugin.toyworld.claims import first_error
from capcurr_plugin.toyworld.questions import DETAILS, SPATIAL
from capcurr_plugin.toyworld.scenes import Scene, read_caption, read_picture

MAX_BODY = 16 << 20

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
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
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


class Server:
    def __init__(self, role: str) -> None:
        self.role = role

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._complete)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": f"rules-{self.role}", "object": "model"}]})

    async def _complete(self, request: web.Request) -> web.Response:
        try:
            messages = (await request.json())["messages"]
            said = await asyncio.to_thread(ROLES[self.role], messages)
        except (InputError, LookupError, TypeError, ValueError, OSError) as error:
            return web.json_response({"error": {"message": f"{error}", "type": "invalid_request_error"}}, status=400)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        facts = {"id": "c", "object": "chat.completion", "created": 0, "model": f"rules-{self.role}"}
        return web.json_response({**facts, "choices": [choice], "usage": usage})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    web.run_app(Server(args.role).app(), host="127.0.0.1", port=args.port, print=None)


if __name__ == "__main__":
    main()
