"""The models behind the aliases. Imports VLMEvalKit, so only its own hooks may import this module."""

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import requests
from vlmeval.api import LMDeployAPI  # pyright: ignore[reportMissingImports]
from vlmeval.api.adapters import register_adapter  # pyright: ignore[reportMissingImports]
from vlmeval.smp import get_gpu_memory  # pyright: ignore[reportMissingImports]

from capcurr_plugin.endpoints import api_root
from capcurr_plugin.evaluation.aliases import Alias, load_aliases
from capcurr_plugin.evaluation.responses import reply_of
from capcurr_plugin.prompt import Placement
from capcurr_plugin.vlmeval_host import run_files
from capcurr_plugin.vlmeval_host.adapter import (
    CapabilityAdapter,
    final_answer,
    request_name,
    row_of,
    row_prompt,
)

ANSWER_SECONDS = 10
RETRY = 10  # run.py's --retry takes its place

ADAPTERS: dict[Placement, str] = {"system": "capcurr", "user": "capcurr-user", "none": "capcurr-none"}


def register(config: Any) -> None:
    """VLMEvalKit reads and edits a partial's keywords."""
    for prompt, name in ADAPTERS.items():
        register_adapter(name, partial(CapabilityAdapter, prompt))
    for alias in load_aliases().values():
        config.supported_VLM[alias.name] = served(alias)
        if alias.backbone.local:
            config.supported_VLM[f"{alias.name}_Local"] = partial(local_model, alias)


def served(alias: Alias) -> "partial[ServedModel]":
    """Bounds of pixels are not sent: engines take them at their start (capcurr serve), and vLLM refuses requests with
    them."""
    return partial(
        _client,
        model=alias.model,
        api_base=alias.api_base,
        weights=alias.weights,
        custom_prompt=ADAPTERS[alias.prompt],
        temperature=alias.temperature,
        max_tokens=alias.max_tokens,
        retry=RETRY,
        verbose=False,
    )


def _client(**options: Any) -> "ServedModel":
    return ServedModel(**options)


_client.__module__ = LMDeployAPI.__module__  # run.py's --stream is for what comes from VLMEvalKit's own clients


class ServedModel(LMDeployAPI):
    """VLMEvalKit's client for OpenAI-compatible servers, which asks the server for the name of its model."""

    def __init__(self, model: str | None, api_base: str, weights: str | None = None, **options: Any) -> None:
        root = api_root(api_base)
        super().__init__(model=model, api_base=f"{root}/chat/completions", **options)
        self._root, self._weights = root, weights
        self._asking = threading.Lock()

    def set_dump_image(self, dump_image_func: Any) -> None:
        """VLMEvalKit calls this before the first row, and only when there are rows to ask: a dead server ends the run
        here, and none is needed to evaluate answers that are there."""
        self._ask_for_model()
        super().set_dump_image(dump_image_func)

    def generate(self, message: Any, dataset: str | None = None) -> Any:
        self._ask_for_model()
        return super().generate(message, dataset=dataset)

    def _ask_for_model(self) -> None:
        with self._asking:
            if self.model is None:
                self.model = served_model_id(self._root, self.key, self._weights)


def served_model_id(root: str, key: str, weights: str | None) -> str:
    """Of the models that the server lists the one with the alias's weights, or else the first."""
    try:
        answer = requests.get(f"{root}/models", headers={"Authorization": f"Bearer {key}"}, timeout=ANSWER_SECONDS)
        answer.raise_for_status()
        listed = [str(model["id"]) for model in answer.json()["data"]]
        return weights if weights in listed else listed[0]
    except (requests.RequestException, ValueError, KeyError, IndexError, TypeError) as error:
        _stop(
            f"no model server answers at {root} ({type(error).__name__}); start one there (capcurr serve), "
            "or say where it is in CAPCURR_API_BASE"
        )


def _stop(message: str) -> NoReturn:
    """End run.py, which would otherwise log a traceback for every data set and end as if all were well."""
    raise SystemExit(f"capcurr: error: {message}")


# In process

GREEDY = {"temperature": 0.01, "top_k": 1}  # VLMEvalKit's classes sample, and divide by the temperature


def local_model(alias: Alias, **options: Any) -> Any:
    """VLMEvalKit's own class for the backbone, with our prompt and adapter around it."""
    import vlmeval.vlm  # pyright: ignore[reportMissingImports]

    if alias.weights is None and alias.prompt != "none":
        _stop(
            f"{alias.name}_Local: there are no weights to download; name a checkpoint in CAPCURR_ALIASES (weights: DIR)"
        )
    if not get_gpu_memory():
        _stop(f"{alias.name}_Local: VLMEvalKit's {alias.backbone.local} needs a GPU, and nvidia-smi finds none here")
    host_class = getattr(vlmeval.vlm, str(alias.backbone.local))
    settings: dict[str, Any] = {
        "model_path": alias.weights or alias.backbone.base,
        "system_prompt": alias.system_prompt,
        "use_custom_prompt": False,
        **({"temperature": alias.temperature} if alias.temperature else GREEDY),
        "presence_penalty": 0,  # Qwen3VLChat's own is 1.5 on vLLM
        "max_new_tokens": alias.max_tokens,
        "min_pixels": alias.min_pixels,
        "max_pixels": alias.max_pixels,
        **options,
    }
    try:
        return _local_class(host_class)(alias, **settings)
    except (ImportError, OSError) as error:  # flash-attn is missing, or the checkpoint
        _stop(f"{alias.name}_Local: {' '.join(str(error).split())}")


def _local_class(host_class: type) -> type:
    class LocalModel(host_class):
        """Generates as its base does; what it says goes the adapter's way."""

        def __init__(self, alias: Alias, **settings: Any) -> None:
            super().__init__(**settings)
            self._alias, self._settings = alias, settings
            self._dataset: Any = None

        def set_dump_image(self, dump_image_func: Any) -> None:
            super().set_dump_image(dump_image_func)
            self._dataset = getattr(dump_image_func, "__self__", None)

        def use_custom_prompt(self, dataset: str) -> bool:
            return self._dataset is not None

        def build_prompt(self, line: Mapping[str, Any], dataset: str | None = None) -> Sequence[Mapping[str, Any]]:
            return row_prompt(self._dataset, line, self._alias.prompt)

        def generate(self, message: Any, dataset: str | None = None) -> str:
            said = str(super().generate(message=message, dataset=dataset))
            row, answer = row_of(message), final_answer(said)
            if row is not None and dataset is not None:
                run_files.keep(
                    dataset,
                    row,
                    reply_of(said),
                    answer=answer,
                    prompt=self._alias.prompt,
                    model=str(self._settings["model_path"]),
                    request=request_name(message, self._settings),
                )
            return answer or said

    return LocalModel
