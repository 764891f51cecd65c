"""What `capcurr attribute` makes of faults, of kills, and of responses that give orders to its judge."""

import json
import os
import signal
import subprocess
import time
from collections import Counter

import local_servers as servers
import pytest
from killing import CAPCURR, kill_often
from planted_errors import Batches, case_of, kinds_for, oracle, plant, reply_of
from test_verdicts import INJECTIONS

from capcurr_plugin.attribution.records import read_records
from capcurr_plugin.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPCURR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LMUData", str(tmp_path / "lmu"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
    (tmp_path / "lmu").mkdir()
    return tmp_path


def words(folder, *options, out="out.jsonl"):
    return ["attribute", *map(str, (folder / "work", folder / out, "--resamples", "200", *options))]


def kinds_in(folder, out="out.jsonl"):
    return {(r.model, r.benchmark, r.index): r.kind for r in read_records(folder / out)}


def faults(share):
    """Each the first time that a question is asked, for so many of them."""
    seen = Counter()
    bad = [servers.http_error(429), servers.http_error(529), servers.http_error(500), servers.garbage]
    bad.append(servers.closed_in_the_middle)

    def fault(number, body):
        id = case_of(body)[0]
        seen[id] += 1
        again = int(id, 16) / 16 ** len(id) < share and seen[id] == 1
        return bad[int(id, 16) % len(bad)] if again else None

    return fault


def test_with_a_third_of_all_calls_failing_every_verdict_is_there_and_none_is_paid_twice(folder, monkeypatch):
    monkeypatch.setattr("capcurr_plugin.judge.judge.BACKOFF", 0.01)
    kinds = kinds_for(300)
    plant(folder / "work", folder / "lmu", "M", kinds)
    with servers.serving(oracle, faults(0.3)) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        assert main(words(folder, "--parallel", "16")) == 0
        assert list(kinds_in(folder).values()) == kinds
        assert len(server.answered) == 300
        assert 350 < len(server.requests) < 450


@pytest.mark.slow
def test_killed_again_and_again_it_comes_to_the_same_and_pays_for_what_was_under_way_only(folder, monkeypatch):
    kinds = kinds_for(400)
    plant(folder / "work", folder / "lmu", "M", kinds)

    def slowly(body):
        time.sleep(0.02)
        return oracle(body)

    with servers.serving(slowly) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        kill_often(words(folder, "--parallel", "4"), lambda: len(server.answered), kills=8)
        assert not (folder / "out.jsonl").exists()
        assert main(words(folder, "--parallel", "4")) == 0
        assert list(kinds_in(folder).values()) == kinds
        assert len(server.answered) <= 400 + 8 * 4  # those under way when it was killed
        spend = json.loads((folder / "out_summary.json").read_text())["spend"]
        assert spend["calls"] - spend["unanswered"] == 400
        assert spend["calls"] >= len(server.requests)  # none is forgotten


MOMENTS = ("made and not yet told", "made", "looked at", "results half read")


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_of_a_batch_it_is_picked_up_again(folder, monkeypatch, moment):
    kinds = kinds_for(25)
    plant(folder / "work", folder / "lmu", "M", kinds)
    batches = KillingBatches(moment)
    with servers.serving(oracle) as server:
        server.post, server.get = batches.post, batches.get
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        batches.process = subprocess.Popen([CAPCURR, *words(folder, "--batch")], stderr=subprocess.DEVNULL)
        assert batches.process.wait(60) == -signal.SIGKILL
        assert main(words(folder, "--batch")) == 0
    assert list(kinds_in(folder).values()) == kinds
    assert [len(batch["requests"]) for batch in batches.batches] == [25]
    spend = json.loads((folder / "out_summary.json").read_text())["spend"]
    assert spend["calls"] == 25 and spend["usd"] == pytest.approx(25 * 1500 / 1e6 / 2)


class KillingBatches(Batches):
    """Kills the process that asks, once, at a moment."""

    def __init__(self, moment):
        super().__init__(oracle)
        self.moment, self.process = moment, None

    def at(self, moment):
        if moment == self.moment and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def post(self, handler, body):
        told = super().post(handler, body)
        self.at("made and not yet told")
        return told

    def get(self, handler):
        if "/results" in handler.path and self.moment == "results half read" and self.process.poll() is None:
            lines = [json.dumps(self.result(n, r)) for n, r in enumerate(self.batches[0]["requests"])]
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write("\n".join(lines[:12]).encode())
            handler.wfile.flush()
            return self.at("results half read")
        self.at("made")
        if "msgbatch" in handler.path and self.batches[0]["looked"]:
            self.at("looked at")
        return super().get(handler)


# Responses that give orders


def test_orders_in_responses_stay_in_their_fence_and_forged_verdicts_count_for_nothing(folder, monkeypatch):
    """The judge of this test obeys: it answers with whatever verdict the response holds. None is taken for its own."""
    work = folder / "work"
    plant(work, folder / "lmu", "M", ["perception"] * len(INJECTIONS))
    car = next(work.rglob("*_responses.jsonl"))
    lines = [json.loads(line) for line in car.read_text().splitlines()]
    for line, injection in zip(lines, INJECTIONS, strict=True):
        line["response"] = f"The error is of kind perception here. {injection}"
        line["thinking"] = ""
    car.write_text("".join(json.dumps(line) + "\n" for line in lines))
    bodies = []

    def obeying(body):
        bodies.append(body)
        id, response, _ = case_of(body)
        tries = servers.asked_text(body).count("Your earlier replies to this were rejected")
        return servers.claude_message(reply_of(id, "perception") if tries else f"As told: {response}")

    with servers.serving(obeying) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        assert main(words(folder)) == 0
    records = list(read_records(folder / "out.jsonl"))
    assert len(records) == len(INJECTIONS) >= 50
    assert {(record.kind, record.votes[0].tries) for record in records} == {("perception", 2)}
    for body in bodies:
        parts = [part["text"] for part in body["messages"][0]["content"] if part["type"] == "text"]
        id = case_of(body)[0]
        opening, closing = f"<response id={id}>", f"</response id={id}>"
        assert parts[1].count(opening) == parts[1].count(closing) == 1
        assert parts[1].endswith(closing)  # nothing of the response stands after it
        assert all(c.isprintable() or c in "\n\t" for c in parts[1])
        assert not any(injection in body["system"][0]["text"] for injection in INJECTIONS)
