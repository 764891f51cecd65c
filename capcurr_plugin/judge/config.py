"""The judges: `vlmeval_configs/judges.yaml`, a user's own file in the same form, and any model by its server's URL."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from capcurr_plugin.endpoints import api_root
from capcurr_plugin.errors import InputError
from capcurr_plugin.yaml_files import read_named

OWN_JUDGES = "CAPCURR_JUDGES"  # a user's file
BY_URL = "openai:"  # --judge openai:MODEL --judge-base-url URL
PERCEPTION_ERROR = "perception-error:"  # before a judge's name: VLMEvalKit's run asks it for the kinds of errors, too

Api = Literal["anthropic", "bedrock", "openai"]
APIS: tuple[Api, ...] = get_args(Api)


# What servers charge for input, of its price, when it is written to their cache and when it is read from there; and for
# all tokens of a batch.
WRITING, READING, BATCH = 1.25, 0.1, 0.5


@dataclass(frozen=True)
class Tokens:
    input: int = 0
    output: int = 0
    read: int = 0  # of the input, from the server's cache
    written: int = 0  # of the input, to the server's cache


@dataclass(frozen=True)
class JudgeConfig:
    name: str
    api: Api
    model: str
    base_url: str | None = None  # None: the API's own address
    key: str | None = None  # None: from the variable that the API's clients read
    max_tokens: int = 2048
    timeout: float = 300
    retry: int = 10
    usd_per_million: Mapping[str, float] | None = None  # by input and output tokens; None: not known

    def __post_init__(self) -> None:
        if self.api == "openai":
            object.__setattr__(self, "base_url", api_root(str(self.base_url)))

    def usd(self, tokens: Tokens, in_batch: bool = False) -> float:
        price = self.usd_per_million or {"input": 0.0, "output": 0.0}
        kept = tokens.read + tokens.written if self.api != "openai" else 0  # other servers have prices of their own
        full = tokens.input - kept
        paid = full + tokens.written * WRITING + tokens.read * READING if kept else full
        return (paid * price["input"] + tokens.output * price["output"]) / 1e6 * (BATCH if in_batch else 1)


def load_judges(environment: Mapping[str, str] = os.environ) -> dict[str, JudgeConfig]:
    packaged = yaml.safe_load((files("vlmeval_configs") / "judges.yaml").read_text(encoding="utf-8"))
    path = Path(environment[OWN_JUDGES]) if environment.get(OWN_JUDGES) else None
    settings = packaged["judges"] | (read_named(path, "judges") if path else {})
    return {name: _judge(name, packaged["defaults"] | judge, path) for name, judge in settings.items()}


def find_judge(name: str, base_url: str | None = None) -> JudgeConfig | None:
    """The judge of that name; None when it is none of ours."""
    name = name.removeprefix(PERCEPTION_ERROR)
    if name.startswith(BY_URL):
        if not base_url:
            raise InputError(f"judge {name}: has no address; add --judge-base-url, such as http://127.0.0.1:8000/v1")
        model = name.removeprefix(BY_URL).replace("--", "/")  # VLMEvalKit makes file names of it
        return JudgeConfig(name, "openai", model, base_url)
    return load_judges().get(name)


def _judge(name: str, settings: dict[str, Any], path: Path | None) -> JudgeConfig:
    where = f"{path}: judge {name}" if path else f"judge {name}"
    if "/" in name:
        raise InputError(f"{where}: a name cannot hold '/', since VLMEvalKit makes file names of it")
    unknown = set(settings) - {field.name for field in fields(JudgeConfig)}
    if unknown:
        raise InputError(f"{where}: unknown setting {min(unknown)!r}")
    if settings.get("api") not in APIS:
        raise InputError(f"{where}: api is {settings.get('api')!r}; use one of {', '.join(APIS)}")
    if not isinstance(settings.get("model"), str) or not settings["model"]:
        raise InputError(f"{where}: names no model")
    if settings["api"] == "openai" and not settings.get("base_url"):
        raise InputError(f"{where}: an openai judge needs a base_url, such as http://127.0.0.1:8000/v1")
    for key in ("max_tokens", "timeout", "retry"):
        if isinstance(settings[key], bool) or not isinstance(settings[key], int | float) or settings[key] <= 0:
            raise InputError(f"{where}: {key} is {settings[key]!r}; use a number above 0")
    price = settings.get("usd_per_million")
    if price is not None and not _is_price(price):
        raise InputError(f"{where}: usd_per_million is {price!r}; write {{input: 1, output: 5}}")
    return JudgeConfig(name, **settings)


def _is_price(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"input", "output"}
        and all(isinstance(v, int | float) and not isinstance(v, bool) and v >= 0 for v in value.values())
    )
