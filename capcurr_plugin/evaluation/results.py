"""`capcurr results`: VLMEvalKit's outputs as one table, with intervals, doubts, and the published numbers beside."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capcurr_plugin.atomic import replacing
from capcurr_plugin.errors import InputError
from capcurr_plugin.evaluation import tables
from capcurr_plugin.evaluation.benchmark_results import (
    Missing,
    Result,
    choose,
    interval_of,
    replicates_of,
    shown_below,
)
from capcurr_plugin.evaluation.comparison import compare
from capcurr_plugin.evaluation.published import Published, published_as, published_for
from capcurr_plugin.evaluation.run_folders import Candidate, candidates, find
from capcurr_plugin.evaluation.score_files import LAYOUTS
from capcurr_plugin.evaluation.suites import Benchmark, Suites, load_suites

if TYPE_CHECKING:
    from numpy import ndarray

FORMAT = 1  # of the JSON
SEED = 2026
RESAMPLES = 10_000
MAX_RESAMPLES = 1_000_000

DESCRIPTION = """\
Read VLMEvalKit's outputs below the folders: a work folder, a model's folder, or a run's. Each benchmark has its
headline metric in percent and a bootstrap interval from its rows; averages have theirs; whatever speaks against a value
stands below the table. docs/results.md says how each number is made."""


@dataclass(frozen=True)
class Settings:
    """What the numbers depend on, beside the files."""

    suite: str
    judge: str | None
    resamples: int
    seed: int
    confidence: float
    partial: bool


@dataclass
class Model:
    name: str
    results: dict[str, Result]
    missing: dict[str, str]
    published: Published | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    suites = load_suites()
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folders", metavar="DIR", nargs="+", type=Path, help="where VLMEvalKit wrote")
    parser.add_argument(
        "--suite", default="all", choices=suites.suites, help="which benchmarks (all: main and extended)"
    )
    parser.add_argument("--data", metavar="NAME=LAYOUT", action="append", default=[], help="read another data set, too")
    parser.add_argument("--model", metavar="NAME", action="append", default=[], help="only this model; may be repeated")
    parser.add_argument("--judge", metavar="NAME", help="only results of this judge")
    parser.add_argument("--partial", action="store_true", help="average over the benchmarks that are there")
    parser.add_argument("--compare", metavar=("A", "B"), nargs=2, help="test two models on the rows that both have")
    parser.add_argument(
        "--published",
        metavar="MODEL=BACKBONE/KIND",
        action="append",
        default=[],
        help="published numbers to set beside a model that has no alias's name, such as my_run=qwen3_vl_8b/staged",
    )
    parser.add_argument(
        "--resamples", metavar="N", type=int, default=RESAMPLES, help=f"of the bootstrap ({RESAMPLES:,})"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=SEED, help=f"of the bootstrap ({SEED})")
    parser.add_argument("--confidence", metavar="C", type=float, default=0.95, help="of intervals (0.95)")
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help=f"write to this file, too ({', '.join(tables.WRITERS)}); may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    _check(args)
    settings = Settings(args.suite, args.judge, args.resamples, args.seed, args.confidence, args.partial)
    suites, warnings = load_suites(), []
    benchmarks = chosen_benchmarks(suites, args.suite, args.data)
    models = read_models(args.folders, benchmarks, suites, settings, warnings)
    _name_published(models, args.published)
    choose_models(models, args.model)
    for name in args.compare or ():
        known(models, name, "--compare")
    report = make_report(models, benchmarks, suites, settings, args.folders, args.compare, warnings)
    for path in args.out:
        with replacing(path) as file:
            file.write(tables.WRITERS[path.suffix.lower()](report).encode("utf-8", "backslashreplace"))
    print(tables.as_json(report) if args.json else tables.as_text(report), end="")
    return 0


def _check(args: argparse.Namespace) -> None:
    check_drawing(args)
    if args.compare and args.compare[0] == args.compare[1]:
        raise InputError(f"--compare {' '.join(args.compare)}: name two different models")
    for path in args.out:
        if path.suffix.lower() not in tables.WRITERS:
            raise InputError(f"--out {path}: the file's ending must be one of {', '.join(tables.WRITERS)}")
        if not path.parent.is_dir():
            raise InputError(f"--out {path}: the folder {path.parent} does not exist; create it first")


def check_drawing(args: argparse.Namespace) -> None:
    if not 100 <= args.resamples <= MAX_RESAMPLES:
        raise InputError(f"--resamples is {args.resamples}; use a number from 100 to {MAX_RESAMPLES:,}")
    if args.seed < 0:
        raise InputError(f"--seed is {args.seed}; use 0 or more")
    if not 0.5 <= args.confidence < 1:
        raise InputError(f"--confidence is {args.confidence:g}; use a number from 0.5 to below 1")


def chosen_benchmarks(suites: Suites, suite: str, others: Sequence[str]) -> dict[str, Benchmark]:
    chosen = {name: suites.facts[name] for name in suites.benchmarks(suite)}
    for word in others:
        name, _, layout = word.partition("=")
        if not name or layout not in LAYOUTS:
            raise InputError(f"--data {word}: write NAME=LAYOUT, with a layout of {', '.join(LAYOUTS)}")
        chosen[name] = Benchmark(name, layout)
    return chosen


# Reading


def read_models(
    folders: Sequence[Path],
    benchmarks: Mapping[str, Benchmark],
    suites: Suites,
    settings: Settings,
    warnings: list[str],
) -> dict[str, Model]:
    """All models that have files of one of the benchmarks, with the result chosen on each."""
    others = [name for name in suites.longer_names if name not in benchmarks]
    names = {*benchmarks, *suites.facts}
    files = [found for found in find(folders, names, warnings, others) if found.dataset in benchmarks]
    if not files:
        raise InputError(
            f"{', '.join(map(str, folders))}: no files of VLMEvalKit's on {', '.join(benchmarks)}; name its work folder"
        )
    by_model: dict[str, dict[str, list[Candidate]]] = {}
    for found in files:
        layout = LAYOUTS[benchmarks[found.dataset].layout]
        by_model.setdefault(found.model, {}).setdefault(found.dataset, []).extend(candidates(found, layout))
    shown = shown_below(folders)
    models = {}
    for name, datasets in sorted(by_model.items()):
        model = models[name] = Model(name, {}, {}, published_for(name))
        for dataset, benchmark in benchmarks.items():
            chosen = choose(datasets.get(dataset, ()), benchmark, settings.judge, shown)
            if isinstance(chosen, Missing):
                model.missing[dataset] = chosen.reason
            else:
                model.results[dataset] = chosen
    return models


def _name_published(models: Mapping[str, Model], published: Sequence[str]) -> None:
    for word in published:
        name, _, entry = word.partition("=")
        known(models, name, "--published").published = published_as(entry)


def choose_models(models: dict[str, Model], wanted: Sequence[str]) -> None:
    """Drop the others, where any is wanted."""
    for name in wanted:
        known(models, name, "--model")
    for name in [name for name in models if wanted and name not in wanted]:
        del models[name]


def known(models: Mapping[str, Model], name: str, option: str) -> Model:
    if name not in models:
        raise InputError(f"{option} {name}: no such model in the folders; there are {', '.join(models)}")
    return models[name]


# Averages


def average_of(name: str, suites: Suites, values: Mapping[str, Any], partial: bool = False) -> Any:
    """The mean of its members, numbers or arrays; None when one is missing, or with `partial`, when all are."""
    members = [
        average_of(member, suites, values, partial) if member in suites.averages else values.get(member)
        for member in suites.averages[name]
    ]
    there = [member for member in members if member is not None]
    return sum(there) / len(there) if there and (partial or len(there) == len(members)) else None


# The report


def make_report(
    models: Mapping[str, Model],
    benchmarks: Mapping[str, Benchmark],
    suites: Suites,
    settings: Settings,
    folders: Sequence[Path],
    compared: Sequence[str] | None,
    warnings: list[str],
) -> dict[str, Any]:
    """What is printed and written; docs/results.md describes it."""
    shown = shown_below(folders)
    names = suites.averages_of(settings.suite)
    report: dict[str, Any] = {
        "format": FORMAT,
        "settings": {
            "folders": [str(folder) for folder in folders],
            "suite": settings.suite,
            "judge": settings.judge,
            "resamples": settings.resamples,
            "seed": settings.seed,
            "confidence": settings.confidence,
            "partial": settings.partial,
        },
        "benchmarks": {name: LAYOUTS[b.layout].metric.name for name, b in benchmarks.items()},
        "averages": {name: suites.averages[name] for name in names},
        "models": {m.name: _model_report(m, names, benchmarks, suites, settings, shown) for m in models.values()},
        "comparison": None,
        "warnings": [*warnings, *_sizes_differ(models)],
    }
    if compared:
        first, second = (models[name].results for name in compared)
        averages = {name: _average(name, suites) for name in names}
        report["comparison"] = {"first": compared[0], "second": compared[1]} | compare(
            first,
            second,
            averages,
            resamples=settings.resamples,
            seed=settings.seed,
            confidence=settings.confidence,
        )
    return _rounded(report)


def _average(name: str, suites: Suites) -> Callable[[Mapping[str, Any]], Any]:
    return lambda values: average_of(name, suites, values)


def _model_report(
    model: Model,
    averages: Sequence[str],
    benchmarks: Mapping[str, Benchmark],
    suites: Suites,
    settings: Settings,
    shown: Callable[[Path], str],
) -> dict[str, Any]:
    drawn = {name: replicates_of(result, settings.resamples, settings.seed) for name, result in model.results.items()}
    published = model.published
    return {
        "published_as": published.name if published else None,
        "benchmarks": {
            name: _result_report(model.results[name], drawn[name], published, settings, shown)
            if name in model.results
            else {"value": None, "missing": model.missing[name]} | _beside(None, published, "benchmarks", name)
            for name in benchmarks
        },
        "averages": {name: _average_report(name, model, drawn, suites, settings) for name in averages},
    }


def _result_report(
    result: Result,
    replicates: ndarray | None,
    published: Published | None,
    settings: Settings,
    shown: Callable[[Path], str],
) -> dict[str, Any]:
    interval = interval_of(result, replicates, settings.confidence)
    candidate, judged, responses = result.candidate, result.judged, result.responses
    paths = {
        "score": candidate.score,
        "judged": result.judged_path,
        "predictions": candidate.predictions,
        "responses": candidate.responses,
    }
    return {
        "value": result.value,
        "metric": result.layout.metric.name,
        "interval": interval[0] if interval else None,
        "interval_method": interval[1] if interval else None,
        "computed_from_rows": result.computed,
        "agrees": result.agrees,
        "unit": result.unit if result.units else None,
        "units": len(result.units.names) if result.units else None,
        "judge": result.judge,
        "run": candidate.found.run,
        "files": {name: shown(path) for name, path in paths.items() if path},
        "rows": judged.rows if judged else None,
        "verdicts": {origin: judged.origins[origin] for origin in ("rule", "judge", "random", "none", "unknown")}
        if judged
        else None,
        "without_verdict": judged.without_verdict if judged else None,
        "api_failed": judged.api_failed if judged else None,
        "responses": {
            "rows": responses.rows,
            "unparsed": responses.unparsed,
            "truncated": responses.truncated,
            "mean_completion_tokens": responses.mean_tokens,
        }
        if responses
        else None,
        "notes": result.notes,
        "doubts": result.doubts,
    } | _beside(result.value, published, "benchmarks", result.benchmark.name)


def _beside(value: float | None, published: Published | None, kind: str, name: str) -> dict[str, Any]:
    number = getattr(published, kind).get(name) if published else None
    difference = None if value is None or number is None else value - number
    return {"published": number, "difference_from_published": difference}


def _average_report(
    name: str, model: Model, drawn: Mapping[str, ndarray | None], suites: Suites, settings: Settings
) -> dict[str, Any]:
    from capcurr_plugin.statistics import percentile_interval

    members = suites.benchmarks(name)
    there = [member for member in members if member in model.results]
    values = {member: model.results[member].value for member in there}
    value = average_of(name, suites, values, settings.partial)
    replicates = None
    if value is not None and all(drawn[member] is not None for member in there):
        replicates = average_of(name, suites, drawn, settings.partial)
    doubts = []
    judges = _judges(model, there)
    if len(judges) > 1:
        who_judged = "; ".join(f"{judge} judged {', '.join(judged)}" for judge, judged in judges.items())
        doubts.append(f"mixes judges: {who_judged}")
    undrawn = [member for member in there if drawn[member] is None]
    if value is not None and undrawn:
        doubts.append(f"has no interval, because {', '.join(undrawn)} can give none")
    doubtful = [member for member in there if model.results[member].doubts]
    if doubtful:
        doubts.append(f"holds doubtful values: {', '.join(doubtful)}")
    complete = len(there) == len(members)
    return {
        "value": value,
        "interval": list(percentile_interval(replicates, settings.confidence)) if replicates is not None else None,
        "complete": complete,
        "have": len(there),
        "of": len(members),
        "missing": [member for member in members if member not in there],
        "doubts": doubts,
    } | _beside(value if complete else None, model.published, "averages", name)


def _judges(model: Model, benchmarks: Sequence[str]) -> dict[str, list[str]]:
    """Who judged what, of what needs a judge and names it."""
    judges: dict[str, list[str]] = {}
    for name in benchmarks:
        result = model.results[name]
        if result.layout.asks_judge and result.judge:
            judges.setdefault(result.judge, []).append(name)
    return judges


def _sizes_differ(models: Mapping[str, Model]) -> list[str]:
    """A run over a part of a benchmark shows beside one over all of it."""
    sizes: dict[str, dict[int, str]] = {}
    for model in models.values():
        for name, result in model.results.items():
            if result.judged:
                sizes.setdefault(name, {}).setdefault(result.judged.rows, model.name)
    return [
        f"{name}: models have different numbers of rows: {', '.join(f'{rows:,} ({who})' for rows, who in by.items())}"
        for name, by in sizes.items()
        if len(by) > 1
    ]


def _rounded(value: Any) -> Any:
    """Six decimals, so that machines agree to the last digit. A p keeps its order of magnitude."""
    if isinstance(value, dict):
        return {k: v if k in ("p", "p_holm") else _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(entry) for entry in value]
    return round(float(value), 6) if isinstance(value, float) else value
