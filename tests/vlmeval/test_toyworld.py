"""The toy world's tables in VLMEvalKit's own run.py, with a model whose every error is planted: scores, and what the
oracle makes of the errors, are those that were planted."""

import base64
import io
import json
import random
import sys
from contextlib import contextmanager
from pathlib import Path

import local_servers as servers
import pytest

from capcurr_plugin.attribution.records import read_records
from capcurr_plugin.cli import main
from capcurr_plugin.toyworld.questions import LARGEST, perception, response, visual_reasoning
from capcurr_plugin.toyworld.running import Workshop
from capcurr_plugin.toyworld.scenes import PLACES, read_picture
from capcurr_plugin.toyworld.world import TABLES, Sizes, write_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEED, ROWS = 7, 130
PERCEPTION, REASONING = "ToyWorld_Perception", "ToyWorld_Reasoning"
MODEL = "Qwen2_5_VL_7B_Staged"
FAULTS = ("perception", "reasoning", "question_comprehension", "format_or_extraction", None)


def fault_of(scene, choices):
    """What is wrong with the model's answer on a scene; None: nothing. Where VLMEvalKit reads no choice, it rolls dice:
    so no format is wrong there."""
    fault = FAULTS[int(scene.id, 16) % len(FAULTS)]
    return "perception" if choices and fault == "format_or_extraction" else fault


def says(scene, choices):
    """The model's response: right, or with its fault."""
    dice, fault = random.Random(f"test {SEED} {scene.id}"), fault_of(scene, choices)
    asked = (perception if choices else visual_reasoning)(scene, dice)
    if fault == "format_or_extraction":
        return f"<think> {asked.thinking} </think> I am not sure"
    return (_chosen if choices else _computed)(scene, asked, fault)


def _chosen(scene, asked, fault):
    subject, _, said = asked.thinking.rstrip(".").partition(": ")
    others = [option for option in asked.options if option != said]
    if fault is None:
        return asked.response
    if fault == "reasoning":
        return response(asked.thinking, others[0])
    if fault == "perception":
        return response(f"{subject}: {others[0]}.", others[0])
    elsewhere = next(place for place in PLACES if place != subject)
    return response(f"{elsewhere}: red.", others[0])


def _computed(scene, asked, fault):
    statement = asked.thinking.partition(". ")[0]
    subject, _, count = statement.partition(": ")
    more = int(asked.answer) - int(count)
    if fault is None:
        return asked.response
    if fault == "reasoning":
        return response(f"{statement}. {count} + {more} = {int(asked.answer) + 1}.", str(int(asked.answer) + 1))
    if fault == "perception":
        wrong = int(count) + 1
        return response(f"{subject}: {wrong}. {wrong} + {more} = {wrong + more}.", str(wrong + more))
    other = more % LARGEST + 1
    return response(f"{statement}. {count} + {other} = {int(count) + other}.", str(int(count) + other))


def picture_of(body):
    from PIL import Image

    parts = next(turn["content"] for turn in body["messages"] if turn["role"] == "user")
    url = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
    text = " ".join(part["text"] for part in parts if part["type"] == "text")
    return read_picture(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")), text


def planted_model(body):
    scene, text = picture_of(body)
    return servers.chat_completion(says(scene, "A. " in text))


@contextmanager
def oracle(tmp_path):
    workshop = Workshop.open(tmp_path / "servers", {"vlmeval": Path(sys.executable)}, {})
    with workshop.serving("vlmeval", "oracle", "capcurr_plugin.toyworld.rules", "oracle") as url:
        yield url


def planted(tables):
    """By table and index, the planted fault of each row."""
    import pandas as pd
    from PIL import Image

    faults = {}
    for name in (PERCEPTION, REASONING):
        for row in pd.read_csv(tables / f"{name}.tsv", sep="\t").to_dict("records"):
            scene = read_picture(Image.open(io.BytesIO(base64.b64decode(row["image"]))))
            faults[name, str(row["index"])] = fault_of(scene, name == PERCEPTION)
    return faults


@pytest.mark.parametrize("mode", [(), ("--api-mode",)], ids=["local", "api"])
def test_scores_and_errors_are_those_that_were_planted(host, tmp_path, mode, monkeypatch):
    write_world(tmp_path / "world", SEED, Sizes(1, 1, 1, 1, 1, ROWS))
    tables = tmp_path / "world" / TABLES
    host.environment["LMUData"] = str(tables)
    faults = planted(tables)
    with servers.serving(planted_model) as model, oracle(tmp_path) as judge:
        host.environment["CAPCURR_API_BASE"] = model.url
        words = ("--data", PERCEPTION, REASONING, "--judge-base-url", judge, *mode)
        said = host.run(*words, model=MODEL, judge="openai:rules-oracle")
        for name, scale in ((PERCEPTION, 1), (REASONING, 100)):
            rows = [fault for (table, _), fault in faults.items() if table == name]
            right = scale * rows.count(None) / len(rows)
            assert toy_score(host.results(MODEL), name) == pytest.approx(right), said[-2000:]
        monkeypatch.setenv("CAPCURR_CACHE", str(tmp_path / "cache"))
        errors = tmp_path / "errors.jsonl"
        words = ["attribute", host.out, errors, "--suite", "toyworld", "--tables", tables]
        words += ["--judge", "openai:rules-oracle", "--judge-base-url", judge]
        assert main([str(word) for word in words]) == 0
    found = {(record.benchmark, record.index): record.kind for record in read_records(errors)}
    wrong = {key: fault for key, fault in faults.items() if fault}
    assert len(wrong) >= 200
    assert found == wrong
    summary = json.loads((tmp_path / "errors_summary.json").read_text())
    assert summary["models"][MODEL]["wrong"] == len(wrong)


def toy_score(folder, name):
    import pandas as pd

    if name == REASONING:
        (path,) = folder.glob(f"*{name}*_score.csv")
        table = pd.read_csv(path)
        return float(table.set_index(table.columns[0])["acc"]["Overall"])
    (path,) = folder.glob(f"*{name}*_acc.csv")
    return float(pd.read_csv(path)["Overall"].iloc[0])


def test_without_its_table_a_data_set_says_where_it_comes_from(host):
    said = host.run("--data", PERCEPTION, model=MODEL, judge="exact_matching", code=0)
    assert "set LMUData to data/LMUData of a folder that capcurr demo has made" in said
