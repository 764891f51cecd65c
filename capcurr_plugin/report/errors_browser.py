"""The browser of single errors: some of the wrong answers, drawn so that each kind is among them, with their pictures.

All that is shown of a record goes into the page as JSON, and pictures as data URLs in elements that run nothing; the
page's script makes text nodes and images of them.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from capcurr_plugin.attribution.kinds import MEANINGS
from capcurr_plugin.attribution.records import OUTCOMES, UNDECIDED, Record, images_folder, read_records
from capcurr_plugin.attribution.verdicts import around, visible
from capcurr_plugin.images import BadImage, open_image, read_image
from capcurr_plugin.report.attributions import Attribution
from capcurr_plugin.report.error_kinds import kind_words
from capcurr_plugin.report.figures import KIND_LOOKS
from capcurr_plugin.report.page import Part, Section
from capcurr_plugin.rows import ImageRoot, RowError

Numbers = Mapping[str, Any]

ERRORS, MOST_ERRORS = 200, 10_000
SEED = 2026
LONGEST = 640  # pixels of a picture's longer side
QUALITY = 80
MOST_PICTURES = 20  # of one error
MAX_RESPONSE, MAX_TEXT, MAX_NAME = 12_000, 4_000, 200  # characters
MAX_QUOTE = 2_000

Group = tuple[str, str, str]  # kind, benchmark, model
Place = tuple[int, int]  # of a record: which file, and which line


# Which errors


@dataclass
class Sample:
    places: list[Place]
    found: list[Counter[str]]  # of each file, its records by model


def draw(attributions: Sequence[Attribution], number: int, seed: int) -> Sample:
    """As many of each kind, benchmark and model as there are places for, and of each those whose hash comes first."""
    groups: dict[Group, list[tuple[int, Place]]] = {}
    found = []
    for file, attribution in enumerate(attributions):
        models: Counter[str] = Counter()
        for line, record in enumerate(read_records(attribution.path)):
            models[record.model] += 1
            group = groups.setdefault((record.kind, record.benchmark, f"{file} {record.model}"), [])
            ranked = (-_rank(seed, record.id), (file, line))
            if len(group) < number:
                heapq.heappush(group, ranked)
            elif group:
                heapq.heappushpop(group, ranked)
        found.append(models)
    return Sample(sorted(_dealt(groups, number, seed)), found)


def _rank(seed: int, name: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(f"{seed} {name}".encode("utf-8", "backslashreplace"), digest_size=8).digest(), "big"
    )


def _dealt(groups: Mapping[Group, list[tuple[int, Place]]], number: int, seed: int) -> list[Place]:
    """One of each group, then a second of each, until there are enough. Kinds take turns, so that each is there even
    when not every group can be."""
    by_kind: dict[str, list[Group]] = {}
    for group in sorted(groups, key=lambda group: _rank(seed, " ".join(group))):
        by_kind.setdefault(group[0], []).append(group)
    turns = [(turn, OUTCOMES.index(kind), group) for kind, of in by_kind.items() for turn, group in enumerate(of)]
    piles = [sorted(groups[group], reverse=True) for _, _, group in sorted(turns)]
    places = []
    for turn in range(max(map(len, piles), default=0)):
        places += [pile[turn][1] for pile in piles if turn < len(pile)]
        if len(places) >= number:
            break
    return places[:number]


def _records(attributions: Sequence[Attribution], places: Sequence[Place]) -> Iterator[tuple[Attribution, Record]]:
    for file, attribution in enumerate(attributions):
        wanted = {line for of, line in places if of == file}
        for line, record in enumerate(read_records(attribution.path) if wanted else ()):
            if line in wanted:
                yield attribution, record


# Pictures


@dataclass
class Pictures:
    """Each is there once, however many errors show it."""

    urls: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    _known: dict[bytes, dict[str, Any]] = field(default_factory=dict)

    def add(self, root: ImageRoot | None, name: str) -> dict[str, Any]:
        """How a card refers to it: by its place, or with the reason why it cannot be shown."""
        try:
            if root is None:
                raise RowError("the folder of images is missing beside the file")
            content = read_image(root.find(name), name)
            digest = hashlib.blake2b(content, digest_size=16).digest()
            if digest not in self._known:
                url, size = _small(content, name)
                self._known[digest] = {"place": len(self.urls), "size": size}
                self.urls.append(url)
            return self._known[digest]
        except (RowError, BadImage) as error:
            self.bad.append(name)
            return {"reason": _cut(f"This picture cannot be shown: {error}", MAX_TEXT)}


def _small(content: bytes, name: str) -> tuple[str, list[int]]:
    image = open_image(content, name, at_least=LONGEST)
    image.thumbnail((LONGEST, LONGEST))
    out = io.BytesIO()
    image.save(out, "WEBP", quality=QUALITY, method=2)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode('ascii')}", list(image.size)


# Cards


@dataclass
class Errors:
    """What the browser shows."""

    files: list[str]
    total: int
    seed: int
    cards: list[dict[str, Any]]
    pictures: Pictures
    remarks: list[str]

    def numbers(self) -> dict[str, Any]:
        return {
            "shown": len(self.cards),
            "of": self.total,
            "seed": self.seed,
            "kinds": dict(Counter(card["kind"] for card in self.cards)),
            "pictures": len(self.pictures.urls),
            "pictures_not_shown": len(self.pictures.bad),
            "remarks": self.remarks,
        }


def read_errors(
    attributions: Sequence[Attribution], number: int, seed: int, tell: Callable[[float], object] = lambda share: None
) -> Errors:
    sample = draw(attributions, number, seed)
    total = sum(models.total() for models in sample.found)
    remarks = list(_differences(attributions, sample.found))
    roots = {one.path: _image_root(one.path) for one in attributions}
    pictures, cards, ids = Pictures(), [], Counter[str]()
    for attribution, record in _records(attributions, sample.places):
        ids[record.id] += 1
        again = f"-{ids[record.id]}" if ids[record.id] > 1 else ""  # judged twice, in two files
        shown = [pictures.add(roots[attribution.path], name) for name in record.images[:MOST_PICTURES]]
        cards.append(card(record, attribution.names.get(record.model, record.model), record.id + again, shown))
        tell(len(cards) / len(sample.places))
    if pictures.bad:
        remarks.append(f"{len(pictures.bad):,} pictures cannot be shown; their errors say why")
    cards.sort(key=lambda one: _rank(seed, one["id"]))
    return Errors([str(one.path) for one in attributions], total, seed, cards, pictures, remarks)


def _image_root(path: Path) -> ImageRoot | None:
    folder = images_folder(path)
    return ImageRoot(folder) if folder.is_dir() else None


def _differences(attributions: Sequence[Attribution], found: Sequence[Counter[str]]) -> Iterator[str]:
    """A summary is of its file, or of another state of it."""
    for attribution, models in zip(attributions, found, strict=True):
        summary = attribution.summary["models"]
        for model in dict.fromkeys([*summary, *models]):
            counted = summary[model]["wrong"] if model in summary else 0
            if counted != models[model]:
                yield (
                    f"{attribution.path}: holds {models[model]:,} wrong answers of {model}, and its summary counts "
                    f"{counted:,}; one of the two is of another run"
                )


def card(record: Record, model: str, name: str, pictures: Sequence[Numbers]) -> dict[str, Any]:
    """What the page's script shows of a record. Nothing in it hides: what has no shape is written out."""
    vote = record.vote
    response = _response(visible(record.response), visible(vote.quote))
    others = Counter(kind_words(one.kind) for one in record.votes if one.kind != record.kind)
    return {
        "id": name,
        "kind": record.kind,
        "model": _shown(model, MAX_NAME),
        "benchmark": _shown(record.benchmark, MAX_NAME),
        "category": _shown(record.category, MAX_NAME),
        "index": _shown(record.index, MAX_NAME),
        "question": _shown(record.question, MAX_TEXT),
        "truth": _shown(record.truth, MAX_TEXT),
        "final": None if record.final is None else _shown(record.final, MAX_TEXT),
        "response": response,
        "quote": "" if response[1] else _shown(vote.quote, MAX_TEXT),
        "image": _shown(vote.image, MAX_TEXT),
        "confidence": _shown(vote.confidence, MAX_NAME),
        "votes": [sum(one.kind == record.kind for one in record.votes), len(record.votes)],
        "others": [f"{kind} ({number})" if number > 1 else kind for kind, number in others.items()],
        "why": _shown(vote.why, MAX_TEXT),
        "judge": _shown(record.judge, MAX_NAME),
        "whole": record.whole,
        "pictures": list(pictures),
    }


