"""The report of `capcurr results` as text, Markdown, LaTeX, CSV and JSON. What each shows comes from the JSON alone."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DOUBT = "!"  # after a value: see the remarks
PARTIAL = "~"  # after an average over some of its benchmarks
SHOWN = 5  # rows that are named in a remark

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
_MARKDOWN = {sign: f"\\{sign}" for sign in "\\|`*<>[]"}


@dataclass
class Table:
    title: str
    header: list[str]
    rows: list[list[str]] = field(default_factory=list)  # an empty one is a rule
    remarks: list[str] = field(default_factory=list)


# Tables of the report


def tables(report: Mapping[str, Any]) -> list[Table]:
    models = report["models"]
    made = [_overview(report)] if len(models) > 1 else []
    for name, model in models.items():
        made += [_scores(name, model, report), _verdicts(name, model, report)]
    if report["comparison"]:
        made.append(_comparison(report))
    if report["warnings"]:
        made.append(Table("", [], remarks=list(report["warnings"])))
    return made


def _overview(report: Mapping[str, Any]) -> Table:
    models = report["models"]
    rows = [
        [name, *(_score(model["benchmarks"][name]) for model in models.values())]
        for name in report["benchmarks"]
        if any(model["benchmarks"][name]["value"] is not None for model in models.values())
    ]
    averages = [[name, *(_mean(model["averages"][name]) for model in models.values())] for name in report["averages"]]
    return Table("All models", ["", *models], [*rows, [], *averages], _legend([*rows, *averages]))


def _scores(name: str, model: Mapping[str, Any], report: Mapping[str, Any]) -> Table:
    beside = model["published_as"] is not None
    header = ["", "metric", "score", f"{_share(report)} interval", "rows", "judge"]
    table = Table(name, [*header, *(["published", "difference"] if beside else [])])
    unrun = _unrun(model, report)
    for benchmark, cell in model["benchmarks"].items():
        if benchmark not in unrun:
            table.rows.append([benchmark, *_score_cells(cell, report["benchmarks"][benchmark]), *_beside(cell, beside)])
    table.rows.append([])
    for average, cell in model["averages"].items():
        of = report["averages"][average]
        mean = f"mean of {len(of)}" if len(of) == cell["of"] else f"mean of {', '.join(of)}"
        if not cell["complete"]:
            mean = f"{cell['have']} of {cell['of']}"
        cells = [mean, _mean(cell), _interval(cell["interval"]), "", ""]
        table.rows.append([average, *cells, *_beside(cell, beside)])
    table.remarks = [*_legend(table.rows), *_remarks(model, unrun)]
    if beside:
        table.remarks.append(
            f"published: {model['published_as']}, as its authors measured it in their setup; another judge, engine or"
            " machine moves scores, too"
        )
    return table


def _score_cells(cell: Mapping[str, Any], metric: str) -> list[str]:
    if cell["value"] is None:
        return [metric, "missing", "", "", ""]
    return [metric, _score(cell), _interval(cell["interval"]), _count(cell["rows"]), cell["judge"] or "not named"]


def _beside(cell: Mapping[str, Any], wanted: bool) -> list[str]:
    return [_number(cell["published"]), _signed(cell["difference_from_published"])] if wanted else []


def _unrun(model: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, str]:
    """Benchmarks of averages of which nothing was run, with the average's name: one remark says it all."""
    unrun = {b: name for name, cell in model["averages"].items() if not cell["have"] for b in cell["missing"]}
    return {b: name for b, name in unrun.items() if model["benchmarks"][b]["missing"] == "not run"}


def _remarks(model: Mapping[str, Any], unrun: Mapping[str, str]) -> Iterator[str]:
    for benchmark, cell in model["benchmarks"].items():
        if cell["value"] is None and benchmark not in unrun:
            yield f"{benchmark}: missing: {cell['missing']}"
        if cell.get("doubts"):
            yield f"{benchmark} {DOUBT} {'; '.join(cell['doubts'])}"
        if cell.get("notes"):
            yield f"{benchmark}: {'; '.join(cell['notes'])}"
    for average, cell in model["averages"].items():
        if not cell["have"]:
            yield f"{average}: none of its {cell['of']} benchmarks was run"
        elif not cell["complete"]:
            yield f"{average}: without {', '.join(cell['missing'])}" + ("" if cell["value"] else "; see --partial")
        if cell["doubts"]:
            yield f"{average} {DOUBT} {'; '.join(cell['doubts'])}"


