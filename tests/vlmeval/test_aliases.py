"""The aliases inside the real VLMEvalKit, against a local server that records what it is asked."""

import json
import multiprocessing
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"object": "list", "data": [{"id": "served/model", "object": "model"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        message = {"role": "assistant", "content": "<think> x </think> \\boxed{B}"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        self.answer({"id": "1", "object": "chat.completion", "model": body["model"], "choices": [choice]})

    def answer(self, value):
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.requests = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_all_published_aliases_are_known():
    for name, port in PORTS.items():
        assert isinstance(supported_VLM[name], partial)
        assert supported_VLM[name].keywords["api_base"] == f"http://127.0.0.1:{port}/v1"


@pytest.mark.parametrize("name", PORTS)
def test_trained_models_get_the_unified_prompt_and_base_models_none(server, name):
    model = supported_VLM[name](api_base=f"http://127.0.0.1:{server.server_address[1]}/v1", retry=1)
    assert model.generate([{"type": "text", "value": "Which? A or B"}]) == "<think> x </think> \\boxed{B}"
    (request,) = server.requests
    assert request["model"] == "served/model"
    assert request["temperature"] == 0
    system = [message["content"] for message in request["messages"] if message["role"] == "system"]
    assert system == ([] if name.endswith("_Base") else [UNIFIED_PROMPT])


def test_a_dead_server_is_one_clear_line_before_any_inference():
    with pytest.raises(ConnectionError, match=r"no model server answers at http://127\.0\.0\.1:9/v1 .*start one there"):
        supported_VLM["Qwen3_VL_8B_Staged"](api_base="http://127.0.0.1:9/v1")


def known_in_child(name):
    from vlmeval.config import supported_VLM

    return name in supported_VLM


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_known_in_child_processes(method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(known_in_child, ["InternVL3_8B_Merged"])
