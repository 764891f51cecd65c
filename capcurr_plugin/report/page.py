"""One page that holds all it shows: sections, each a heading, what is shown, the figure, and its numbers as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from capcurr_plugin.report.figures import Picture

MAX_SHOWN = 200  # characters of a text from outside
NONE = "-"  # in place of a number that there is not


@dataclass(frozen=True)
class Table:
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False  # opened by a click: long, and no more than the figure says


@dataclass(frozen=True)
class Section:
    key: str
    heading: str
    text: str
    sources: Sequence[str] = ()  # the files
    picture: Picture | None = None
    tables: Sequence[Table] = ()


# The policy lets nothing run and nothing be fetched, whatever a text of a data file might hold.
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{note}{contents}{sections}</main>
</body>
</html>
"""

STYLE = """\
:root { color-scheme: light dark; --ink: #1c1d21; --paper: #ffffff; --faint: #6b6c7255; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e4e7; --paper: #17181b; --faint: #a0a1a855; } }
@media print { :root { color-scheme: light; --ink: #000000; --paper: #ffffff; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
main { max-width: 52rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
a { color: inherit; }
ul { padding-left: 1.2rem; overflow-wrap: anywhere; }
figure { margin: 1rem 0; } figure svg { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--faint); vertical-align: top; }
th { font-weight: 600; } td { overflow-wrap: anywhere; }
th.number, td.number { text-align: right; white-space: nowrap; }
summary { cursor: pointer; }
@media print { figure, tr { break-inside: avoid; } h2 { break-after: avoid; } .wide { overflow: visible; } }
"""


def page(title: str, sections: Sequence[Section], note: str = "") -> str:
    """`note`: what holds for the whole page."""
    return PAGE.format(
        title=escape(title),
        style=STYLE,
        note=f"<p>{escape(note)}</p>\n" if note else "",
        contents=_contents(sections) if len(sections) > 1 else "",
        sections="".join(map(_section, sections)),
    )


def _contents(sections: Sequence[Section]) -> str:
    links = "".join(f'<li><a href="#{escape(one.key)}">{escape(one.heading)}</a></li>' for one in sections)
    return f"<nav><ul>{links}</ul></nav>\n"


def _section(section: Section) -> str:
    figure = f"<figure>{section.picture.inline}</figure>\n" if section.picture else ""
    sources = "".join(f"<li>{escape(shown(source))}</li>" for source in section.sources)
    return (
        f'<section id="{escape(section.key)}">\n<h2>{escape(section.heading)}</h2>\n<p>{escape(section.text)}</p>\n'
        f"{figure}<ul>{sources}</ul>\n{''.join(map(_table, section.tables))}</section>\n"
    )


def _table(table: Table) -> str:
    numeric = [all(_is_number(row[place]) for row in table.rows) for place in range(len(table.head))]
    head = "".join(_cell("th", text, number) for text, number in zip(table.head, numeric, strict=True))
    rows = "".join(
        f"<tr>{''.join(_cell('td', text, number) for text, number in zip(row, numeric, strict=True))}</tr>\n"
        for row in table.rows
    )
    caption = escape(table.caption)
    if table.folded:
        inner = f"<table>\n<tr>{head}</tr>\n{rows}</table>"
        return f'<details>\n<summary>{caption}</summary>\n<div class="wide">{inner}</div>\n</details>\n'
    return f'<div class="wide"><table>\n<caption>{caption}</caption>\n<tr>{head}</tr>\n{rows}</table></div>\n'


def _is_number(text: str) -> bool:
    return text[:1].isdigit() or text == NONE


def _cell(tag: str, text: str, number: bool) -> str:
    kind = (' scope="col"' if tag == "th" else "") + (' class="number"' if number else "")
    return f"<{tag}{kind}>{escape(shown(text))}</{tag}>"


def shown(text: str) -> str:
    """A text from outside, short enough to be read and with nothing in it that does not print."""
    short = text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)
