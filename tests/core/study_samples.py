"""A study's files, made by hand: results, attributions with their summaries, and folders of training runs."""

import json
import math
import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from capcurr_plugin.attribution.kinds import ERRORS
from capcurr_plugin.attribution.records import OUTCOMES, Record, Vote, images_folder, summary_path
from capcurr_plugin.evaluation.published import load_published
from capcurr_plugin.statistics import wilson_interval

MODELS = {
    "Qwen3_VL_8B_Base": ("qwen3_vl_8b/base", 0.0),
    "Qwen3_VL_8B_Merged": ("qwen3_vl_8b/merged", 3.0),
    "Qwen3_VL_8B_Staged": ("qwen3_vl_8b/staged", 4.5),
}
BASE, MERGED, STAGED = MODELS
SCORES = {"MathVista_MINI": 72.0, "WeMath": 50.5, "RealWorldQA": 70.0, "POPE": 88.0}  # of the base
AVERAGES = {"visual_math": ["MathVista_MINI", "WeMath"], "perception": ["RealWorldQA", "POPE"]}
EDGES = [2.0**power for power in range(4, 14)]


# Results


def scored(value: float, published: float | None = None, **more: Any) -> dict[str, Any]:
    difference = None if published is None else value - published
    return {
        "value": value,
        "metric": "accuracy",
        "interval": [value - 2.5, value + 2.4],
        "interval_method": "bootstrap",
        "computed_from_rows": value,
        "agrees": True,
        "unit": "row",
        "units": 1000,
        "judge": "claude-haiku-4.5",
        "run": "T20260102",
        "files": {"score": "score.csv", "judged": "judged.tsv"},
        "rows": 1000,
        "verdicts": {"rule": 700, "judge": 300, "random": 0, "none": 0, "unknown": 0},
        "without_verdict": 0,
        "api_failed": 0,
        "responses": {"rows": 1000, "unparsed": 3, "truncated": 2, "mean_completion_tokens": 812.5},
        "notes": [],
        "doubts": [],
        "published": published,
        "difference_from_published": difference,
    } | more


def results(*models: str) -> dict[str, Any]:
    """As `capcurr results --json` prints it."""
    return {
        "format": 1,
        "settings": {"folders": ["outputs"], "suite": "main", "judge": None}
        | {"resamples": 10000, "seed": 2026, "confidence": 0.95, "partial": False},
        "benchmarks": dict.fromkeys(SCORES, "accuracy"),
        "averages": {name: list(members) for name, members in AVERAGES.items()},
        "models": {name: _model(name) for name in models or MODELS},
        "comparison": None,
        "warnings": [],
    }


def _model(name: str) -> dict[str, Any]:
    published_as, gain = MODELS.get(name, (None, 1.0))
    told = load_published()[published_as] if published_as else None
    benchmarks = {
        benchmark: scored(value + gain, told.benchmarks.get(benchmark) if told else None)
        for benchmark, value in SCORES.items()
    }
    averages = {
        average: _average([benchmarks[one]["value"] for one in members], told.averages.get(average) if told else None)
        for average, members in AVERAGES.items()
    }
    return {
        "published_as": published_as,
        "benchmarks": benchmarks,
        "averages": averages,
    }


def _average(values: list[float], published: float | None) -> dict[str, Any]:
    value = sum(values) / len(values)
    told = {"value": value, "interval": [value - 1.5, value + 1.6], "complete": True, "have": len(values)}
    return (
        told
        | {"of": len(values), "missing": [], "doubts": [], "published": published}
        | {"difference_from_published": None if published is None else value - published}
    )


def comparison(first: str = MERGED, second: str = STAGED) -> dict[str, Any]:
    cell = {"difference": 1.5, "interval": [0.2, 2.8], "p": 0.013, "test": "paired bootstrap"}
    left_out = {"only_first": [], "only_second": ["17"], "refused": [], "incomplete": []}
    benchmarks = {
        name: cell
        | {"rows": 990, "units": 990, "unit": "row", "values": [value + 3, value + 4.5], "left_out": left_out}
        | {"n01": 40, "n10": 25, "p_holm": 0.04, "test": "McNemar exact"}
        for name, value in SCORES.items()
    }
    return {"first": first, "second": second, "benchmarks": benchmarks, "averages": dict.fromkeys(AVERAGES, cell)}


# Attribution

KIND_WEIGHTS = (40, 25, 8, 7, 5, 4, 3, 8)  # of OUTCOMES
RESPONSE = "Look at the picture. The tallest bar ends at 60.\nSo the answer is 60 + 20 = 80.\n\\boxed{80}"


def record(index: int = 0, kind: str = "perception", **more: Any) -> Record:
    vote = Vote(kind, "The tallest bar ends at 60. So", "The tallest bar ends at 40.", "high")
    if kind == "undecided":
        vote = Vote(kind, why="the judge gave no verdict that could be read")
    base = Record(
        model=BASE,
        benchmark="MathVista_MINI",
        index=str(index),
        unit=str(index),
        category="charts",
        question=f"What is the sum of the bars in picture {index}?\nA. 60\nB. 80",
        truth="60",
        response=RESPONSE,
        final="80",
        whole=True,
        images=(),
        judge="claude-haiku-4.5",
        votes=(vote,),
    )
    return replace(base, **more)


