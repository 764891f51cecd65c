"""What kinds of errors models make: from the summaries of `capcurr attribute`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from capcurr_plugin.attribution.kinds import ERRORS, KINDS, MEANINGS
from capcurr_plugin.attribution.records import OUTCOMES, UNDECIDED
from capcurr_plugin.attribution.shares import interval_to_show
from capcurr_plugin.report.attributions import ALL, CHANGED, Attribution
from capcurr_plugin.report.figures import INK, KIND_LOOKS, PAPER, Picture, picture, short
from capcurr_plugin.report.page import NONE, Section, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = Mapping[str, Any]

WIDTH = 7.2  # inches
PERCEPTION = "perception"
BOUNDS = "bounds"  # the method that has no estimate, only a range
UNCORRECTED = "uncorrected"


def kind_words(kind: str) -> str:
    return kind.replace("_", " ")


# Numbers


def kind_numbers(attributions: Sequence[Attribution]) -> dict[str, Any]:
    """Of all files together: by model, and what compares two of them."""
    benchmarks = dict.fromkeys(
        benchmark
        for one in attributions
        for model in one.summary["models"].values()
        for benchmark in model["benchmarks"]
    )
    return {
        "files": [str(one.path) for one in attributions],
        "confidence": attributions[0].summary["settings"]["confidence"],
        "judges": [_judge(one.summary) for one in attributions],
        "models": {
            one.names[name]: {key: model[key] for key in ("rows", "wrong", "kinds", "own_errors")}
            | {"of_wrong": model.get("of_wrong", model["wrong"])}
            | {"benchmarks": {name: model["benchmarks"][name] for name in benchmarks if name in model["benchmarks"]}}
            for one in attributions
            for name, model in one.summary["models"].items()
        },
        "warnings": [text for one in attributions for text in one.summary["warnings"]],
    }


def _judge(summary: Numbers) -> str:
    judge, agreement = summary["judge"], summary["agreement"]
    votes = f"{judge['votes']} votes each" if judge["votes"] != 1 else "one vote each"
    text = f"{judge['name']} ({judge['model']}, {votes})"
    if agreement and agreement["fleiss_kappa"] is not None:
        text += (
            f", whose votes agree with Fleiss' kappa {agreement['fleiss_kappa']:.2f} on {agreement['cases']:,} cases"
        )
    return text


def corrected_numbers(attributions: Sequence[Attribution]) -> dict[str, Any] | None:
    """Shares with what an audit says of the judge; None without an audit."""
    models = {
        one.names[name]: {"uncorrected": _uncorrected(model), **model["corrected"]}
        for one in attributions
        for name, model in one.summary["models"].items()
        if model["corrected"]
    }
    confidence = attributions[0].summary["settings"]["confidence"]
    return (
        {"files": [str(one.path) for one in attributions], "confidence": confidence, "models": models}
        if models
        else None
    )


def _uncorrected(scope: Numbers) -> dict[str, list[float]]:
    return {kind: [cell["share"], *interval_to_show(cell)] for kind, cell in scope["kinds"].items()}


def change_numbers(attributions: Sequence[Attribution]) -> list[dict[str, Any]]:
    return [
        {**comparison, "first": one.names[comparison["first"]], "second": one.names[comparison["second"]]}
        | {"file": str(one.path), "confidence": one.summary["settings"]["confidence"]}
        for one in attributions
        for comparison in one.summary["comparisons"]
    ]


# Shares


def kinds_section(numbers: Numbers) -> Section:
    """Of `kind_numbers`."""
    interval = f"{100 * numbers['confidence']:g} %"
    wrong, of_wrong = (sum(model[name] for model in numbers["models"].values()) for name in ("wrong", "of_wrong"))
    drawn = f" (drawn from {of_wrong:,})" if of_wrong > wrong else ""
    return Section(
        key="kinds",
        heading="Kinds of errors",
        text=f"Where the first error lies that each of {wrong:,} wrong answers{drawn} hangs on, as told by "
        f"{'; '.join(dict.fromkeys(numbers['judges']))}. Shares are of all wrong answers. The line over each bar is "
        f"the {interval} interval of the share of perception. Undecided: no verdict, or the votes are split.",
        sources=numbers["files"],
        picture=_kinds_picture(numbers["models"]) if wrong else None,
        tables=[
            _shares_table(numbers, interval),
            _own_table(numbers, interval),
            _categories_table(numbers, interval),
            _meanings_table(),
        ],
        remarks=numbers["warnings"],
    )


def _bars(model: Numbers) -> Iterator[tuple[str, Numbers]]:
    """What has a bar of its own: all wrong answers of a model, and those on each benchmark."""
    yield ALL, model
    yield from ((name, scope) for name, scope in model["benchmarks"].items() if scope["wrong"])


def _kinds_picture(models: Mapping[str, Numbers]) -> Picture:
    shown = {name: list(_bars(model)) for name, model in models.items() if model["wrong"]}
    heights = [0.45 + 0.25 * len(bars) for bars in shown.values()]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for panel, (name, bars) in zip(panels, shown.items(), strict=True):
            _stacked(panel, bars)
            panel.set_title(short(name, 60))
        panels[-1].set_xlabel("share of wrong answers")
        _kind_legend(figure, _occurring(models))

    alt = f"Kinds of errors of {', '.join(shown)}, as stacked bars by benchmark. The table below has the numbers."
    return picture("error_kinds", alt, (WIDTH, 1.2 + sum(heights)), draw)


def _occurring(models: Mapping[str, Numbers]) -> list[str]:
    return [kind for kind in OUTCOMES if any(kind in model["kinds"] for model in models.values())]


def _stacked(panel: Axes, bars: Sequence[tuple[str, Numbers]]) -> None:
    for line, (_, scope) in enumerate(bars):
        left = 0.0
        for kind in OUTCOMES:
            cell = scope["kinds"].get(kind)
            if cell:
                look = KIND_LOOKS[kind]
                style: dict[str, Any] = {"facecolor": look.colour, "edgecolor": PAPER, "hatch": look.hatch}
                panel.barh(line, cell["share"], 0.72, left, linewidth=0, **style)
                left += cell["share"]
        cell = scope["kinds"].get(PERCEPTION)
        if cell:
            _whisker(panel, interval_to_show(cell), line)
        panel.text(1.01, line, f"{scope['wrong']:,}", va="center", fontsize=8)
    panel.text(1.01, -0.85, "wrong", va="center", fontsize=8)
    panel.set_yticks(range(len(bars)), [short(name) for name, _ in bars])
    panel.set_ylim(len(bars) - 0.4, -0.6)
    panel.set_xlim(0, 1)
    panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    panel.grid(False)
    panel.tick_params(axis="y", length=0)


def _whisker(panel: Axes, ends: Sequence[float], line: float) -> None:
    """Seen on every colour: dark on a light band."""
    low, high = ends
    for colour, width in ((PAPER, 3.6), ("#1a1a1a", 1.4)):
        panel.plot([low, high], [line, line], color=colour, linewidth=width, solid_capstyle="butt")
        for end in ends:
            panel.plot([end, end], [line - 0.18, line + 0.18], color=colour, linewidth=width, solid_capstyle="butt")


def _kind_legend(figure: Figure, kinds: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=look.colour, edgecolor=PAPER, hatch=look.hatch, linewidth=0, label=kind_words(kind))
        for kind in kinds
        for look in (KIND_LOOKS[kind],)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=4, handlelength=2.2, handleheight=1.1)


def _shares_table(numbers: Numbers, interval: str) -> Table:
    kinds = _occurring(numbers["models"])
    head = ["model", "benchmark", "rows", "wrong", *map(kind_words, kinds), f"{interval} interval of perception"]
    rows = [
        [
            name,
            benchmark,
            f"{scope['rows']:,}",
            f"{scope['wrong']:,}",
            *(_count_share(scope["kinds"].get(kind)) for kind in kinds),
            _percents(interval_to_show(scope["kinds"][PERCEPTION])) if PERCEPTION in scope["kinds"] else NONE,
        ]
        for name, model in numbers["models"].items()
        for benchmark, scope in [(ALL, model), *model["benchmarks"].items()]
    ]
    return Table("Counts of wrong answers, and their shares.", head, rows)


def _own_table(numbers: Numbers, interval: str) -> Table:
    """What can be set beside MMErroR, which has no other kinds."""
    head = ["model", "of", *map(kind_words, ERRORS)]
    rows = []
    for name, model in numbers["models"].items():
        own = model["own_errors"]
        cells = [own["kinds"].get(kind) for kind in ERRORS]
        rows.append(
            [
                name,
                f"{own['of']:,}",
                *(f"{cell['share']:.1%} ({_percents(interval_to_show(cell))})" if cell else "0" for cell in cells),
            ]
        )
    text = "Of the errors that are the model's own, to be compared with MMErroR, "
    return Table(f"{text}with {interval} intervals.", head, rows, folded=True)


def _categories_table(numbers: Numbers, interval: str) -> Table:
    rows = [
        [
            name,
            benchmark,
            category,
            f"{one['wrong']:,}",
            _count_share(cell),
            _percents(interval_to_show(cell)) if cell else NONE,
        ]
        for name, model in numbers["models"].items()
        for benchmark, scope in model["benchmarks"].items()
        for category, one in scope["categories"].items()
        for cell in [one["kinds"].get(PERCEPTION)]
        if one["wrong"]
    ]
    head = ["model", "benchmark", "category", "wrong", "perception", f"{interval} interval"]
    return Table("Perception by category of the benchmark.", head, rows, folded=True)


def _meanings_table() -> Table:
    rows = [[kind_words(kind), MEANINGS[kind].rule, MEANINGS[kind].example] for kind in KINDS]
    rows.append([kind_words(UNDECIDED), "No verdict could be had, or two kinds have as many votes.", NONE])
    return Table("What the kinds mean.", ["kind", "rule", "example"], rows, folded=True)


def _count_share(cell: Numbers | None) -> str:
    return f"{cell['count']:,} ({cell['share']:.1%})" if cell else "0"


def _percents(ends: Sequence[float]) -> str:
    return " to ".join(f"{end:.1%}" for end in ends)


# Corrected for the judge's errors


def corrected_section(numbers: Numbers) -> Section:
    """Of `corrected_numbers`."""
    assumptions = {
        method["method"]: method["assumes"] for model in numbers["models"].values() for method in model["methods"]
    }
    interval = f"{100 * numbers['confidence']:g} %"
    return Section(
        key="corrected",
        heading="Corrected for the judge's errors",
        text=f"The shares as the judge has them, and what each method makes of them with an audit of the judge, with "
        f"{interval} intervals. A method is as good as what it assumes. A bar without a mark is a range in which the "
        "share lies, without an estimate.",
        sources=numbers["files"],
        picture=_forest(numbers["models"]),
        tables=[
            Table("What each method assumes.", ["method", "assumes"], list(assumptions.items())),
            _corrected_table(numbers, interval),
        ],
    )


def _lines(model: Numbers) -> dict[str, list[tuple[str, Sequence[Any]]]]:
    """By kind, the estimates of it: first the uncorrected one."""
    found = {}
    for kind in OUTCOMES:
        methods = [(m["method"], m["kinds"][kind]) for m in model["methods"] if kind in m["kinds"]]
        if methods:
            raw = model["uncorrected"].get(kind)
            found[kind] = [*([(UNCORRECTED, raw)] if raw else []), *methods]
    return found


def _forest(models: Mapping[str, Numbers]) -> Picture | None:
    panels = [(name, kind, lines) for name, model in models.items() for kind, lines in _lines(model).items()]
    if not panels:
        return None
    heights = [0.3 + 0.19 * len(lines) for _, _, lines in panels]

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for panel, (name, kind, lines) in zip(axes, panels, strict=True):
            _estimates(panel, kind, lines)
            panel.set_title(f"{kind_words(kind)}, {short(name)}" if len(models) > 1 else kind_words(kind), fontsize=9)
        axes[-1].set_xlim(0, 1)
        axes[-1].set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
        axes[-1].set_xlabel("share of wrong answers")

    alt = "Shares of kinds of errors, uncorrected and by each method. The table below has the numbers."
    return picture("corrected", alt, (WIDTH, 0.6 + sum(heights)), draw)


def _estimates(panel: Axes, kind: str, lines: Sequence[tuple[str, Sequence[Any]]]) -> None:
    colour = KIND_LOOKS[kind].colour
    style: dict[str, Any] = {"color": colour, "solid_capstyle": "butt"}
    for place, (method, (value, *ends)) in enumerate(lines):
        if value is None or method == BOUNDS:
            panel.plot(ends, [place, place], linewidth=6, alpha=0.45, **style)
        else:
            inside = "none" if method == UNCORRECTED else colour
            panel.plot(ends, [place, place], linewidth=1.6, **style)
            panel.plot(value, place, "o", color=colour, markersize=5, markerfacecolor=inside)
    raw = dict(lines).get(UNCORRECTED)
    if raw:
        panel.axvline(raw[0], color=INK, alpha=0.35, linewidth=0.8, linestyle=":")
    panel.set_yticks(range(len(lines)), [short(method) for method, _ in lines], fontsize=8)
    panel.set_ylim(len(lines) - 0.4, -0.6)
    panel.grid(True, axis="x")
    panel.grid(False, axis="y")
    panel.tick_params(axis="both", length=0)


def _corrected_table(numbers: Numbers, interval: str) -> Table:
    rows = [
        [name, kind_words(kind), method, NONE if value is None else f"{value:.1%}", f"{low:.1%} to {high:.1%}"]
        for name, model in numbers["models"].items()
        for kind, lines in _lines(model).items()
        for method, (value, low, high) in lines
    ]
    return Table("The estimates.", ["model", "kind", "method", "share", f"{interval} interval"], rows, folded=True)


# Two models


def change_sections(comparisons: Sequence[Numbers]) -> list[Section]:
    """Of `change_numbers`."""
    return [_change_section(one, place) for place, one in enumerate(comparisons, 1)]


def _change_section(one: Numbers, place: int) -> Section:
    first, second = one["first"], one["second"]
    fixed, new = sum(one["fixed"].values()), sum(one["new"].values())
    return Section(
        key=f"changes-{place}",
        heading=f"Errors fixed and new: {second} against {first}",
        text=f"On {one['rows']:,} rows that both have: {fixed:,} errors of {first} are fixed in {second}, and {new:,} "
        f"are new.{_perception_difference(one)}",
        sources=[one["file"]],
        picture=_changes_picture(one, place) if fixed + new else None,
        tables=[_changes_table(one), *_tests_table(one), *_moved_table(one)],
    )


def _perception_difference(one: Numbers) -> str:
    if not one["perception_difference"]:
        return ""
    value, low, high = (100 * value for value in one["perception_difference"])
    interval = f"{100 * one['confidence']:g} % interval {low:+.1f} to {high:+.1f}"
    return f" Rows with a perception error: {value:+.1f} percentage points ({interval})."


def _changed(one: Numbers) -> list[str]:
    return [kind for kind in CHANGED if kind in one["fixed"] or kind in one["new"]]


def _changes_picture(one: Numbers, place: int) -> Picture:
    kinds = _changed(one)

    def draw(figure: Figure) -> None:
        panel = figure.subplots()
        most = max(max(one[side].get(kind, 0) for side in ("fixed", "new")) for kind in kinds)
        for line, kind in enumerate(kinds):
            look = KIND_LOOKS[kind]
            for side, sign, align in (("fixed", -1, "right"), ("new", 1, "left")):
                number = one[side].get(kind, 0)
                style: dict[str, Any] = {"facecolor": look.colour, "edgecolor": PAPER, "hatch": look.hatch}
                panel.barh(line, sign * number, 0.72, linewidth=0, **style)
                panel.text(sign * (number + 0.015 * most), line, f"{number:,}", ha=align, va="center", fontsize=8)
        panel.axvline(0, color=INK, linewidth=0.9)
        panel.set_xlim(-1.15 * most, 1.15 * most)
        panel.set_xticks([])
        panel.set_title("← fixed", loc="left")
        panel.set_title("new →", loc="right")
        panel.set_yticks(range(len(kinds)), map(kind_words, kinds))
        panel.set_ylim(len(kinds) - 0.5, -0.5)
        panel.tick_params(axis="y", length=0)
        panel.grid(False)
        panel.spines["bottom"].set_visible(False)
        panel.spines["left"].set_visible(False)

    alt = f"Errors of {one['first']} that {one['second']} fixed, and new ones. The table below has the numbers."
    return picture(f"changes_{place}", alt, (WIDTH, 0.5 + 0.32 * len(kinds)), draw)


def _changes_table(one: Numbers) -> Table:
    rows = []
    for kind in _changed(one):
        fixed, new = one["fixed"].get(kind, 0), one["new"].get(kind, 0)
        rows.append([kind_words(kind), f"{fixed:,}", f"{new:,}", f"{new - fixed:+,}"])
    caption = f"By kind. Both right: {one['both_right']:,} rows; both wrong: {one['both_wrong']:,}."
    return Table(caption, ["kind", "fixed", "new", "new minus fixed"], rows)


def _tests_table(one: Numbers) -> Iterator[Table]:
    rows, remarks = [], []
    for name, cell in one["benchmarks"].items():
        if "p" in cell:
            counts = [f"{cell[which]:,}" if which in cell else NONE for which in ("n01", "n10")]
            rows.append([name, f"{cell['rows']:,}", *counts, _p(cell["p"]), _p(cell["p_holm"]), cell["test"]])
        else:
            remarks.append(f"{name}: not tested: {cell['reason']}")
    head = ["benchmark", "rows", "n01", "n10", "p", "Holm p", "test"]
    note = f"n01: rows that only {one['second']} has right; n10: only {one['first']}."
    yield Table(f"Right and wrong by benchmark. {note}", head, rows, folded=True, remarks=remarks)


def _moved_table(one: Numbers) -> Iterator[Table]:
    kinds = [kind for kind in CHANGED if kind in one["moved"] or any(kind in row for row in one["moved"].values())]
    rows = [[kind_words(kind), *(f"{one['moved'].get(kind, {}).get(to, 0):,}" for to in kinds)] for kind in kinds]
    if rows:
        caption = f"Rows that both have wrong: the kind in {one['first']} (line) and in {one['second']} (column)."
        yield Table(caption, ["", *map(kind_words, kinds)], rows, folded=True)


def _p(value: float) -> str:
    return f"{value:.2g}" if value < 0.001 else f"{value:.3f}"
