"""Whether a server that speaks the OpenAI protocol answers, and what holds a port. Standard library only."""

import base64
import http.client
import json
import struct
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capcurr_plugin.errors import JobError

LIST_SECONDS = 10.0
MAX_ANSWER_BYTES = 1 << 20
SHOWN_CHARACTERS = 300
COMING_UP = (404, 408, 425, 429, 502, 503, 504)  # HTTP statuses of a server that is not ready yet
IMAGE_SIDE = 64  # pixels


class NotYet(Exception):
    """The server does not answer as it should, and still may."""


class Closed(NotYet):
    """Nothing listens there."""


def answering_model(api_base: str, seconds: float, model: str | None = None) -> str:
    """The id under which the server answers a chat of one token about an image: `model`, or else the first that it
    lists. `seconds` bounds the wait for the chat, which may include a model's loading."""
    status, answer = _ask(f"{api_base}/models", LIST_SECONDS)
    if model is None:
        _check(status, answer, "the list of its models")
        model = _listed(answer)[0]
    status, answer = _ask(f"{api_base}/chat/completions", seconds, _shortest_chat(model))
    _check(status, answer, f"a chat of one token about an image with {model}")
    if not isinstance(answer, dict) or not answer.get("choices"):
        raise NotYet(f"it answers a chat with {_shown(answer)}")
    return model


def listed_models(api_base: str, seconds: float) -> list[str]:
    """What the server lists; empty when no such server answers."""
    try:
        status, answer = _ask(f"{api_base}/models", seconds)
        return _listed(answer) if status == 200 else []
    except NotYet:
        return []


def _listed(answer: Any) -> list[str]:
    entries = answer.get("data") if isinstance(answer, dict) else None
    entries = entries if isinstance(entries, list) else []
    ids = [e["id"] for e in entries if isinstance(e, dict) and isinstance(e.get("id"), str)]
    if not ids:
        raise NotYet(f"it lists no model: {_shown(answer)}")
    return ids


def _shortest_chat(model: str) -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(_grey()).decode()}"}}
    content = [image, {"type": "text", "text": "Hi"}]
    return {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 1, "temperature": 0}


def _grey() -> bytes:
    """A PNG file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", IMAGE_SIDE, IMAGE_SIDE, 8, 2, 0, 0, 0)  # 8 bits each of red, green and blue
    rows = (b"\0" + b"\x80" * 3 * IMAGE_SIDE) * IMAGE_SIDE
    pairs = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in pairs)


def _ask(url: str, seconds: float, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
    """The HTTP status and what was answered: JSON, or else text."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    # A proxy that the environment names is not for servers of one's own
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        try:
            with opener.open(request, timeout=max(seconds, 1)) as response:
                status, text = response.status, response.read(MAX_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read(MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ConnectionRefusedError):
            raise Closed("nothing listens there") from None
        raise NotYet(f"{type(reason).__name__}: {reason}") from None
    try:
        return status, json.loads(text)
    except (ValueError, RecursionError):
        return status, text.decode(errors="replace")


def _check(status: int, answer: Any, asked: str) -> None:
    if status == 200:
        return
    if status in COMING_UP:
        raise NotYet(f"HTTP {status}: {_shown(answer)}")
    key = "; capcurr sends it no API key" if status in (401, 403) else ""
    raise JobError(f"the server refuses {asked}: HTTP {status}: {_shown(answer)}{key}")


def _shown(answer: Any) -> str:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


# Ports


def listener(port: int) -> str:
    """What listens on a port of this machine, as far as this user may see it."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for link in Path("/proc").glob("[0-9]*/fd/*") if sockets else ():
        try:
            if str(link.readlink()) in sockets:
                process = link.parts[2]
                return f"{Path('/proc', process, 'comm').read_text().strip()} (process {process})"
        except OSError:  # it has ended, or is another user's
            continue
    return "another process"


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A: listening
                inodes.add(fields[9])
    return inodes
