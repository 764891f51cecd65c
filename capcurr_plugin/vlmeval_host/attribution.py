"""With which error each wrong answer of an evaluation begins, told beside its score file. Imports VLMEvalKit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
from capcurr_plugin.evaluation.suites import Benchmark, load_suites
from capcurr_plugin.vlmeval_host.judge import host_judge

PARALLEL = 4  # as VLMEvalKit's evaluators, without --api-nproc

logger = get_logger("vlmeval.capcurr")


def attribute_beside(predictions: Path, judge_kwargs: Mapping[str, Any], votes: int) -> None:
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
        parallel = int(judge_kwargs.get("nproc") or PARALLEL)
        asked = replace(host_judge(config, judge_kwargs).judge, parallel=parallel)
        job = Job(
            output,
            asked,
            Asking(asked.config, votes, images_folder(output)),
            Path(LMUDataRoot()),
            Sampled(None, SEED),
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
