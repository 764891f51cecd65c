"""The numbers of an attribution, as they are written beside its records and printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from capcurr_plugin.attribution.cases import Gathered
from capcurr_plugin.attribution.comparing import compare_kinds
from capcurr_plugin.attribution.kinds import ERRORS
from capcurr_plugin.attribution.lengths import model_lengths
from capcurr_plugin.attribution.records import OUTCOMES
from capcurr_plugin.attribution.shares import Drawing, Kinds, interval_to_show, model_numbers
from capcurr_plugin.evaluation.results import Model
from capcurr_plugin.evaluation.tables import Table, as_lines

FORMAT = 1


def summarize(
    wrong: Sequence[Kinds],
    models: Mapping[str, Model],
    gathered: Gathered,
    drawing: Drawing,
    compared: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    kinds = {(one.model, one.benchmark, one.index): one.kind for one in wrong}
    numbers = {
        name: model_numbers([one for one in wrong if one.model == name], gathered.rows[name], name, drawing)
        | {"of_wrong": gathered.wrong[name], "corrected": None, "lengths": model_lengths(model.results)}
        for name, model in models.items()
    }
    return {
        "models": numbers,
        "comparisons": [compare_kinds(models[one], models[other], kinds, drawing) for one, other in compared],
        "warnings": [
            *gathered.notes,
            *(
                f"{model}: {count:,} rows have a failure of its server for an answer, and were left out"
                for model, count in gathered.unanswered.items()
                if count
            ),
        ],
    }


# As text


def as_text(summary: Mapping[str, Any]) -> str:
    return as_lines(_tables(summary))


def _tables(summary: Mapping[str, Any]) -> Iterator[Table]:
    level = f"{100 * summary['settings']['confidence']:g} %"
    for name, model in summary["models"].items():
        yield _kinds_table(name, model, level)
        if model["corrected"]:
            yield _corrected_table(name, model, level)
        if model["lengths"]:
            yield _lengths_table(name, model["lengths"])
    for comparison in summary["comparisons"]:
        yield _comparison_table(comparison, level)
    remarks = [*_agreement(summary), *_spend(summary), *summary["warnings"]]
    yield Table("", [], remarks=remarks)


def _kinds_table(name: str, model: Mapping[str, Any], level: str) -> Table:
    shown = [kind for kind in OUTCOMES if kind in model["kinds"]]
    table = Table(
        f"{name}: what its wrong answers begin with, in percent of all of them",
        [
            "",
            "rows",
            "wrong",
            *(kind.replace("_", " ") for kind in shown),
            f"perception, {level} interval",
            "of own errors",
        ],
    )
    for scope_name, scope in [*model["benchmarks"].items(), ("all", model)]:
        if scope_name == "all":
            table.rows.append([])
        shares = [_percent(scope["kinds"].get(kind, {}).get("share", 0)) if scope["wrong"] else "" for kind in shown]
        perception = scope["kinds"].get("perception")
        own = scope["own_errors"]["kinds"].get("perception")
        table.rows.append(
            [
                scope_name,
                f"{scope['rows']:,}",
                f"{scope['wrong']:,}",
                *shares,
                _range(interval_to_show(perception)) if perception else "",
                f"{_percent(own['share'])} ({_range(interval_to_show(own))})" if own else "",
            ]
        )
    own = ", ".join(ERRORS).replace("_", " ")
    table.remarks.append(
        "intervals: bootstrap over questions with their variants, or Wilson's where all wrong answers are alike; "
        f"of own errors: among {own}"
    )
    return table


def _corrected_table(name: str, model: Mapping[str, Any], level: str) -> Table:
    table = Table(f"{name}: the share of perception errors, when the judge's own errors are counted in", [])
    table.header = ["", "perception", f"{level} interval"]
    said = model["kinds"].get("perception")
    if said:
        table.rows.append(["as the judge says", _percent(said["share"]), _range(said["wilson"])])
    for method in model["corrected"]["methods"]:
        cell = method["kinds"].get("perception")
        if cell:
            table.rows.append([method["method"], _percent(cell[0]), _range(cell[1:])])
        table.remarks.append(f"{method['method']}: {method['assumes']}")
    return table


def _lengths_table(name: str, lengths: Mapping[str, Any]) -> Table:
    table = Table(f"{name}: {lengths['unit']}", ["", "rows", "mean", "median", "5 % to 95 %"])
    for outcome in ("all", "right", "wrong"):
        cell = lengths[outcome]
        if cell:
            ends = f"{cell['quantiles']['5']:,.0f} to {cell['quantiles']['95']:,.0f}"
            table.rows.append([outcome, f"{cell['rows']:,}", f"{cell['mean']:,.0f}", f"{cell['median']:,.0f}", ends])
    return table


def _comparison_table(one: Mapping[str, Any], level: str) -> Table:
    table = Table(
        f"{one['first']} and {one['second']} on the {one['rows']:,} rows that both have",
        ["errors of", "fixed", "new", "in both, of the first", "in both, of the second"],
    )
    later: dict[str, int] = {}
    for counts in one["moved"].values():
        for kind, count in counts.items():
            later[kind] = later.get(kind, 0) + count
    for kind in dict.fromkeys((*OUTCOMES, *one["fixed"], *one["new"], *one["moved"], *later)):
        cells = [
            one["fixed"].get(kind, 0),
            one["new"].get(kind, 0),
            sum(one["moved"].get(kind, {}).values()),
            later.get(kind, 0),
        ]
        if any(cells):
            table.rows.append([kind.replace("_", " "), *(f"{cell:,}" for cell in cells)])
    table.remarks.append(f"fixed: wrong in {one['first']} and right in {one['second']}; new: the other way round")
    if one["perception_difference"]:
        value, low, high = one["perception_difference"]
        table.remarks.append(
            f"rows with a perception error, second minus first: {100 * value:+.2f} points "
            f"({level} interval {100 * low:+.2f} to {100 * high:+.2f})"
        )
    for name, cell in one["benchmarks"].items():
        if "p" in cell:
            table.remarks.append(
                f"{name}: {cell['difference']:+.2f}, p {cell['p']:.3g}, Holm {cell['p_holm']:.3g} ({cell['test']})"
            )
        else:
            table.remarks.append(f"{name}: not tested: {cell['reason']}")
    lengths = one["lengths"]
    if lengths:
        value, low, high = lengths["ratio"]
        table.remarks.append(
            f"{lengths['unit']} on the same rows: {lengths['first_mean']:,.0f} and {lengths['second_mean']:,.0f}, "
            f"{value:.3f} times ({level} interval {low:.3f} to {high:.3f})"
        )
    return table


def _agreement(summary: Mapping[str, Any]) -> Iterator[str]:
    one = summary["agreement"]
    if one:
        yield (
            f"{one['votes']} votes on each of {one['cases']:,} wrong answers: Fleiss' kappa {one['fleiss_kappa']:.3f}, "
            f"Krippendorff's alpha {one['krippendorff_alpha']:.3f}"
        )


def _spend(summary: Mapping[str, Any]) -> Iterator[str]:
    spend = summary["spend"]
    unseen = f" ({spend['unanswered']:,} of them not seen to end)" if spend["unanswered"] else ""
    tokens = f"{spend['input_tokens']:,} tokens in ({spend['cached_tokens']:,} of them kept by the server)"
    yield (
        f"paid in all for this output: ${spend['usd']:.4f}, {spend['calls']:,} calls{unseen}, {tokens}, "
        f"{spend['output_tokens']:,} out; {spend['kept_verdicts']:,} verdicts were there"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _range(ends: Sequence[float]) -> str:
    return " to ".join(map(_percent, ends))
