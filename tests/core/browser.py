"""A real Chromium for the tests of pages: `page` of conftest.py is one in which nothing may go wrong unseen."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from capcurr_plugin.environments.chromium import MISSING, find_chromium

OPTIONS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # what a page asks of others stays here
]
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
SHOTS = Path(os.environ.get("CAPCURR_SHOTS") or Path(tempfile.gettempdir()) / f"capcurr_shots_{os.geteuid()}")
PATIENCE_MS = 15_000  # a busy machine


@contextmanager
def chromium():
    from playwright.sync_api import sync_playwright

    program = find_chromium()
    if program is None:
        pytest.fail(MISSING, pytrace=False)
    with sync_playwright() as playwright:
        # The sandbox refuses to work for root.
        browser = playwright.chromium.launch(
            executable_path=program, headless=True, args=OPTIONS, chromium_sandbox=os.geteuid() != 0
        )
        yield browser
        browser.close()


@contextmanager
def watched_page(browser, troubles, **options):
    """A page in a context of its own; whatever goes wrong on it is added to `troubles`."""
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    context.set_default_timeout(PATIENCE_MS)
    context.on("request", lambda request: None if _is_local(request) else troubles.append(f"asked for {request.url}"))
    context.on("console", lambda said: troubles.append(f"console: {said.text}") if said.type == "error" else None)
    context.on("weberror", lambda error: troubles.append(f"uncaught: {error.error}"))
    yield context.new_page()
    context.close()


def _is_local(request):
    parts = urlsplit(request.url)
    if parts.scheme == "file":
        return request.is_navigation_request()  # a page on disk may be opened, and reads no other file
    return parts.scheme in ("data", "blob", "about") or parts.hostname == "127.0.0.1"


def shot(page, name):
    """A picture of the whole page, to be looked at: in $CAPCURR_SHOTS, else in a folder for temporary files."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    path = SHOTS / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    return path
