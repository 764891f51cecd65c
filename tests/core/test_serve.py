"""`capcurr serve`: the command of every engine, and the life of a server, with a small program in an engine's place."""

import base64
import contextlib
import http.server
import json
import os
import shlex
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from capcurr_plugin import cli
from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.evaluation import health
from capcurr_plugin.evaluation.aliases import load_aliases
from capcurr_plugin.evaluation.engines import ENGINES, Launch
from capcurr_plugin.evaluation.keeper import Kept
from capcurr_plugin.evaluation.serve import Options, make_plan, serving
from capcurr_plugin.ports import free_port

ALIASES = load_aliases(environment={})
LONG = 60  # seconds that anything may take on a busy machine


# Commands

REAL = json.loads((Path(__file__).parents[1] / "engines" / "options.json").read_text())  # of the engines themselves


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """No GPU and no engine, whatever the machine has; nothing from the environment."""
    for name in ("CUDA_VISIBLE_DEVICES", "CAPCURR_ALIASES", "CAPCURR_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    return programs


def put_program(folder, name, code):
    program = folder / name
    program.write_text(f"#!{sys.executable}\n{code}")
    program.chmod(0o755)


def put_gpus(folder, count):
    put_program(folder, "nvidia-smi", f"print(*range({count}), sep=chr(10))")


def dry_run(capsys, *argv):
    """The printed command as words, and what is said beside it."""
    assert cli.main(["serve", "--dry-run", *map(str, argv)]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    return shlex.split(captured.out), captured.err


def fails(capsys, *argv):
    try:
        code = cli.main(["serve", *map(str, argv)])
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    assert code == 2, captured
    assert captured.out == ""
    *_, error = captured.err.splitlines()
    return error


def model_folder(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


PUBLISHED = {
    "qwen": "vllm serve {model} --host 127.0.0.1 --port {port} --tensor-parallel-size 4 --gpu-memory-utilization 0.9",
    "internvl": "lmdeploy serve api_server {model} --server-name 127.0.0.1 --server-port {port} --tp 4",
}
PORTS = {
    "Qwen2_5_VL_7B": (23333, 23340, 23350),
    "Qwen3_VL_8B": (23334, 23341, 23351),
    "InternVL3_8B": (23335, 23342, 23352),
    "InternVL3_5_8B": (23336, 23343, 23353),
}


@pytest.mark.parametrize("kind", ["Base", "Staged", "Merged"])
@pytest.mark.parametrize("backbone", PORTS)
def test_the_published_command_of_every_alias(capsys, machine, tmp_path, backbone, kind):
    put_gpus(machine, 8)
    alias = ALIASES[f"{backbone}_{kind}"]
    own = ["--checkpoint", model_folder(tmp_path / "my model")] if kind == "Merged" else []
    model = {"Base": alias.backbone.base, "Staged": alias.weights, "Merged": shlex.quote(str(tmp_path / "my model"))}
    template = PUBLISHED["qwen" if backbone.startswith("Qwen") else "internvl"]
    port = PORTS[backbone][["Base", "Staged", "Merged"].index(kind)]
    words, said = dry_run(capsys, alias.name, *own)
    assert shlex.join(words) == template.format(model=model[kind], port=port)
    assert said == ""


OTHERS = {
    "vllm": "vllm serve org/m --host ::1 --port 5 --tensor-parallel-size 2 --gpu-memory-utilization 0.5 "
    "--max-model-len 9 --seed 1",
    "sglang": "sglang serve --model-path org/m --host ::1 --port 5 --tp-size 2 --mem-fraction-static 0.5 "
    "--context-length 9 --seed 1",
    "lmdeploy": "lmdeploy serve api_server org/m --server-name ::1 --server-port 5 --tp 2 --session-len 9 --seed 1",
    "transformers": "transformers serve org/m --host ::1 --port 5 --seed 1",
    "docker-model-runner": "docker model pull hf.co/org/m && docker model configure --context-size 9 "
    "--gpu-memory-utilization 0.5 hf.co/org/m -- --tensor-parallel-size 2 --seed 1 && "
    "docker model run --detach hf.co/org/m",
}
SETTINGS = {"tensor_parallel": 2, "gpu_memory_utilization": 0.5, "max_model_len": 9}


@pytest.mark.parametrize("backbone", PORTS)
@pytest.mark.parametrize("engine", OTHERS)
def test_every_setting_reaches_every_engine(capsys, engine, backbone):
    argv = [f"{backbone}_Merged", "--engine", engine, "--checkpoint", "org/m", "--host", "::1", "--port", "5"]
    for name, value in SETTINGS.items():
        if name in ENGINES[engine].options:
            argv += [f"--{name.replace('_', '-')}", value]
    words, _ = dry_run(capsys, *argv, "--", "--seed", "1")
    assert words == shlex.split(OTHERS[engine])


KINDS = {"integer": int, "number": float, "json": json.loads, "text": str, "words": str}


def fits(words, options):
    """What is left of the words when options with their values are taken out; AssertionError if one does not fit."""
    rest, words = [], list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            rest.append(word)
            continue
        assert word in options
        if options[word] != "flag":
            KINDS[options[word]](words.pop(0))
    return rest


def launches():
    """Each backbone with no setting, with each one alone, and with all."""
    more = {"model_id": "name", "min_pixels": 3136, "max_pixels": 50176}
    for backbone in PORTS:
        alias = ALIASES[f"{backbone}_Base"]
        for settings in ({}, *({name: value} for name, value in (SETTINGS | more).items()), SETTINGS | more):
            yield Launch(alias.backbone.base, "127.0.0.1", alias.port, **settings)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "lmdeploy", "transformers"])
def test_commands_have_the_options_that_the_engine_has(engine):
    program = {"lmdeploy": ["lmdeploy", "serve", "api_server"]}.get(engine, [engine, "serve"])
    for launch in launches():
        (command,) = ENGINES[engine].commands(launch)
        assert command[: len(program)] == program
        positional = fits(command[len(program) :], REAL[engine]["options"])
        assert positional == [launch.model] * len(REAL[engine]["positional"])
    with pytest.raises((AssertionError, ValueError)):
        fits(["--port", "many"], REAL[engine]["options"])


def test_commands_have_the_options_that_docker_documents(tmp_path):
    documented = REAL["docker-model-runner"]
    folder = Launch(str(model_folder(tmp_path / "model")), "127.0.0.1", 12434)
    for launch in (*launches(), folder):
        service = ENGINES["docker-model-runner"].service
        for command in (*ENGINES["docker-model-runner"].commands(launch), service.unload(launch)):
            words, _, runtime = " ".join(command).partition(" -- ")
            docker, model, verb, *words = words.split(" ")
            assert (docker, model) == ("docker", "model")
            assert len(fits(words, documented["commands"][verb])) == 1
            assert fits(runtime.split(), documented["runtime"]) == []


def test_settings_of_an_alias_reach_the_engine(capsys, tmp_path):
    own = tmp_path / "aliases.yaml"
    own.write_text("aliases: {Mine: {backbone: qwen3_vl_8b, port: 7, prompt: none, model: m, max_pixels: 50}}")
    words, said = dry_run(capsys, "Mine", "--config", own)
    assert words[-4:] == ["--served-model-name", "m", "--mm-processor-kwargs", '{"max_pixels": 50}']
    assert "min_pixels" not in said
    words, _ = dry_run(capsys, "Mine", "--config", own, "--engine", "sglang")
    assert words[-4:] == ["--served-model-name", "m", "--mm-process-config", '{"image": {"max_pixels": 50}}']
    words, said = dry_run(capsys, "Mine", "--config", own, "--engine", "lmdeploy")
    assert words[-2:] == ["--model-name", "m"]
    assert "note: lmdeploy has no option for min_pixels and max_pixels; images go as large as the model" in said
    _, said = dry_run(capsys, "Mine", "--config", own, "--engine", "transformers")
    assert "note: transformers cannot list the model as m, the id that the alias names" in said


@pytest.mark.parametrize(
    ("present", "chosen", "tensor_parallel", "note"),
    [
        (8, None, "4", ""),
        (4, "", "4", "note: no GPU is visible here, and vllm needs one\n"),
        (8, "2,5", "2", "note: GPUs that share the model: 2, not the published 4; 2 visible here\n"),
        (3, None, "2", "note: GPUs that share the model: 2, not the published 4; 3 visible here\n"),
        (8, "1,-1,2", "1", "note: GPUs that share the model: 1, not the published 4; 1 visible here\n"),
        (None, None, "4", "note: no GPU is visible here, and vllm needs one\n"),
    ],
)
def test_as_many_gpus_as_are_there(capsys, monkeypatch, machine, present, chosen, tensor_parallel, note):
    if present is not None:
        put_gpus(machine, present)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    words, said = dry_run(capsys, "Qwen3_VL_8B_Base")
    assert words[words.index("--tensor-parallel-size") + 1] == tensor_parallel
    assert said == note
    words, _ = dry_run(capsys, "Qwen3_VL_8B_Base", "--tensor-parallel", "3")
    assert words[words.index("--tensor-parallel-size") + 1] == "3"


def test_a_driver_that_does_not_answer_is_no_gpu(capsys, machine):
    put_program(machine, "nvidia-smi", "print('NVIDIA-SMI has failed'); raise SystemExit(9)")
    assert "no GPU is visible" in dry_run(capsys, "Qwen3_VL_8B_Base")[1]


def test_a_server_elsewhere_than_the_alias_expects_it(capsys, monkeypatch):
    _, said = dry_run(capsys, "Qwen3_VL_8B_Base", "--engine", "transformers", "--port", "8000")
    expected = "note: the alias expects http://127.0.0.1:23334/v1; clients need CAPCURR_API_BASE="
    assert said == f"{expected}Qwen3_VL_8B_Base=http://127.0.0.1:8000/v1\n"
    monkeypatch.setenv("CAPCURR_API_BASE", "Qwen3_VL_8B_Base=http://127.0.0.1:8000/v1")
    words, said = dry_run(capsys, "Qwen3_VL_8B_Base", "--engine", "transformers", "--host", "0.0.0.0")
    assert (words[-1], said) == ("8000", "")


def test_a_folder_is_packaged_for_docker(tmp_path):
    folder = model_folder(tmp_path / "Step 60")
    plan = make_plan(ALIASES["Qwen3_VL_8B_Staged"], "docker-model-runner", Options(checkpoint=str(folder)))
    package, configure, run = plan.engine.commands(plan.launch)
    name = run[-1]
    assert package == ["docker", "model", "package", "--safetensors-dir", str(folder), name]
    assert name in configure
    assert name.startswith("capcurr/") and name == name.lower() and " " not in name
    other = replace(plan.launch, model=str(model_folder(tmp_path / "step 60")))
    assert plan.engine.commands(other)[-1][-1] != name


# What is wrong is one line, before anything starts


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["Qwen"], "Qwen: no such alias; there are Qwen2_5_VL_7B_Base, "),
        (["Qwen3_VL_8B_Merged"], "has no released weights; serve your own with --checkpoint FOLDER"),
        (["Qwen3_VL_8B_Staged", "--checkpoint", "./none"], "./none: no such folder; --checkpoint takes a model's"),
        (["Qwen3_VL_8B_Staged", "--checkpoint", "a/b/c"], "a/b/c: no such folder"),
        (["Qwen3_VL_8B_Staged", "--checkpoint", "-x/y"], "expected one argument"),
        (["Qwen3_VL_8B_Staged", "--engine", "ollama"], "invalid choice: 'ollama'"),
        (["Qwen3_VL_8B_Staged", "--port", "65536"], "65536 is not a port"),
        (["Qwen3_VL_8B_Staged", "--tensor-parallel", "0"], "0 is not 1 or more"),
        (["Qwen3_VL_8B_Staged", "--gpu-memory-utilization", "90"], "90 is not a share above 0 and up to 1"),
        (["Qwen3_VL_8B_Staged", "--timeout", "inf"], "inf is not a time in minutes"),
        (["Qwen3_VL_8B_Staged", "--config", "/none.yaml"], "/none.yaml: cannot be read"),
        (["Qwen3_VL_8B_Staged", "extra"], "unrecognized arguments: extra"),
        (["Qwen3_VL_8B_Staged"], "vllm: there is no vllm on the PATH; install it: pip install vllm"),
        (["InternVL3_8B_Base"], "there is no lmdeploy on the PATH; install it: pip install lmdeploy"),
        (
            ["InternVL3_8B_Base", "--engine", "transformers", "--max-model-len", "9"],
            "--max-model-len: transformers has no option for it; leave it out, or use another --engine",
        ),
        (
            ["InternVL3_8B_Base", "--gpu-memory-utilization", "0.5"],
            "--gpu-memory-utilization: lmdeploy has no option for it",
        ),
    ],
)
def test_a_wrong_command_line(capsys, argv, message):
    assert message in fails(capsys, *argv)


