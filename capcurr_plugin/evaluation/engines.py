"""The engines that serve a model, each with the commands that make it do so.

`tests/engines/options.json` holds the options that each engine really has; docs/serving.md says where it was read.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

PUBLISHED_TENSOR_PARALLEL = 4
PUBLISHED_GPU_MEMORY_UTILIZATION = 0.9  # on vLLM; LMDeploy ran with its own default


@dataclass(frozen=True)
class Launch:
    """What is to be served, and how. None leaves it to the engine."""

    model: str  # a folder, or a name on the hub
    host: str
    port: int
    model_id: str | None = None  # under which the server is to list it
    tensor_parallel: int | None = None
    gpu_memory_utilization: float | None = None
    max_model_len: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    more: tuple[str, ...] = ()  # words for the engine, as they are

    @property
    def pixels(self) -> str | None:
        """What bounds an image's size, as JSON for the checkpoint's processor."""
        bounds = {name: getattr(self, name) for name in ("min_pixels", "max_pixels")}
        set_ones = {name: value for name, value in bounds.items() if value is not None}
        return json.dumps(set_ones) if set_ones else None

    @property
    def image_pixels(self) -> str | None:
        return None if self.pixels is None else f'{{"image": {self.pixels}}}'


@dataclass(frozen=True)
class Engine:
    name: str
    program: str  # on the PATH where the engine is installed
    install: str
    options: Mapping[str, str]  # what a Launch may set -> the engine's option for it
    commands: Callable[[Launch], list[list[str]]]  # one that serves; of a service, those that load the model
    needs_gpu: bool = True
    gpu_memory_utilization: float | None = None  # of the published runs
    # The id of the model in requests, where it is not what the server lists first
    model_id: Callable[[Launch], str] | None = None
    api_path: str = "/v1"
    probe: tuple[str, ...] = ()  # ends well where the program can do it
    service: "Service | None" = None


@dataclass(frozen=True)
class Service:
    """Of an engine whose server runs already, and whose commands only load the model into it."""

    port: int
    unload: Callable[[Launch], list[str]]
    unreachable: str  # what to do when its port is closed


def option_words(launch: Launch, options: Mapping[str, str]) -> list[str]:
    set_ones = [(option, getattr(launch, name)) for name, option in options.items()]
    return [word for option, value in set_ones if value is not None for word in (option, str(value))]


# Servers of their own

VLLM = {
    "host": "--host",
    "port": "--port",
    "tensor_parallel": "--tensor-parallel-size",
    "gpu_memory_utilization": "--gpu-memory-utilization",
    "max_model_len": "--max-model-len",
    "model_id": "--served-model-name",
    "pixels": "--mm-processor-kwargs",
}
SGLANG = {
    "host": "--host",
    "port": "--port",
    "tensor_parallel": "--tp-size",
    "gpu_memory_utilization": "--mem-fraction-static",
    "max_model_len": "--context-length",
    "model_id": "--served-model-name",
    "image_pixels": "--mm-process-config",
}
LMDEPLOY = {
    "host": "--server-name",
    "port": "--server-port",
    "tensor_parallel": "--tp",
    "max_model_len": "--session-len",
    "model_id": "--model-name",
}
TRANSFORMERS = {"host": "--host", "port": "--port"}


def _vllm(launch: Launch) -> list[list[str]]:
    return [["vllm", "serve", launch.model, *option_words(launch, VLLM), *launch.more]]


def _sglang(launch: Launch) -> list[list[str]]:
    return [["sglang", "serve", "--model-path", launch.model, *option_words(launch, SGLANG), *launch.more]]


def _lmdeploy(launch: Launch) -> list[list[str]]:
    return [["lmdeploy", "serve", "api_server", launch.model, *option_words(launch, LMDEPLOY), *launch.more]]


def _transformers(launch: Launch) -> list[list[str]]:
    return [["transformers", "serve", launch.model, *option_words(launch, TRANSFORMERS), *launch.more]]


# Docker Model Runner: a service that loads a model when a request names it, and drops it after five idle minutes

DOCKER_CONFIGURE = {"max_model_len": "--context-size", "gpu_memory_utilization": "--gpu-memory-utilization"}
DOCKER_RUNTIME = {"tensor_parallel": "--tensor-parallel-size"}  # for the vLLM inside


def _docker(launch: Launch) -> list[list[str]]:
    name = _docker_name(launch)
    folder = Path(launch.model)
    obtain = ["package", "--safetensors-dir", str(folder.resolve()), name] if folder.is_dir() else ["pull", name]
    runtime = [*option_words(launch, DOCKER_RUNTIME), *launch.more]
    configure = ["configure", *option_words(launch, DOCKER_CONFIGURE), name, *(["--", *runtime] if runtime else [])]
    return [["docker", "model", *words] for words in (obtain, configure, ["run", "--detach", name])]


def _docker_name(launch: Launch) -> str:
    """Under which Docker stores the model: for a folder, a name of its own."""
    folder = Path(launch.model)
    if not folder.is_dir():
        return f"hf.co/{launch.model}"
    path = str(folder.resolve())
    words = re.sub(r"[^a-z0-9]+", "-", path[-60:].lower()).strip("-")
    return f"capcurr/{words}-{hashlib.sha256(path.encode()).hexdigest()[:12]}"


ENGINES = {
    engine.name: engine
    for engine in (
        Engine(
            name="vllm",
            program="vllm",
            install="pip install vllm",
            options=VLLM,
            commands=_vllm,
            gpu_memory_utilization=PUBLISHED_GPU_MEMORY_UTILIZATION,
        ),
        Engine(
            name="sglang",
            program="sglang",
            install="pip install 'sglang[all]'",
            options=SGLANG,
            commands=_sglang,
        ),
        Engine(
            name="lmdeploy",
            program="lmdeploy",
            install="pip install lmdeploy",
            options=LMDEPLOY,
            commands=_lmdeploy,
        ),
        Engine(
            name="transformers",
            program="transformers",
            install="pip install 'transformers[serving]' accelerate",
            options=TRANSFORMERS,
            commands=_transformers,
            needs_gpu=False,
            model_id=lambda launch: launch.model,  # it lists the hub's cache, and refuses any other id
        ),
        Engine(
            name="docker-model-runner",
            program="docker",
            probe=("docker", "model", "version"),
            install="apt-get install docker-model-plugin, or Docker Desktop",
            options=DOCKER_CONFIGURE | DOCKER_RUNTIME,
            commands=_docker,
            gpu_memory_utilization=PUBLISHED_GPU_MEMORY_UTILIZATION,
            model_id=_docker_name,  # it lists whatever was pulled
            api_path="/engines/v1",
            service=Service(
                port=12434,
                unload=lambda launch: ["docker", "model", "unload", _docker_name(launch)],
                unreachable="in Docker Desktop, `docker desktop enable model-runner --tcp 12434` opens it",
            ),
        ),
    )
}
