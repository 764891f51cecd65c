"""What befalls a run of VLMEvalKit: kills, other runs in its folder, judges and servers that are dead."""

import json
import os
import re
import signal
import time
from collections import Counter

import local_servers as servers
import pytest
import toy_suites

from capcurr_plugin.evaluation.responses import read_responses, side_car

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODEL, JUDGE = "Qwen3_VL_8B_Staged", "claude-haiku-4.5"
NAMES = ["MathVista_MINI", "POPE", "MathVerse_MINI_Vision_Only"]


def kill_when(process, ready):
    while not ready():
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def check(host, names, model=MODEL):
    """All scores are right, and each prediction has its record."""
    import pandas as pd

    folder = host.results(model)
    for name in names:
        wanted = toy_suites.BENCHMARKS[name][1]
        assert toy_suites.headline(folder, model, name, JUDGE) == pytest.approx(wanted), name
        predictions = folder / f"{model}_{name}.tsv"
        table = pd.read_csv(predictions, sep="\t", dtype=str)
        records = list(read_responses(side_car(predictions)))
        assert [(r.index, r.prediction) for r in records] == list(zip(table["index"], table["prediction"], strict=True))
        assert all(f"\\boxed{{\\text{{{r.prediction}}}}}" in r.response for r in records)
        for question, said in zip(table["question"], table["prediction"], strict=True):
            assert re.search(r"GOLD=([\w.,]+)", question)[1] == said


@pytest.mark.parametrize("mode", [(), ("--api-mode",)], ids=["local", "api"])
def test_a_run_that_is_killed_twice_ends_with_the_same_table(host, mode):
    def slow_model(body):
        time.sleep(0.1)
        return toy_suites.misleading_model(body)

    def slow_judge(body):
        time.sleep(0.2)
        return toy_suites.fair_judge(body)

    toy_suites.write_tables(host.data, NAMES)
    words = ["--data", *NAMES, "--api-nproc", "2", "--reuse", *mode]
    with servers.serving(slow_model) as model, servers.serving(slow_judge) as judge:
        host.environment |= {"CAPCURR_API_BASE": model.url, "ANTHROPIC_BASE_URL": judge.url}
        kill_when(host.start(*words), lambda: len(model.answered) >= 6)
        asked = len(model.answered)
        kill_when(host.start(*words), lambda: len(judge.answered) >= 2)
        said = host.run(*words)
        check(host, NAMES)
        rows = sum(len(toy_suites.BENCHMARKS[name][0]()) for name in NAMES)
        assert len(model.answered) <= rows + 4, said[-3000:]  # what was under way when the kill came is asked again
        assert asked >= 6
        paid = Counter(map(servers.asked_text, judge.answered))
        assert sum(paid.values()) <= len(paid) + 2


def test_two_runs_at_once_in_one_folder(host):
    """The same model on the same data, and another model: no row of one is found with the other."""
    toy_suites.write_tables(host.data, NAMES)
    other = "InternVL3_8B_Staged"
    with servers.serving(toy_suites.misleading_model) as model, servers.serving(toy_suites.fair_judge) as judge:
        host.environment |= {"CAPCURR_API_BASE": model.url, "ANTHROPIC_BASE_URL": judge.url}
        runs = [host.start("--data", *NAMES), host.start("--data", *NAMES), host.start("--data", *NAMES, model=other)]
        said = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], said
    check(host, NAMES)
    check(host, NAMES, other)


def test_a_dead_server_is_one_line_before_any_inference_and_no_server_is_needed_without_any(host):
    toy_suites.write_tables(host.data, ["POPE"])
    host.environment |= {"CAPCURR_API_BASE": "http://127.0.0.1:9"}
    said = host.run("--data", "POPE", code=1)
    assert said.splitlines()[-1].startswith("capcurr: error: no model server answers at http://127.0.0.1:9/v1 (")
    assert "Traceback" not in said


def test_a_dead_judge_fails_visibly_and_the_predictions_stay(host):
    toy_suites.write_tables(host.data, ["MathVerse_MINI_Vision_Only"])
    with servers.serving(toy_suites.misleading_model) as model:
        dead = servers.serving(toy_suites.fair_judge, lambda number, body: servers.http_error(401))
        with dead as judge:
            host.environment |= {"CAPCURR_API_BASE": model.url, "ANTHROPIC_BASE_URL": judge.url}
            said = host.run("--data", "MathVerse_MINI_Vision_Only")
    assert "judge claude-haiku-4.5: HTTP 401" in said
    folder = host.results()
    status = json.loads((folder / "status.json").read_text())["datasets"]["MathVerse_MINI_Vision_Only"]
    assert "HTTP 401" in status["error_message"]
    assert not list(folder.glob("*_score.csv"))
    with servers.serving(toy_suites.fair_judge) as judge:  # no model server any more: none is needed
        host.environment |= {"ANTHROPIC_BASE_URL": judge.url}
        host.run("--data", "MathVerse_MINI_Vision_Only", "--reuse")
    check(host, ["MathVerse_MINI_Vision_Only"])
