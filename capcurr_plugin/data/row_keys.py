"""What a row is ordered and split by, taken from rows that are read one by one."""

import json
import random
from dataclasses import dataclass
from typing import Any, NamedTuple

from capcurr_plugin.data.split import PARTS, part_of
from capcurr_plugin.rows import CAPABILITIES, Capability, Row, RowError

SPLIT_COLUMNS = ("example_id", "images", "image_path", "index")  # the first that a row has

NO_CAPABILITY = len(CAPABILITIES)


_chance = random.Random(0)
FACTORS = tuple(_chance.getrandbits(64) | 1 for _ in range(64))  # odd: texts that differ in one word have two hashes


class Key(NamedTuple):
    hash: int  # of the index; rows with equal ones are looked at again
    pass_rate: float  # 2 where there is none
    capability: int  # its place among CAPABILITIES, or NO_CAPABILITY
    part: int  # its place among PARTS


_PLACES = {part: place for place, part in enumerate(PARTS)}


NO_PASS_RATE = 2.0


@dataclass(frozen=True)
class Wanted:
    """What a job needs of every row."""

    pass_rate: bool = False
    capability: bool = False
    split: bool = False
    split_by: str | None = None  # the column; none is given: the first of SPLIT_COLUMNS

    def key(self, row: Row, record: dict[str, Any], default: Capability | None) -> Key:
        """`record` is what the row was made of; `default` is the capability of a row that names none."""
        if self.pass_rate and row.pass_rate is None:
            raise RowError("column 'pass_rate' is missing, which the rows are ordered or dropped by; measure it first")
        capability = row.capability or default
        if self.capability and capability is None:
            raise RowError("column 'capability' is missing; name it with --capability (in verl's form, with convert)")
        return Key(
            index_hash(row.index.encode()),
            NO_PASS_RATE if row.pass_rate is None else row.pass_rate,
            NO_CAPABILITY if capability is None else CAPABILITIES.index(capability),
            part_number(record, self.split_by) if self.split else 0,
        )


def index_hash(text: bytes) -> int:
    """The words of eight bytes, each times a factor."""
    words = (int.from_bytes(text[place : place + 8], "little") for place in range(0, len(text), 8))
    return sum(word * FACTORS[place % len(FACTORS)] for place, word in enumerate(words)) % 2**64


def split_text(record: dict[str, Any], column: str | None) -> str:
    """What a row is split by, as text."""
    name = next(name for name in SPLIT_COLUMNS if record.get(name)) if column is None else column
    value = record.get(name)
    if value in (None, "", []):
        raise RowError(
            f"column {name!r} is missing or empty, which the rows are split by; name another with --split-by"
        )
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # one image is the same example whether it stands alone or in a list
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def part_number(record: dict[str, Any], column: str | None) -> int:
    """The place among PARTS of the part that a row belongs to."""
    return _PLACES[part_of(split_text(record, column))]
