"""A model behind an alias. Imports VLMEvalKit, so only its own hooks may import this module."""

from typing import Any

import requests
from vlmeval.api import LMDeployAPI  # pyright: ignore[reportMissingImports]

ANSWER_SECONDS = 10


class ServedModel(LMDeployAPI):
    """VLMEvalKit's client for OpenAI-compatible servers, which asks the server for the name of its model."""

    def __init__(self, api_base: str, **options: Any) -> None:
        super().__init__(model=served_model_id(api_base), api_base=f"{api_base}/chat/completions", **options)


def served_model_id(api_base: str) -> str:
    """The first model that the server lists. A server that does not answer ends the run here, before any inference."""
    try:
        answer = requests.get(f"{api_base}/models", timeout=ANSWER_SECONDS)
        answer.raise_for_status()
        return answer.json()["data"][0]["id"]
    except (requests.RequestException, ValueError, KeyError, IndexError, TypeError) as error:
        raise ConnectionError(
            f"no model server answers at {api_base} ({type(error).__name__}); start one there before run.py"
        ) from None
