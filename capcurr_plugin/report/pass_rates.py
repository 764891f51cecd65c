"""How hard rows are: pass rates by capability before and after a filter, and along the order of a curriculum.

Files are read as streams and only counts are kept, so that memory does not grow with the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from capcurr_plugin.report.figures import NO_CAPABILITY
from capcurr_plugin.row_files import BadRows, RecordReader
from capcurr_plugin.rows import CAPABILITIES, Capability, parse_row
from capcurr_plugin.statistics import wilson_interval

GROUPS: tuple[str, ...] = (*CAPABILITIES, NO_CAPABILITY)
CONFIDENCE = 0.95
TICKS = 1000  # pass rates are counted in thousandths
LARGEST_K = 20  # up to it, every j/K of every K has a place of its own among rates rounded to three digits
BINS = 10  # between 0 and 1, where the rates are of no one K
MOST_SLICES = 96  # of an order, and one more for each stage


# Files


class RowFile(NamedTuple):
    path: Path
    capability: Capability | None  # of its rows that name none

    @classmethod
    def of(cls, text: str) -> RowFile:
        """A path, or CAPABILITY=PATH."""
        name, equals, path = text.partition("=")
        for capability in CAPABILITIES:
            if equals and name == capability:
                return cls(Path(path), capability)
        return cls(Path(text), None)


class Measured(NamedTuple):
    """What is read of a row."""

    file: int
    group: str
    rate: float | None


def read_measured(
    files: Sequence[RowFile], bad: BadRows, tell: Callable[[float], object] = lambda share: None
) -> Iterator[Measured]:
    """Every row of the files, one file after another. That an index stands twice is not looked for: to know, all of
    them would have to be kept."""
    readers = [RecordReader(file.path, bad) for file in files]  # all, so that the last one's name is checked, too
    sizes = [file.path.stat().st_size for file in files]
    for number, (file, reader) in enumerate(zip(files, readers, strict=True)):
        reader.tell = _part_of_all(sizes, number, tell)
        for row in reader.read(parse_row):
            yield Measured(number, row.with_capability(file.capability).capability or NO_CAPABILITY, row.pass_rate)


def _part_of_all(sizes: Sequence[int], number: int, tell: Callable[[float], object]) -> Callable[[float], object]:
    return lambda share: tell((sum(sizes[:number]) + share * sizes[number]) / sum(sizes))


# Counts


@dataclass(slots=True)
class Tally:
    """Counts of rows by their pass rates."""

    rows: int = 0
    measured: int = 0
    total: float = 0.0
    at_0: int = 0
    at_1: int = 0
    between: Counter[int] = field(default_factory=Counter)  # rates above 0 and below 1, in ticks

    def add(self, rate: float | None) -> None:
        self.rows += 1
        if rate is None:
            return
        self.measured += 1
        self.total += rate
        if rate == 0:
            self.at_0 += 1
        elif rate == 1:
            self.at_1 += 1
        else:
            self.between[int(rate * TICKS)] += 1

    def join(self, other: Tally) -> None:
        for name in ("rows", "measured", "total", "at_0", "at_1"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.between.update(other.between)

    def mean(self) -> float | None:
        return self.total / self.measured if self.measured else None

    def interval(self) -> tuple[float, float] | None:
        """Of the mean: Wilson's, with each row as one trial. Rates between 0 and 1 vary less than trials do, so that
        it errs to the wide side."""
        return wilson_interval(self.total, self.measured, CONFIDENCE) if self.measured else None

    def quantile(self, share: float) -> float | None:
        """The smallest rate with at least this share at or below it, down to the tick."""
        if not self.measured:
            return None
        seen = self.at_0
        if seen >= share * self.measured:
            return 0.0
        for tick in sorted(self.between):
            seen += self.between[tick]
            if seen >= share * self.measured:
                return tick / TICKS
        return 1.0

    def numbers(self) -> dict[str, Any]:
        mean, interval = self.mean(), self.interval()
        return {
            "rows": self.rows,
            "not_measured": self.rows - self.measured,
            "mean": None if mean is None else round(mean, 6),
            "interval": interval and [round(end, 6) for end in interval],
            "at_0": self.at_0,
            "at_1": self.at_1,
        }


def in_order(tallies: Mapping[str, Any]) -> list[str]:
    """The capabilities that there are, as training takes them."""
    return [group for group in GROUPS if group in tallies]


def tally(rows: Iterator[Measured]) -> dict[str, Tally]:
    """By capability."""
    tallies: dict[str, Tally] = {}
    for row in rows:
        tallies.setdefault(row.group, Tally()).add(row.rate)
    return tallies


def joined(tallies: Sequence[Tally]) -> Tally:
    whole = Tally()
    for one in tallies:
        whole.join(one)
    return whole


# Histograms


@dataclass(frozen=True)
class Bars:
    """The bars of a histogram: 0 and 1, which have one each, and what lies between."""

    k: int | None  # each rate is one of 0/K to K/K; None: bins of equal width

    @classmethod
    def fitting(cls, tallies: Sequence[Tally]) -> Bars:
        """A bar for each rate where K answers were asked of every row: other bins would join two rates here and one
        there, and show hills that are not."""
        ticks = {tick for one in tallies for tick in one.between}
        return cls(next((k for k in range(1, LARGEST_K + 1) if all(_place(tick, k) for tick in ticks)), None))

    def labels(self) -> list[str]:
        if self.k:
            return [
                f"{number}/{self.k}" if 0 < number < self.k else f"{number // self.k}" for number in range(self.k + 1)
            ]
        return ["0", *(f"{n / BINS:g} to {(n + 1) / BINS:g}" for n in range(BINS)), "1"]

    def heights(self, one: Tally) -> list[int]:
        inner = [0] * (self.k - 1 if self.k else BINS)
        for tick, count in one.between.items():
            inner[_place(tick, self.k) - 1 if self.k else tick * BINS // TICKS] += count
        return [one.at_0, *inner, one.at_1]


def _place(tick: int, k: int) -> int:
    """The j, from 1 to K-1, of the rate j/K, cut or rounded to three digits or more, that has this tick; 0: none."""
    place = round(tick * k / TICKS)
    off = tick - place * TICKS / k
    return place if 0 < place < k and -1.5 <= off <= 0.5 else 0


def histogram_numbers(sets: Mapping[str, Mapping[str, Tally]]) -> dict[str, Any]:
    """Of each set of rows ("before", "after"), by capability: counts, the mean with its interval, and the bars."""
    bars = Bars.fitting([one for tallies in sets.values() for one in tallies.values()])
    groups = in_order({group: None for tallies in sets.values() for group in tallies})

    def numbers(one: Tally) -> dict[str, Any]:
        return one.numbers() | {"bars": bars.heights(one)}

    return {
        "k": bars.k,
        "bars": bars.labels(),
        "capabilities": {
            group: {name: numbers(tallies.get(group, Tally())) for name, tallies in sets.items()} for group in groups
        },
        "all": {name: numbers(joined(list(tallies.values()))) for name, tallies in sets.items()},
    }


# The order


@dataclass(slots=True)
class Run:
    """The rows of one capability in one stage."""

    first: int
    last: int = 0
    tally: Tally = field(default_factory=Tally)
    to_easier: int = 0  # steps from a row to the next that is measured
    to_harder: int = 0
    _rate: float | None = None

    def add(self, position: int, rate: float | None) -> None:
        self.last = position
        self.tally.add(rate)
        if rate is None:
            return
        if self._rate is not None:
            self.to_easier += rate > self._rate
            self.to_harder += rate < self._rate
        self._rate = rate

    def direction(self) -> str:
        if not self.tally.measured:
            return "not measured"
        if not self.to_easier and not self.to_harder:
            return "equally hard"
        return "mixed" if self.to_easier and self.to_harder else "easy to hard" if self.to_harder else "hard to easy"

    def numbers(self) -> dict[str, Any]:
        steps = {"steps_to_easier": self.to_easier, "steps_to_harder": self.to_harder, "direction": self.direction()}
        return {"first": self.first, "last": self.last, **self.tally.numbers(), **steps}


@dataclass(slots=True)
class Slice:
    """Rows that stand one after another, all of one stage."""

    stage: int
    rows: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)

    def join(self, other: Slice) -> None:
        self.rows += other.rows
        for group, one in other.tallies.items():
            self.tallies.setdefault(group, Tally()).join(one)


class Order:
    """A curriculum, row by row. How many rows will come is not known: slices are joined as they become many."""

    def __init__(self) -> None:
        self.rows = 0
        self.runs: list[dict[str, Run]] = []  # of each stage, by capability
        self.slices: list[Slice] = []
        self._size = 1  # rows of a full slice

    def add(self, row: Measured) -> None:
        self.rows += 1
        if row.file == len(self.runs):
            self.runs.append({})
        run = self.runs[-1].get(row.group)
        if run is None:
            run = self.runs[-1][row.group] = Run(self.rows)
        run.add(self.rows, row.rate)
        current = self._slice(row.file)
        current.rows += 1
        current.tallies.setdefault(row.group, Tally()).add(row.rate)

    def _slice(self, stage: int) -> Slice:
        """The one that the next row belongs to."""
        if self.slices and self.slices[-1].stage == stage and self.slices[-1].rows < self._size:
            return self.slices[-1]
        if len(self.slices) >= MOST_SLICES + len(self.runs):
            self._size *= 2
            self._join_slices(lambda before, after: before.rows + after.rows <= self._size)
            return self._slice(stage)
        self.slices.append(Slice(stage))
        return self.slices[-1]

    def _join_slices(self, fits: Callable[[Slice, Slice], bool]) -> None:
        slices: list[Slice] = []
        for one in self.slices:
            if slices and slices[-1].stage == one.stage and fits(slices[-1], one):
                slices[-1].join(one)
            else:
                slices.append(one)
        self.slices = slices

    def numbers(self, files: Sequence[RowFile]) -> dict[str, Any]:
        # The few rows that a stage may end with would be seen as a swing of their own.
        self._join_slices(lambda _, after: 2 * after.rows < self._size)
        return {
            "rows": self.rows,
            "capabilities": in_order({group: None for runs in self.runs for group in runs}),
            "stages": [self._stage(number, file) for number, file in enumerate(files)],
            "slices": list(self._slices()),
        }

    def _stage(self, number: int, file: RowFile) -> dict[str, Any]:
        runs = self.runs[number]
        return {
            "file": str(file.path),
            "first": min(run.first for run in runs.values()),
            "last": max(run.last for run in runs.values()),
            "capabilities": {group: runs[group].numbers() for group in in_order(runs)},
        }

    def _slices(self) -> Iterator[dict[str, Any]]:
        first = 1
        for one in self.slices:
            groups = {group: _slice_numbers(one.tallies[group]) for group in in_order(one.tallies)}
            yield {"stage": one.stage + 1, "first": first, "last": first + one.rows - 1, "capabilities": groups}
            first += one.rows


def _slice_numbers(one: Tally) -> dict[str, Any]:
    mean = one.mean()
    return {
        "rows": one.rows,
        "not_measured": one.rows - one.measured,
        "mean": None if mean is None else round(mean, 6),
        "quartiles": None if mean is None else [one.quantile(0.25), one.quantile(0.75)],
    }


def order_of(rows: Iterator[Measured]) -> Order:
    order = Order()
    for row in rows:
        order.add(row)
    return order
