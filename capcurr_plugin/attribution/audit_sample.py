"""Which verdicts a human looks at: drawn at random within strata, the same for the same seed.

Every stratum has one random order, of which the first are drawn, so that a larger sample holds a smaller one."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from capcurr_plugin.attribution.audits import Design, Stratum
from capcurr_plugin.attribution.records import Record, read_records
from capcurr_plugin.errors import InputError

LEAST = 10  # of each stratum, before the rest is shared out: a rare kind is to have numbers, too
ALL = "all"  # the one stratum of a simple random sample


@dataclass(frozen=True)
class Population:
    """The verdicts from which are drawn: the ids of each stratum."""

    judge: str
    strata: Mapping[str, Sequence[str]]

    @property
    def size(self) -> int:
        return sum(map(len, self.strata.values()))


@dataclass(frozen=True)
class Sample:
    strata: Mapping[str, Stratum]
    stratum_of: Mapping[str, str]  # by id, in the order in which they are shown


def read_population(
    path: Path, design: Design, models: Sequence[str] | None = None, benchmarks: Sequence[str] | None = None
) -> Population:
    strata: dict[str, list[str]] = defaultdict(list)
    judges: set[str] = set()
    found: tuple[set[str], set[str]] = set(), set()
    seen: set[str] = set()
    for number, record in enumerate(read_records(path), 1):
        if record.id in seen:
            raise InputError(f"{path}: line {number}: the same wrong answer stands in an earlier line")
        seen.add(record.id)
        judges.add(record.judge)
        found[0].add(record.model)
        found[1].add(record.benchmark)
        if (models is None or record.model in models) and (benchmarks is None or record.benchmark in benchmarks):
            strata[record.kind if design == "stratified" else ALL].append(record.id)
    if len(judges) > 1:
        raise InputError(f"{path}: has verdicts of {' and '.join(sorted(judges))}; audit the file of one judge")
    for what, wanted, there in (("model", models, found[0]), ("benchmark", benchmarks, found[1])):
        unknown = sorted({*(wanted or ())} - there)
        if unknown:
            raise InputError(f"{path}: has no {what} {unknown[0]!r}; there are {', '.join(sorted(there))}")
    if not strata:
        raise InputError(f"{path}: has no wrong answer of these models to these benchmarks")
    return Population(judges.pop(), dict(sorted(strata.items())))


def draw(population: Population, size: int, seed: int) -> Sample:
    counts = shared_out({name: len(ids) for name, ids in population.strata.items()}, size)
    drawn = {
        id: name
        for name, ids in population.strata.items()
        for id in heapq.nsmallest(counts[name], ids, key=lambda id: _place(seed, "drawn", id))
    }
    # Shown in an order of its own: neither the place of an item nor what came before tells its stratum.
    shown = sorted(drawn, key=lambda id: _place(seed, "shown", id))
    strata = {name: Stratum(len(ids), counts[name]) for name, ids in population.strata.items()}
    return Sample(strata, {id: drawn[id] for id in shown})


def shared_out(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """How many of each stratum: first LEAST of each, one round after another, then in proportion (Webster's method,
    by which nobody's share shrinks when the total grows)."""
    given = Counter[str]()
    places = ((round, -sizes[name], name) for round in range(LEAST) for name in sizes if round < sizes[name])
    for _, _, name in sorted(places)[:total]:
        given[name] += 1
    waiting = [(_turn(sizes[name], given[name]), name) for name in sizes if given[name] < sizes[name]]
    heapq.heapify(waiting)
    for _ in range(total - given.total()):
        if not waiting:
            break
        _, name = heapq.heappop(waiting)
        given[name] += 1
        if given[name] < sizes[name]:
            heapq.heappush(waiting, (_turn(sizes[name], given[name]), name))
    return {name: given[name] for name in sizes}


def _turn(size: int, given: int) -> float:
    return (2 * given + 1) / size


def read_sampled(path: Path, sample: Sample) -> list[Record]:
    """The records of a sample, in the order in which they are shown."""
    found = {record.id: record for record in read_records(path) if record.id in sample.stratum_of}
    gone = [id for id in sample.stratum_of if id not in found]
    if gone:
        raise InputError(f"{path}: changed while it was read; start again")
    return [found[id] for id in sample.stratum_of]


def _place(seed: int, purpose: str, id: str) -> bytes:
    return hashlib.blake2b(f"{seed} {purpose} {id}".encode(), digest_size=16).digest()
