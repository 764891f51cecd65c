"""YAML files of settings that a user writes."""

from pathlib import Path
from typing import Any

import yaml

from capcurr_plugin.errors import InputError

MAX_BYTES = 1 << 20


def read_mapping(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: has over {MAX_BYTES:,} bytes; that is no file of settings")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path}: is no YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold a mapping at its top")
    return content


def read_named(path: Path, key: str) -> dict[str, dict[str, Any]]:
    """What stands under the one key of the file: names, each with its settings."""
    content = read_mapping(path)
    named = content.get(key)
    if set(content) != {key} or not isinstance(named, dict):
        raise InputError(f"{path}: must hold `{key}:` and nothing else, one name a line below it")
    for name, settings in named.items():
        if not isinstance(name, str) or not isinstance(settings, dict):
            raise InputError(f"{path}: {key}: {name!r} must be a name with settings, NAME: {{setting: value, ...}}")
    return named
