"""The adapter `capcurr`: the unified prompt goes in, the final boxed answer comes out, and the full response is kept.

Imports VLMEvalKit, so only its own hooks may import this module.
"""

import hashlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmeval.api.adapters import ModelAdapter  # pyright: ignore[reportMissingImports]

from capcurr_plugin.evaluation.responses import reply_of
from capcurr_plugin.prompt import Placement, system_message, user_turn
from capcurr_plugin.reward.boxed import extract_boxed
from capcurr_plugin.vlmeval_host import run_files

_FONT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|rm|bf)\s*\{")
_MATHS = re.compile(r"\$(.*)\$|\\\((.*)\\\)", re.DOTALL)
_ESCAPED = re.compile(r"\\([%$#&_])")


def final_answer(response: str) -> str | None:
    r"""The content of the last box as evaluators read it: without `\text{}`, `$` and escapes around and in it."""
    answer = extract_boxed(response)
    while answer and answer[0] in "\\$" and (bare := _undressed(answer)) is not None:
        answer = bare.strip()
    return _ESCAPED.sub(r"\1", answer).replace("{,}", ",") if answer else None


def _undressed(answer: str) -> str | None:
    """What stands within the one command or pair of signs that is around all of the answer."""
    if maths := _MATHS.fullmatch(answer):
        return maths[1] if maths[1] is not None else maths[2]
    font = _FONT.match(answer)
    if font is None or not answer.endswith("}"):
        return None
    depth = 0
    for brace in re.finditer(r"[{}]", answer[font.end() : -1]):
        depth += 1 if brace[0] == "{" else -1
        if depth < 0:  # its brace closes before the end: `\text{A} or \text{B}`
            return None
    return answer[font.end() : -1]


class Part(dict[str, Any]):
    """A piece of a message, which knows the row that it asks. VLMEvalKit passes pieces on, but no row."""

    row: Any = None


class CapabilityAdapter(ModelAdapter):
    """One adapter serves one model object, whose rows are asked from many threads."""

    def __init__(self, prompt: Placement = "system") -> None:
        self.prompt: Placement = prompt
        self._asked = threading.local()
        self._dataset: Any = None

    # Each model gets its data set's `dump_image` before the first row; the data set makes the prompts

    @property
    def dump_image_func(self) -> Callable[..., Any]:
        return self._dump_image

    @dump_image_func.setter
    def dump_image_func(self, function: Callable[..., Any]) -> None:
        self._dump_image = function
        self._dataset = getattr(function, "__self__", None)

    def use_custom_prompt(self, dataset: str, system_prompt: str | None = None) -> bool:
        """The data set's own prompt, but through `build_prompt`, which is told the row."""
        return self._dataset is not None

    def build_prompt(self, line: Mapping[str, Any], dataset: str | None = None) -> list[Part]:
        return row_prompt(self._dataset, line, self.prompt)

    # One request

    def override_model_args(self, dataset: str | None, gen_kwargs: dict[str, Any]) -> dict[str, Any]:
        system = system_message(self.prompt)
        return {"system_prompt": system} if system else {}

    def process_inputs(self, inputs: Sequence[Any], dataset: str | None = None) -> Sequence[Any]:
        self._asked.row = row_of(inputs)
        self._asked.inputs = inputs
        return inputs

    def process_payload(self, payload: dict[str, Any], dataset: str | None = None) -> dict[str, Any]:
        self._asked.settings = {key: value for key, value in payload.items() if key != "messages"}
        return payload

    def postprocess(self, response: str, dataset: str | None = None) -> str:
        self._asked.said, self._asked.answer = response, final_answer(response)
        return self._asked.answer or response

    def record(self, dataset: str | None, reply: bytes | None) -> None:
        """Keep a server's reply to the request that this thread has made; None when only its text is known."""
        asked = self._asked
        if asked.row is None or dataset is None:  # not a row of a data set: a question of the user's own
            return
        run_files.keep(
            dataset,
            asked.row,
            reply or reply_of(asked.said),
            answer=asked.answer,
            prompt=self.prompt,
            model=asked.settings["model"],
            request=request_name(asked.inputs, {"prompt": self.prompt, **asked.settings}),
        )


def row_of(message: Sequence[Any]) -> Any:
    return next((part.row for part in message if isinstance(part, Part)), None)


def row_prompt(dataset: Any, line: Mapping[str, Any], prompt: Placement) -> list[Part]:
    """What the data set itself asks of a row, with the unified prompt where it stands in the user's turn."""
    message = [Part(part) for part in dataset.build_prompt(line)]
    for part in message:
        part.row = line["index"]
    if prompt == "user":
        last = next(part for part in reversed(message) if part["type"] == "text")
        last["value"] = user_turn(last["value"], prompt)
    return message


def request_name(inputs: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """Names a request by its texts, its images' files and sizes, and its settings."""
    name = hashlib.blake2b(str(sorted(settings.items())).encode("utf-8", "backslashreplace"), digest_size=8)
    for part in inputs:
        if "type" in part:
            size = Path(part["value"]).stat().st_size if part["type"] == "image" else len(part["value"])
            name.update(f"{part['type']} {size} {part['value']}".encode("utf-8", "backslashreplace"))
    return name.hexdigest()
