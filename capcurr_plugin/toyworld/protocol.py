"""The OpenAI protocol, as far as the toy world's own servers speak it. They listen on this machine alone."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiohttp import web

MAX_BODY = 16 << 20


class BadRequest(Exception):
    """Says what is wrong with it."""


@dataclass(frozen=True)
class Said:
    """One answer to a request."""

    text: str
    finish: str = "stop"
    tokens_in: int = 0
    tokens_out: int = 0


Answer = Callable[[Any], Awaitable[Sequence[Said]]]  # to a request's body


def serve(name: str, answer: Answer, port: int) -> None:
    """Until the process ends."""
    from aiohttp import web

    async def health(_: web.Request) -> web.Response:
        return web.Response()

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"}]})

    async def complete(request: web.Request) -> web.Response:
        try:
            said = await answer(await request.json())
        except (BadRequest, ValueError) as error:
            refusal = {"message": str(error), "type": "invalid_request_error"}
            return web.json_response({"error": refusal}, status=400)
        return web.json_response(_completion(name, said))

    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_get("/health", health)
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", complete)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


def _completion(name: str, said: Sequence[Said]) -> dict[str, Any]:
    choices = [
        {"index": number, "finish_reason": one.finish, "message": {"role": "assistant", "content": one.text}}
        for number, one in enumerate(said)
    ]
    read, written = said[0].tokens_in, sum(one.tokens_out for one in said)
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    facts = {"id": "c", "object": "chat.completion", "created": int(time.time()), "model": name}
    return {**facts, "choices": choices, "usage": usage}