def some_records(number: int, models: tuple[str, ...] = (BASE, STAGED), seed: int = 1, images: int = 0) -> list[Record]:
    chance = random.Random(seed)
    made = []
    for index in range(number):
        kind = chance.choices(OUTCOMES, KIND_WEIGHTS)[0]
        one = record(
            index,
            kind,
            model=models[index % len(models)],
            benchmark=chance.choice(list(SCORES)),
            category=chance.choice(["charts", "geometry", "photos"]),
            images=(f"{index % images}.png",) if images else (),
        )
        other = Vote(chance.choice(ERRORS), "So the answer is", "", "low")
        made.append(replace(one, votes=(one.vote, one.vote, other)) if index % 3 == 0 else one)
    return made


def write_attribution(path: Path, records: list[Record], **more: Any) -> Path:
    """The file, its pictures, and its summary with what `more` adds."""
    path.write_bytes(b"".join(one.line() for one in records))
    names = sorted({name for one in records for name in one.images})
    if names:
        images_folder(path).mkdir(exist_ok=True)
        for number, name in enumerate(names):
            write_picture(images_folder(path) / name, number)
    summary_path(path).write_text(json.dumps(summary(records) | more))
    return path


def write_picture(path: Path, number: int, size: tuple[int, int] = (900, 600)) -> None:
    """A chart of bars, another for each number."""
    from PIL import Image, ImageDraw

    chance, image = random.Random(number), Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    for bar in range(6):
        left, top = 40 + bar * size[0] // 7, chance.randrange(size[1] // 6, size[1] - 80)
        colour = tuple(chance.randrange(40, 220) for _ in range(3))
        pen.rectangle((left, top, left + size[0] // 10, size[1] - 40), fill=colour)
    pen.line((20, size[1] - 40, size[0] - 20, size[1] - 40), fill="black", width=4)
    image.save(path)


def summary(records: list[Record]) -> dict[str, Any]:
    models = {}
    for name in dict.fromkeys(one.model for one in records):
        mine = [one for one in records if one.model == name]
        benchmarks = {}
        for benchmark in dict.fromkeys(one.benchmark for one in mine):
            there = [one for one in mine if one.benchmark == benchmark]
            categories = dict.fromkeys(one.category for one in there)
            benchmarks[benchmark] = scope(there) | {
                "categories": {c: scope([one for one in there if one.category == c]) for c in categories}
            }
        models[name] = scope(mine) | {"benchmarks": benchmarks, "corrected": None, "lengths": None}
    return {
        "format": 1,
        "judge": {"name": "claude-haiku-4.5", "model": "claude-haiku-4-5-20251001", "prompt": 1}
        | {"votes": 3, "temperature": 0.0},
        "settings": {"folders": ["outputs"], "suite": "main", "confidence": 0.95, "resamples": 10000, "seed": 2026},
        "models": models,
        "agreement": {"cases": 300, "votes": 3, "fleiss_kappa": 0.81, "krippendorff_alpha": 0.81},
        "comparisons": [],
        "spend": {
            "calls": 9,
            "input_tokens": 1,
            "cached_tokens": 1,
            "output_tokens": 1,
            "usd": 1.5,
            "kept_verdicts": 0,
        },
        "warnings": [],
    }


def scope(records: list[Record]) -> dict[str, Any]:
    counts = Counter(one.kind for one in records)
    own = {kind: count for kind, count in counts.items() if kind in ERRORS}
    return {
        "rows": 3 * len(records),
        "wrong": len(records),
        "kinds": _shares(counts, len(records)),
        "own_errors": {"of": sum(own.values()), "kinds": _shares(own, sum(own.values()))},
    }


def _shares(counts: dict[str, int], total: int) -> dict[str, Any]:
    shares = {}
    for kind, count in counts.items():
        interval = list(wilson_interval(count, total, 0.95))
        shares[kind] = {"count": count, "share": count / total, "wilson": interval, "bootstrap": interval}
    return shares


def corrected(share: float = 0.4) -> dict[str, Any]:
    methods = {
        "audited shares": "The audited errors were drawn at random within each verdict.",
        "Rogan-Gladen": "The judge errs here as often as in the audit.",
        "bounds": "Nothing but the judge's accuracy is known.",
    }
    return {
        "audit": {"file": "audit.csv", "cases": 200},
        "methods": [
            {"method": name, "assumes": text, "kinds": {"perception": [share + 0.03 * n, share - 0.06, share + 0.12]}}
            for n, (name, text) in enumerate(methods.items())
        ],
    }


def lengths(middle: float = 300, seed: int = 1) -> dict[str, Any]:
    chance = random.Random(seed)
    right = [chance.lognormvariate(math.log(middle), 0.5) for _ in range(600)]
    wrong = [chance.lognormvariate(math.log(1.8 * middle), 0.6) for _ in range(300)]
    sets = {"all": _lengths(right + wrong), "right": _lengths(right), "wrong": _lengths(wrong)}
    return {"unit": "tokens of thinking", **sets, "benchmarks": {"MathVista_MINI": sets}}


def _lengths(values: list[float]) -> dict[str, Any]:
    values = sorted(values)
    points = {str(point): values[len(values) * point // 100] for point in (5, 25, 75, 95)}
    counts = [sum(low <= value < high for value in values) for low, high in pairwise(EDGES)]
    told = {"rows": len(values), "mean": sum(values) / len(values), "median": values[len(values) // 2]}
    return told | {"quantiles": points, "histogram": {"edges": EDGES, "counts": counts}}


def changes(first: str = BASE, second: str = STAGED) -> dict[str, Any]:
    return {
        "first": first,
        "second": second,
        "rows": 3000,
        "both_right": 1900,
        "both_wrong": 600,
        "fixed": {"perception": 180, "reasoning": 90, "undecided": 10},
        "new": {"perception": 70, "reasoning": 110, "format_or_extraction": 15},
        "moved": {"perception": {"perception": 200, "reasoning": 120}, "reasoning": {"reasoning": 280}},
        "perception_difference": [-0.037, -0.05, -0.024],
        "benchmarks": {
            "MathVista_MINI": {
                "rows": 1000,
                "n01": 90,
                "n10": 60,
                "p": 0.0002,
                "p_holm": 0.0008,
                "test": "McNemar exact",
            }
        },
        "lengths": {"pairs": 2900, "first_mean": 410.0, "second_mean": 380.0}
        | {"difference": [-30.0, -41.0, -19.0], "ratio": [0.93, 0.9, 0.95]},
    }


# Training


def write_run(folder: Path, recipe: str = "staged", steps: int = 60, seed: int = 1) -> Path:
    """As `capcurr train` leaves it."""
    chance = random.Random(seed)
    names = ["stage1_perception", "stage2_text_reasoning", "stage3_visual_reasoning"]
    runs = [f"qwen3_vl_8b/{name}" for name in (names if recipe == "staged" else ["merged_baseline"])]
    stages = [
        {"run": run, "train": [{"path": "rows.jsonl", "rows": 4000, "sha256": "0"}], "validation": []}
        | {"commands": [["verl"]], "done": True, "steps": steps, "seconds": 7200.0, "model": "model"}
        for run in runs
    ]
    write_record(folder, stages, recipe)
    for number, run in enumerate(runs, 1):
        lines = [{"step": 0, "of": steps, "validation": _validation(0.4, chance)}]
        for step in range(1, steps + 1):
            rise = 0.3 * step / steps
            lines.append(
                {"step": step, "of": steps, "rows": ["r1", "r2"], "reward": 0.45 + rise + chance.gauss(0, 0.04)}
                | {"response_length": 300 + 400 * rise + chance.gauss(0, 20), "seconds": 60.0, "lost": 0}
                | {"entropy": 0.6 - rise + chance.gauss(0, 0.02), "kl": 0.01 + 0.1 * rise, "agreement": 0.99}
                | {"validation": _validation(0.4 + rise, chance) if step % 10 == 0 else None, "plateau": False}
            )
        write_steps(folder / f"{number}_{run.partition('/')[2]}" / "steps.jsonl", lines)
    return folder


def write_record(folder: Path, stages: list[dict[str, Any]], recipe: str = "staged") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    record = {"backbone": "qwen3_vl_8b", "recipe": recipe, "model": "Qwen", "overrides": [], "sft_overrides": []}
    (folder / "run.json").write_text(json.dumps(record | {"seed": None, "versions": {}, "stages": stages}))


def write_steps(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _validation(reward: float, chance: random.Random) -> dict[str, float]:
    capabilities = ("perception", "textual_reasoning", "visual_reasoning")
    return {f"val-core/{name}/reward/mean@1": reward + chance.gauss(0, 0.02) for name in capabilities}


# All together


def write_study(folder: Path, errors: int = 240) -> list[str]:
    """The files of a whole study, and the options that name them."""
    told = results() | {"comparison": comparison()}
    told["models"][STAGED]["benchmarks"]["POPE"]["doubts"] = ["12 rows have no verdict"]
    told["models"][STAGED]["averages"]["perception"]["doubts"] = ["holds doubtful values: POPE"]
    (folder / "results.json").write_text(json.dumps(told))
    records = some_records(errors, images=40)
    models = summary(records)["models"]
    for number, model in enumerate(models.values()):
        model |= {"lengths": lengths(300 - 60 * number, number), "corrected": corrected(0.4 - 0.05 * number)}
    write_attribution(folder / "errors.jsonl", records, models=models, comparisons=[changes()])
    staged, merged = write_run(folder / "staged"), write_run(folder / "merged", "merged", 150, 2)
    options = ["--results", folder / "results.json", "--attribution", folder / "errors.jsonl"]
    return [*map(str, options), "--train", str(staged), str(merged)]