def _verdicts(name: str, model: Mapping[str, Any], report: Mapping[str, Any]) -> Table:
    folders = report["settings"]["folders"]
    below = f"{folders[0].rstrip('/')}/" if len(folders) == 1 else ""
    header = ["", "rows", "by rule", "by judge", "at random", "no verdict", "API failed", "no box", "cut off", "tokens"]
    table = Table(f"{name}: how rows were judged, and what the responses were like", [*header, "file"])
    for benchmark, cell in model["benchmarks"].items():
        if cell["value"] is None:
            continue
        told, files = cell["responses"] or {}, cell["files"]
        table.rows.append(
            [
                benchmark,
                _count(cell["rows"]),
                *_verdict_cells(cell["verdicts"]),
                _count(cell["api_failed"]),
                _count(told.get("unparsed")),
                _count(told.get("truncated")),
                "" if told.get("mean_completion_tokens") is None else f"{told['mean_completion_tokens']:,.0f}",
                (files.get("judged") or files["score"]).removeprefix(below),
            ]
        )
    table.remarks = [
        "no verdict: neither the rule nor a judge could read the answer; no box: no final answer in the response;"
        " cut off: it reached the limit of tokens; tokens: mean of a response"
        + (f"; files: below {folders[0]}" if below else "")
    ]
    return table


def _verdict_cells(verdicts: Mapping[str, int] | None) -> list[str]:
    """By rule, by judge, at random, none. Some evaluators do not write down which of the first two it was."""
    if verdicts is None:
        return [""] * 4
    unknown = verdicts["unknown"] > 0
    known = ["?" if unknown else _count(verdicts["rule"]), "?" if unknown else _count(verdicts["judge"])]
    return [*known, _count(verdicts["random"]), _count(verdicts["none"])]


def _comparison(report: Mapping[str, Any]) -> Table:
    comparison = report["comparison"]
    first, second = comparison["first"], comparison["second"]
    table = Table(
        f"{second} minus {first}, on the rows that both have",
        [
            "",
            "rows",
            "first",
            "second",
            "difference",
            f"{_share(report)} interval",
            "n01",
            "n10",
            "p",
            "Holm p",
            "test",
        ],
    )
    for name, cell in comparison["benchmarks"].items():
        if "reason" in cell:
            table.remarks.append(f"{name}: not compared: {cell['reason']}")
        else:
            table.rows.append([name, *_compared_cells(cell)])
        table.remarks += [f"{name}: {remark}" for remark in _left_out(cell, first, second)]
    table.rows.append([])
    for name, cell in comparison["averages"].items():
        interval = _interval(cell["interval"], signed=True)
        cells = ["", "", "", _signed(cell["difference"]), interval, "", "", _p(cell["p"]), "", cell["test"]]
        table.rows.append([name, *cells])
    table.remarks.append(
        f"first: {first}; second: {second}; n01: rows that only the second has right; n10: only the first. Holm p:"
        " adjusted for all benchmarks of this table. An average stands here only when both have all its benchmarks"
    )
    return table


def _compared_cells(cell: Mapping[str, Any]) -> list[str]:
    return [
        _count(cell["rows"]),
        *map(_number, cell["values"]),
        _signed(cell["difference"]),
        _interval(cell["interval"], signed=True),
        _count(cell.get("n01")),
        _count(cell.get("n10")),
        _p(cell["p"]),
        _p(cell["p_holm"]),
        cell["test"],
    ]


def _left_out(cell: Mapping[str, Any], first: str, second: str) -> Iterator[str]:
    what = {
        "only_first": f"only {first} has",
        "only_second": f"only {second} has",
        "refused": "have another question or answer in the two files, or an index that is there twice:",
        "incomplete": "belong to problems of which not all rows are shared:",
    }
    for key, why in what.items():
        indexes = cell.get("left_out", {}).get(key)
        if indexes:
            more = f" and {len(indexes) - SHOWN:,} more" if len(indexes) > SHOWN else ""
            rows = "row" if len(indexes) == 1 else "rows"
            if key.startswith("only"):
                yield f"{len(indexes):,} {rows} {why}: {', '.join(indexes[:SHOWN])}{more}"
            else:
                yield f"{len(indexes):,} {rows} {why} {', '.join(indexes[:SHOWN])}{more}"
    if "judges" in cell:
        yield f"judged by {' and '.join(str(judge or 'a judge not named') for judge in cell['judges'])}"


# Cells


def _score(cell: Mapping[str, Any]) -> str:
    return "" if cell["value"] is None else _number(cell["value"]) + (f" {DOUBT}" if cell["doubts"] else "")


def _mean(cell: Mapping[str, Any]) -> str:
    if cell["value"] is None:
        return ""
    return (
        _number(cell["value"]) + ("" if cell["complete"] else f" {PARTIAL}") + (f" {DOUBT}" if cell["doubts"] else "")
    )


