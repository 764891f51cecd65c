"""What a shape takes, the strict reader takes, too, and both find the same key in it."""

import json
import random
from typing import Any

import numpy as np
import pytest
from row_samples import choice, row

from capcurr_plugin.data.row_keys import Wanted
from capcurr_plugin.data.row_shapes import Lines, Shape, shape_of
from capcurr_plugin.jsonl import parse_line
from capcurr_plugin.rows import CAPABILITIES, RowError, parse_row

# What means something to JSON or to the reader.
BYTES = b'"\\{}[],: \t\r<>image/.u0dD9aftnruels1-+eE.\x00\x1f\x7f\x80\xc2\xa0\xe3\xff'
VALUES = """null true false 0 1 1.0 0.5 0.25 -0 01 1e5 1E999 NaN 1e-999 12345678901234567890123 "" " " "\\u3000" "x" "é"
"\u3000" "<image>" "\\u003cimage>" "<ima<image>" "\\ud83d\\ude00" "\\ud800" "\\udc00" [] [null] ["a"] ["a.png"]
["a.png","b"] [".."] ["/a"] [true] [true,false] {} {"a":1} {"index":"x"} {"a":1,"a":2} "perception" "taste" "A" "\\n"
"a\\"b" "synthesised" [1,[2]] "\\u0000" "\x7f" "a\\u0041" """.split()
LAYOUTS: list[dict[str, Any]] = [{}, {"ensure_ascii": False}, {"separators": (",", ":")}]


def one_row(chance: random.Random) -> dict[str, Any]:
    k, marks = chance.choice([0, 1, 2, 4, 16]), chance.choice([0, 1, 1, 2])
    correctness = [chance.random() < 0.5 for _ in range(k)]
    problem = "<image>" * marks + chance.choice(
        ["Which?", "größer 是\n?", "x < y <i <im \\frac{1}{2}", '"q", "pass_rate": 1']
    )
    images = [f"images/{chance.randrange(99)}.png" for _ in range(marks)]
    made = row(f"r{chance.randrange(99)}", problem=problem, images=images, answer=chance.choice(["A", "\\frac12"]))
    if chance.random() < 0.25:
        made = choice(made["index"], prompt=problem, image_path=images)
    more: dict[str, Any] = {
        "predictions": [chance.choice(["A", "x, y", "\\sqrt{2}", None, ""]) for _ in correctness],
        "correctness": correctness,
        "pass_rate": sum(correctness) / k if k else chance.choice([0, 1, 0.5, 1 / 3]),
        "capability": chance.choice(CAPABILITIES),
        "note": chance.choice([None, 1, "x", [1, "a"], {"a": [1], "b": {"c": None}}, [[1], [2]], [{"z": 1}]]),
        "scene": {"answer": "x", "k": 1},
    }
    made |= {name: value for name, value in more.items() if chance.random() < 0.7}
    columns = list(made.items())
    if chance.random() < 0.3:
        chance.shuffle(columns)
    return dict(columns)


def changed(line: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        start = chance.randrange(len(line))
        end = start + chance.choice([0, 0, 1, 1, 2, 3])
        put = bytes(chance.choice(BYTES) for _ in range(chance.choice([0, 1, 1, 2])))
        if chance.random() < 0.5:
            start, end = value_at(line, line.find(b":", start) + 1)
            put = chance.choice(VALUES).encode()
        elif chance.random() < 0.2:
            put = line[start : start + chance.randrange(40)]
            start = end = chance.randrange(len(line))
        line = line[:start] + put + line[end:]
    return line


def value_at(line: bytes, start: int) -> tuple[int, int]:
    """The value behind a colon, as far as there is one."""
    text = line.decode("latin-1")
    start += text[start : start + 1] == " "
    try:
        return start, json.JSONDecoder().raw_decode(text, start)[1]
    except ValueError:
        return start, start


def read(line: bytes, wanted: Wanted, default: Any) -> tuple[Any, ...] | None:
    try:
        record = parse_line(line, len(line))
        return tuple(wanted.key(parse_row(record), record, default))
    except RowError:
        return None


def taken(shape: Shape, lines: Lines, default: Any) -> dict[bytes, tuple[Any, ...]]:
    """The lines that the shape takes, and their keys."""
    hits = lines.at(np.flatnonzero(shape.matches(lines)))
    if not len(hits):
        return {}
    good, keys = shape.keys(hits, default)
    names = ("hash", "pass_rate", "capability", "part")
    return {hits.line(n): tuple(keys[name][n].item() for name in names) for n in np.flatnonzero(good).tolist()}


@pytest.mark.parametrize("seed", range(8))
def test_a_shape_takes_nothing_that_the_strict_reader_refuses(seed):
    chance = random.Random(seed)
    count = 0
    for _ in range(12):
        record, default = one_row(chance), chance.choice([None, "perception"])
        wanted = Wanted(split=chance.random() < 0.5, split_by=chance.choice([None, None, "answer"]))
        line = json.dumps(record, **chance.choice(LAYOUTS)).encode() + b"\n"
        shape = shape_of(line, record, wanted)
        if read(line, wanted, default) is None or shape is None:
            continue
        lines = {line, *(changed(line[:-1], chance).replace(b"\n", b"") + b"\n" for _ in range(100))}
        lines = Lines.split(b"".join(one for one in lines if one == one.decode("utf-8", "replace").encode()))
        found = taken(shape, lines, default)
        assert line in found
        for one, key in found.items():
            assert read(one, wanted, default) == key, one
        count += len(found)
    assert count > 50