def test_a_folder_without_a_model(capsys, tmp_path):
    step = tmp_path / "global_step_60"
    step.mkdir()
    assert f"{step}: holds no config.json, so no model" in fails(capsys, "Qwen3_VL_8B_Staged", "--checkpoint", step)
    model = model_folder(step / "actor" / "huggingface")
    assert f"so no model; give {model}" in fails(capsys, "Qwen3_VL_8B_Staged", "--checkpoint", step)
    file = model / "config.json"
    assert f"{file}: no such folder" in fails(capsys, "Qwen3_VL_8B_Staged", "--checkpoint", file)


def test_an_unknown_engine_from_code():
    with pytest.raises(InputError, match=r"engine 'ollama' is not one of vllm, sglang"):
        make_plan(ALIASES["Qwen3_VL_8B_Base"], "ollama")


def test_a_docker_without_models(capsys, machine):
    put_program(machine, "docker", "import sys; sys.exit('docker: unknown command: docker model')")
    error = fails(capsys, "Qwen3_VL_8B_Base", "--engine", "docker-model-runner")
    assert "docker model version: docker: unknown command: docker model; install it: apt-get" in error


# Life

STAND_IN = """
import http.server, json, os, pathlib, signal, subprocess, sys, time
does = json.loads(os.environ["STAND_IN"])
words = sys.argv[1:]
here = pathlib.Path(os.environ["STAND_IN_FOLDER"])
children = []
for session in does.get("children", []):
    children.append(subprocess.Popen([sys.executable, "-c", does["child"]], start_new_session=session))
(here / "pids").write_text(" ".join(str(p) for p in [os.getpid(), *(child.pid for child in children)]))
if does.get("ignores"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: ((here / "ended").write_text("in order"), sys.exit(0)))
print("loading", *words, flush=True)
if "dies" in does:
    print("Traceback\\n\\n  \\nRuntimeError: no memory", flush=True)
    if does["dies"] < 0:
        os.kill(os.getpid(), -does["dies"])
    sys.exit(does["dies"])
if does.get("hangs"):
    time.sleep(600)
time.sleep(does.get("delay", 0))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status, content):
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        self.answer(*does.get("models", [200, {"data": [{"id": "org/model"}, {"id": "other"}]}]))
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        (here / "chat").write_text(json.dumps(body))
        replies = does.setdefault("chats", [])
        if replies:
            return self.answer(*replies.pop(0))
        self.answer(200, {"choices": [{"message": {"role": "assistant", "content": "a"}}]})
        if does.get("dies_later"):
            os._exit(3)
    def log_message(self, *_):
        pass
port = int(words[words.index("--port") + 1])
http.server.ThreadingHTTPServer.daemon_threads = True
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
SLEEPS = "import time; time.sleep(600)"


def stubborn(name):
    ignores = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    return ignores + f"print({name!r}, os.getpid(), flush=True); time.sleep(600)"


@pytest.fixture
def engine(monkeypatch, machine, tmp_path):
    """Sets what the program that stands for vllm does, and gives its options and its folder."""
    put_program(machine, "vllm", STAND_IN)
    folder = tmp_path / "engine"
    folder.mkdir()
    monkeypatch.setenv("STAND_IN_FOLDER", str(folder))

    def does(**settings):
        monkeypatch.setenv("STAND_IN", json.dumps(settings))
        return folder

    does()
    return does


def plan_of(**settings):
    return make_plan(ALIASES["Qwen3_VL_8B_Base"], "vllm", Options(port=free_port(), **settings))


def alive(pid):
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def all_end(pids):
    deadline = time.monotonic() + LONG
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


def pids_of(folder):
    pids = [int(pid) for pid in (folder / "pids").read_text().split()]
    assert pids
    return pids


def pixels_of(png):
    """Width and height of a PNG file of one data chunk, and the bytes of its rows."""
    assert png[:16] == b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR"
    size = struct.unpack(">I", png[33:37])[0]
    data = png[41 : 41 + size]
    assert struct.unpack(">I", png[41 + size : 45 + size])[0] == zlib.crc32(png[37:41] + data)
    return (*struct.unpack(">II", png[16:24]), len(zlib.decompress(data)))


def test_a_server_comes_up_answers_and_goes(engine, tmp_path, capfd):
    folder = engine(delay=1, children=[False, True], child=SLEEPS)
    log = tmp_path / "log.txt"
    log.write_text("of an earlier start\n")
    plan = plan_of()
    with serving(plan, log=log, timeout_minutes=LONG / 60) as server:
        server.check()
        assert server.model == "org/model"
        assert server.plan.api_base == f"http://127.0.0.1:{plan.launch.port}/v1"
        assert 1 <= server.seconds < LONG
        pids = pids_of(folder)
        assert len(pids) == 3 and all(map(alive, pids))
        chat = json.loads((folder / "chat").read_text())
        assert (chat["model"], chat["max_tokens"]) == ("org/model", 1)
        kind, _, image = chat["messages"][0]["content"][0]["image_url"]["url"].partition(",")
        assert (kind, pixels_of(base64.b64decode(image))) == ("data:image/png;base64", (64, 64, 64 * (3 * 64 + 1)))
    assert all_end(pids)
    assert (folder / "ended").read_text() == "in order"
    assert log.read_text().startswith("of an earlier start\nloading serve Qwen/Qwen3-VL-8B-Instruct --host 127.0.0.1")
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == f"starting: {plan.shell_line}\nstopping vllm; a second signal kills it\n"


def test_what_an_engine_prints_is_shown_as_it_comes(engine, capfd):
    with serving(plan_of(), timeout_minutes=LONG / 60):
        deadline = time.monotonic() + LONG
        shown = ""
        while "loading serve" not in shown and time.monotonic() < deadline:
            shown += capfd.readouterr().err
        assert "loading serve" in shown
        assert "stopping" not in shown


@pytest.mark.parametrize(
    ("code", "how"), [(0, "ended with exit code 0"), (7, "ended with exit code 7"), (-9, "was killed by SIGKILL")]
)
def test_an_engine_that_dies_says_why(engine, code, how):
    folder = engine(dies=code, children=[True], child=SLEEPS)
    said = r"\(it said: .*Traceback \| RuntimeError: no memory\), before it was ready$"
    with pytest.raises(JobError, match=f"^vllm {how} {said}"), serving(plan_of(), timeout_minutes=LONG / 60):
        pass
    assert not any(map(alive, pids_of(folder)))


def test_an_engine_that_dies_later_is_noticed(engine):
    engine(dies_later=True)
    with serving(plan_of(), timeout_minutes=LONG / 60) as server, pytest.raises(JobError, match="exit code 3"):
        for _ in range(LONG * 10):
            server.check()
            time.sleep(0.1)


def test_a_program_that_does_not_start(engine, machine):
    (machine / "vllm").write_text("#!/no/such/interpreter\n")
    said = r"exit code 127 \(it said: \S*/vllm: cannot be started \(No such file or directory\)\)"
    with pytest.raises(JobError, match=said), serving(plan_of(), timeout_minutes=1):
        pass


def test_an_engine_that_takes_too_long(engine):
    engine(hangs=True)
    plan = plan_of()
    said = f"^{plan.api_base}: no answer within the time of --timeout; at last: nothing listens there$"
    with pytest.raises(JobError, match=said), serving(plan, timeout_minutes=0.03):
        pass


@contextlib.contextmanager
def answers(models, chat):
    """A server with one answer to each question; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, status, content):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content.encode() if isinstance(content, str) else json.dumps(content).encode())

        def do_GET(self):
            self.answer(*models)

        def do_POST(self):
            self.answer(*chat)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


