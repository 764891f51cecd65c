"""`capcurr eval` on small tables and local servers, from an alias or a checkpoint to a table."""

import json
import subprocess
import sys
from pathlib import Path

import local_servers as servers
import pytest
import toy_suites

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = ["MathVista_MINI", "POPE"]
CAPCURR = Path(sys.executable).with_name("capcurr")


def evaluate(host, *words, code=0):
    command = [str(word) for word in (CAPCURR, "eval", *words, "--work-dir", host.out)]
    done = subprocess.run(command, env=host.environment, cwd=host.folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-3000:]
    return done


def test_from_an_alias_to_a_table_that_a_second_run_gets_for_nothing(host):
    toy_suites.write_tables(host.data, NAMES)
    with servers.serving(toy_suites.misleading_model) as model, servers.serving(toy_suites.fair_judge) as judge:
        host.environment |= {"ANTHROPIC_BASE_URL": judge.url}
        words = ["Qwen3_VL_8B_Staged", "--data", *NAMES, "--api-base", model.url]
        first = evaluate(host, *words, "--max-judge-usd", "1")
        paid, asked = len(judge.answered), len(model.answered)
    assert paid > 0
    assert f"judging: {paid} calls paid, {paid * 100:,} tokens in, {paid * 10} out, $" in first.stderr
    assert [line.split()[2] for line in first.stdout.splitlines() if line.startswith("MathVista_MINI ")][:1] == [
        "75.00"
    ]
    folder = host.out / "Qwen3_VL_8B_Staged"
    table = json.loads((folder / "capcurr-results.json").read_text())
    assert "57.14" in (folder / "capcurr-results.md").read_text()
    assert table
    again = evaluate(host, *words)  # the servers are gone, and none is needed
    assert again.stdout == first.stdout
    assert (len(judge.answered), len(model.answered)) == (paid, asked)
    # Another setup is refused before anything runs
    other = evaluate(host, *words, "--judge", "claude-sonnet-4.5", code=2)
    assert 'holds results with judge ["claude-haiku-4.5", ' in other.stderr
    other = evaluate(host, *words, "--checkpoint", "/another/checkpoint", code=2)
    assert "holds results with checkpoint UCSC-VLAA/" in other.stderr
    assert "use another --work-dir" in other.stderr


def test_a_dead_server_and_a_judge_without_a_key_are_told_before_inference(host):
    toy_suites.write_tables(host.data, ["POPE"])
    dead = evaluate(host, "Qwen3_VL_8B_Staged", "--data", "POPE", "--api-base", "http://127.0.0.1:9", code=1)
    assert "capcurr: failed: run.py ended with exit code 1 (it said: " in dead.stderr
    assert "no model server answers at http://127.0.0.1:9/v1" in dead.stderr
    del host.environment["ANTHROPIC_API_KEY"]
    keyless = evaluate(host, "Qwen3_VL_8B_Staged", "--data", "POPE", code=2)
    assert keyless.stderr == "capcurr: error: judge claude-haiku-4.5: no API key; set ANTHROPIC_API_KEY\n"


def test_an_own_checkpoint_with_a_judge_by_url(host):
    def judge_by_url(body):
        return servers.chat_completion(toy_suites.fair_judge(body)["content"][0]["text"])

    toy_suites.write_tables(host.data, NAMES)
    with servers.serving(toy_suites.misleading_model) as model, servers.serving(judge_by_url) as judge:
        words = ["--checkpoint", "/my/checkpoints/step_90", "--backbone", "internvl3_8b", "--data", *NAMES]
        done = evaluate(host, *words, "--api-base", model.url, "--judge", "Org/Judge", "--judge-base-url", judge.url)
    assert {body["model"] for body in judge.answered} == {"Org/Judge"}
    assert "step_90" in done.stdout
    assert (host.out / "step_90" / "step_90_POPE_responses.jsonl").exists()
