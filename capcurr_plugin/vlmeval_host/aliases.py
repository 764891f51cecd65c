"""The model aliases of `vlmeval_configs/aliases.yaml`."""

from dataclasses import dataclass
from importlib.resources import files

import yaml

from capcurr_plugin.prompt import PLACEMENTS, Placement, system_message


@dataclass(frozen=True)
class Alias:
    name: str
    port: int
    prompt: Placement

    @property
    def api_base(self) -> str:
        """The server's root, to which OpenAI clients append `/chat/completions`."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def system_prompt(self) -> str | None:
        return system_message(self.prompt)


def load_aliases() -> dict[str, Alias]:
    text = (files("vlmeval_configs") / "aliases.yaml").read_text(encoding="utf-8")
    aliases = {name: Alias(name, **settings) for name, settings in yaml.safe_load(text).items()}
    for alias in aliases.values():
        if alias.prompt not in PLACEMENTS:
            raise ValueError(f"aliases.yaml: {alias.name}: prompt is {alias.prompt!r}; use one of {PLACEMENTS}")
    return aliases
