"""The file that `capcurr attribute` writes: a line to each wrong answer, with all that was asked about it and every
verdict on it. Images lie in a folder beside it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from capcurr_plugin.attribution.kinds import KINDS
from capcurr_plugin.attribution.verdicts import Case
from capcurr_plugin.errors import InputError
from capcurr_plugin.jsonl import MAX_LINE_BYTES

UNDECIDED = "undecided"  # in place of a kind: no verdict could be had, or the votes are split
OUTCOMES = (*KINDS, UNDECIDED)
MAX_RECORDS = 1_000_000


@dataclass(frozen=True)
class Vote:
    """What one reading by the judge came to, after all that was rejected."""

    kind: str  # of OUTCOMES
    quote: str = ""
    image: str = ""  # what it shows instead
    confidence: str = ""
    tries: int = 1
    why: str = ""  # there is no verdict


@dataclass(frozen=True)
class WrongAnswer:
    """A row that a model got wrong."""

    model: str
    benchmark: str
    index: str
    unit: str  # rows of one are drawn together
    category: str
    question: str  # with its options
    truth: str
    response: str
    final: str | None  # what was made out as its answer
    whole: bool  # the response is all that the model said, not what an evaluator kept
    images: tuple[str, ...]  # files in the folder of images

    @property
    def case(self) -> Case:
        return Case(self.question, self.truth, self.response, self.final)

    @property
    def id(self) -> str:
        """Names what was to be judged, by whichever judge or person."""
        content = json.dumps([self.model, self.benchmark, self.index, self.question, self.truth, self.response])
        return hashlib.blake2b(content.encode("utf-8", "backslashreplace"), digest_size=10).hexdigest()


@dataclass(frozen=True)
class Record(WrongAnswer):
    judge: str
    votes: tuple[Vote, ...]

    @property
    def kind(self) -> str:
        return majority([vote.kind for vote in self.votes])

    @property
    def agreement(self) -> float:
        """The share of votes that are for the kind."""
        return sum(vote.kind == self.kind for vote in self.votes) / len(self.votes)

    @property
    def vote(self) -> Vote:
        """The first for the kind."""
        return next((vote for vote in self.votes if vote.kind == self.kind), self.votes[0])

    def line(self) -> bytes:
        told = {"id": self.id, **asdict(self), "kind": self.kind, "agreement": round(self.agreement, 4)}
        return json.dumps(told, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def majority(kinds: Sequence[str]) -> str:
    """What most votes are for; undecided where two kinds have as many. A vote without a verdict takes no side."""
    votes = Counter(kind for kind in kinds if kind != UNDECIDED).most_common(2)
    if not votes or (len(votes) == 2 and votes[0][1] == votes[1][1]):
        return UNDECIDED
    return votes[0][0]


def images_folder(path: Path) -> Path:
    return path.with_name(f"{path.stem}_images")


def summary_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}_summary.json")


def read_records(path: Path) -> Iterator[Record]:
    """The file is not trusted: it may come from elsewhere."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                if number > MAX_RECORDS:
                    raise InputError(f"{path}: has over {MAX_RECORDS:,} lines")
                yield _record(line, f"{path}: line {number}")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); capcurr attribute writes such a file") from None
    if not number:
        raise InputError(f"{path}: is empty")


def _record(line: bytes, where: str) -> Record:
    try:
        told = json.loads(line)
        values = {field.name: told[field.name] for field in fields(Record)}
        values["votes"] = tuple(Vote(**vote) for vote in values["votes"])
        values["images"] = tuple(values["images"])
        record = Record(**values)
        if _is_well_formed(record):
            return record
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise InputError(f"{where}: is no line of capcurr attribute, or is cut off")


def _is_well_formed(record: Record) -> bool:
    texts: list[Any] = [getattr(record, field.name) for field in fields(Record) if field.type == "str"]
    texts += [text for vote in record.votes for text in (vote.quote, vote.image, vote.confidence, vote.why)]
    return (
        all(isinstance(text, str) for text in (*texts, *record.images))
        and isinstance(record.final, str | None)
        and isinstance(record.whole, bool)
        and bool(record.votes)
        and all(vote.kind in OUTCOMES and type(vote.tries) is int for vote in record.votes)
        and all(name and name == Path(name).name for name in record.images)  # none outside the folder
    )
