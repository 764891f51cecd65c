"""The whole loop in its quick form, beside the real verl and the real VLMEvalKit: killed while it measures, while it
trains and while it scores, gone on with each time, and then looked at."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import left_naming

from capcurr_plugin.attribution.records import read_records
from capcurr_plugin.evaluation.responses import read_responses
from capcurr_plugin.reward import extract_boxed, verify
from capcurr_plugin.rows import CAPABILITIES, OPTION_LETTERS
from capcurr_plugin.toyworld.claims import first_error
from capcurr_plugin.toyworld.loop import BASE, model_name
from capcurr_plugin.toyworld.scenes import read_caption
from capcurr_plugin.toyworld.world import PERCEPTION_TABLE, REASONING_TABLE, TABLES
from capcurr_plugin.verl_host.steps import read_steps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CAPCURR = Path(sys.executable).with_name("capcurr")
STEPS = 6  # of a stage, in the quick form
MODELS = (BASE, model_name("staged", 1))
MOST_MEMORY_MB = 10 << 10


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    out = folder / "demo"
    command = [CAPCURR, "demo", "--quick", "--out", out]
    # Other tests run beside it: threads that share a processor with them wait for each other.
    environment = os.environ | {"CAPCURR_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    left = []
    for moment in (measures, trains, scores):
        left += left_by_a_kill(moment, out, command, environment)
    runs = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder)
        for _ in range(2)
    ]
    return {"out": out, "left": left, "runs": runs}


def measures(out):
    answers = out / "data" / "needs_eyes.jsonl.toy.answers.jsonl"
    return answers.exists() and answers.stat().st_size > 0


def trains(out):
    files = (out / "runs" / "staged_1").glob("1_*/steps.jsonl")
    return any(line["step"] >= 2 for file in files for line in read_steps(file))


def scores(out):
    """The second model."""
    return any((out / "outputs" / MODELS[1]).glob("*_responses.jsonl"))


def left_by_a_kill(moment, out, command, environment):
    """The processes that still run."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while not moment(out):
        assert process.poll() is None, f"the demo ended before it {moment.__name__}"
        time.sleep(0.1)
    process.kill()
    process.wait()
    return left_naming(out)


def record_of(demo):
    return json.loads((demo["out"] / "demo.json").read_text())


def test_it_goes_on_after_kills_and_then_does_nothing_again(demo):
    assert demo["left"] == []
    first, second = demo["runs"]
    assert first.returncode == 0, first.stderr + first.stdout
    assert "Train staged, seed 1, in verl: GRPO on the CPU: done before" in first.stdout
    assert "Find the first error of each wrong answer; an oracle judges: done before" not in first.stdout
    assert second.returncode == 0, second.stderr
    assert second.stdout.count(": done before") == len(record_of(demo)["done"]) == 9
    assert f"the page: {demo['out']}/report.html" in second.stdout


def test_it_keeps_within_its_memory(demo):
    assert 500 < record_of(demo)["peak_memory_mb"] < MOST_MEMORY_MB


def test_the_three_stages_were_trained_in_verl(demo):
    record = json.loads((demo["out"] / "runs" / "staged_1" / "run.json").read_text())
    assert [stage["done"] for stage in record["stages"]] == [True] * 3
    assert [stage["steps"] for stage in record["stages"]] == [STEPS] * 3
    assert record["versions"]["verl"] == "0.9.1"
    for number, capability in enumerate(CAPABILITIES, 1):
        (file,) = (demo["out"] / "runs" / "staged_1").glob(f"{number}_*/steps.jsonl")
        rows = {row for step in read_steps(file) for row in step.get("rows", [])}
        assert rows and rows <= rows_of(demo, capability)


def rows_of(demo, capability):
    lines = (demo["out"] / "data" / f"{capability}.jsonl").read_text().splitlines()
    return {json.loads(line)["index"] for line in lines}


def table_of(demo, name):
    csv.field_size_limit(sys.maxsize)
    with (demo["out"] / "data" / TABLES / f"{name}.tsv").open(newline="") as file:
        return {row["index"]: row for row in csv.DictReader(file, delimiter="\t")}


def responses_of(demo, model, table):
    """By row, of the newest file: all that the model said."""
    files = (demo["out"] / "outputs" / model).rglob(f"*{table}*_responses.jsonl")
    newest = max(files, key=lambda file: file.stat().st_mtime)
    return {one.index: one.response for one in read_responses(newest)}


@pytest.mark.parametrize("table", [PERCEPTION_TABLE, REASONING_TABLE])
@pytest.mark.parametrize("model", MODELS)
def test_vlmevalkits_scores_are_those_of_scoring_the_responses_anew(demo, model, table):
    told = json.loads((demo["out"] / "results.json").read_text())["models"][model]["benchmarks"][table]
    rows, said = table_of(demo, table), responses_of(demo, model, table)
    assert said.keys() == rows.keys()
    # Where VLMEvalKit reads no choice it may roll dice; the models here always name one.
    right = sum(is_right(rows[index], response) for index, response in said.items())
    assert told["value"] == pytest.approx(100 * right / len(rows), abs=0.05)


def is_right(row, response):
    boxed = extract_boxed(response)
    options = {letter: row[letter] for letter in OPTION_LETTERS} if "A" in row else None
    return boxed is not None and verify(boxed, row["answer"], options=options)


def test_the_oracles_kinds_are_those_of_the_scenes(demo):
    tables = {name: table_of(demo, name) for name in (PERCEPTION_TABLE, REASONING_TABLE)}
    records = list(read_records(demo["out"] / "errors.jsonl"))
    assert records
    for record in records:
        row = tables[record.benchmark][record.index]
        found = first_error(record.question, record.truth, record.response, read_caption(row["caption"]))
        assert (record.kind, record.vote.quote) == (found.kind, found.quote), record


def test_the_page_tells_what_came_out_and_needs_no_network(demo):
    page = (demo["out"] / "report.html").read_text()
    assert "This is a toy" in page and "an oracle" in page
    for section in ("Scores", "Kinds of errors", "Single errors", "Training", "Pass rates"):
        assert section in page, section
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
