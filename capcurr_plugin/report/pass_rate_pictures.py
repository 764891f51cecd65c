"""The pictures of pass rates, drawn from the numbers of `pass_rates`, with the sections of the page that show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from capcurr_plugin.report.figures import INK, LOOKS, PAPER, Picture, picture
from capcurr_plugin.report.page import NONE, Section, Table
from capcurr_plugin.report.pass_rates import BINS, CONFIDENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = Mapping[str, Any]

WIDTH = 7.2  # inches
BEFORE, AFTER = "before", "after"
PALE = 0.4
MOST_LABELLED_STAGES = 12
SIDE_TITLE: dict[str, Any] = {"fontsize": 8, "fontweight": "normal"}
INTERVAL = f"{CONFIDENCE:.0%} interval"


def words(name: str) -> str:
    return name.replace("_", " ")


def _mean(numbers: Numbers) -> str:
    if numbers["mean"] is None:
        return NONE
    low, high = numbers["interval"]
    return f"{numbers['mean']:.3f} ({low:.3f} to {high:.3f})"


def _share(count: int, numbers: Numbers) -> str:
    measured = numbers["rows"] - numbers["not_measured"]
    return f"{count:,} ({count / measured:.1%})" if measured else NONE


# Histograms


def histogram_section(numbers: Numbers) -> Section:
    """Of `pass_rates.histogram_numbers`."""
    sets = list(numbers["all"])
    filtered = " Pale: before the filter. Full colour: what it kept." if AFTER in sets else ""
    return Section(
        key="pass-rates",
        heading="Pass rates by capability",
        text="How many rows the model solves how often. GRPO learns nothing from a row whose answers are all wrong "
        f"(pass rate 0) or all right (1): these columns are shaded.{filtered}",
        sources=[f"{name}: {file}" for name, files in numbers["files"].items() for file in files],
        picture=_histograms(numbers),
        tables=[_summary_table(numbers, sets), _bars_table(numbers, sets)],
    )


def _summary_table(numbers: Numbers, sets: Sequence[str]) -> Table:
    several = AFTER in sets
    which = ["the filter"] if several else []
    head = ["capability", *which, "rows", "not measured", f"mean pass rate ({INTERVAL})", "at 0", "at 1"]
    rows = [
        [
            words(group),
            *([name] if several else []),
            f"{one['rows']:,}",
            f"{one['not_measured']:,}",
            _mean(one),
            _share(one["at_0"], one),
            _share(one["at_1"], one),
        ]
        for group, by_set in [*numbers["capabilities"].items(), ("all", numbers["all"])]
        for name, one in by_set.items()
    ]
    note = "Intervals are Wilson's with each row as one trial, which errs to the wide side for a mean of rates."
    return Table("Counts and means. Shares are of the measured rows. " + note, head, rows)


def _bars_table(numbers: Numbers, sets: Sequence[str]) -> Table:
    columns = [(group, name) for group in numbers["capabilities"] for name in sets]
    head = ["pass rate", *(f"{words(group)}, {name}" if AFTER in sets else words(group) for group, name in columns)]
    rows = [
        [label, *(f"{numbers['capabilities'][group][name]['bars'][number]:,}" for group, name in columns)]
        for number, label in enumerate(numbers["bars"])
    ]
    rows.append(["not measured", *(f"{numbers['capabilities'][g][n]['not_measured']:,}" for g, n in columns)])
    return Table("Rows at each bar; a range holds its lower end, save 0.", head, rows, folded=True)


def _histograms(numbers: Numbers) -> Picture:
    groups = numbers["capabilities"]
    alt = f"Histograms of pass rates: {', '.join(map(words, groups))}. The table below has the numbers."

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
        unmeasured = any(one["not_measured"] for by_set in groups.values() for one in by_set.values())
        for panel, (group, by_set) in zip(panels, groups.items(), strict=True):
            _histogram(panel, group, by_set, unmeasured)
        _rate_axis(panels[-1], numbers, unmeasured)
        figure.align_ylabels()
        if AFTER in numbers["all"]:
            _set_legend(figure)

    return picture("pass_rates", alt, (WIDTH, 0.8 + 1.55 * len(groups)), draw)


def _histogram(panel: Axes, group: str, by_set: Numbers, unmeasured: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for name, one in by_set.items():
        pale = name == BEFORE and AFTER in by_set
        _bars(panel, one, LOOKS[group].colour, unmeasured, pale=pale, width=0.5 if name == AFTER else 0.86)
    _shade_ends(panel, by_set)
    panel.set_title(words(group))
    panel.set_ylabel("rows")
    panel.set_title(_counts(by_set), loc="right", **SIDE_TITLE)
    tallest = max(max(*one["bars"], one["not_measured"]) for one in by_set.values())
    panel.set_ylim(0, 1.3 * tallest)  # room for the shares, where no grid line shall be
    panel.set_yticks([tick for tick in MaxNLocator(4, integer=True).tick_values(0, tallest) if 0 <= tick <= tallest])
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.tick_params(axis="x", length=0)


def _bars(panel: Axes, one: Numbers, colour: str, unmeasured: bool, pale: bool, width: float) -> None:
    count = len(one["bars"])
    panel.bar(range(count), one["bars"], width, color=colour, alpha=PALE if pale else 1, linewidth=0)
    if unmeasured and pale:
        panel.bar(count + 1, one["not_measured"], width, color=colour, alpha=PALE, linewidth=0)
    elif unmeasured and one["not_measured"]:
        panel.bar(count + 1, one["not_measured"], width, facecolor="none", edgecolor=colour, hatch="////")


def _shade_ends(panel: Axes, by_set: Numbers) -> None:
    """The bars at 0 and 1, with their shares."""
    last = len(by_set[BEFORE]["bars"]) - 1
    for column, place, text_place, align in (("at_0", 0, -0.43, "left"), ("at_1", last, last + 0.43, "right")):
        panel.axvspan(place - 0.5, place + 0.5, color=INK, alpha=0.07, linewidth=0, zorder=0)  # behind the bars
        shares = " → ".join(_percent(one, column) for one in by_set.values())
        panel.text(text_place, 0.97, shares, ha=align, va="top", fontsize=8, transform=panel.get_xaxis_transform())


def _percent(numbers: Numbers, column: str) -> str:
    measured = numbers["rows"] - numbers["not_measured"]
    return f"{numbers[column] / measured:.0%}" if measured else NONE


def _counts(by_set: Numbers) -> str:
    return " → ".join(
        _rows(one["rows"]) + ("" if one["mean"] is None else f", mean {one['mean']:.2f}") for one in by_set.values()
    )


def _rows(count: int) -> str:
    return f"{count:,} row{'s' if count != 1 else ''}"


def _rate_axis(panel: Axes, numbers: Numbers, unmeasured: bool) -> None:
    k = numbers["k"]
    last = len(numbers["bars"]) - 1
    if k:
        step = next(step for step in range(1, k + 1) if k % step == 0 and k / step <= 5)
        ticks = {place: f"{place / k:.3g}" for place in range(0, k + 1, step)}
    else:
        ticks = {0: "0", **{n + 0.5: f"{n / BINS:g}" for n in range(2, BINS, 2)}, last: "1"}
    if unmeasured:
        ticks[last + 2] = "not\nmeasured"
    panel.set_xticks(list(ticks), list(ticks.values()))
    panel.set_xlim(-0.7, last + (2.7 if unmeasured else 0.7))
    panel.set_xlabel("pass rate: the share of its answers that are right")


def _set_legend(figure: Figure) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=INK, alpha=PALE, label="before the filter"), Patch(facecolor=INK, label="after it")]
    figure.legend(handles=handles, loc="outside upper right", ncols=2)


# The order


def order_section(numbers: Numbers) -> Section:
    """Of `pass_rates.Order.numbers`."""
    return Section(
        key="order",
        heading="The order of training",
        text="Which capability is trained when, and whether its rows go from easy to hard. Above: the share of each "
        "capability along the order. Below: the mean pass rate of its rows, within the band that holds their middle "
        "half; a line that falls goes from easy to hard.",
        sources=[f"stage {number}: {stage['file']}" for number, stage in enumerate(numbers["stages"], 1)],
        picture=_order(numbers),
        tables=[_stages_table(numbers), _slices_table(numbers)],
    )


def _stages_table(numbers: Numbers) -> Table:
    head = ["stage", "capability", "positions", "rows", "not measured", f"mean pass rate ({INTERVAL})", "goes"]
    rows = [
        [
            str(number),
            words(group),
            f"{run['first']:,} to {run['last']:,}",
            f"{run['rows']:,}",
            f"{run['not_measured']:,}",
            _mean(run),
            _direction(run),
        ]
        for number, stage in enumerate(numbers["stages"], 1)
        for group, run in stage["capabilities"].items()
    ]
    return Table("Each capability in each stage.", head, rows)


def _direction(run: Numbers) -> str:
    steps = run["steps_to_easier"] + run["steps_to_harder"]
    if run["direction"] != "mixed":
        return run["direction"]
    return f"mixed: {run['steps_to_easier']:,} of {steps:,} steps lead to an easier row"


def _slices_table(numbers: Numbers) -> Table:
    head = ["positions", "capability", "rows", "not measured", "mean pass rate", "middle half"]
    rows = [
        [
            f"{one['first']:,} to {one['last']:,}",
            words(group),
            f"{part['rows']:,}",
            f"{part['not_measured']:,}",
            NONE if part["mean"] is None else f"{part['mean']:.3f}",
            NONE if part["quartiles"] is None else "{:.3f} to {:.3f}".format(*part["quartiles"]),
        ]
        for one in numbers["slices"]
        for group, part in one["capabilities"].items()
    ]
    return Table("The order, slice by slice.", head, rows, folded=True)


def _order(numbers: Numbers) -> Picture:
    groups = numbers["capabilities"]
    alt = f"The order of {numbers['rows']:,} rows: {', '.join(map(words, groups))} by position, with their pass rates."

    def draw(figure: Figure) -> None:
        above, *below = figure.subplots(1 + len(groups), 1, sharex=True, height_ratios=[1.3, *[1] * len(groups)])
        _draw_shares(above, groups, numbers["slices"])
        for panel, group in zip(below, groups, strict=True):
            _draw_rates(panel, group, numbers["slices"])
        for panel in (above, *below):
            for stage in numbers["stages"][1:]:
                panel.axvline(stage["first"] - 1, color=INK, linewidth=1.2)
        _position_axis(below[-1], numbers["rows"])
        _name_stages(above, numbers)
        figure.legend(loc="outside upper left", ncols=len(groups))

    return picture("order", alt, (WIDTH, 2.4 + 1.25 * len(groups)), draw)


def _edges(slices: Sequence[Numbers]) -> list[int]:
    return [0, *(one["last"] for one in slices)]


def _draw_shares(panel: Axes, groups: Sequence[str], slices: Sequence[Numbers]) -> None:
    below = [0.0] * len(slices)
    for group in groups:
        rows = [one["capabilities"].get(group, {"rows": 0})["rows"] for one in slices]
        sizes = [one["last"] - one["first"] + 1 for one in slices]
        top = [low + count / size for low, count, size in zip(below, rows, sizes, strict=True)]
        look = LOOKS[group]
        style = {"facecolor": look.colour, "edgecolor": PAPER, "hatch": look.hatch, "linewidth": 0}
        panel.stairs(top, _edges(slices), baseline=below, fill=True, label=words(group), **style)
        below = top
    panel.set_ylim(0, 1)
    panel.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    panel.set_ylabel("share of rows")
    panel.tick_params(axis="x", length=0)


def _draw_rates(panel: Axes, group: str, slices: Sequence[Numbers]) -> None:
    parts = [one["capabilities"].get(group, {"mean": None, "quartiles": None}) for one in slices]
    gap = float("nan")
    means = [gap if part["mean"] is None else part["mean"] for part in parts]
    low, high = ([part["quartiles"][end] if part["quartiles"] else gap for part in parts] for end in (0, 1))
    colour, edges = LOOKS[group].colour, _edges(slices)
    panel.stairs(high, edges, baseline=low, fill=True, color=colour, alpha=0.25, linewidth=0)
    panel.stairs(means, edges, baseline=None, color=colour, linewidth=1.8)
    panel.set_ylim(-0.04, 1.04)
    panel.set_yticks([0, 0.5, 1], ["hard 0", "0.5", "easy 1"])
    panel.set_title(f"pass rate, {words(group)}", fontsize=9)
    if missing := sum(part.get("not_measured", 0) for part in parts):
        panel.set_title(f"{_rows(missing)} not measured", loc="right", **SIDE_TITLE)
    panel.tick_params(axis="x", length=0)


def _position_axis(panel: Axes, rows: int) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    panel.set_xlim(0, rows)
    panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.tick_params(axis="x", length=3)
    panel.set_xlabel("position in the order")


def _name_stages(panel: Axes, numbers: Numbers) -> None:
    if not 1 < len(numbers["stages"]) <= MOST_LABELLED_STAGES:
        return
    for number, stage in enumerate(numbers["stages"], 1):
        middle = (stage["first"] - 1 + stage["last"]) / 2
        wide = (stage["last"] - stage["first"] + 1) / numbers["rows"] > 0.1
        name = f"stage {number}" if wide else f"{number}"
        panel.text(middle, 1.03, name, ha="center", transform=panel.get_xaxis_transform())
