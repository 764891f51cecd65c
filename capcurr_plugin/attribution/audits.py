"""The file of an audit: what a human says of verdicts that were drawn at random. A header, then a line to each choice.

A choice is on the disk before the human sees it confirmed; a line without its end was never confirmed. A later line
about the same wrong answer takes the place of an earlier one, and a later header that of the first: the sample grew."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from capcurr_plugin.atomic import check_place
from capcurr_plugin.attribution.kinds import KINDS
from capcurr_plugin.attribution.records import MAX_RECORDS
from capcurr_plugin.errors import InputError
from capcurr_plugin.jsonl import dumps, lines, parse_line
from capcurr_plugin.rows import RowError

FORMAT = 1
CANNOT_TELL = "cannot_tell"  # what a human may say besides a kind
CHOICES = (*KINDS, CANNOT_TELL)
MAX_NOTE = 10_000  # characters
Design = Literal["stratified", "simple"]


def _line(told: dict[str, Any]) -> bytes:
    return dumps(told).encode("utf-8", "replace") + b"\n"  # texts of a record may hold half characters


@dataclass(frozen=True)
class Stratum:
    """Verdicts among which some were drawn at random, each as likely as any other."""

    size: int
    sampled: int


@dataclass(frozen=True)
class Header:
    annotator: str
    attribution: str  # the file's name
    judge: str
    prompt: int | None
    seed: int
    design: Design
    strata: Mapping[str, Stratum]
    models: tuple[str, ...] | None = None  # to which the population is restricted
    benchmarks: tuple[str, ...] | None = None

    def line(self) -> bytes:
        told: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        told["population"] = {name: told.pop(name) for name in ("models", "benchmarks")}
        return _line(told)

    @property
    def population(self) -> tuple[object, ...]:
        """Equal for audits of the same verdicts, drawn in the same way."""
        sizes = {name: stratum.size for name, stratum in self.strata.items()}
        return self.judge, self.design, self.models, self.benchmarks, sizes


@dataclass(frozen=True)
class Choice:
    id: str  # of the record
    model: str
    benchmark: str
    index: str
    stratum: str
    kind: str  # of CHOICES
    note: str
    seconds: float
    at: str

    def line(self) -> bytes:
        return _line(asdict(self))


@dataclass
class Audit:
    path: Path
    header: Header
    choices: dict[str, Choice] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)  # to another kind, after the verdict was shown
    end: int = 0  # of the last whole line, in bytes

    def add(self, choice: Choice) -> None:
        before = self.choices.get(choice.id)
        if before and before.kind != choice.kind:
            self.changed.add(choice.id)
        self.choices[choice.id] = choice


def read_audit(path: Path) -> Audit:
    audit = _read(path)
    if audit is None:
        raise InputError(f"{path}: holds no audit; capcurr audit writes such a file")
    return audit


def _read(path: Path) -> Audit | None:
    """None if the file ends before its first line does."""
    audit, end = None, 0
    try:
        with lines(path, ".jsonl") as (found, _):
            for number, (line, length) in enumerate(found, 1):
                where = f"{path}: line {number}"
                try:
                    told = parse_line(line, length)
                except RowError as error:
                    if not line.endswith(b"\n"):
                        break
                    raise InputError(f"{where}: {error}") from None
                if number > MAX_RECORDS:
                    raise InputError(f"{path}: has over {MAX_RECORDS:,} lines")
                audit = _with_line(audit, told, path, where)
                end += length
                audit.end = end
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return audit


def _with_line(audit: Audit | None, told: dict[str, Any], path: Path, where: str) -> Audit:
    if "format" in told:
        if told["format"] != FORMAT:
            raise InputError(f"{where}: is of format {str(told['format'])[:20]}, and this capcurr reads {FORMAT}")
        header = _header(told)
        if header is None:
            raise InputError(f"{where}: is no header of an audit")
        if audit is None:
            return Audit(path, header)
        audit.header = header
        return audit
    if audit is None:
        raise InputError(f"{where}: is no header of an audit; capcurr audit writes such a file")
    choice = _choice(told, audit.header)
    if choice is None:
        raise InputError(f"{where}: is no choice of an audit")
    audit.add(choice)
    return audit


def _header(told: dict[str, Any]) -> Header | None:
    try:
        strata = {name: Stratum(one["size"], one["sampled"]) for name, one in told["strata"].items()}
        models, benchmarks = (told["population"][name] for name in ("models", "benchmarks"))
        header = Header(
            *(told[name] for name in ("annotator", "attribution", "judge", "prompt", "seed", "design")),
            strata=strata,
            models=None if models is None else tuple(models),
            benchmarks=None if benchmarks is None else tuple(benchmarks),
        )
    except (KeyError, TypeError, AttributeError):
        return None
    counts = [number for stratum in strata.values() for number in (stratum.size, stratum.sampled)]
    texts = (header.annotator, header.attribution, header.judge, *(header.models or ()), *(header.benchmarks or ()))
    good = (
        all(isinstance(text, str) for text in texts)
        and all(type(number) is int and 0 <= number <= MAX_RECORDS for number in counts)
        and all(stratum.sampled <= stratum.size for stratum in strata.values())
        and type(header.seed) is int
        and (header.prompt is None or type(header.prompt) is int)
        and header.design in get_args(Design)
    )
    return header if good else None


def _choice(told: dict[str, Any], header: Header) -> Choice | None:
    try:
        choice = Choice(**told)
    except TypeError:
        return None
    texts = (choice.id, choice.model, choice.benchmark, choice.index, choice.stratum, choice.note, choice.at)
    good = (
        all(isinstance(text, str) for text in texts)
        and choice.kind in CHOICES
        and choice.stratum in header.strata
        and type(choice.seconds) in (int, float)
    )
    return choice if good else None


class OpenAudit:
    """The audit of one process: it alone writes to the file, as long as it lives."""

    def __init__(self, path: Path) -> None:
        check_place(path)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from None
        with contextlib.ExitStack() as until_it_is_open:
            until_it_is_open.callback(os.close, self._file)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"{path}: another capcurr audit has it open; end that one first") from None
            self.path = path
            self._writing = threading.Lock()
            self.audit = _read(path)
            self._end_last_line()
            until_it_is_open.pop_all()

    def begin(self, header: Header) -> Audit:
        """Start the audit, or let its sample grow."""
        if self.audit is None:
            self.audit = Audit(self.path, header)
            self._append(header.line())
        elif self.audit.header != header:
            self._append(header.line())
            self.audit.header = header
        return self.audit

    def keep(self, choice: Choice) -> None:
        """On the disk when this returns. OSError if it is not, and then nothing has changed."""
        assert self.audit is not None
        with self._writing:
            self._append(choice.line())
            self.audit.add(choice)

    def close(self) -> None:
        with self._writing:
            if not os.fstat(self._file).st_size:  # it was never begun
                self.path.unlink(missing_ok=True)
            os.close(self._file)

    def _append(self, line: bytes) -> None:
        end = os.fstat(self._file).st_size
        try:
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, end)  # no half a line, to which the next would be joined
            raise

    def _end_last_line(self) -> None:
        """A kill may have left half a line, and an editor a line without its end."""
        end = self.audit.end if self.audit else 0
        os.ftruncate(self._file, end)
        if end and os.pread(self._file, 1, end - 1) != b"\n":
            os.write(self._file, b"\n")


# Several audits


@dataclass(frozen=True)
class Combined:
    """What several humans say together."""

    annotators: tuple[str, ...]
    design: Design
    strata: Mapping[str, Stratum]
    truths: Mapping[str, str]  # of the wrong answers on which most agree
    stratum_of: Mapping[str, str]
    told: Sequence[Sequence[str]]  # the kinds that were said of each wrong answer, by id
    pairs: Sequence[Mapping[str, str]]  # what each annotator said of which
    ties: int
    cannot_tell: int  # nobody can
    changed: int


def combine(audits: Sequence[Audit]) -> Combined:
    """The truth is what most say, of those who can tell. Audits are of the same verdicts, drawn in the same way."""
    _check_alike(audits)
    said: list[dict[str, str]] = []
    stratum_of: dict[str, str] = {}
    for audit in audits:
        stratum_of.update({choice.id: choice.stratum for choice in audit.choices.values()})
        said.append({choice.id: choice.kind for choice in audit.choices.values() if choice.kind != CANNOT_TELL})
    told = {id: [one[id] for one in said if id in one] for id in sorted(stratum_of)}
    truths = {id: truth for id, kinds in told.items() if (truth := _most(kinds))}
    cannot = sum(not kinds for kinds in told.values())
    return Combined(
        annotators=tuple(audit.header.annotator for audit in audits),
        design=audits[0].header.design,
        strata=_largest(audits),
        truths=truths,
        stratum_of=stratum_of,
        told=[kinds for kinds in told.values() if kinds],
        pairs=said,
        ties=len(told) - len(truths) - cannot,
        cannot_tell=cannot,
        changed=len({id for audit in audits for id in audit.changed}),
    )


def _check_alike(audits: Sequence[Audit]) -> None:
    first, names = audits[0], Counter(audit.header.annotator for audit in audits)
    for audit in audits[1:]:
        if audit.header.population != first.header.population:
            raise InputError(f"{audit.path}: was drawn from other verdicts, or in another way, than {first.path}")
    name, times = names.most_common(1)[0]
    if times > 1:
        both = [str(audit.path) for audit in audits if audit.header.annotator == name]
        raise InputError(f"{both[1]}: is of {name}, as is {both[0]}; give one audit of each annotator")


def _most(kinds: Iterable[str]) -> str | None:
    counts = Counter(kinds).most_common(2)
    if not counts or (len(counts) == 2 and counts[0][1] == counts[1][1]):
        return None
    return counts[0][0]


def _largest(audits: Sequence[Audit]) -> dict[str, Stratum]:
    """The strata are the same; of each, the audit that drew most."""
    found = dict(audits[0].header.strata)
    for audit in audits[1:]:
        for name, stratum in audit.header.strata.items():
            if stratum.sampled > found[name].sampled:
                found[name] = stratum
    return found
