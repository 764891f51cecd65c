"""One page that holds all it shows: sections, each a heading, what is shown, the figure, and its numbers as tables."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from capcurr_plugin.report.figures import Picture

MAX_SHOWN = 400  # characters of a text from outside
MAX_TOLD = 1000
NONE = "-"  # in place of a number that there is not


@dataclass(frozen=True)
class Table:
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False  # opened by a click: long, and no more than the figure says
    remarks: Sequence[str] = ()  # below the table, and never folded
    legend: str = ""  # with the table


@dataclass(frozen=True)
class Section:
    key: str
    heading: str
    text: str
    sources: Sequence[str] = ()  # the files
    picture: Picture | None = None
    tables: Sequence[Table] = ()
    remarks: Sequence[str] = ()  # what speaks against the numbers
    part: Part | None = None


@dataclass(frozen=True)
class Part:
    """What a section has of its own beside figure and tables. It is taken as it is: no text from outside is in it but
    as JSON."""

    markup: Sequence[str]  # pieces, some of them long
    style: str
    script: str


# The policy lets nothing run but the page's own script, which it names by its hash, and nothing be fetched, whatever a
# text of a data file might hold.
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{notes}{contents}"""
END = """\
</main>
{script}</body>
</html>
"""

STYLE = """\
:root { color-scheme: light dark; --ink: #1c1d21; --paper: #ffffff; --faint: #6b6c7255; --dim: #5a5b62;
  --card: #f6f6f7; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e4e7; --paper: #17181b; --faint: #a0a1a855; --dim: #a9aab2;
  --card: #1f2024; } }
@media print { :root { color-scheme: light; --ink: #000000; --paper: #ffffff; --faint: #6b6c7255; --dim: #444444;
  --card: #ffffff; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
main { max-width: 52rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--faint); }
a { color: inherit; }
ul { padding-left: 1.2rem; overflow-wrap: anywhere; }
nav ul { columns: 16rem; }
ul.remarks { font-size: .9rem; } ul.sources { font-size: .8rem; color: var(--dim); }
figure { margin: 1rem 0; } figure svg { display: block; width: 100%; min-width: 32rem; height: auto; }
.wide { overflow-x: auto; margin: .4rem 0 1rem; }
.caption { margin: 1rem 0 0; font-size: .9rem; } .legend { font-size: .85rem; color: var(--dim); }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--faint); vertical-align: top; }
th { font-weight: 600; vertical-align: bottom; } td { overflow-wrap: break-word; max-width: 30rem; }
th.number, td.number { text-align: right; } td.number { white-space: nowrap; }
details { margin: .4rem 0; } summary { cursor: pointer; font-size: .9rem; }
@page { margin: 1.5cm; }
@media print { figure, tr { break-inside: avoid; } h2 { break-after: avoid; } .wide { overflow: visible; }
  figure svg { min-width: 0; max-height: 24cm; } nav { display: none; } table { font-size: .7rem; }
  main { max-width: none; padding: 0; }
  details::details-content { content-visibility: visible; block-size: auto; } }
"""


def page(title: str, sections: Sequence[Section], notes: Sequence[str] = ()) -> Iterator[str]:
    """In pieces. `notes`: paragraphs on what holds for the whole page."""
    parts = [section.part for section in sections if section.part]
    style = STYLE + "".join(part.style for part in parts)
    script = "".join(part.script for part in parts)
    yield PAGE.format(
        title=escape(shown(title)),
        policy=_policy(style, script),
        style=style,
        notes="".join(f"<p>{escape(printable(note))}</p>\n" for note in notes),
        contents=_contents(sections) if len(sections) > 1 else "",
    )
    for section in sections:
        yield from _section(section)
    yield END.format(script=f"<script>{script}</script>\n" if script else "")


def _policy(style: str, script: str) -> str:
    rules = ["default-src 'none'", f"style-src {_hash(style)}", "base-uri 'none'", "form-action 'none'"]
    if script:
        rules += [f"script-src {_hash(script)}", "img-src data:"]
    return "; ".join(rules)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _contents(sections: Sequence[Section]) -> str:
    links = "".join(f'<li><a href="#{escape(one.key)}">{_told(one.heading)}</a></li>' for one in sections)
    return f"<nav><ul>{links}</ul></nav>\n"


def _section(section: Section) -> Iterator[str]:
    yield f'<section id="{escape(section.key)}">\n<h2>{_told(section.heading)}</h2>\n<p>{_told(section.text)}</p>\n'
    if section.picture:
        yield f'<figure class="wide">{section.picture.inline}</figure>\n'
    yield _list(section.remarks, "remarks")
    yield from map(_table, section.tables)
    if section.part:
        yield from section.part.markup
    yield _list(section.sources, "sources")
    yield "</section>\n"


def _list(texts: Sequence[str], kind: str) -> str:
    items = "".join(f"<li>{_told(text)}</li>" for text in texts)
    return f'<ul class="{kind}">{items}</ul>\n' if texts else ""


def _table(table: Table) -> str:
    numeric = [all(_is_number(row[place]) for row in table.rows) for place in range(len(table.head))]
    head = "".join(_cell("th", text, number) for text, number in zip(table.head, numeric, strict=True))
    rows = "".join(
        f"<tr>{''.join(_cell('td', text, number) for text, number in zip(row, numeric, strict=True))}</tr>\n"
        for row in table.rows
    )
    caption = _told(table.caption)
    remarks = _list(table.remarks, "remarks")
    inner = f'<div class="wide"><table>\n<tr>{head}</tr>\n{rows}</table></div>\n'
    if not table.rows:
        return remarks
    if table.legend:
        inner += f'<p class="legend">{_told(table.legend)}</p>\n'
    if table.folded:
        return f"<details>\n<summary>{caption}</summary>\n{inner}</details>\n{remarks}"
    # Beside the table, so that it stays in view while a wide table is moved.
    return f'<p class="caption">{caption}</p>\n{inner}{remarks}'


def _is_number(text: str) -> bool:
    return text.lstrip("+-\u2212")[:1].isdigit() or text in (NONE, "")


def _cell(tag: str, text: str, number: bool) -> str:
    kind = (' scope="col"' if tag == "th" else "") + (' class="number"' if number else "")
    return f"<{tag}{kind}>{escape(shown(text))}</{tag}>"


def _told(text: str) -> str:
    """What may hold names from outside, between words of our own."""
    return escape(shown(text, MAX_TOLD))


def shown(text: str, most: int = MAX_SHOWN) -> str:
    """A text from outside, short enough to be read and with nothing in it that does not print."""
    return printable(text if len(text) <= most else f"{text[: most - 1]}…")


def printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