def _legend(rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [cell for row in rows for cell in row]
    marks = {DOUBT: "something speaks against the value", PARTIAL: "over some of its benchmarks only"}
    return [f"{mark} {text}" for mark, text in marks.items() if any(cell.endswith(mark) for cell in cells)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{round(value, 2) + 0.0:+.2f}"  # 0.0: no minus before a zero


def _interval(interval: Sequence[float] | None, signed: bool = False) -> str:
    form = _signed if signed else _number
    return " to ".join(map(form, interval)) if interval else ""


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _p(value: float) -> str:
    return f"{value:.2g}" if value < 0.001 else f"{value:.3f}"


def _share(report: Mapping[str, Any]) -> str:
    return f"{100 * report['settings']['confidence']:g} %"


def _plain(text: str) -> str:
    """Names of folders may hold anything."""
    return "".join(c if c.isprintable() else "?" for c in text)


# Forms


def as_text(report: Mapping[str, Any]) -> str:
    return as_lines(tables(report))


def as_lines(tables: Iterable[Table]) -> str:
    return "\n".join(line for table in tables for line in [*_text(table), ""])


def _text(table: Table) -> Iterator[str]:
    lines = [[_plain(cell) for cell in row] for row in [table.header, *table.rows]]
    widths = [max(len(row[i]) for row in lines if row) for i in range(len(table.header))]
    if table.title:
        yield _plain(table.title)
    for row in lines if table.rows else []:
        cells = [
            c.rjust(w) if _right(i, table) else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=False))
        ]
        yield ("  ".join(cells) or "-" * widths[0]).rstrip()
    yield from (f"  {_plain(remark)}" for remark in table.remarks)


def _right(column: int, table: Table) -> bool:
    """Numbers stand to the right."""
    return column > 0 and table.header[column] not in ("metric", "judge", "file", "test")


def as_markdown(report: Mapping[str, Any]) -> str:
    return "\n".join(line for table in tables(report) for line in _markdown(table))


def _markdown(table: Table) -> Iterator[str]:
    def escaped(text: str) -> str:
        return _plain(text).translate(str.maketrans(_MARKDOWN))

    if table.title:
        yield from (f"### {escaped(table.title)}", "")
    if table.rows:
        yield f"| {' | '.join(map(escaped, table.header))} |"
        yield f"|{'|'.join('---:' if _right(i, table) else '---' for i in range(len(table.header)))}|"
        yield from (f"| {' | '.join(map(escaped, row))} |" for row in table.rows if row)
        yield ""
    yield from (f"- {escaped(remark)}" for remark in table.remarks)
    yield ""


def as_latex(report: Mapping[str, Any]) -> str:
    return "\n".join(line for table in tables(report) for line in _latex(table))


def _latex(table: Table) -> Iterator[str]:
    """Needs no package."""

    def escaped(text: str) -> str:
        return _plain(text).translate(str.maketrans(_LATEX))

    if table.title:
        yield f"\\noindent\\textbf{{{escaped(table.title)}}}\\par"
    if table.rows:
        places = [i for i, title in enumerate(table.header) if title != "file"]  # too long for a page
        columns = "".join("r" if _right(i, table) else "l" for i in places)
        header, *rows = [
            " & ".join(escaped(row[i]) for i in places) if row else "" for row in [table.header, *table.rows]
        ]
        yield from (f"\\begin{{tabular}}{{{columns}}}", "\\hline", f"{header} \\\\", "\\hline")
        yield from (f"{row} \\\\" if row else "\\hline" for row in rows)
        yield from ("\\hline", "\\end{tabular}\\par")
    if table.remarks:
        yield "\\begin{itemize}"
        yield from (f"\\item {escaped(remark)}" for remark in table.remarks)
        yield "\\end{itemize}"
    yield ""


def as_json(report: Mapping[str, Any]) -> str:
    return json.dumps(report, indent=1) + "\n"


def as_csv(report: Mapping[str, Any]) -> str:
    """One line to each number; what does not apply is empty."""
    records = list(_records(report))
    columns = list(dict.fromkeys(column for record in records for column in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _records(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, model in report["models"].items():
        for kind in ("benchmarks", "averages"):
            for entry, cell in model[kind].items():
                yield {"kind": kind[:-1], "model": name, "name": entry, **_flat(cell)}
    comparison = report["comparison"]
    for kind in ("benchmarks", "averages") if comparison else ():
        for entry, cell in comparison[kind].items():
            pair = {"model": comparison["second"], "against": comparison["first"]}
            yield {"kind": f"difference of {kind[:-1]}", "name": entry, **pair, **_flat(cell)}


def _flat(cell: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in cell.items():
        if key == "interval":
            flat |= dict(zip(("low", "high"), value or ("", ""), strict=True))
        elif key == "left_out":
            flat |= {name: len(indexes) for name, indexes in value.items()}
        elif value is None:
            continue
        elif isinstance(value, dict):
            flat |= {f"{key}_{name}": entry for name, entry in value.items()}
        else:
            flat[key] = "; ".join(map(str, value)) if isinstance(value, list) else value
    return flat


WRITERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    ".json": as_json,
    ".csv": as_csv,
    ".md": as_markdown,
    ".tex": as_latex,
}
