"""Benchmark scores beside the published ones, from the JSON of `capcurr results`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capcurr_plugin.errors import InputError
from capcurr_plugin.evaluation import tables
from capcurr_plugin.evaluation.published import load_published
from capcurr_plugin.evaluation.results import FORMAT
from capcurr_plugin.report.figures import INK, Picture, Series, picture, series, short
from capcurr_plugin.report.json_files import count, one_of, read_json, share
from capcurr_plugin.report.page import NONE, Section, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = Mapping[str, Any]

KINDS = ("base", "merged", "staged")
WRITER = "capcurr results --json"
WIDTH = 7.2  # inches
STEP = 0.17  # inches of height to each model on a benchmark
MOST_MODELS = 24
JUDGED = "how rows were judged"  # in the title of a table that doubts nothing

_INTERVAL = ([float, float], None)
_PUBLISHED = {"published": (float, None), "difference_from_published": (float, None)}
_MISSING = {"value": None, "missing": str} | _PUBLISHED
_RESULT = {
    "value": float,
    "metric": str,
    "interval": _INTERVAL,
    "judge": (str, None),
    "files": {"score": str, "judged?": str},
    "rows": (count, None),
    "verdicts": (dict.fromkeys(("rule", "judge", "random", "none", "unknown"), count), None),
    "api_failed": (count, None),
    "responses": (
        {"unparsed": (count, None), "truncated": (count, None), "mean_completion_tokens": (float, None)},
        None,
    ),
    "notes": [str],
    "doubts": [str],
} | _PUBLISHED
_AVERAGE = {
    "value": (float, None),
    "interval": _INTERVAL,
    "complete": bool,
    "have": count,
    "of": count,
    "missing": [str],
    "doubts": [str],
} | _PUBLISHED
_LEFT_OUT = {"left_out?": {str: [str]}, "judges?": [(str, None)]}
_COMPARED = {
    "rows": count,
    "values": [float, float],
    "difference": float,
    "interval": [float, float],
    "n01?": count,
    "n10?": count,
    "p": share,
    "p_holm": share,
    "test": str,
} | _LEFT_OUT
_OVER = {"difference": float, "interval": [float, float], "p": share, "test": str}
_COMPARISON = {
    "first": str,
    "second": str,
    "benchmarks": {str: (_COMPARED, {"reason": str} | _LEFT_OUT)},
    "averages": {str: _OVER},
}
SHAPE = {
    "format": one_of([FORMAT]),
    "settings": {"folders": [str], "confidence": share},
    "benchmarks": {str: str},
    "averages": {str: [str]},
    "models": {
        str: {
            "published_as": (str, None),
            "benchmarks": {str: (_RESULT, _MISSING)},
            "averages": {str: _AVERAGE},
        }
    },
    "comparison": (_COMPARISON, None),
    "warnings": [str],
}


# Reading


def read_results(paths: Sequence[Path]) -> dict[str, Any]:
    """The reports of several runs as one, in the form that each of them has."""
    reports = []
    for path in paths:
        report = read_json(path, SHAPE, WRITER)
        _check_names(path, report)
        reports.append(report)
    first = reports[0]
    for path, report in zip(paths[1:], reports[1:], strict=True):
        _check_alike(paths[0], first, path, report)
    names = _names(paths, reports)
    merged: dict[str, Any] = {
        "files": [str(path) for path in paths],
        "format": FORMAT,
        "settings": {"folders": [folder for report in reports for folder in report["settings"]["folders"]]}
        | {"confidence": first["settings"]["confidence"]},
        "benchmarks": {name: metric for report in reports for name, metric in report["benchmarks"].items()},
        "averages": {name: members for report in reports for name, members in report["averages"].items()},
        "models": {},
        "comparisons": [],
        "warnings": [warning for report in reports for warning in report["warnings"]],
    }
    for path, report, of_file in zip(paths, reports, names, strict=True):
        for name, model in report["models"].items():
            merged["models"][of_file[name]] = _filled(model, merged, path)
        comparison = report["comparison"]
        if comparison:
            renamed = {end: of_file[comparison[end]] for end in ("first", "second")}
            merged["comparisons"].append(comparison | renamed)
    if len(merged["models"]) > MOST_MODELS:
        raise InputError(f"--results: {len(merged['models'])} models; at most {MOST_MODELS} can be told apart")
    return merged


def _check_names(path: Path, report: Numbers) -> None:
    """What a report names in one place is there in the other."""
    where = f"{path}: is not what {WRITER} writes"
    if not report["models"]:
        raise InputError(f"{path}: holds no model; {WRITER} writes at least one")
    for name, model in report["models"].items():
        for kind in ("benchmarks", "averages"):
            if set(model[kind]) != set(report[kind]):
                raise InputError(f"{where}: the {kind} of {name} are not those of the table")
        for name, cell in model["averages"].items():
            if any(model["benchmarks"].get(member, {}).get("value", 0) is not None for member in cell["missing"]):
                raise InputError(f"{where}: {name} misses a benchmark that is there")
    for end in ("first", "second") if report["comparison"] else ():
        if report["comparison"][end] not in report["models"]:
            raise InputError(f"{where}: it compares {report['comparison'][end]}, which it does not hold")


def _check_alike(first_path: Path, first: Numbers, path: Path, report: Numbers) -> None:
    one, other = (each["settings"]["confidence"] for each in (first, report))
    if one != other:
        raise InputError(
            f"{path}: its intervals are of {other:g} and those of {first_path} of {one:g}; write one anew with "
            "capcurr results --confidence"
        )
    for kind in ("benchmarks", "averages"):
        for name in first[kind].keys() & report[kind].keys():
            if first[kind][name] != report[kind][name]:
                raise InputError(f"{path}: {name} is made otherwise than in {first_path}; write one anew")


def _names(paths: Sequence[Path], reports: Sequence[Numbers]) -> list[dict[str, str]]:
    """The models' names in each file; one that several files have gets the file's."""
    seen = Counter(name for report in reports for name in report["models"])
    named = [
        {name: name if seen[name] == 1 else f"{name} ({path.stem})" for name in report["models"]}
        for path, report in zip(paths, reports, strict=True)
    ]
    final = Counter(name for names in named for name in names.values())
    if any(number > 1 for number in final.values()):
        name = final.most_common(1)[0][0]
        raise InputError(f"--results: {name} is there twice; give each file once, under names that differ")
    return named


def _filled(model: Numbers, merged: Numbers, path: Path) -> dict[str, Any]:
    """With a place for what only other files have."""
    nothing = dict.fromkeys(_PUBLISHED)
    benchmarks = {
        name: model["benchmarks"].get(name, {"value": None, "missing": f"not in {path.name}"} | nothing)
        for name in merged["benchmarks"]
    }
    absent = {"value": None, "interval": None, "complete": False, "have": 0, "missing": [], "doubts": []} | nothing
    averages = {
        name: model["averages"].get(name, {**absent, "of": len(members)})
        for name, members in merged["averages"].items()
    }
    return {**model, "benchmarks": benchmarks, "averages": averages}


# Sections


def score_sections(report: Numbers) -> list[Section]:
    """Of `read_results`."""
    sections = [_scores_section(report)]
    sections += [_backbone_section(report, backbone, models) for backbone, models in _backbones(report)]
    sections += [_comparison_section(report, one, place) for place, one in enumerate(report["comparisons"], 1)]
    return sections


def _scores_section(report: Numbers) -> Section:
    beside = any(model["published_as"] for model in report["models"].values())
    several = len(report["models"]) > 1
    hollow = " Hollow: the published score of the model of the same colour, measured in its authors' setup."
    return Section(
        key="scores",
        heading="Scores",
        text=f"Headline metrics in percent, with {_confidence(report)} intervals over the choice of questions."
        + (hollow if beside else "")
        + f" {tables.DOUBT} in a table: something speaks against the value, and the remarks say what.",
        sources=report["files"],
        picture=_scores_picture(report),
        tables=[
            _page_table(table, folded=number > 0 and several)
            for number, table in enumerate(tables.tables({**report, "comparison": None}))
        ],
    )


def _page_table(table: tables.Table, folded: bool = False) -> Table:
    rows = [[cell or NONE for cell in row] for row in table.rows if row]
    if JUDGED in table.title:
        return Table(table.title, table.header, rows, True, legend="; ".join(table.remarks))
    return Table(table.title, table.header, rows, folded, table.remarks)


def _confidence(report: Numbers) -> str:
    return f"{100 * report['settings']['confidence']:g} %"


def _shown_entries(report: Numbers, kind: str) -> list[str]:
    """Those that at least one model has a score of."""
    models = report["models"].values()
    return [name for name in report[kind] if any(model[kind][name]["value"] is not None for model in models)]


def _scores_picture(report: Numbers) -> Picture | None:
    names = {kind: _shown_entries(report, kind) for kind in ("benchmarks", "averages")}
    panels = [kind for kind in names if names[kind]]
    if not panels:
        return None
    models = report["models"]
    heights = [max(0.3, STEP * (len(models) + 1)) * len(names[kind]) for kind in panels]

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for panel, kind in zip(axes, panels, strict=True):
            _dots(panel, names[kind], [model[kind] for model in models.values()])
            panel.set_title(kind)
        axes[-1].set_xlabel("score, %")
        beside = any(model["published_as"] for model in models.values())
        _model_legend(figure, list(models), beside)

    said = ", ".join(name for kind in panels for name in names[kind])
    alt = f"Scores with intervals of {', '.join(models)} on {said}. The tables below have the numbers."
    size = (WIDTH, 0.9 + 0.18 * _legend_rows(len(models)) + 0.35 * len(panels) + sum(heights))
    return picture("scores", alt, size, draw)


def _dots(panel: Axes, names: Sequence[str], cells: Sequence[Mapping[str, Numbers]]) -> None:
    """A line to each name, on which the models stand one below another."""
    for number, by_name in enumerate(cells):
        look = series(number)
        for line, name in enumerate(names):
            place = line + _offset(number, len(cells))
            cell = by_name[name]
            if cell["published"] is not None:
                panel.plot(cell["published"], place, look.mark, color=look.colour, markerfacecolor="none", markersize=7)
            if cell["value"] is not None:
                _dot(panel, cell["value"], cell["interval"], place, look)
    panel.set_yticks(range(len(names)), [short(name.replace("_", " ")) for name in names])
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.grid(True, axis="x")
    panel.grid(False, axis="y")
    for line in range(1, len(names)):
        panel.axhline(line - 0.5, color=INK, alpha=0.12, linewidth=0.6)
    panel.tick_params(axis="y", length=0)


def _offset(number: int, of: int) -> float:
    return 0 if of == 1 else (number / (of - 1) - 0.5) * 0.66


def _dot(panel: Axes, value: float, interval: Sequence[float] | None, place: float, look: Series) -> None:
    if interval:
        panel.plot(interval, [place, place], color=look.colour, linewidth=1.4, solid_capstyle="butt")
    panel.plot(value, place, look.mark, color=look.colour, markersize=4.5)


def _legend_rows(models: int) -> int:
    return -(-models // 2) + 1


def _model_legend(figure: Figure, models: Sequence[str], beside: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=series(n).colour, marker=series(n).mark, markersize=4.5, label=short(name))
        for n, name in enumerate(models)
    ]
    if beside:
        style: dict[str, Any] = {"markerfacecolor": "none", "markersize": 7, "linestyle": "none"}
        handles.append(Line2D([], [], color=INK, marker="o", label="published", **style))
    figure.legend(handles=handles, loc="outside upper left", ncols=2)


# Staged against merged against base


def _backbones(report: Numbers) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Backbones of which two kinds are there, each with its models by kind."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, model in report["models"].items():
        backbone, _, kind = (model["published_as"] or "").partition("/")
        if kind in KINDS and model["published_as"] in load_published():  # it goes into a file's name
            found.setdefault(backbone, {}).setdefault(kind, []).append(name)
    for backbone, models in found.items():
        if len(models) > 1:
            yield backbone, {kind: models[kind] for kind in KINDS if kind in models}


def _backbone_section(report: Numbers, backbone: str, by_kind: Mapping[str, Sequence[str]]) -> Section:
    kinds = list(by_kind)
    models = {name: report["models"][name] for names in by_kind.values() for name in names}
    averages = [
        name for name in report["averages"] if any(m["averages"][name]["value"] is not None for m in models.values())
    ]
    return Section(
        key=f"stages-{backbone}",
        heading=f"{' against '.join(reversed(kinds)).capitalize()}: {backbone}",
        text=f"The averages of {backbone} by how it was trained: base, as it was published; merged, on all "
        "capabilities at once; staged, on one capability after another. Hollow: what was published of each.",
        sources=report["files"],
        picture=_backbone_picture(backbone, averages, by_kind, models) if averages else None,
        tables=[_kinds_table(report, averages, by_kind), _gains_table(report, backbone, averages, by_kind)],
    )


def _backbone_picture(
    backbone: str, averages: Sequence[str], by_kind: Mapping[str, Sequence[str]], models: Mapping[str, Numbers]
) -> Picture:
    def draw(figure: Figure) -> None:
        panel = figure.subplots()
        _dots(panel, averages, [model["averages"] for model in models.values()])
        panel.set_xlabel("average score, %")
        names = [f"{kind}: {name}" for kind, of_kind in by_kind.items() for name in of_kind]
        _model_legend(figure, names, beside=True)

    alt = f"Averages of {backbone}, {', '.join(by_kind)}, with intervals. The tables below have the numbers."
    height = 0.9 + 0.2 * _legend_rows(len(models)) + max(0.4, STEP * (len(models) + 1)) * len(averages)
    return picture(f"stages_{backbone}", alt, (WIDTH, height), draw)


def _kinds_table(report: Numbers, averages: Sequence[str], by_kind: Mapping[str, Sequence[str]]) -> Table:
    rows, remarks = [], []
    for kind, names in by_kind.items():
        for name in names:
            cells = report["models"][name]["averages"]
            rows.append([kind, name, *(_with_interval(cells[average]) for average in averages)])
            remarks += [
                f"{name}, {average} {tables.DOUBT} {doubt}"
                for average in averages
                for doubt in cells[average]["doubts"]
            ]
        published = load_published().get(report["models"][names[0]]["published_as"])
        told = published.averages if published else {}
        rows.append([kind, "published", *(_number(told.get(average)) for average in averages)])
    head = ["kind", "model", *(name.replace("_", " ") for name in averages)]
    return Table(f"Averages in percent, with {_confidence(report)} intervals.", head, rows, remarks=remarks)


def _with_interval(cell: Numbers) -> str:
    if cell["value"] is None:
        return NONE
    marks = ("" if cell["complete"] else f" {tables.PARTIAL}") + (f" {tables.DOUBT}" if cell["doubts"] else "")
    low_high = " ({:.2f} to {:.2f})".format(*cell["interval"]) if cell["interval"] else ""
    return f"{cell['value']:.2f}{low_high}{marks}"


def _gains_table(
    report: Numbers, backbone: str, averages: Sequence[str], by_kind: Mapping[str, Sequence[str]]
) -> Table:
    """What each kind has over another, where there is one model of each."""
    rows = []
    for before, after in combinations((kind for kind, names in by_kind.items() if len(names) == 1), 2):
        first, second = by_kind[before][0], by_kind[after][0]
        for average in averages:
            rows.append(
                [
                    f"{after} minus {before}",
                    average.replace("_", " "),
                    *_gain(report, first, second, average),
                    _published_gain(backbone, before, after, average),
                ]
            )
    head = ["", "average", "difference", f"{_confidence(report)} interval", "p", "published difference"]
    note = "An interval stands where the two were compared on the same rows (capcurr results --compare)."
    return Table(f"What one has over the other, in percentage points. {note}", head, rows)


def _gain(report: Numbers, first: str, second: str, average: str) -> list[str]:
    for one in report["comparisons"]:
        cell = one["averages"].get(average)
        if cell and {one["first"], one["second"]} == {first, second}:
            sign = 1 if one["second"] == second else -1
            low, high = sorted(sign * end for end in cell["interval"])
            return [_signed(sign * cell["difference"]), f"{_signed(low)} to {_signed(high)}", _p(cell["p"])]
    values = [report["models"][name]["averages"][average] for name in (first, second)]
    if not all(cell["value"] is not None and cell["complete"] for cell in values):
        return [NONE] * 3
    return [_signed(values[1]["value"] - values[0]["value"]), NONE, NONE]


def _published_gain(backbone: str, before: str, after: str, average: str) -> str:
    entries = load_published()
    told = [
        entries[name].averages.get(average)
        for name in (f"{backbone}/{before}", f"{backbone}/{after}")
        if name in entries
    ]
    if len(told) < 2 or told[0] is None or told[1] is None:
        return NONE
    return _signed(told[1] - told[0])


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # 0.0: no minus before a zero


def _p(value: float) -> str:
    return f"{value:.2g}" if value < 0.001 else f"{value:.3f}"


# Two models on the same rows


def _comparison_section(report: Numbers, comparison: Numbers, place: int) -> Section:
    first, second = comparison["first"], comparison["second"]
    told = {**report, "models": {}, "warnings": [], "comparison": comparison}
    return Section(
        key=f"comparison-{place}",
        heading=f"{second} against {first}",
        text=f"{second} minus {first} in percentage points, on the rows that both have, with {_confidence(report)} "
        "intervals. Right of the line, the second is better.",
        sources=report["files"],
        picture=_differences_picture(comparison, place),
        tables=[_page_table(table) for table in tables.tables(told)],
    )


def _differences_picture(comparison: Numbers, place: int) -> Picture | None:
    cells = {name: cell for name, cell in comparison["benchmarks"].items() if "difference" in cell}
    lines = [*cells.items(), *((f"average: {name}", cell) for name, cell in comparison["averages"].items())]
    if not lines:
        return None

    def draw(figure: Figure) -> None:
        panel = figure.subplots()
        for line, (name, cell) in enumerate(lines):
            look = series(1 if name.startswith("average: ") else 0)
            _dot(panel, cell["difference"], cell["interval"], line, look)
        panel.axvline(0, color=INK, linewidth=0.9)
        panel.set_yticks(range(len(lines)), [short(name.replace("_", " ")) for name, _ in lines])
        panel.set_ylim(len(lines) - 0.5, -0.5)
        panel.grid(True, axis="x")
        panel.grid(False, axis="y")
        panel.tick_params(axis="y", length=0)
        panel.set_xlabel("difference, percentage points")

    alt = f"Differences between {comparison['second']} and {comparison['first']}. The table below has the numbers."
    return picture(f"comparison_{place}", alt, (WIDTH, 0.7 + 0.27 * len(lines)), draw)
