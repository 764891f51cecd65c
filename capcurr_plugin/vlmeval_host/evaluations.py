"""`--judge perception-error:NAME`: NAME judges what is right, and then with which error each wrong answer begins.
Imports nothing of VLMEvalKit, whose data sets are half imported now."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from capcurr_plugin.judge.config import PERCEPTION_ERROR

_within = threading.local()  # an evaluation that calls another class's


def wrap_evaluations(classes: list[type]) -> None:
    """Of these classes and their bases, each once."""
    for owner in {base for dataset in classes for base in dataset.__mro__ if "evaluate" in vars(base)}:
        evaluate = vars(owner)["evaluate"]
        if getattr(evaluate, "__isabstractmethod__", False):
            continue
        of_class = isinstance(evaluate, classmethod)
        wrapped = _attributing(evaluate.__func__ if of_class else evaluate)
        owner.evaluate = classmethod(wrapped) if of_class else wrapped  # pyright: ignore[reportAttributeAccessIssue]


def _attributing(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(evaluate)
    def evaluating(self: Any, eval_file: str, **judge_kwargs: Any) -> Any:
        name = str(judge_kwargs.get("model"))
        if not name.startswith(PERCEPTION_ERROR) or getattr(_within, "it", False):
            return evaluate(self, eval_file, **judge_kwargs)
        judge = name.removeprefix(PERCEPTION_ERROR)
        from capcurr_plugin.attribution.attribute import find_attributor

        find_attributor(judge, judge_kwargs.get("api_base"))  # known before an hour is spent on scoring
        votes = int(judge_kwargs.pop("votes", 1))
        judge_kwargs["model"] = judge
        _within.it = True
        try:
            result = evaluate(self, eval_file, **judge_kwargs)
        finally:
            _within.it = False
        from capcurr_plugin.vlmeval_host.attribution import attribute_beside

        attribute_beside(Path(eval_file), judge_kwargs, votes)
        return result

    return evaluating
