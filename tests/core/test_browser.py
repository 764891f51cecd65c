"""The ground of the tests of pages: Chromium is found or told to be missing, and no page fails unseen."""

import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import browser as ground
import pytest
from browser import shot, watched_page

from capcurr_plugin.environments import EnvironmentFailed, chromium


@pytest.fixture
def path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CAPCURR_CHROMIUM", raising=False)
    return tmp_path


def add_program(folder, name):
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)
    return folder / name


def test_chromium_is_found_by_its_names(path):
    assert chromium.find_chromium() is None
    chrome = add_program(path, "google-chrome")
    assert chromium.find_chromium() == chrome
    first = add_program(path, "chromium")
    assert chromium.find_chromium() == first


def test_the_variable_comes_first(path, monkeypatch):
    add_program(path, "chromium")
    mine = add_program(path, "mine")
    monkeypatch.setenv("CAPCURR_CHROMIUM", str(mine))
    assert chromium.ensure_chromium() == mine
    mine.unlink()
    with pytest.raises(EnvironmentFailed, match=r"CAPCURR_CHROMIUM names .*/mine, which is no program"):
        chromium.find_chromium()


@pytest.mark.parametrize("user", [0, 1000])
def test_it_is_installed_only_by_root(path, monkeypatch, tmp_path, user):
    add_program(path, "apt-get")
    ran = []

    def run(command, doing, environment):
        ran.append(command)
        assert environment["DEBIAN_FRONTEND"] == "noninteractive"
        if "install" in command:
            add_program(path, "chromium")

    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(chromium, "_run", run)
    monkeypatch.setattr(chromium, "root", lambda: tmp_path / "envs")
    if user:
        with pytest.raises(EnvironmentFailed, match="apt-get install chromium"):
            chromium.ensure_chromium()
    else:
        assert [chromium.ensure_chromium(), chromium.ensure_chromium()] == [path / "chromium"] * 2
        assert [command[-1] for command in ran] == ["update", "fonts-dejavu-core"]


def test_without_a_browser_a_test_fails_in_one_line(path):
    with pytest.raises(pytest.fail.Exception) as failure, ground.chromium():
        pass
    assert str(failure.value) == chromium.MISSING
    assert "\n" not in str(failure.value)


def test_what_goes_wrong_on_a_page_is_told(browser):
    troubles = []
    with watched_page(browser, troubles) as page:
        page.goto("about:blank")
        assert troubles == []
        page.evaluate("console.error('bad')")
        page.evaluate("setTimeout(() => { throw new Error('worse') })")
        page.evaluate("fetch('https://example.org/a').catch(() => 0)")
        page.wait_for_timeout(200)
    assert "console: bad" in troubles
    assert "asked for https://example.org/a" in troubles
    assert any("worse" in trouble for trouble in troubles)


class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/" else 204)
        self.end_headers()
        self.wfile.write(b"<h1>Hello</h1>" if self.path == "/" else b"")

    def log_message(self, *_):
        pass


def test_a_page_of_this_machine_is_shown(page):
    with HTTPServer(("127.0.0.1", 0), Hello) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        assert page.text_content("h1") == "Hello"
        server.shutdown()


def test_a_page_on_disk_reads_no_other_file(browser, tmp_path):
    troubles = []
    (tmp_path / "page.html").write_text("<h1>Hello</h1><img src=other.png>")
    with watched_page(browser, troubles) as page:
        page.goto((tmp_path / "page.html").as_uri())
        picture = shot(page, "ground")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"asked for {(tmp_path / 'other.png').as_uri()}" in troubles
