"""The model aliases: `vlmeval_configs/aliases.yaml`, and a user's own file in the same form."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from capcurr_plugin.endpoints import api_root
from capcurr_plugin.errors import InputError
from capcurr_plugin.prompt import PLACEMENTS, Placement, system_message
from capcurr_plugin.yaml_files import read_named

OWN_ALIASES = "CAPCURR_ALIASES"  # a user's file
API_BASE = "CAPCURR_API_BASE"  # one URL for all, or NAME=URL,NAME=URL

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # VLMEvalKit makes file names of it


@dataclass(frozen=True)
class Backbone:
    name: str
    base: str  # the published base model
    engine: str  # what serves it unless another is asked for
    local: str | None = None  # VLMEvalKit's class for it


@dataclass(frozen=True)
class Alias:
    name: str
    backbone: Backbone
    prompt: Placement
    api_base: str  # the server's root, to which OpenAI clients append `/chat/completions`
    weights: str | None = None  # a folder or a name on the hub; None where there are none to download
    model: str | None = None  # the id that the server lists; None to ask for it
    temperature: float = 0.0
    max_tokens: int = 16384
    min_pixels: int | None = None
    max_pixels: int | None = None

    @property
    def system_prompt(self) -> str | None:
        return system_message(self.prompt)

    @property
    def port(self) -> int:
        return urlsplit(self.api_base).port or 80


def load_aliases(own: Path | None = None, environment: Mapping[str, str] = os.environ) -> dict[str, Alias]:
    """All aliases by name: the packaged ones, then the user's (`own`, or the file that the environment names), each at
    the address that the environment gives it."""
    packaged = yaml.safe_load((files("vlmeval_configs") / "aliases.yaml").read_text(encoding="utf-8"))
    backbones = {name: Backbone(name, **settings) for name, settings in packaged["backbones"].items()}
    settings = {name: packaged["defaults"] | alias for name, alias in packaged["aliases"].items()}
    path = own or (Path(environment[OWN_ALIASES]) if environment.get(OWN_ALIASES) else None)
    if path:
        for name, alias in read_named(path, "aliases").items():
            settings[name] = settings.get(name, packaged["defaults"]) | alias
    aliases = {name: _alias(name, alias, backbones, path) for name, alias in settings.items()}
    return _at_their_addresses(aliases, environment.get(API_BASE, ""))


def own_checkpoint(aliases: Mapping[str, Alias], name: str, backbone: str, **changes: Any) -> Alias:
    """An alias for a checkpoint of the user's: the backbone's trained model, with other weights."""
    like = [a for a in aliases.values() if a.backbone.name == backbone and a.prompt != "none"]
    if not like:
        known = sorted({a.backbone.name for a in aliases.values()})
        raise InputError(f"backbone {backbone!r} is not known; choose one of {', '.join(known)}")
    return replace(like[0], name=name, **changes)


def _alias(name: str, settings: dict[str, Any], backbones: Mapping[str, Backbone], path: Path | None) -> Alias:
    where = f"{path}: alias {name}" if path else f"alias {name}"
    if not _NAME.fullmatch(name):
        raise InputError(f"{where}: a name is letters, digits, '.', '_' and '-' only")
    settings = dict(settings)
    host, port = settings.pop("host", None), settings.pop("port", None)
    if "api_base" not in settings:
        if not isinstance(port, int) or not 0 < port < 65536:
            raise InputError(f"{where}: has neither api_base nor a port")
        settings["api_base"] = f"{host}:{port}"
    unknown = set(settings) - {field.name for field in fields(Alias)}
    if unknown:
        raise InputError(f"{where}: unknown setting {min(unknown)!r}")
    backbone = settings.pop("backbone", None)
    if backbone not in backbones:
        raise InputError(f"{where}: backbone is {backbone!r}; use one of {', '.join(backbones)}")
    _check(where, settings)
    settings["api_base"] = api_root(str(settings["api_base"]))
    return Alias(name, backbones[backbone], **settings)


def _check(where: str, settings: Mapping[str, Any]) -> None:
    if settings.get("prompt") not in PLACEMENTS:
        raise InputError(f"{where}: prompt is {settings.get('prompt')!r}; use one of {', '.join(PLACEMENTS)}")
    for key in ("max_tokens", "min_pixels", "max_pixels"):
        value = settings.get(key)
        allowed = (isinstance(value, int) and not isinstance(value, bool) and value > 0) or (
            value is None and key != "max_tokens"
        )
        if not allowed:
            raise InputError(f"{where}: {key} is {value!r}; use a positive whole number")
    temperature = settings["temperature"]
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature <= 2:
        raise InputError(f"{where}: temperature is {temperature!r}; use a number from 0 to 2")
    for key in ("weights", "model"):
        if not isinstance(settings.get(key), str | None):
            raise InputError(f"{where}: {key} is {settings[key]!r}; use a text")


def _at_their_addresses(aliases: dict[str, Alias], addresses: str) -> dict[str, Alias]:
    if not addresses.strip():
        return aliases
    if "=" not in addresses.split("://")[0]:
        return {name: replace(alias, api_base=api_root(addresses)) for name, alias in aliases.items()}
    for entry in addresses.split(","):
        name, _, url = (word.strip() for word in entry.partition("="))
        if name not in aliases:
            raise InputError(f"{API_BASE}: {name!r} is no alias; write NAME=URL,NAME=URL, or one URL for all")
        aliases[name] = replace(aliases[name], api_base=api_root(url))
    return aliases
