"""The aliases inside the real VLMEvalKit, against a local server that records what it is asked."""

import multiprocessing
from functools import partial

import local_servers as servers
import pytest
from vlmeval.config import supported_VLM

from capcurr_plugin.prompt import UNIFIED_PROMPT

# The published aliases and their ports.
PORTS = {
    "Qwen2_5_VL_7B_Base": 23333,
    "Qwen3_VL_8B_Base": 23334,
    "InternVL3_8B_Base": 23335,
    "InternVL3_5_8B_Base": 23336,
    "Qwen2_5_VL_7B_Staged": 23340,
    "Qwen3_VL_8B_Staged": 23341,
    "InternVL3_8B_Staged": 23342,
    "InternVL3_5_8B_Staged": 23343,
    "Qwen2_5_VL_7B_Merged": 23350,
    "Qwen3_VL_8B_Merged": 23351,
    "InternVL3_8B_Merged": 23352,
    "InternVL3_5_8B_Merged": 23353,
}


@pytest.fixture
def server():
    with servers.serving(lambda body: servers.chat_completion("<think> x </think> \\boxed{B}")) as server:
        yield server


def test_all_published_aliases_are_known():
    for name, port in PORTS.items():
        assert isinstance(supported_VLM[name], partial)
        assert supported_VLM[name].keywords["api_base"] == f"http://127.0.0.1:{port}/v1"
        assert (f"{name}_Local" in supported_VLM) == name.startswith("Qwen")


@pytest.mark.parametrize("name", PORTS)
def test_trained_models_get_the_unified_prompt_and_base_models_none(server, name):
    model = supported_VLM[name](api_base=server.url, retry=1)
    assert model.generate([{"type": "text", "value": "Which? A or B"}]) == "B"
    (request,) = server.requests
    assert request["model"] == "served/model"
    assert (request["temperature"], request["max_tokens"]) == (0, 16384)
    system = [message["content"] for message in request["messages"] if message["role"] == "system"]
    assert system == ([] if name.endswith("_Base") else [UNIFIED_PROMPT])


def test_a_dead_server_is_one_clear_line_before_any_inference():
    model = supported_VLM["Qwen3_VL_8B_Staged"](api_base="http://127.0.0.1:9/v1")
    with pytest.raises(
        SystemExit, match=r"capcurr: error: no model server answers at http://127\.0\.0\.1:9/v1 .*start one"
    ):
        model.set_dump_image(None)


def known_in_child(name):
    from vlmeval.config import supported_VLM

    return name in supported_VLM


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_known_in_child_processes(method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(known_in_child, ["InternVL3_8B_Merged"])
