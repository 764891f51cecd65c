"""Training curves, from the folders that `capcurr train` leaves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capcurr_plugin.errors import InputError
from capcurr_plugin.report.figures import INK, Picture, picture, series, short
from capcurr_plugin.report.json_files import MAX_NUMBER, count, read_json
from capcurr_plugin.report.page import NONE, Section, Table, shown
from capcurr_plugin.verl_host.run_record import FILE
from capcurr_plugin.verl_host.stages import CAPTION_SFT, stage_folder
from capcurr_plugin.verl_host.steps import StepsTail, steps_files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = Mapping[str, Any]

WIDTH = 7.2  # inches
WRITER = "capcurr train"
MOST_RUNS, MOST_STAGES, MOST_VALIDATIONS = 8, 40, 12
MOST_POINTS = 400  # of a curve in the figure; more are joined
LEAST_HEIGHT = 1e-3  # of a curve's panel, beside its values
SMOOTHED_FROM = 40  # steps; over a curve of more lies its running mean
VALIDATION = "validation "
MEASURES = {
    "reward": "reward",
    "loss": "loss of captions",
    "response_length": "response length, tokens",
    "entropy": "entropy",
    "kl": "KL to the start",
    "agreement": "rollout and trainer agree",
}

SHAPE = {
    "backbone": str,
    "recipe": str,
    "stages": [
        {
            "run": str,
            "commands": list,
            "done": bool,
            "seconds": float,
            "train": [{"rows": count}],
        }
    ],
}


# Numbers


def training_numbers(folders: Sequence[Path]) -> dict[str, Any]:
    if len(folders) > MOST_RUNS:
        raise InputError(f"--train: {len(folders)} runs; at most {MOST_RUNS} can be told apart")
    runs = [_read_run(folder) for folder in folders]
    seen = Counter(run["name"] for run in runs)
    for run in runs:
        if seen[run["name"]] > 1:
            run["name"] += f" ({run['folder']})"
    if len({run["name"] for run in runs}) < len(runs):
        raise InputError("--train: a folder is given twice")
    return {"runs": runs}


def _read_run(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name one that {WRITER} wrote (--out)")
    record = read_json(folder / FILE, SHAPE, WRITER)
    if len(record["stages"]) > MOST_STAGES:
        raise InputError(f"{folder / FILE}: has {len(record['stages'])} stages; at most {MOST_STAGES} are drawn")
    stages, curves, offset = [], {}, 0
    for number, stage in enumerate(record["stages"], 1):
        points = _read_points(folder, number, stage)
        last = max(points, default=0)
        stages.append(_stage_numbers(stage, points, offset))
        for step in sorted(points):
            for name, value in points[step].items():
                curve = curves.setdefault(name, {"steps": [], "values": []})
                curve["steps"].append(offset + step)
                curve["values"].append(value)
        offset += last
    if not curves:
        raise InputError(f"{folder}: holds no step yet; run {WRITER} first")
    name = f"{record['backbone']} {record['recipe']}"
    return {"name": name, "folder": str(folder), "steps": offset, "stages": stages, "curves": curves}


def _read_points(folder: Path, number: int, stage: Numbers) -> dict[int, dict[str, float]]:
    """What was measured at each step. After a resume a step may stand there twice: what came later counts."""
    place = stage_folder(folder, number, stage["run"])
    points: dict[int, dict[str, float]] = {}
    for file in steps_files(place, stage["run"] == CAPTION_SFT, len(stage["commands"])):
        try:
            for step in StepsTail(file).new():
                points[step["step"]] = points.get(step["step"], {}) | _point(step)
        except (KeyError, TypeError, AttributeError):
            raise InputError(f"{file}: holds a line that is no step; {WRITER} writes such a file") from None
        if not all(count(step) for step in points):
            raise InputError(f"{file}: holds a step that is no number")
    return points


def _point(step: Numbers) -> dict[str, float]:
    told: dict[str, Any] = {name: step.get(name) for name in MEASURES}
    rewards = [(name, value) for name, value in (step.get("validation") or {}).items() if "/reward/mean@" in name]
    told |= {
        VALIDATION + shown(name.partition("/reward/")[0].rpartition("/")[2].replace("_", " ")): value
        for name, value in rewards
    }
    return {name: value for name, value in told.items() if _is_measured(value)}


def _is_measured(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < MAX_NUMBER


def _stage_numbers(stage: Numbers, points: Mapping[int, Numbers], offset: int) -> dict[str, Any]:
    measured = [points[step] for step in sorted(points)]
    ends = {}
    for name in {name for point in measured for name in point}:
        values = [point[name] for point in measured if name in point]
        ends[name] = [values[0], values[-1]]
    return {
        "run": stage["run"],
        "done": stage["done"],
        "rows": sum(file["rows"] for file in stage["train"]),
        "steps": max(points, default=0),
        "first": offset,
        "seconds": stage["seconds"],
        "ends": dict(sorted(ends.items())),
    }


# The section


def training_section(numbers: Numbers) -> Section:
    """Of `training_numbers`."""
    runs = numbers["runs"]
    several = (
        " The runs lie over one another, each with its own stages: what has the same step need not be the same stage."
        if len(runs) > 1
        else ""
    )
    return Section(
        key="training",
        heading="Training",
        text="What was measured at each step, over all stages of a run. Upright lines: where a stage begins. Pale: "
        f"each step; full: the running mean.{several}",
        sources=[f"{run['name']}: {run['folder']}" for run in runs],
        picture=_curves_picture(runs),
        tables=[_stages_table(runs)],
        remarks=[
            f"{run['name']}: stage {stage['run']} is not done"
            for run in runs
            for stage in run["stages"]
            if not stage["done"]
        ],
    )


def _panels(runs: Sequence[Numbers]) -> list[str]:
    found = dict.fromkeys(name for run in runs for name in run["curves"])
    validations = [name for name in found if name.startswith(VALIDATION)][:MOST_VALIDATIONS]
    known = [name for name in MEASURES if name in found]
    return [*known[:1], *validations, *known[1:]]


def _curves_picture(runs: Sequence[Numbers]) -> Picture:
    names = _panels(runs)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
        for panel, name in zip(panels, names, strict=True):
            for number, run in enumerate(runs):
                if name in run["curves"]:
                    _curve(panel, run["curves"][name], number, dots=name.startswith(VALIDATION))
                _boundaries(panel, run, number if len(runs) > 1 else None)
            _keep_level(panel)
            panel.set_title(short(MEASURES.get(name, name)))
        if len(runs) == 1:
            _name_stages(panels[0], runs[0])
        panels[-1].set_xlim(0, max(run["steps"] for run in runs))
        panels[-1].set_xlabel("step")
        if len(runs) > 1:
            _run_legend(figure, runs)

    alt = f"Curves over the steps of {', '.join(run['name'] for run in runs)}: {', '.join(names)}."
    return picture("training", alt, (WIDTH, 0.7 + 0.2 * len(runs) + 1.25 * len(names)), draw)


def _curve(panel: Axes, curve: Numbers, number: int, dots: bool) -> None:
    look = series(number)
    steps, values = _thinned(curve["steps"], curve["values"])
    if dots:
        panel.plot(steps, values, look.line, color=look.colour, marker=look.mark, markersize=3.5, linewidth=1.3)
    elif len(steps) < SMOOTHED_FROM:
        panel.plot(steps, values, look.line, color=look.colour, linewidth=1.6)
    else:
        panel.plot(steps, values, "-", color=look.colour, alpha=0.28, linewidth=0.8)
        panel.plot(steps, _running_means(values), look.line, color=look.colour, linewidth=1.8)


def _keep_level(panel: Axes) -> None:
    """What hardly changes looks so."""
    low, high = panel.get_ylim()
    least = LEAST_HEIGHT * max(abs(low), abs(high))
    if high - low < least:
        panel.set_ylim((low + high - least) / 2, (low + high + least) / 2)


def _thinned(steps: Sequence[int], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Means of neighbours, where there are more than can be seen."""
    size = -(-len(steps) // MOST_POINTS)
    groups = [slice(start, start + size) for start in range(0, len(steps), size)]
    return [_mean(steps[group]) for group in groups], [_mean(values[group]) for group in groups]


def _running_means(values: Sequence[float]) -> list[float]:
    half = max(1, len(values) // 40)
    return [_mean(values[max(0, place - half) : place + half + 1]) for place in range(len(values))]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _boundaries(panel: Axes, run: Numbers, number: int | None) -> None:
    colour, line = (INK, "-") if number is None else (series(number).colour, series(number).line)
    for stage in run["stages"][1:]:
        if stage["steps"]:
            panel.axvline(stage["first"], color=colour, linestyle=line, alpha=0.45, linewidth=0.9)


def _name_stages(panel: Axes, run: Numbers) -> None:
    for number, stage in enumerate(run["stages"], 1):
        middle, wide = stage["first"] + stage["steps"] / 2, stage["steps"] > 0.2 * run["steps"]
        name = short(stage["run"].rpartition("/")[2], 24) if wide else str(number)
        if stage["steps"]:
            place = panel.get_xaxis_transform()
            panel.text(middle, 0.98, name, ha="center", va="top", fontsize=8, alpha=0.8, transform=place)
    low, high = panel.get_ylim()
    panel.set_ylim(low, high + 0.18 * (high - low))  # room for the names


def _run_legend(figure: Figure, runs: Sequence[Numbers]) -> None:
    from matplotlib.lines import Line2D

    looks = [series(number) for number in range(len(runs))]
    handles = [
        Line2D([], [], color=look.colour, linestyle=look.line, marker=look.mark, markersize=4, label=short(run["name"]))
        for look, run in zip(looks, runs, strict=True)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, handlelength=3)


def _stages_table(runs: Sequence[Numbers]) -> Table:
    names = [name for name in _panels(runs) if name != "agreement"]
    head = ["run", "stage", "rows", "steps", "hours", *(MEASURES.get(name, name) for name in names)]
    rows = [
        [
            run["name"],
            stage["run"].rpartition("/")[2],
            f"{stage['rows']:,}",
            f"{stage['steps']:,}",
            f"{stage['seconds'] / 3600:.1f}",
            *_ends(stage, names),
        ]
        for run in runs
        for stage in run["stages"]
    ]
    return Table("Each stage: what was measured first, and what last.", head, rows)


def _ends(stage: Numbers, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        ends = stage["ends"].get(name)
        yield f"{ends[0]:.3g} → {ends[1]:.3g}" if ends else NONE
