"""`capcurr attribute`: what kind of error each wrong answer begins with, by a judge that sees the picture."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from capcurr_plugin.arguments import dollars, positive, share
from capcurr_plugin.atomic import replacing
from capcurr_plugin.attribution.agreement import of_votes
from capcurr_plugin.attribution.asking import Asking
from capcurr_plugin.attribution.audits import Audit, read_audit
from capcurr_plugin.attribution.cases import Sampled
from capcurr_plugin.attribution.corrections import corrected
from capcurr_plugin.attribution.job import Job, run_of
from capcurr_plugin.attribution.records import images_folder, summary_path
from capcurr_plugin.attribution.shares import Drawing
from capcurr_plugin.attribution.summary import FORMAT, as_text, summarize
from capcurr_plugin.attribution.verdicts import VERSION
from capcurr_plugin.data.benchmark_tables import default_folder
from capcurr_plugin.errors import InputError
from capcurr_plugin.evaluation import results
from capcurr_plugin.evaluation.results import Model, Settings
from capcurr_plugin.evaluation.suites import load_suites
from capcurr_plugin.images import require_pillow
from capcurr_plugin.judge.config import JudgeConfig, find_judge, load_judges
from capcurr_plugin.judge.judge import Judge

JUDGE = "claude-haiku-4.5"  # the published one
PARALLEL = 64
RESAMPLES = 4_000
MAX_VOTES = 25

DESCRIPTION = """\
Read VLMEvalKit's outputs below the folders, have a judge look at each wrong answer with its picture, and write what
kind of error it begins with: OUT.jsonl, a line to each, the pictures beside it in OUT_images, and the numbers in
OUT_summary.json. Run it again to go on after a stop: what was paid for is kept. docs/attribution.md has the kinds,
the prompt, and what each number means."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    suites = load_suites()
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folders", metavar="DIR", nargs="+", type=Path, help="where VLMEvalKit wrote")
    parser.add_argument("output", metavar="OUT.jsonl", type=Path, help="a line to each wrong answer")
    what = parser.add_argument_group("which wrong answers")
    what.add_argument("--suite", default="all", choices=suites.suites, help="which benchmarks (default: %(default)s)")
    what.add_argument("--data", metavar="NAME=LAYOUT", action="append", default=[], help="read another data set, too")
    what.add_argument("--model", metavar="NAME", action="append", default=[], help="only this model; may be repeated")
    what.add_argument("--scored-by", metavar="NAME", help="only results of this judge of right and wrong")
    what.add_argument("--sample", metavar="N", type=positive, help="at most N of each model, drawn at random")
    what.add_argument("--tables", metavar="DIR", type=Path, help="the benchmarks' tables, for pictures ($LMUData)")
    judge = parser.add_argument_group("the judge")
    judge.add_argument("--judge", metavar="NAME", default=JUDGE, help="default: %(default)s")
    judge.add_argument("--judge-base-url", metavar="URL", help="the judge is a model on this OpenAI-compatible server")
    judge.add_argument("--votes", metavar="N", type=positive, default=1, help="readings of each answer (default: 1)")
    judge.add_argument("--max-pixels", metavar="N", type=positive, help="larger pictures are made smaller")
    judge.add_argument("--parallel", metavar="N", type=positive, default=PARALLEL, help="calls at once (%(default)s)")
    judge.add_argument("--batch", action="store_true", help="by Anthropic's Message Batches: half the price, in hours")
    judge.add_argument("--max-usd", metavar="USD", type=dollars, help="bound on what this output may cost, in all")
    judge.add_argument("--dry-run", action="store_true", help="say what it would cost, and ask nothing")
    numbers = parser.add_argument_group("the numbers")
    numbers.add_argument("--compare", metavar=("A", "B"), nargs=2, action="append", help="two models, row by row")
    numbers.add_argument("--audit", metavar="FILE", type=Path, nargs="+", default=[], help="of capcurr audit")
    numbers.add_argument("--judge-accuracy", metavar="SHARE", type=share, help="known of the judge, such as 0.825")
    numbers.add_argument("--resamples", metavar="N", type=int, default=RESAMPLES, help="of the bootstrap (%(default)s)")
    numbers.add_argument("--seed", metavar="N", type=int, default=results.SEED, help="of what is drawn (%(default)s)")
    numbers.add_argument("--confidence", metavar="C", type=float, default=0.95, help="of intervals (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


def run(args: argparse.Namespace) -> int:
    _check(args)
    warnings: list[str] = []
    models = _models(args, warnings)
    compared = [tuple(pair) for pair in args.compare or ()] or ([tuple(models)] if len(models) == 2 else [])
    audits = [read_audit(path) for path in args.audit]
    config = find_attributor(args.judge, args.judge_base_url)
    job = Job(
        args.output,
        Judge(config, args.max_usd, run=run_of(args.output), parallel=args.parallel),
        Asking(config, args.votes, images_folder(args.output), args.max_pixels),
        args.tables or default_folder(),
        Sampled(args.sample, args.seed),
        args.batch,
    )
    facts = {"folders": [str(folder) for folder in args.folders], "suite": args.suite}
    drawing = Drawing(args.resamples, args.seed, args.confidence)
    with job.alone():
        summary = attribute(job, models, drawing, compared, audits, args.judge_accuracy, facts, warnings, args.dry_run)
    if summary:
        print(json.dumps(summary, indent=1) if args.json else as_text(summary), end="\n" if args.json else "")
    return 0


def attribute(
    job: Job,
    models: Mapping[str, Model],
    drawing: Drawing,
    compared: Sequence[tuple[str, str]] = (),
    audits: Sequence[Audit] = (),
    accuracy: float | None = None,
    settings: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    dry_run: bool = False,
) -> dict[str, Any] | None:
    """The records and their summary, which is returned; None of a dry run."""
    gathered = job.gather(models)
    gathered.notes[:0] = warnings
    estimate = job.estimate()
    print(f"capcurr: {estimate.line(job.judge.config, job.judge.max_usd)}", file=sys.stderr)
    if dry_run:
        job.cases.unlink()
        return None
    votes = job.votes(estimate.answers)
    records = job.write(votes)
    if estimate.smaller:
        gathered.notes.append(f"the judge saw a picture of {estimate.smaller:,} of these smaller than it is")
    config, asking = job.judge.config, job.asking
    summary = {
        "format": FORMAT,
        "judge": {
            "name": config.name,
            "model": config.model,
            "prompt": VERSION,
            "votes": asking.votes,
            "temperature": asking.temperature,
        },
        "settings": {**asdict(drawing), "sample": job.sampled.at_most, **(settings or {})},
        **summarize(records, models, gathered, drawing, compared),
        "agreement": of_votes([[vote.kind for vote in of_answer] for of_answer in votes]),
        "spend": asdict(job.judge.spend()) | {"kept_verdicts": estimate.kept},
    }
    for name, one in corrected(job.output, list(models), audits, accuracy, drawing).items():
        summary["models"][name]["corrected"] = one
    with replacing(summary_path(job.output)) as file:
        file.write(json.dumps(summary, indent=1).encode("utf-8", "backslashreplace") + b"\n")
    return summary


def _models(args: argparse.Namespace, warnings: list[str]) -> dict[str, Model]:
    suites = load_suites()
    benchmarks = results.chosen_benchmarks(suites, args.suite, args.data)
    settings = Settings(args.suite, args.scored_by, args.resamples, args.seed, args.confidence, partial=True)
    models = results.read_models(args.folders, benchmarks, suites, settings, warnings)
    results.choose_models(models, args.model)
    for pair in args.compare or ():
        for name in pair:
            results.known(models, name, "--compare")
    return models


def _check(args: argparse.Namespace) -> None:
    require_pillow()
    if args.output.suffix != ".jsonl":
        raise InputError(f"{args.output}: the name must end in .jsonl; the folders come first, then the output")
    if args.votes > MAX_VOTES:
        raise InputError(f"--votes is {args.votes}; use at most {MAX_VOTES}")
    results.check_drawing(args)
    for pair in args.compare or ():
        if pair[0] == pair[1]:
            raise InputError(f"--compare {' '.join(pair)}: name two different models")


def find_attributor(name: str, base_url: str | None) -> JudgeConfig:
    config = find_judge(name, base_url)
    if config is None:
        raise InputError(
            f"--judge {name}: is none of {', '.join(load_judges())}; a model on a server of your own is "
            "openai:MODEL with --judge-base-url, and CAPCURR_JUDGES names others"
        )
    return config