MODELS = (200, {"data": [{"id": "m"}]})
CHAT = (200, {"choices": [{}]})


@pytest.mark.parametrize(
    ("models", "chat", "message"),
    [
        ((200, {"data": []}), CHAT, 'it lists no model: {"data": []}'),
        ((200, {"data": [{"id": 5}, 7]}), CHAT, "it lists no model"),
        ((200, {"data": 3}), CHAT, "it lists no model"),
        ((200, "[" * 100_000), CHAT, "it lists no model: [[[["),
        ((503, "loading"), CHAT, "HTTP 503: loading"),
        (MODELS, (404, {"detail": "no such model"}), 'HTTP 404: {"detail": "no such model"}'),
        (MODELS, (200, {"choices": []}), 'it answers a chat with {"choices": []}'),
        (MODELS, (200, "<html>"), "it answers a chat with <html>"),
    ],
)
def test_what_a_server_lacks_is_told(models, chat, message):
    with answers(models, chat) as api_base, pytest.raises(health.NotYet) as caught:
        health.answering_model(api_base, LONG)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 400


def test_a_known_id_needs_no_list(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with answers((500, "no cache"), CHAT) as api_base:
        assert health.answering_model(api_base, LONG, "m") == "m"
        with pytest.raises(JobError, match="HTTP 500: no cache"):
            health.answering_model(api_base, LONG)


def test_an_engine_that_refuses_what_is_asked_of_it(engine):
    engine(chats=[[500, {"error": {"message": "no image decoder"}}]])
    said = r"refuses a chat of one token about an image with org/model: HTTP 500: .*no image decoder.* \(it said"
    with pytest.raises(JobError, match=said), serving(plan_of(), timeout_minutes=LONG / 60):
        pass
    engine(models=[401, "Unauthorized"])
    said = r"refuses the list of its models: HTTP 401: Unauthorized; capcurr sends it no API key \(it said"
    with pytest.raises(JobError, match=said), serving(plan_of(), timeout_minutes=LONG / 60):
        pass


def test_an_engine_that_is_slow_to_answer_well(engine):
    engine(chats=[[503, "starting"], [200, "<html>"], [200, {"choices": []}]])
    with serving(plan_of(), timeout_minutes=LONG / 60) as server:
        assert server.model == "org/model"


def test_the_id_of_the_alias_is_the_one_asked_for(engine):
    folder = engine()
    plan = plan_of()
    plan = replace(plan, launch=replace(plan.launch, model_id="other"))
    with serving(plan, timeout_minutes=LONG / 60) as server:
        assert server.model == "other"
        assert json.loads((folder / "chat").read_text())["model"] == "other"


def test_a_port_that_is_taken(engine, capsys):
    folder = engine()
    plan = plan_of()
    with serving(plan, timeout_minutes=LONG / 60):
        (folder / "pids").unlink()
        error = fails(capsys, "Qwen3_VL_8B_Base", "--port", plan.launch.port)
    assert f"port {plan.launch.port} is taken by " in error
    assert error.endswith("), which serves org/model, other; stop it, or give another --port")
    assert not (folder / "pids").exists()
    with socket.create_server(("0.0.0.0", 0)) as silent:
        port = silent.getsockname()[1]
        error = fails(capsys, "Qwen3_VL_8B_Base", "--port", port)
    process = f"{Path('/proc/self/comm').read_text().strip()} (process {os.getpid()})"
    assert f"port {port} is taken by {process}; stop it, or give another --port" in error


def test_a_host_that_is_not_this_machine(engine, capsys):
    assert "--host 192.0.2.1 --port 9: Cannot assign" in fails(
        capsys, "Qwen3_VL_8B_Base", "--host", "192.0.2.1", "--port", "9"
    )


def test_a_log_that_cannot_be_written(engine, capsys, tmp_path):
    log = tmp_path / "none" / "log.txt"
    assert f"--log {log}: cannot be written" in fails(capsys, "Qwen3_VL_8B_Base", "--log", log, "--port", free_port())


def test_a_log_that_fills_its_disk_does_not_stop_the_engine(engine, capfd):
    with serving(plan_of(), log=Path("/dev/full"), timeout_minutes=LONG / 60) as server:
        server.check()
    assert "note: /dev/full: is not complete (No space left on device)" in capfd.readouterr().err


# Docker Model Runner: a service, into which commands load a model

DOCKER = """
import os, sys
with open(os.environ["DOCKER_CALLS"], "a") as file:
    print(*sys.argv[1:], file=file)
sys.exit("no such model" if sys.argv[2] in os.environ.get("DOCKER_FAILS", "") else 0)
"""


@pytest.fixture
def docker(monkeypatch, machine, tmp_path):
    """Gives the file of the commands that docker was given."""
    put_program(machine, "docker", DOCKER)
    monkeypatch.setenv("DOCKER_CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def docker_plan(port):
    return make_plan(ALIASES["Qwen3_VL_8B_Base"], "docker-model-runner", Options(port=port))


LOADED = [
    "model version",
    "model pull hf.co/Qwen/Qwen3-VL-8B-Instruct",
    "model configure --gpu-memory-utilization 0.9 hf.co/Qwen/Qwen3-VL-8B-Instruct -- --tensor-parallel-size 4",
    "model run --detach hf.co/Qwen/Qwen3-VL-8B-Instruct",
]
UNLOADED = ["model unload hf.co/Qwen/Qwen3-VL-8B-Instruct"]


def test_a_model_is_loaded_into_docker_and_unloaded(docker):
    with answers((200, {"data": []}), CHAT) as api_base:
        plan = docker_plan(urlsplit(api_base).port)
        with serving(plan, timeout_minutes=LONG / 60) as server:
            assert plan.api_base.endswith("/engines/v1")
            assert server.model == "hf.co/Qwen/Qwen3-VL-8B-Instruct"
            assert docker.read_text().splitlines() == LOADED
    assert docker.read_text().splitlines() == LOADED + UNLOADED


def test_a_docker_that_fails_says_why(docker, monkeypatch):
    monkeypatch.setenv("DOCKER_FAILS", "pull")
    said = r"^docker model pull hf.co/Qwen/Qwen3-VL-8B-Instruct ended with exit code 1 \(it said: no such model\)$"
    with pytest.raises(JobError, match=said), serving(docker_plan(free_port()), timeout_minutes=LONG / 60):
        pass
    assert docker.read_text().splitlines() == LOADED[:2] + UNLOADED


def test_a_model_that_stays_in_docker_is_told(docker, monkeypatch, capfd):
    monkeypatch.setenv("DOCKER_FAILS", "unload")
    with answers(MODELS, CHAT) as api_base, serving(docker_plan(urlsplit(api_base).port), timeout_minutes=LONG / 60):
        pass
    assert "note: docker model unload hf.co/Qwen/Qwen3-VL-8B-Instruct ended with exit code 1" in capfd.readouterr().err


def test_a_docker_whose_port_is_closed(docker):
    said = "nothing listens there; in Docker Desktop, `docker desktop enable model-runner --tcp 12434` opens it"
    with pytest.raises(JobError, match=said), serving(docker_plan(free_port()), timeout_minutes=LONG / 60):
        pass


# Signals


def heed_signals():
    """What runs in a shell's background, or under nohup, ignores some of them."""
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.SIG_DFL)


@contextlib.contextmanager
def capcurr_serve(folder, *argv):
    """A `capcurr serve` of its own, as in a shell's foreground."""
    code = "import sys; from capcurr_plugin.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", "Qwen3_VL_8B_Base", "--port", str(free_port()), *argv],
        stdout=subprocess.PIPE,
        stderr=(folder / "stderr").open("wb"),
        text=True,
        preexec_fn=heed_signals,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_file(file, process):
    deadline = time.monotonic() + LONG
    while not (file.exists() and file.read_text()) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_stopped_command_ends_its_engine_in_order(engine, sign, code):
    folder = engine(children=[True], child=SLEEPS)
    with capcurr_serve(folder) as process:
        ready = process.stdout.readline()
        assert ready.startswith("ready: Qwen3_VL_8B_Base at http://127.0.0.1:")
        assert ", model org/model (after " in ready
        pids = pids_of(folder)
        assert all(map(alive, pids))
        process.send_signal(sign)
        assert process.wait(timeout=LONG) == code
        assert all_end(pids)
        assert process.stdout.read() == ""
    assert (folder / "ended").read_text() == "in order"
    assert "Traceback" not in (folder / "stderr").read_text()


