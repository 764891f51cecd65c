"""How long models think where they are right and where they are wrong: from the summaries of `capcurr attribute`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from capcurr_plugin.report.attributions import Attribution
from capcurr_plugin.report.figures import Picture, Series, picture, series, short
from capcurr_plugin.report.page import Section, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = Mapping[str, Any]

WIDTH = 7.2  # inches
RIGHT, WRONG = "right", "wrong"
LOOKS: dict[str, Series] = {RIGHT: series(0), WRONG: series(1)}


def length_numbers(attributions: Sequence[Attribution]) -> dict[str, Any] | None:
    models = {
        one.names[name]: model["lengths"]
        for one in attributions
        for name, model in one.summary["models"].items()
        if model["lengths"]
    }
    pairs = [
        {
            "first": one.names[comparison["first"]],
            "second": one.names[comparison["second"]],
            "confidence": one.summary["settings"]["confidence"],
            **comparison["lengths"],
        }
        for one in attributions
        for comparison in one.summary["comparisons"]
        if comparison["lengths"]
    ]
    return {"files": [str(one.path) for one in attributions], "models": models, "pairs": pairs} if models else None


def lengths_section(numbers: Numbers) -> Section:
    """Of `length_numbers`."""
    units = dict.fromkeys(model["unit"] for model in numbers["models"].values())
    return Section(
        key="lengths",
        heading="How long the models think",
        text=f"The length of responses in {' or '.join(units)}, of those that are right and those that are wrong. "
        "The upright lines are medians. The axis grows by powers, so that each bin is as much longer than the one "
        "before.",
        sources=numbers["files"],
        picture=_histograms(numbers["models"]),
        tables=[_lengths_table(numbers["models"]), *_pairs_table(numbers["pairs"])],
    )


def _histograms(models: Mapping[str, Numbers]) -> Picture | None:
    shown = {name: model for name, model in models.items() if any(model[kind] for kind in LOOKS)}
    if not shown:
        return None

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for panel, (name, model) in zip(panels, shown.items(), strict=True):
            _histogram(panel, model)
            panel.set_title(short(name))
            panel.set_ylabel("share")
        last = panels[-1]
        last.set_xscale("log")
        last.set_xlim(*_ends(shown.values()))
        last.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        last.xaxis.set_minor_formatter(NullFormatter())
        last.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        last.set_xlabel(short(next(iter(shown.values()))["unit"], 60))
        figure.legend(*last.get_legend_handles_labels(), loc="outside upper left", ncols=2)

    alt = f"Histograms of lengths, right and wrong, of {', '.join(shown)}. The table below has the numbers."
    return picture("lengths", alt, (WIDTH, 0.9 + 1.5 * len(shown)), draw)


def _histogram(panel: Axes, model: Numbers) -> None:
    medians = []
    for kind, look in LOOKS.items():
        one = model[kind]
        if not one:
            panel.plot([], [], color=look.colour, linestyle=look.line, label=kind)
            continue
        counts, edges = one["histogram"]["counts"], one["histogram"]["edges"]
        shares = [count / max(1, sum(counts)) for count in counts]
        edges = [max(edge, edges[1] / 2) for edge in edges]  # a logarithm has no 0
        panel.stairs(shares, edges, fill=True, color=look.colour, alpha=0.22, linewidth=0)
        panel.stairs(shares, edges, color=look.colour, linestyle=look.line, linewidth=1.6, label=kind)
        medians.append(f"{kind} {one['median']:,.0f}")
        if one["median"] > 0:
            panel.axvline(one["median"], color=look.colour, linestyle=look.line, linewidth=1.2)
    panel.set_title(f"medians: {', '.join(medians)}", loc="right", fontsize=8, fontweight="normal")
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _ends(models: Any) -> tuple[float, float]:
    """Of the bins that hold something."""
    places = [
        edge
        for model in models
        for kind in LOOKS
        if model[kind]
        for low, high, count in zip(*_bins(model[kind]["histogram"]), strict=True)
        for edge in (max(low, high / 2), high)
        if count
    ]
    return (min(places), max(places)) if places else (1, 10)


def _bins(histogram: Numbers) -> tuple[Sequence[float], Sequence[float], Sequence[int]]:
    return histogram["edges"][:-1], histogram["edges"][1:], histogram["counts"]


def _lengths_table(models: Mapping[str, Numbers]) -> Table:
    rows = [
        [name, benchmark, kind, *_cells(of[kind])]
        for name, model in models.items()
        for benchmark, of in [("all", model), *model["benchmarks"].items()]
        for kind in ("all", RIGHT, WRONG)
        if of[kind]
    ]
    head = ["model", "benchmark", "responses", "rows", "mean", "median", "middle half", "middle 90 %"]
    return Table("Lengths.", head, rows, folded=len(rows) > 30)


def _cells(one: Numbers) -> list[str]:
    points = one["quantiles"]
    return [
        f"{one['rows']:,}",
        f"{one['mean']:,.0f}",
        f"{one['median']:,.0f}",
        *(f"{points[low]:,.0f} to {points[high]:,.0f}" for low, high in (("25", "75"), ("5", "95"))),
    ]


def _pairs_table(pairs: Sequence[Numbers]) -> list[Table]:
    rows = [
        [
            f"{one['second']} against {one['first']}",
            f"{one['pairs']:,}",
            f"{one['first_mean']:,.0f}",
            f"{one['second_mean']:,.0f}",
            "{:+,.0f} ({:+,.0f} to {:+,.0f})".format(*one["difference"]),
            "{:.2f} ({:.2f} to {:.2f})".format(*one["ratio"]),
        ]
        for one in pairs
    ]
    head = ["models", "pairs", "mean of the first", "of the second", "difference (interval)", "ratio (interval)"]
    return [Table("Two models on the same rows.", head, rows)] if rows else []
