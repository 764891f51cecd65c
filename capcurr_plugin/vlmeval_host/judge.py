"""Our judges in the place that VLMEvalKit's evaluators ask. Imports VLMEvalKit, so only its hooks may import this."""

import mimetypes
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmeval.api.base import BaseAPI  # pyright: ignore[reportMissingImports]

from capcurr_plugin.judge.clients import Image
from capcurr_plugin.judge.config import JudgeConfig
from capcurr_plugin.judge.judge import MAX_USD, Judge

# What run.py and evaluators hand to every judge. The rest of theirs, such as nproc, concerns the caller.
SETTINGS = {"timeout": "timeout", "retry": "retry", "max_tokens": "max_tokens", "key": "key", "api_base": "base_url"}
DEFAULTS = {"timeout": 600, "retry": 6}  # run.py's own, which say nothing of what its user wants


class HostJudge(BaseAPI):
    """What a judge cannot answer is raised: VLMEvalKit's own clients return a phrase for it, which evaluators turn into
    exact matching or a random option."""

    is_api = True

    def __init__(self, config: JudgeConfig, max_usd: float | None) -> None:
        super().__init__(verbose=False)
        self.judge = Judge(config, max_usd)
        self.model = config.name

    def working(self) -> bool:
        """True without a call: with all verdicts kept none is needed, and one that fails raises when asked."""
        return True

    def generate(self, message: Any, **options: Any) -> str:
        parts = self.preproc_content(message)
        if parts is None:
            raise TypeError(f"a judge is asked with text and images, not with {type(message).__name__}")
        return self.judge.ask(
            [_image(part["value"]) if part["type"] == "image" else str(part["value"]) for part in parts],
            temperature=float(options.get("temperature") or 0.0),
            max_tokens=options.get("max_tokens"),
            system=options.get("system_prompt") or self.system_prompt,
        )


def host_judge(config: JudgeConfig, options: Mapping[str, Any]) -> HostJudge:
    """With what the command line of run.py sets. `--judge-args '{"max_usd": 5}'` bounds the spend."""
    given = {
        ours: options[theirs]
        for theirs, ours in SETTINGS.items()
        if options.get(theirs) is not None and options[theirs] != DEFAULTS.get(theirs)
    }
    if config.api != "openai" and "base_url" in given:
        given["base_url"] = re.sub(r"(/v1)?/chat/completions/?$", "", given["base_url"])  # run.py appends the end
    max_usd = options.get("max_usd", os.environ.get(MAX_USD))
    judge = HostJudge(replace(config, **given), float(max_usd) if max_usd is not None else None)
    judge.system_prompt = options.get("system_prompt")
    return judge


def _image(path: str) -> Image:
    media_type, _ = mimetypes.guess_type(path)
    return Image(Path(path).read_bytes(), media_type or "image/jpeg")