@pytest.mark.parametrize("does", [{"hangs": True}, {"delay": 0}])
def test_a_killed_command_leaves_nothing_behind(engine, does):
    folder = engine(**does, children=[False, True], child=SLEEPS)
    with capcurr_serve(folder) as process:
        wait_for_file(folder / ("pids" if "hangs" in does else "chat"), process)
        pids = pids_of(folder)
        process.kill()
        assert all_end(pids)


def test_an_engine_without_its_keeper_ends(tmp_path):
    said = tmp_path / "said"
    with said.open("wb") as sink:
        kept = Kept([sys.executable, "-c", stubborn("engine")], sink)
        wait_for(said, "engine")
        kept.process.kill()
        assert all_end([int(said.read_text().split()[1])])
        kept.end()


def test_a_second_signal_ends_what_ignores_the_first(engine):
    folder = engine(ignores=True, children=[True], child=stubborn("child"))
    with capcurr_serve(folder) as process:
        process.stdout.readline()
        pids = pids_of(folder)
        process.send_signal(signal.SIGTERM)
        wait_for(folder / "stderr", "stopping vllm")
        assert all(map(alive, pids))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=LONG) == 143
        assert all_end(pids)


def test_what_ignores_the_first_signal_is_killed_after_a_while(tmp_path):
    said = tmp_path / "said"
    start_child = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {stubborn('child')!r}]); "
    with said.open("wb") as sink:
        kept = Kept([sys.executable, "-c", start_child + stubborn("parent")], sink, grace_seconds=1)
        wait_for(said, "parent")
        wait_for(said, "child")
        pids = [int(word) for word in said.read_text().split() if word.isdigit()]
        start = time.monotonic()
        kept.end()
        assert time.monotonic() - start >= 1
        assert all_end(pids)


def wait_for(file, text):
    deadline = time.monotonic() + LONG
    while text not in file.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert text in file.read_text()
