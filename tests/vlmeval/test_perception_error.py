"""`--judge perception-error:NAME` in VLMEvalKit's own run.py: the scores of NAME, and the kind of each wrong answer's
error beside them."""

import json
import re

import local_servers as servers
import pytest
import toy_suites

from capcurr_plugin.attribution.records import images_folder, read_records, summary_path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MODEL, JUDGE = "Qwen3_VL_8B_Staged", "claude-haiku-4.5"
# Rows that earn nothing; of WeMath and DynaMath, rows of problems that are partly right.
WRONG = {
    "MathVista_MINI": 1,
    "MathVision_MINI": 2,
    "MathVerse_MINI_Vision_Intensive": 1,
    "WeMath": 4,
    "A-OKVQA": 1,
    "RealWorldQA": 1,
    "MMStar": 1,
    "POPE": 2,
    "MathVerse_MINI_Vision_Only": 1,
    "DynaMath": 1,
    "HallusionBench": 1,
    "BLINK": 1,
    "CV-Bench-2D": 1,
    "VStarBench": 1,
    "ChartQA_TEST": 1,
    "TextVQA_VAL": 1,
    "VisOnlyQA-Synthetic": 1,
    "VisOnlyQA-Real": 1,
}


def judge_of_both(body):
    text = servers.asked_text(body)
    if "You audit wrong answers" not in json.dumps(body.get("system", "")):
        return toy_suites.fair_judge(body)
    id = re.findall(r"<response id=(\w+)>", text)[-1]
    verdict = {"id": id, "kind": "perception", "quote": "At first sight the answer is A.", "image": "x"}
    return servers.claude_message(json.dumps(verdict | {"confidence": "low"}))


@pytest.mark.parametrize("mode", [(), ("--api-mode",)], ids=["local", "api"])
def test_every_wrong_answer_is_attributed_beside_its_score(host, mode):
    toy_suites.write_tables(host.data)
    with servers.serving(toy_suites.misleading_model) as model, servers.serving(judge_of_both) as judge:
        host.environment |= {"CAPCURR_API_BASE": model.url, "ANTHROPIC_BASE_URL": judge.url}
        said = host.run("--data", *toy_suites.BENCHMARKS, *mode, judge=f"perception-error:{JUDGE}")
    folder = host.results()
    scores = {name: toy_suites.headline(folder, MODEL, name, JUDGE) for name in toy_suites.BENCHMARKS}
    assert scores == pytest.approx({name: score for name, (_, score) in toy_suites.BENCHMARKS.items()}), said[-3000:]
    found = {}
    for name in toy_suites.BENCHMARKS:
        path = folder / f"{MODEL}_{name}_{JUDGE}_attribution.jsonl"
        records = list(read_records(path))
        found[name] = len(records)
        for record in records:
            assert (record.model, record.benchmark, record.kind, record.whole) == (MODEL, name, "perception", True)
            assert "GOLD=" in record.question and record.truth and record.final
            assert (images_folder(path) / record.images[0]).stat().st_size > 0
        assert json.loads(summary_path(path).read_text())["models"][MODEL]["wrong"] == len(records)
    assert found == WRONG


def test_a_judge_that_fails_leaves_the_scores_and_says_how_to_go_on(host):
    toy_suites.write_tables(host.data, ["MMStar"])

    def refusing(number, body):
        return servers.http_error(401) if "You audit" in json.dumps(body.get("system", "")) else None

    with servers.serving(toy_suites.misleading_model) as model, servers.serving(judge_of_both, refusing) as judge:
        host.environment |= {"CAPCURR_API_BASE": model.url, "ANTHROPIC_BASE_URL": judge.url}
        said = host.run("--data", "MMStar", judge=f"perception-error:{JUDGE}")
    assert toy_suites.headline(host.results(), MODEL, "MMStar", JUDGE) == 0.5
    assert "attribution.jsonl was not written" in said and "go on with: capcurr attribute" in said


def test_a_judge_that_cannot_see_is_refused_before_anything_is_scored(host):
    toy_suites.write_tables(host.data, ["MMStar"])
    with servers.serving(toy_suites.misleading_model) as model:
        host.environment |= {"CAPCURR_API_BASE": model.url}
        said = host.run("--data", "MMStar", judge="perception-error:gpt-4o-mini")
    assert "--judge gpt-4o-mini: is none of claude-haiku-4.5" in said
    assert not list(host.results().glob("*_acc.csv"))
