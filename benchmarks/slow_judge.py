"""A judge that takes its time: for benchmarks/attribute.py. Prints its address, and answers until it is ended.

usage: python benchmarks/slow_judge.py LATENCY FAULTS
"""

import asyncio
import json
import random
import re
import sys
import time

from aiohttp import web

LATENCY, FAULTS = float(sys.argv[1]), float(sys.argv[2])
ID = re.compile(rb"<response id=(\w+)>")


in_flight = most = 0
first = last = 0.0


async def answer(request: web.Request) -> web.Response:
    global in_flight, most, first, last
    first = first or time.monotonic()
    body = await request.read()
    in_flight += 1
    most = max(most, in_flight)
    await asyncio.sleep(LATENCY)
    in_flight -= 1
    last = time.monotonic()
    if random.random() < FAULTS:
        return web.json_response({"type": "error", "error": {"type": "api_error", "message": "x"}}, status=529)
    id = ID.findall(body)[-1].decode()
    verdict = {"id": id, "kind": "perception", "quote": "The error is", "image": "", "confidence": "high"}
    text = {"type": "text", "text": json.dumps(verdict)}
    usage = {"input_tokens": 1000, "output_tokens": 100}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [text], "usage": usage}
    return web.json_response(message | {"stop_reason": "end_turn", "stop_sequence": None})


async def told(request: web.Request) -> web.Response:
    return web.json_response({"seconds": last - first, "most_in_flight": most})


async def serve() -> None:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/v1/messages", answer)
    app.router.add_get("/told", told)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=512)
    await site.start()
    assert runner.addresses
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
