"""`--judge perception-error:NAME`: NAME judges what is right, and then with which error each wrong answer begins.
Imports VLMEvalKit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from vlmeval.smp import LMUDataRoot, get_logger  # pyright: ignore[reportMissingImports]

from capcurr_plugin.attribution.asking import Asking
from capcurr_plugin.attribution.attribute import RESAMPLES, attribute, find_attributor
from capcurr_plugin.attribution.cases import Sampled
from capcurr_plugin.attribution.job import Job
from capcurr_plugin.attribution.records import images_folder
from capcurr_plugin.attribution.shares import Drawing
from capcurr_plugin.attribution.summary import as_text
from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.evaluation.results import SEED, Settings, read_models
from capcurr_plugin.evaluation.run_folders import PERCEPTION_ERROR
from capcurr_plugin.evaluation.suites import Benchmark, load_suites
from capcurr_plugin.vlmeval_host.judge import host_judge

PARALLEL = 4  # as VLMEvalKit's evaluators, without --api-nproc

logger = get_logger("vlmeval.capcurr")

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
        find_attributor(judge, judge_kwargs.get("api_base"))  # known before an hour is spent on scoring
        votes = int(judge_kwargs.pop("votes", 1))
        judge_kwargs["model"] = judge
        _within.it = True
        try:
            result = evaluate(self, eval_file, **judge_kwargs)
        finally:
            _within.it = False
        _attribute(Path(eval_file), judge_kwargs, votes)
        return result

    return evaluating


def _attribute(predictions: Path, judge_kwargs: Mapping[str, Any], votes: int) -> None:
    """Scores are there: what fails now is told, with how to go on, and they stay."""
    judge = str(judge_kwargs["model"])
    output = predictions.with_name(f"{predictions.stem}_{judge}_attribution.jsonl")
    try:
        benchmark = _benchmark_of(predictions)
        settings = Settings("all", judge, RESAMPLES, SEED, 0.95, partial=True)
        warnings: list[str] = []
        models = read_models([predictions.parent], {benchmark.name: benchmark}, load_suites(), settings, warnings)
        models = {name: model for name, model in models.items() if predictions.stem == f"{name}_{benchmark.name}"}
        config = find_attributor(judge, judge_kwargs.get("api_base"))
        asked = host_judge(config, judge_kwargs).judge
        job = Job(
            output,
            asked,
            Asking(asked.config, votes, images_folder(output)),
            Path(LMUDataRoot()),
            Sampled(None, SEED),
            int(judge_kwargs.get("nproc") or PARALLEL),
        )
        facts = {"folders": [str(predictions.parent)], "suite": benchmark.name}
        with job.alone():
            summary = attribute(job, models, Drawing(RESAMPLES, SEED, 0.95), settings=facts, warnings=warnings)
    except (InputError, JobError) as error:
        logger.error(
            f"capcurr: {output.name} was not written: {error}; the scores are; "
            f"go on with: capcurr attribute {predictions.parent} {output} --judge {judge}"
        )
        return
    if summary:
        logger.info(f"capcurr: {output}\n{as_text(summary)}")


def _benchmark_of(predictions: Path) -> Benchmark:
    facts = load_suites().facts
    known = [name for name in facts if predictions.stem.endswith(f"_{name}")]
    if not known:
        raise InputError(f"{predictions.name} is of no benchmark whose files are known ({', '.join(facts)})")
    return facts[max(known, key=len)]
