"""The benchmarks of all suites through VLMEvalKit's own run.py: each score is the one worked out by hand."""

import json
import os
from collections import Counter

import local_servers as servers
import pytest
import toy_suites

from capcurr_plugin.evaluation.responses import read_responses, side_car

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("mode", [(), ("--api-mode",)], ids=["local", "api"])
def test_every_score_is_the_one_worked_out_by_hand(host, mode):
    toy_suites.write_tables(host.data)
    fault = servers.sometimes(seed=5) if mode else None  # a third of the judge's calls end badly
    with servers.serving(toy_suites.misleading_model) as model, servers.serving(toy_suites.fair_judge, fault) as judge:
        host.environment |= {"CAPCURR_API_BASE": model.url, "ANTHROPIC_BASE_URL": judge.url}
        said = host.run("--data", *toy_suites.BENCHMARKS, "--api-nproc", "8", "--judge-timeout", "2", *mode)
    folder = host.results()
    found, wanted = {}, {}
    for name, (_, score) in toy_suites.BENCHMARKS.items():
        wanted[name] = score
        found[name] = toy_suites.headline(folder, "Qwen3_VL_8B_Staged", name, "claude-haiku-4.5")
    assert found == pytest.approx(wanted), said[-3000:]
    assert set(Counter(map(servers.asked_text, judge.answered)).values()) == {1}  # none is paid for twice
    assert len(judge.requests) > len(judge.answered) or not mode
    assert f"judging: {len(judge.answered)} calls paid, " in said
    status = json.loads((folder / "status.json").read_text())["datasets"]
    assert {name: entry.get("error_message") for name, entry in status.items()} == dict.fromkeys(wanted)


@pytest.mark.skipif("VLMEVALKIT_HOME" not in os.environ, reason="ms-vlmeval 0.0.20 has no --stream; a clone has")
def test_streamed_responses_are_kept_too(host):
    def model_in_pieces(body):
        assert body["stream"] is True
        return servers.streamed(toy_suites.misleading_model(body))

    toy_suites.write_tables(host.data, ["RealWorldQA"])
    with servers.serving(model_in_pieces) as model:
        host.environment |= {"CAPCURR_API_BASE": model.url}
        host.run("--data", "RealWorldQA", "--stream")
    records = list(read_responses(side_car(host.results() / "Qwen3_VL_8B_Staged_RealWorldQA.tsv")))
    assert [record.prediction for record in records] == ["A", "B"]
    assert all(record.thinking.startswith("Is it A?") for record in records)
    assert toy_suites.headline(host.results(), "Qwen3_VL_8B_Staged", "RealWorldQA", "claude-haiku-4.5") == 0.5
