"""`capcurr attribute`, through the real SDK at a local judge that knows the kind of every planted error."""

import json
from collections import Counter

import local_servers as servers
import pytest
from planted_errors import case_of, kinds_for, oracle, plant, reply_of

from capcurr_plugin.attribution.records import images_folder, read_records, summary_path
from capcurr_plugin.cli import main
from capcurr_plugin.judge.judge import Judge


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPCURR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LMUData", str(tmp_path / "lmu"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
    (tmp_path / "lmu").mkdir()

    def attribute(answer, *options, fault=None, out="out.jsonl"):
        with servers.serving(answer, fault) as server:
            monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
            attribute.server = server
            words = [tmp_path / "work", tmp_path / out, "--resamples", "200", *options]
            return main(["attribute", *map(str, words)])

    attribute.plant = lambda model, kinds, **more: plant(tmp_path / "work", tmp_path / "lmu", model, kinds, **more)
    attribute.out = tmp_path / "out.jsonl"
    attribute.records = lambda: list(read_records(attribute.out))
    attribute.summary = lambda: json.loads(summary_path(attribute.out).read_text())
    return attribute


def test_every_wrong_answer_is_judged_with_all_that_was_said(world):
    kinds = kinds_for(40, right=10)
    world.plant("M", kinds)
    assert world(oracle) == 0
    records = world.records()
    assert [record.kind for record in records] == kinds[10:]
    assert [record.index for record in records] == [str(i) for i in range(10, 50)]
    first = records[0]
    assert first.whole and first.final == "C" and first.truth == "B. green"
    assert first.question == "What is in picture 10?\nA. red\nB. green\nC. blue"
    assert (images_folder(world.out) / first.images[0]).read_bytes().startswith(b"\x89PNG")
    body = world.server.requests[0]
    system = body["system"][0]
    assert system["cache_control"] == {"type": "ephemeral"} and "FIRST error" in system["text"]
    shown = [part["type"] for part in body["messages"][0]["content"]]
    assert shown == ["text", "image", "text"] and body["temperature"] == 0
    assert len(world.server.requests) == 40
