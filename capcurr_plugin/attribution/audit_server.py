"""Serves the page of an audit to this machine's browser, and keeps what is chosen there.

Only who knows the token in the address is answered, and only under this machine's own names, so that neither other
users nor pages of other sites, which may point a name of theirs here, can read or write. What the judge says of an
item leaves this process only after a choice about it is on the disk."""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

from capcurr_plugin.attribution.audit_numbers import judge_numbers
from capcurr_plugin.attribution.audits import CHOICES, MAX_NOTE, Choice, OpenAudit
from capcurr_plugin.attribution.kinds import MEANINGS
from capcurr_plugin.attribution.records import UNDECIDED, Record
from capcurr_plugin.attribution.verdicts import around, shortened, visible
from capcurr_plugin.errors import InputError
from capcurr_plugin.images import BadImage, image_kind

HOST = "127.0.0.1"
MAX_BODY = 64 << 10
MAX_IMAGE_BYTES = 64 << 20
MAX_TEXT = 60_000  # characters of a question or an answer
MAX_SECONDS = 7 * 24 * 3600.0
PATIENCE = 30  # seconds for a browser to say what it wants
PAGE = {  # of the folder audit_page
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
SHOWN = ("PNG", "JPEG", "GIF", "WEBP")  # images that browsers read


class Refused(Exception):
    """A request that gets no more than a status and a line of text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Session:
    """The items of one audit, as the page gets them."""

    def __init__(self, opened: OpenAudit, records: Sequence[Record], images: Path, *, blind: bool) -> None:
        assert opened.audit is not None
        self.opened, self.audit = opened, opened.audit
        self.records, self.images, self.blind = records, images, blind

    def overview(self) -> dict[str, Any]:
        return {
            "annotator": self.audit.header.annotator,
            "attribution": visible(self.audit.header.attribution),
            "done": [record.id in self.audit.choices for record in self.records],
            "kinds": [{"name": kind, **asdict(meaning)} for kind, meaning in MEANINGS.items()],
        }

    def item(self, place: int) -> dict[str, Any]:
        record = self._record(place)
        shown, quote = record.case.shown, visible(record.vote.quote)
        marked = None if self.blind and record.id not in self.audit.choices else around(shown, quote)
        return {
            "model": _bounded(record.model),
            "benchmark": _bounded(record.benchmark),
            "index": _bounded(record.index),
            "category": _bounded(record.category),
            "question": _bounded(record.question),
            "truth": _bounded(record.truth),
            "final": None if record.final is None else _bounded(record.final),
            "whole": record.whole,
            "response": list(marked or (shown, "", "")),
            "images": [{"name": _bounded(name), "problem": self._problem(name)} for name in record.images],
            "chosen": self._chosen(record),
        }

    def choose(self, place: int, told: object) -> dict[str, Any]:
        """Keeps a choice, then says what the judge said."""
        record = self._record(place)
        kind, note, seconds = _checked(told)
        stratum = self.stratum_of(record)
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        try:
            self.opened.keep(
                Choice(record.id, record.model, record.benchmark, record.index, stratum, kind, note, seconds, at)
            )
        except OSError as error:
            raise Refused(500, f"{self.audit.path}: {error.strerror}") from None
        return self.item(place)

    def stratum_of(self, record: Record) -> str:
        strata = self.audit.header.strata
        return record.kind if self.audit.header.design == "stratified" else next(iter(strata))

    def summary(self) -> dict[str, Any]:
        # A copy: a choice may come in while it is counted.
        audit = replace(self.audit, choices=dict(self.audit.choices), changed=set(self.audit.changed))
        numbers = judge_numbers(self.records, [audit]) if audit.choices else {}
        return {
            "done": len(audit.choices),
            "total": len(self.records),
            "cannot_tell": numbers.get("cannot_tell", 0),
            "accuracy": numbers.get("accuracy"),
            "file": visible(str(self.audit.path)),
        }

    def image(self, place: int, number: int) -> tuple[bytes, str]:
        names = self._record(place).images
        if not 0 <= number < len(names):
            raise Refused(404, "no such image")
        path = self.images / names[number]
        if self._problem(names[number]):
            raise Refused(404, "no such image")
        with path.open("rb") as file:
            content = file.read(MAX_IMAGE_BYTES)
        return content, _image_type(content) or ""

    def _record(self, place: int) -> Record:
        if not 0 <= place < len(self.records):
            raise Refused(404, "no such item")
        return self.records[place]

    def _problem(self, name: str) -> str | None:
        """Why an image cannot be shown."""
        path = self.images / name
        try:
            if path.resolve().parent != self.images.resolve():
                return "leads out of the folder of images"
            if not path.is_file():
                return "is not there"
            if path.stat().st_size > MAX_IMAGE_BYTES:
                return f"has over {MAX_IMAGE_BYTES:,} bytes"
            with path.open("rb") as file:
                return None if _image_type(file.read(16)) else "is no PNG, JPEG, GIF or WebP"
        except (OSError, ValueError) as error:  # no right to read it, a name no file can have
            return f"cannot be read ({error})"

    def _chosen(self, record: Record) -> dict[str, Any] | None:
        choice = self.audit.choices.get(record.id)
        if choice is None:
            return None
        for_kind = [vote for vote in record.votes if vote.kind == record.kind]
        return {
            "kind": choice.kind,
            "note": choice.note,
            "at": choice.at,
            "judge": {
                "name": _bounded(record.judge),
                "kind": record.kind,
                "quote": _bounded(record.vote.quote),
                "image": _bounded(record.vote.image),
                "confidence": _bounded(record.vote.confidence),
                "why": _bounded(record.vote.why) if record.kind == UNDECIDED else "",
                "votes": len(record.votes),
                "for": len(for_kind),
            },
        }


def _bounded(text: str) -> str:
    return shortened(visible(text), MAX_TEXT)


def _image_type(content: bytes) -> str | None:
    try:
        kind = image_kind(content, "")
    except BadImage:
        return None
    return f"image/{kind.lower()}" if kind in SHOWN else None


def _checked(told: object) -> tuple[str, str, float]:
    if not isinstance(told, dict):
        raise Refused(400, "the body is no JSON object")
    kind, note, seconds = (told.get(name) for name in ("kind", "note", "seconds"))
    if kind not in CHOICES:
        raise Refused(400, f"kind is none of {', '.join(CHOICES)}")
    if not isinstance(note, str) or len(note) > MAX_NOTE:
        raise Refused(400, f"note is no text of up to {MAX_NOTE:,} characters")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_SECONDS:
        raise Refused(400, "seconds is no number of seconds")
    return kind, note, round(float(seconds), 1)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, session: Session, port: int = 0) -> None:
        self.session = session
        self.token = secrets.token_urlsafe(32)
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            raise InputError(f"port {port} cannot be served on ({error.strerror}); give another --port") from None
        names = (HOST, "localhost")
        self.hosts = {f"{name}:{self.server_port}" for name in names}
        self.origins = {f"http://{host}" for host in self.hosts}

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error; anything else is, and keeps its traceback."""
        import sys

        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = PATIENCE  # HTTP/1.0, a connection for each: a kept one may end just when a choice is sent

    def do_GET(self) -> None:
        self._answered(self._get)

    def do_POST(self) -> None:
        self._answered(self._post)

    def _answered(self, work: Callable[[str], tuple[bytes, str]]) -> None:
        try:
            content, kind = work(self._wanted())
            self._send(200, content, kind)
        except Refused as refused:
            self._send(refused.status, f"{refused.text}\n".encode("utf-8", "replace"), "text/plain; charset=utf-8")

    def _wanted(self) -> str:
        """The path after the token."""
        token, _, rest = self.path.removeprefix("/").partition("/")
        knows = secrets.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode())
        if not knows or self.headers.get("Host") not in self.server.hosts:
            raise Refused(404, "nothing here")
        return rest

    def _get(self, wanted: str) -> tuple[bytes, str]:
        session = self.server.session
        if wanted in PAGE:
            name, kind = PAGE[wanted]
            return (files("capcurr_plugin.attribution") / "audit_page" / name).read_bytes(), kind
        if wanted == "overview":
            return _json(session.overview())
        if wanted == "summary":
            return _json(session.summary())
        if match := re.fullmatch(r"items/([0-9]{1,7})", wanted):
            return _json(session.item(int(match[1])))
        if match := re.fullmatch(r"items/([0-9]{1,7})/images/([0-9]{1,4})", wanted):
            return session.image(int(match[1]), int(match[2]))
        raise Refused(404, "nothing here")

    def _post(self, wanted: str) -> tuple[bytes, str]:
        match = re.fullmatch(r"items/([0-9]{1,7})/choice", wanted)
        if not match:
            raise Refused(404, "nothing here")
        return _json(self.server.session.choose(int(match[1]), self._body()))

    def _body(self) -> object:
        if self.headers.get("Origin", self.server.address) not in {*self.server.origins, self.server.address}:
            raise Refused(403, "a page of another site asks")
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "the body has to be application/json")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length):
            raise Refused(411, "the body has no length")
        if int(length) > MAX_BODY:
            raise Refused(413, f"the body has over {MAX_BODY:,} bytes")
        try:
            return json.loads(self.rfile.read(int(length)), parse_constant=lambda name: math.nan)
        except (ValueError, RecursionError):
            raise Refused(400, "the body is no JSON") from None

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response_only(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """For requests that are no HTTP, or no GET or POST: without the server's name and version."""
        self._send(code, b"", "text/plain; charset=utf-8")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is the user's, and addresses hold the token."""


def _json(value: object) -> tuple[bytes, str]:
    return json.dumps(value).encode(), "application/json"
