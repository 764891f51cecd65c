"""The tiny model of the toy world: made, taught, saved and served like any other."""

import base64
import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest
import requests

from capcurr_plugin.prompt import UNIFIED_PROMPT, chat_messages
from capcurr_plugin.toyworld.lessons import Mix, lessons
from capcurr_plugin.toyworld.running import Workshop
from capcurr_plugin.toyworld.scenes import draw, scenes
from capcurr_plugin.toyworld.tiny_models import FAMILIES
from capcurr_plugin.toyworld.warm_start import batch, warm_start

QUESTION = "<image>Count the red shapes and add 3."


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "model"
    warm_start(request.param, folder, 1, 3, Mix())
    return folder


def test_a_prompt_takes_few_tokens_and_only_the_response_is_learned(model):
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(model)
    assert len(processor.tokenizer.encode(UNIFIED_PROMPT, add_special_tokens=False)) == 1
    taught = list(islice(lessons(3, Mix()), 16))
    inputs = batch(processor, taught)
    assert inputs["input_ids"].shape[1] < 160
    for lesson, ids, labels in zip(taught, inputs["input_ids"], inputs["labels"], strict=True):
        learned = ids[labels != -100].tolist()
        assert processor.tokenizer.decode(learned) == lesson.response + processor.tokenizer.eos_token


def test_the_same_seed_teaches_the_same(tmp_path):
    from safetensors.torch import load_file

    for name in ("one", "two"):
        warm_start("qwen2_5_vl", tmp_path / name, 1, 2, Mix())
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(one[name].equal(two[name]) for name in one)


def test_a_model_that_is_not_finished_is_not_there(tmp_path):
    words = [
        "-m",
        "capcurr_plugin.toyworld.warm_start",
        str(tmp_path / "model"),
        "--steps",
        "1",
        "--mix",
        '{"caption": 0}',
    ]
    assert subprocess.run([sys.executable, *words], check=False).returncode == 0
    words[-1] = '{"perception": -1}'
    words[2] = str(tmp_path / "other")
    assert subprocess.run([sys.executable, *words], capture_output=True, check=False).returncode != 0
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# Served


@pytest.fixture(scope="module")
def url(model, tmp_path_factory):
    from pathlib import Path

    workshop = Workshop.open(tmp_path_factory.mktemp("served") / "demo", {"verl": Path(sys.executable)}, {})
    with workshop.serving("verl", "model", "capcurr_plugin.toyworld.serving", model, "--name", "toy") as address:
        yield address


def messages(scene, problem=QUESTION):
    content = io.BytesIO()
    draw(scene).save(content, "PNG")
    picture = {"url": "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()}
    text = chat_messages(problem.replace("<image>", ""), "user")[0]["content"]
    return [{"role": "user", "content": [{"type": "image_url", "image_url": picture}, {"type": "text", "text": text}]}]


def ask(url, turns, **more):
    body = {"model": "toy", "messages": turns, "max_tokens": 12, **more}
    return requests.post(f"{url}/v1/chat/completions", json=body, timeout=120)


def texts(answer):
    assert answer.status_code == 200, answer.text
    return [choice["message"]["content"] for choice in answer.json()["choices"]]


def test_answers_do_not_depend_on_what_shares_a_batch(url):
    seen = scenes("validation", 1, 6)
    alone = [texts(ask(url, messages(scene), temperature=1.0, n=2, seed=3)) for scene in seen]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(lambda s: texts(ask(url, messages(s), temperature=1.0, n=2, seed=3)), seen))
    assert together == alone
    assert any(one != other for one, other in alone)
    assert texts(ask(url, messages(seen[0]), temperature=1.0, n=2, seed=4)) != alone[0]


def test_texts_alone_and_limits(url):
    turns = [{"role": "system", "content": UNIFIED_PROMPT}, {"role": "user", "content": "What is 1 + 2 + 3?"}]
    answer = ask(url, turns, max_tokens=2).json()
    assert answer["choices"][0]["finish_reason"] in ("length", "stop")
    assert 1 <= answer["usage"]["completion_tokens"] <= 2
    assert requests.get(f"{url}/v1/models", timeout=10).json()["data"][0]["id"] == "toy"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}
            ]
        },
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}
            ]
        },
        {"messages": [{"role": "user", "content": "x"}], "n": 1000},
        {"messages": [{"role": "user", "content": "x"}], "max_tokens": 0},
    ],
)
def test_a_bad_request_is_refused(url, body):
    answer = requests.post(f"{url}/v1/chat/completions", json=body, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