def _response(text: str, quote: str) -> list[str]:
    """The text before the quote, the quote and the text after it; no quote when it does not occur. A judge may have
    copied a line break as a space."""
    found = around(text, quote) if len(quote) <= MAX_QUOTE else None
    if found:
        before, marked, after = found
        return [_end_of(before), marked, _start_of(after)]
    if len(text) <= MAX_RESPONSE:
        return [text, "", ""]
    half = len(text) // 2
    return [_start_of(text[:half]), "", _end_of(text[half:])]


def _end_of(text: str) -> str:
    left_out = len(text) - MAX_RESPONSE // 2
    return text if left_out <= 0 else f"[{left_out:,} characters left out] {text[left_out:]}"


def _start_of(text: str) -> str:
    left_out = len(text) - MAX_RESPONSE // 2
    return text if left_out <= 0 else f"{text[:-left_out]} [{left_out:,} characters left out]"


def _shown(text: str, most: int) -> str:
    return _cut(visible(text[: most + 1]), most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


# The section


CONTROLS = """\
<p id="errors-without"><strong>The errors cannot be shown: this part of the page needs JavaScript.</strong> All else on
the page does without.</p>
<div id="errors-browser" hidden>
<div class="controls">
{choices}<label>Text<input id="errors-search" type="search" autocomplete="off" placeholder="words in an error"></label>
</div>
<p class="hint">Keys: j for the next error, k for the one before. The address of an error is behind its name.</p>
<p id="errors-status" role="status"></p>
{pager}<div id="errors-list"></div>
{pager}</div>
"""
CHOICE = '<label>{label}<select id="errors-{name}" name="{name}"><option value="">all</option></select></label>\n'
PAGER = """\
<div class="errors-pager" hidden>
<button type="button" name="earlier">Earlier</button> <button type="button" name="later">Later</button>
</div>
"""


def errors_section(errors: Errors) -> Section:
    """Of `read_errors`."""
    shown, total = len(errors.cards), errors.total
    drawn = f"{shown:,} of {total:,} wrong answers"
    if shown < total:
        drawn += ", drawn at random so that kinds, benchmarks and models have equal places. How often a kind occurs "
        drawn += "cannot be seen from them"
    return Section(
        key="errors",
        heading="Single errors",
        text=f"{drawn}. Marked in the response: where the judge sees the error.",
        sources=errors.files,
        remarks=errors.remarks,
        part=Part(list(_markup(errors)), _style(), _packaged("errors_browser.js")),
    )


def _markup(errors: Errors) -> Iterator[str]:
    names = ("kind", "benchmark", "model", "agreement")
    yield CONTROLS.format(
        choices="".join(CHOICE.format(label=name.capitalize(), name=name) for name in names), pager=PAGER
    )
    kinds = {
        kind: {"words": kind_words(kind), "rule": "No verdict." if kind == UNDECIDED else MEANINGS[kind].rule}
        for kind in OUTCOMES
    }
    data = as_script({"kinds": kinds, "cards": errors.cards})
    yield f'<script type="application/json" id="errors-data">{data}</script>\n'
    for place, url in enumerate(errors.pictures.urls):
        yield f'<script type="text/plain" id="errors-picture-{place}">{escape(url)}</script>\n'


def as_script(value: Any) -> str:
    """JSON that no element ends within."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _style() -> str:
    kinds = "".join(f".kind-{kind} {{ --kind: {look.colour}; }}\n" for kind, look in KIND_LOOKS.items())
    return _packaged("errors_browser.css") + kinds


def _packaged(name: str) -> str:
    return (files("capcurr_plugin.report") / name).read_text(encoding="utf-8")
