"""`capcurr data order` from end to end."""

import gzip
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from row_samples import ENDINGS, choice, convert, error_line, exact, read_lines, read_rows, row, write_lines
from test_rows_bad import BAD_LINES, BAD_TABLES
from test_rows_properties import filled, row_lists

from capcurr_plugin import jsonl
from capcurr_plugin.cli import main
from capcurr_plugin.curriculum import ORDERS, sort_key
from capcurr_plugin.data import keyed_batches, keyed_rows, ordering, row_keys, row_shapes, sorted_runs
from capcurr_plugin.data import order as order_command
from capcurr_plugin.data.order import BY
from capcurr_plugin.data.split import PARTS, part_of
from capcurr_plugin.row_files import write_rows
from capcurr_plugin.rows import CAPABILITIES, parse_row


def order(*arguments: Any) -> int:
    try:
        return main(["data", "order", *map(str, arguments)])
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


@pytest.fixture(params=["small", "usual"])
def sizes(request, monkeypatch):
    """Blocks and chunks of a few rows, so that a handful of rows takes the way of millions; and the usual ones."""
    if request.param == "small":
        make_small(monkeypatch)


def make_small(patch, block=600):
    patch.setattr(keyed_rows, "BLOCK_BYTES", block)
    patch.setattr(keyed_rows, "MANY_BLOCKS", 1 << 40)
    patch.setattr(keyed_rows, "MIN_ALIKE", 1)
    patch.setattr(keyed_batches, "MAX_BATCH_ROWS", 3)
    patch.setattr(sorted_runs, "KEPT_BYTES", block)
    patch.setattr(sorted_runs, "PIECES_BYTES", 1)
    patch.setattr(sorted_runs, "MIN_PIECE_BYTES", 1)
    patch.setattr(sorted_runs, "CHUNK_ROWS", 4)
    patch.setattr(ordering, "WRITTEN_BYTES", 64)


def measured(number: int, chance: random.Random, k: int = 4, **more: Any) -> dict[str, Any]:
    """A row of the released form."""
    correctness = [chance.random() < 0.5 for _ in range(k)]
    return row(
        f"row {number}",
        problem=f"<image>\nWhich one is {number}?\nA: größer\nB: 是",
        images=[f"images/{number}.png"],
        predictions=[chance.choice(["A", "\\frac{1}{2}", "no", None]) for _ in correctness],
        correctness=correctness,
        pass_rate=sum(correctness) / k,
        capability=chance.choice(CAPABILITIES),
        **more,
    )


def samples(count: int = 40, seed: int = 0, **more: Any) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [measured(number, chance, **more) for number in range(count)]


def indices(rows: list[dict[str, Any]]) -> list[str]:
    return [one["index"] for one in rows]


def keys(rows: list[dict[str, Any]], by: str) -> list[tuple[int, float]]:
    return [sort_key(BY[by], one.get("capability"), one.get("pass_rate")) for one in rows]


# Orders


@pytest.mark.parametrize("ties", ["random", "file"])
@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("ending", ENDINGS)
def test_rows_come_in_the_order_of_the_curriculum(tmp_path, sizes, ending, by, ties):
    rows = samples()
    source, output = tmp_path / f"in{ending}", tmp_path / f"out{ending}"
    write_rows(source, rows)
    assert order(source, output, "--by", by, "--ties", ties) == 0
    found = read_rows(output)
    assert sorted(exact(found)) == sorted(exact(rows))
    assert keys(found, by) == sorted(keys(rows, by))
    if ties == "file":
        assert indices(found) == indices(
            sorted(rows, key=lambda one: sort_key(BY[by], one["capability"], one["pass_rate"]))
        )
    else:
        places = {index: place for place, index in enumerate(indices(rows))}
        groups = [[places[one["index"]] for one in found if key == keys([one], by)[0]] for key in set(keys(rows, by))]
        assert any(group != sorted(group) for group in groups)


def test_the_orders_of_files_are_those_of_training():
    assert set(BY.values()) == set(ORDERS) - {"shuffled"}


def test_difficulty_is_the_default(tmp_path):
    source = write_lines(tmp_path / "in.jsonl", *samples())
    assert order(source, tmp_path / "default.jsonl") == 0
    assert order(source, tmp_path / "named.jsonl", "--by", "difficulty", "--ties", "random", "--seed", 42) == 0
    assert (tmp_path / "default.jsonl").read_bytes() == (tmp_path / "named.jsonl").read_bytes()


def splitmix64(state: int) -> int:
    """As its author writes it, without the step."""
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    return state ^ state >> 31


@pytest.mark.parametrize("seed", [42, 0, 2**64 - 1])
def test_random_ties_are_splitmix64_of_seed_and_place(tmp_path, sizes, seed):
    """So they are the same on every machine, and however large the blocks are."""
    rows = samples()
    source = write_lines(tmp_path / "in.jsonl", *rows)
    assert order(source, tmp_path / "out.jsonl", "--seed", seed) == 0

    def drawn(place: int) -> tuple[float, int]:
        return -rows[place]["pass_rate"], splitmix64((splitmix64(seed) + (place + 1) * 0x9E3779B97F4A7C15) % 2**64)

    expected = [rows[place]["index"] for place in sorted(range(len(rows)), key=drawn)]
    assert indices(read_lines(tmp_path / "out.jsonl")) == expected


def test_another_seed_changes_ties_only(tmp_path, sizes):
    source = write_lines(tmp_path / "in.jsonl", *samples())
    assert order(source, tmp_path / "a.jsonl", "--seed", 1) == 0
    assert order(source, tmp_path / "b.jsonl", "--seed", 2) == 0
    first, second = read_lines(tmp_path / "a.jsonl"), read_lines(tmp_path / "b.jsonl")
    assert indices(first) != indices(second)
    assert keys(first, "difficulty") == keys(second, "difficulty")


def test_the_order_does_not_depend_on_the_format(tmp_path, sizes):
    found = set()
    for ending in ENDINGS:
        write_rows(tmp_path / f"in{ending}", samples())
        assert order(tmp_path / f"in{ending}", tmp_path / f"out{ending}") == 0
        found.add(tuple(exact(read_rows(tmp_path / f"out{ending}"))))
    assert len(found) == 1


def test_dropping_does_not_change_the_order_of_the_rest(tmp_path, sizes):
    source = write_lines(tmp_path / "in.jsonl", *samples())
    assert order(source, tmp_path / "all.jsonl") == 0
    assert order(source, tmp_path / "rest.jsonl", "--drop-solved") == 0
    rest = [one for one in read_lines(tmp_path / "all.jsonl") if one["pass_rate"] < 1]
    assert read_lines(tmp_path / "rest.jsonl") == rest


# Rows are kept as they are


@pytest.mark.parametrize("output", ENDINGS)
@pytest.mark.parametrize("source", ENDINGS)
def test_rows_from_each_format_to_each(tmp_path, sizes, source, output):
    rows = samples(20)
    for number, one in enumerate(rows):
        one |= {"mixed": [1, 1.0, "one", None, {"a": [1, None]}][number % 5], "big": 2**70, "note": '日本 \n \u2028 "'}
    write_rows(tmp_path / f"in{source}", rows)
    content = (tmp_path / f"in{source}").read_bytes()
    assert order(tmp_path / f"in{source}", tmp_path / f"out{output}") == 0
    assert sorted(exact(read_rows(tmp_path / f"out{output}"))) == sorted(exact(rows))
    assert (tmp_path / f"in{source}").read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({f"in{source}", f"out{output}"})


LAYOUTS = {
    "default": lambda one: json.dumps(one),
    "utf-8": lambda one: json.dumps(one, ensure_ascii=False),
    "compact": lambda one: json.dumps(one, separators=(",", ":")),
    "sorted": lambda one: json.dumps(one, sort_keys=True, ensure_ascii=False),
    "reversed": lambda one: json.dumps(dict(reversed(one.items()))),
    "spaced": lambda one: " " + json.dumps(one, separators=(" ,  ", " : ")) + "  ",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_lines_stay_byte_for_byte(tmp_path, sizes, layout):
    lines = [LAYOUTS[layout](one) for one in samples()]
    assert order(write_lines(tmp_path / "in.jsonl", *lines), tmp_path / "out.jsonl") == 0
    assert sorted((tmp_path / "out.jsonl").read_text().splitlines()) == sorted(lines)


def test_the_last_line_may_lack_its_line_end(tmp_path, sizes):
    source = write_lines(tmp_path / "in.jsonl", *samples())
    assert order(source, tmp_path / "expected.jsonl") == 0
    source.write_bytes(source.read_bytes().rstrip(b"\n"))
    assert order(source, tmp_path / "out.jsonl") == 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "expected.jsonl").read_bytes()


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_multiple_choice_form_stays(tmp_path, sizes, ending):
    rows = [
        choice(f"c{n}", pass_rate=n % 3 / 2, example_id=f"e{n}", **({"source": "mine"} if n % 2 else {}))
        for n in range(20)
    ]
    write_rows(tmp_path / f"in{ending}", rows)
    assert order(tmp_path / f"in{ending}", tmp_path / f"out{ending}") == 0
    plain = tmp_path / "plain.jsonl"
    assert convert(tmp_path / f"out{ending}", plain, "--to", "choices") == 0
    assert sorted(exact(read_lines(plain))) == sorted(exact(rows))
    if ending == ".parquet":
        assert "prompt" in pq.read_schema(tmp_path / "out.parquet").names


def test_verls_form_stays(tmp_path, sizes):
    rows = samples(20)
    (tmp_path / "images").mkdir()
    for one in rows:
        (tmp_path / one["images"][0]).write_bytes(b"image")
    assert convert(write_lines(tmp_path / "in.jsonl", *rows), tmp_path / "verl.parquet", "--to", "verl") == 0
    assert order(tmp_path / "verl.parquet", tmp_path / "out.parquet") == 0
    assert order(tmp_path / "verl.parquet", tmp_path / "out.jsonl") == 0
    before, after = (
        pq.read_table(tmp_path / "verl.parquet").to_pylist(),
        pq.read_table(tmp_path / "out.parquet").to_pylist(),
    )
    rates = [one["extra_info"]["pass_rate"] for one in after]
    assert rates == sorted(rates, reverse=True)
    assert sorted(map(repr, before)) == sorted(map(repr, after))
    assert exact(read_lines(tmp_path / "out.jsonl")) == exact(read_rows(tmp_path / "out.parquet"))


def test_types_of_parquet_columns_stay(tmp_path, sizes):
    rows = pa.Table.from_pylist([one | {"level": n} for n, one in enumerate(samples(10))])
    rows = rows.set_column(rows.schema.get_field_index("level"), "level", rows["level"].cast(pa.int8()))
    pq.write_table(rows, tmp_path / "in.parquet")
    assert order(tmp_path / "in.parquet", tmp_path / "out.parquet") == 0
    assert pq.read_schema(tmp_path / "out.parquet").field("level").type == pa.int8()


def test_columns_with_dictionaries_are_read_row_by_row(tmp_path, sizes):
    rows = pa.Table.from_pylist(samples(10))
    rows = rows.set_column(rows.schema.get_field_index("source"), "source", rows["source"].dictionary_encode())
    pq.write_table(rows, tmp_path / "in.parquet")
    assert order(tmp_path / "in.parquet", tmp_path / "out.parquet") == 0
    assert sorted(exact(read_rows(tmp_path / "out.parquet"))) == sorted(exact(samples(10)))


# Several inputs


def test_files_of_all_formats_become_one(tmp_path, sizes):
    rows = samples(40)
    files = [tmp_path / f"in{ending}" for ending in ENDINGS]
    for place, file in enumerate(files):
        write_rows(file, rows[10 * place : 10 * place + 10])
    assert order(*files, tmp_path / "out.jsonl") == 0
    assert order(*files, tmp_path / "out.parquet") == 0
    found = read_rows(tmp_path / "out.jsonl")
    assert sorted(exact(found)) == sorted(exact(rows))
    assert exact(found) == exact(read_rows(tmp_path / "out.parquet"))
    whole = write_lines(tmp_path / "whole.jsonl", *rows)
    assert order(whole, tmp_path / "expected.jsonl") == 0
    assert exact(found) == exact(read_rows(tmp_path / "expected.jsonl"))


def test_parquet_files_with_unlike_columns_become_one(tmp_path, sizes):
    first, second = samples(5, note="text"), [one | {"index": f"b {one['index']}"} for one in samples(5, level=3)]
    write_rows(tmp_path / "a.parquet", first)
    write_rows(tmp_path / "b.parquet", second)
    assert order(tmp_path / "a.parquet", tmp_path / "b.parquet", tmp_path / "out.parquet") == 0
    assert sorted(exact(read_rows(tmp_path / "out.parquet"))) == sorted(exact(first + second))
    write_rows(tmp_path / "b.parquet", [one | {"note": 7} for one in second])
    assert order(tmp_path / "a.parquet", tmp_path / "b.parquet", tmp_path / "out.parquet") == 0
    assert sorted(exact(read_rows(tmp_path / "out.parquet"))) == sorted(
        exact(first + [one | {"note": 7} for one in second])
    )


def test_files_of_one_name_in_two_folders(tmp_path):
    for name, rows in (("a", samples(4)), ("b", [row("other", pass_rate=0.5)])):
        (tmp_path / name).mkdir()
        write_lines(tmp_path / name / "rows.jsonl", *rows)
    assert order(tmp_path / "a" / "rows.jsonl", tmp_path / "b" / "rows.jsonl", tmp_path / "out.jsonl") == 0
    assert len(read_lines(tmp_path / "out.jsonl")) == 5


@pytest.mark.parametrize("endings", [(".jsonl", ".jsonl"), (".parquet", ".parquet"), (".jsonl.gz", ".parquet")])
def test_an_index_that_two_files_use_is_told(tmp_path, sizes, capsys, endings):
    first, second = tmp_path / f"a{endings[0]}", tmp_path / f"b{endings[1]}"
    write_rows(first, samples(6))
    write_rows(second, [row("new", pass_rate=0.5), row("row 3", pass_rate=1.0)])
    output = tmp_path / f"out{endings[1]}"
    assert order(first, second, output) == 2
    unit = {".parquet": "row"}
    told = f"{unit.get(endings[0], 'line')} 4"
    assert (
        f"{second}, {unit.get(endings[1], 'line')} 2: index 'row 3' was already used in {first}, {told}"
        in error_line(capsys)
    )
    assert not output.exists()
    assert order(first, second, output, "--on-bad-row", "skip", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows_read"], summary["outputs"][0]["rows"], summary["bad_rows"]) == (8, 7, 1)
    assert sorted(exact(read_rows(output))) == sorted(exact([*samples(6), row("new", pass_rate=0.5)]))


# Leaving out


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("options", "left"),
    [(["--drop-solved"], [0.0, 0.5]), (["--drop-unsolved"], [0.5, 1.0]), (["--drop-solved", "--drop-unsolved"], [0.5])],
)
def test_dropped_rows_are_counted(tmp_path, sizes, capsys, ending, options, left):
    rows = [row(f"r{n}", pass_rate=rate) for n, rate in enumerate([1.0, 0.0, 0.5, 1.0, 0.5, 0.0, 1.0])]
    write_rows(tmp_path / f"in{ending}", rows)
    assert order(tmp_path / f"in{ending}", tmp_path / f"out{ending}", "--by", "difficulty", *options, "--json") == 0
    assert sorted({one["pass_rate"] for one in read_rows(tmp_path / f"out{ending}")}) == left
    summary = json.loads(capsys.readouterr().out)
    assert summary["dropped_solved"] == (3 if "--drop-solved" in options else 0)
    assert summary["dropped_unsolved"] == (2 if "--drop-unsolved" in options else 0)
    assert order(tmp_path / f"in{ending}", tmp_path / f"out{ending}", *options) == 0
    if "--drop-solved" in options:
        assert "\n3 solved rows dropped\n" in capsys.readouterr().out


def test_nothing_left(tmp_path, capsys):
    source = write_lines(tmp_path / "in.jsonl", row(pass_rate=1))
    assert order(source, tmp_path / "out.jsonl", "--drop-solved") == 2
    assert f"{source}: no row is left to write" in error_line(capsys)
    assert list(tmp_path.iterdir()) == [source]


# Capabilities and stages


@pytest.mark.parametrize("ending", ENDINGS)
def test_one_file_for_each_capability(tmp_path, sizes, capsys, ending):
    rows = samples()
    write_rows(tmp_path / f"in{ending}", rows)
    assert order(tmp_path / f"in{ending}", tmp_path / f"{{capability}}{ending}", "--json") == 0
    outputs = json.loads(capsys.readouterr().out)["outputs"]
    assert [Path(one["file"]).name for one in outputs] == [f"{name}{ending}" for name in CAPABILITIES]
    for name, report in zip(CAPABILITIES, outputs, strict=True):
        found = read_rows(tmp_path / f"{name}{ending}")
        assert sorted(exact(found)) == sorted(exact([one for one in rows if one["capability"] == name]))
        assert keys(found, "difficulty") == sorted(keys(found, "difficulty"))
        assert report["rows"] == len(found)
        assert report["capabilities"] == {name: len(found)}
        assert report["pass_rates"] == [found[0]["pass_rate"], found[-1]["pass_rate"]]


@pytest.mark.parametrize("output", [".jsonl", ".parquet"])
@pytest.mark.parametrize("source", [".jsonl", ".parquet"])
def test_the_capability_of_each_file(tmp_path, sizes, source, output):
    expected = []
    for place, name in enumerate(CAPABILITIES):
        rows = [one | {"index": f"{name} {one['index']}"} for one in samples(8, seed=place)]
        for number, one in enumerate(rows):
            if number != 3:
                del one["capability"]
        write_rows(tmp_path / f"{place}{source}", rows)
        expected += [{"capability": name} | one for one in rows]
    files = [tmp_path / f"{place}{source}" for place in range(3)]
    options = ["--capability", ",".join(CAPABILITIES), "--by", "capability,difficulty"]
    assert order(*files, tmp_path / f"out{output}", *options) == 0
    found = read_rows(tmp_path / f"out{output}")
    assert sorted(exact(found)) == sorted(exact(expected))
    assert keys(found, "capability,difficulty") == sorted(keys(found, "capability,difficulty"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_capability_is_written_into_lines_of_any_layout(tmp_path, sizes, layout):
    rows = samples()
    for one in rows[1:]:
        del one["capability"]
    source = write_lines(tmp_path / "in.jsonl", *(LAYOUTS[layout](one) for one in rows))
    assert order(source, tmp_path / "out.jsonl", "--capability", "perception") == 0
    expected = [{"capability": "perception"} | one for one in rows]
    assert sorted(exact(read_rows(tmp_path / "out.jsonl"))) == sorted(exact(expected))


def test_a_capability_in_a_text_or_an_inner_object_is_not_the_rows(tmp_path, sizes):
    texts = [
        '"capability": "perception"',
        '", "capability": "perception", "x": "',
        '\\", \\"capability\\": \\"perception',
    ]
    rows = [
        row(f"r{n}", answer=texts[n % 3], pass_rate=0.5, meta={"capability": "no", "pass_rate": 7}) for n in range(12)
    ]
    source = write_lines(tmp_path / "in.jsonl", *rows)
    assert order(source, tmp_path / "out.jsonl", "--capability", "textual_reasoning", "--by", "capability") == 0
    expected = [one | {"capability": "textual_reasoning"} for one in rows]
    assert sorted(exact(read_rows(tmp_path / "out.jsonl"))) == sorted(exact(expected))


# Splits


def sides(folder: Path, stem: str = "out", ending: str = ".jsonl") -> dict[str, list[dict[str, Any]]]:
    paths = {part: folder / f"{stem}-{part}{ending}" for part in PARTS}
    return {part: read_rows(path) if path.exists() else [] for part, path in paths.items()}


@pytest.mark.parametrize("ending", ENDINGS)
def test_split_by_the_example(tmp_path, sizes, ending):
    rows = samples(200)
    write_rows(tmp_path / f"in{ending}", rows)
    assert order(tmp_path / f"in{ending}", tmp_path / f"out{ending}", "--split") == 0
    found = sides(tmp_path, "out", ending)
    assert sorted(exact(found["train"] + found["val"] + found["test"])) == sorted(exact(rows))
    assert all(keys(part, "difficulty") == sorted(keys(part, "difficulty")) for part in found.values())
    for name, part in found.items():
        assert {part_of(one["images"][0]) for one in part} <= {name}


def test_the_parts_have_their_shares():
    counts = Counter(part_of(f"example {number}") for number in range(20_000))
    shares = [counts[part] / 20_000 for part in PARTS]
    assert shares == pytest.approx([0.85, 0.05, 0.10], abs=0.006)


def test_the_part_of_an_example_is_fixed():
    """A change would move examples from training to testing."""
    parts = "".join("tve"[PARTS.index(part_of(str(number)))] for number in range(60))
    assert parts == "ttttteettttttttvttttettttttttttevttttttttttttttttttttttttttt"


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_rows_of_one_example_are_on_one_side(tmp_path, sizes, ending):
    rows = [
        row(
            f"{group} {n}",
            problem="<image>" * (group % 3) + "?",
            images=["a.png", "b.png"][: group % 3],
            pass_rate=n / 4,
        )
        | ({"example_id": f"e{group}"} if group % 2 else {"scene": f"s{group}"})
        for group in range(30)
        for n in range(4)
    ]
    write_rows(tmp_path / f"in{ending}", rows)
    assert order(tmp_path / f"in{ending}", tmp_path / f"out{ending}", "--split") == 0
    side = {one["index"]: part for part, found in sides(tmp_path, "out", ending).items() for one in found}
    for one in rows:
        text = one.get("example_id") or " ".join(one["images"]) or one["index"]
        expected = part_of(text if len(one["images"]) < 2 or "example_id" in one else json.dumps(one["images"]))
        assert side[one["index"]] == expected


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_split_by_a_column(tmp_path, sizes, capsys, ending):
    rows = [one | {"group": [n // 10, f"g{n // 10}"][n % 2]} for n, one in enumerate(samples(60))]
    write_rows(tmp_path / f"in{ending}", rows)
    options = ["--split", "--split-by", "group"]
    assert order(tmp_path / f"in{ending}", tmp_path / f"out{ending}", *options) == 0
    for part, found in sides(tmp_path, "out", ending).items():
        assert {part_of(str(one["group"])) for one in found} <= {part}
    capsys.readouterr()
    write_rows(tmp_path / f"in{ending}", [*rows, row("without", pass_rate=0)])
    assert order(tmp_path / f"in{ending}", tmp_path / f"out{ending}", *options) == 2
    assert "61: column 'group' is missing or empty, which the rows are split by" in error_line(capsys)


def test_split_of_each_capability(tmp_path, capsys):
    rows = samples(300)
    source = write_lines(tmp_path / "in.jsonl", *rows)
    assert order(source, tmp_path / "{split}-{capability}.jsonl", "--split", "--json") == 0
    names = [Path(one["file"]).name for one in json.loads(capsys.readouterr().out)["outputs"]]
    assert names == [f"{part}-{name}.jsonl" for name in CAPABILITIES for part in PARTS]
    assert sum(len(read_rows(tmp_path / name)) for name in names) == 300


def test_a_part_without_rows_is_not_written(tmp_path, capsys):
    source, output = write_lines(tmp_path / "in.jsonl", row("r1", pass_rate=0.5)), tmp_path / "out.jsonl"
    assert order(source, output, "--split", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["outputs"]) == 1
    written = {path.name for path in tmp_path.iterdir()} - {"in.jsonl"}
    assert len(written) == 1
    for part in PARTS:
        (tmp_path / f"out-{part}.jsonl").write_text("old")
    assert order(source, output, "--split") == 2
    assert "is there from before, but no row belongs into it now; remove it" in error_line(capsys)
    assert {path.read_text() for path in tmp_path.glob("out-*")} == {"old"}


# Bad rows


@pytest.mark.parametrize(("by", "column"), [("difficulty", "pass_rate"), ("capability", "capability")])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_row_without_what_is_asked_is_told(tmp_path, sizes, capsys, ending, by, column):
    rows = samples(30)
    rows[20] = {name: value for name, value in rows[20].items() if name != column}
    source, output = tmp_path / f"in{ending}", tmp_path / f"out{ending}"
    write_rows(source, rows)
    assert order(source, output, "--by", by) == 2
    unit = "row" if ending == ".parquet" else "line"
    assert f"{source}, {unit} 21: column '{column}' is missing" in error_line(capsys)
    assert list(tmp_path.iterdir()) == [source]
    assert order(source, output, "--by", by, "--on-bad-row", "skip", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["bad_rows"], summary["bad_rows_file"]) == (1, f"{output}.bad.jsonl")
    assert read_lines(tmp_path / f"out{ending}.bad.jsonl")[0][unit] == 21
    assert sorted(exact(read_rows(output))) == sorted(exact(rows[:20] + rows[21:]))


@pytest.mark.parametrize(("line", "reason"), [one for one in BAD_LINES if one.id != "duplicate-index"])
def test_a_bad_line_is_told_as_convert_tells_it(tmp_path, sizes, capsys, line, reason):
    good = [row(f"g{number}", pass_rate=0.5) for number in range(8)]
    source = write_lines(tmp_path / "in.jsonl", *good[:5], line, *good[5:])
    assert convert(source, tmp_path / "out.jsonl") == 2
    expected = error_line(capsys)
    assert order(source, tmp_path / "out.jsonl") == 2
    assert error_line(capsys) == expected
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(("content", "where", "reason"), BAD_TABLES)
def test_a_bad_table_is_told_as_convert_tells_it(tmp_path, sizes, capsys, monkeypatch, content, where, reason):
    monkeypatch.setattr(order_command, "needs_pass_rate", lambda order: False)  # which none of the tables has
    source = tmp_path / "in.parquet"
    pq.write_table(content, source)
    before = sorted(tmp_path.iterdir())
    for output in ("out.parquet", "out.jsonl"):
        assert convert(source, tmp_path / output) == 2
        expected = error_line(capsys)
        assert order(source, tmp_path / output) == 2
        assert error_line(capsys) == expected
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_index_that_is_used_twice_is_told(tmp_path, sizes, capsys, ending):
    rows = samples(30)
    for second, first in ((20, 3), (25, 3), (28, 7)):
        rows[second] = rows[second] | {"index": rows[first]["index"]}
    source, output = tmp_path / f"in{ending}", tmp_path / f"out{ending}"
    write_rows(source, rows)
    unit = "row" if ending == ".parquet" else "line"
    assert order(source, output) == 2
    assert f"{source}, {unit} 21: index 'row 3' was already used in {unit} 4" in error_line(capsys)
    assert order(source, output, "--on-bad-row", "skip", "--split", "--drop-solved", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    left = [one for number, one in enumerate(rows) if number not in (20, 25, 28)]
    found = sides(tmp_path, "out", ending)
    assert sorted(exact([one for part in found.values() for one in part])) == sorted(
        exact([one for one in left if one["pass_rate"] < 1])
    )
    written = sum(one["rows"] for one in summary["outputs"])
    assert summary["bad_rows"] == 3
    assert summary["rows_read"] == 30 == written + summary["dropped_solved"] + 3


def test_indices_of_one_hash_are_two_indices(tmp_path, sizes, monkeypatch):
    monkeypatch.setattr(row_keys, "FACTORS", (2,) * 64)
    monkeypatch.setattr(row_shapes, "FACTORS", (0,) * 64)
    source = write_lines(tmp_path / "in.jsonl", *samples())
    assert order(source, tmp_path / "out.jsonl") == 0
    assert sorted(indices(read_lines(tmp_path / "out.jsonl"))) == sorted(indices(samples()))


def test_every_row_is_bad(tmp_path, capsys):
    good = write_lines(tmp_path / "good.jsonl", *samples())
    source = write_lines(tmp_path / "in.jsonl", "{", row())
    assert order(good, source, tmp_path / "out.jsonl", "--on-bad-row", "skip") == 2
    assert f"{source}: all 2 rows are bad; {tmp_path}/out.jsonl.bad.jsonl says why" in error_line(capsys)
    assert not (tmp_path / "out.jsonl").exists()
    assert len(read_lines(tmp_path / "out.jsonl.bad.jsonl")) == 2


@pytest.mark.parametrize("place", [0, 5, 20])
def test_a_line_that_is_too_long(tmp_path, sizes, capsys, monkeypatch, place):
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1000)
    rows = samples(20)
    lines: list[Any] = [*rows[:place], row("long", answer="x" * 5000, pass_rate=0.5), *rows[place:]]
    source = write_lines(tmp_path / "in.jsonl", *lines)
    if keyed_rows.BLOCK_BYTES > 1000:
        monkeypatch.setattr(keyed_rows, "BLOCK_BYTES", 1000)
        monkeypatch.setattr(keyed_rows, "MANY_BLOCKS", 1 << 40)
    length = len(source.read_bytes().splitlines()[place]) + 1
    assert order(source, tmp_path / "out.jsonl") == 2
    assert f"{source}, line {place + 1}: the line has {length:,} bytes; at most 1,000 are read" in error_line(capsys)
    assert order(source, tmp_path / "out.jsonl", "--on-bad-row", "skip") == 0
    assert sorted(exact(read_lines(tmp_path / "out.jsonl"))) == sorted(exact(rows))


# Shapes and columns decide how fast a file is read, never what is accepted: see also test_order_shapes.py.

RULES = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def both_ways(folder: Path, source: Path, *options: Any) -> None:
    """Strictly and as usual, the command has to make the same."""
    made = []
    for name in ("strict", "usual"):
        (folder / name).mkdir(exist_ok=True)
        for old in (folder / name).iterdir():
            old.unlink()
        with pytest.MonkeyPatch.context() as patch:
            make_small(patch, block=1500)
            if name == "strict":
                patch.setattr(keyed_rows, "MAX_SHAPES", 0)
                patch.setattr(keyed_batches, "keys_of_columns", all_unsure)
            code = order(source, folder / name / f"out{source.suffix}", "--on-bad-row", "skip", *options)
        made.append((code, {path.name: path.read_bytes() for path in (folder / name).iterdir()}))
    assert made[0] == made[1]


def all_unsure(rows: pa.RecordBatch, wanted: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(len(rows), bool), np.zeros(len(rows), row_shapes.KEY)


OPTIONS = st.sampled_from(
    [
        (),
        ("--by", "capability"),
        ("--by", "capability,difficulty", "--capability", "perception"),
        ("--ties", "file", "--drop-solved"),
        ("--by", "capability", "--capability", "visual_reasoning", "--split"),
        ("--by", "capability", "--capability", "visual_reasoning", "--split", "--split-by", "a"),
    ]
)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@settings(RULES, max_examples=25)
@given(rows=row_lists(), options=OPTIONS, answer=filled)
def test_any_rows_are_ordered_as_strictly(tmp_path, ending, rows, options, answer):
    """Rows like them are added, so that there is something to learn."""
    more = [one | {"index": f"{one['index']} {n}", "answer": answer} for n in range(3) for one in rows]
    source = tmp_path / f"in{ending}"
    write_rows(source, rows + more)
    both_ways(tmp_path, source, *options)


COLUMNS = {
    "index": ["x", "row 1", "", " ", "é" * 300, "x" * 513, "a\u0000", None],
    "problem": ["?", "<image>", "<<image>", "<ima<image>x<image>", "<ima", "", "\u3000", "\u0085<image>", None],
    "answer": ["B", " ", "\u2003", "是", "\x1f", None],
    "images": [
        [],
        ["a.png"],
        ["a.png", "b"],
        [".."],
        ["a/../b"],
        ["/a"],
        ["a:b"],
        ["..."],
        [" "],
        [".a"],
        ["a\\b"],
        None,
    ],
    "predictions": [None, [], ["A"], [None, "B"], ["A"] * 4],
    "correctness": [None, [], [True], [True, False], [True] * 4],
    "pass_rate": [None, 0.0, 1.0, 0.5, 0.505, 0.52, -0.0, 1.0000001, -1e-9, 2.0, 1 / 3, 1e-5],
    "capability": [None, "perception", "taste", ""],
    "a": [None, "", "text", "1"],
}


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@settings(RULES, max_examples=60)
@given(data=st.data(), options=OPTIONS)
def test_odd_values_are_ordered_as_strictly(tmp_path, ending, data, options):
    rows = [row(f"r{n}", pass_rate=0.5, capability="perception", a="x") for n in range(8)]
    for number in data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=4)):
        name = data.draw(st.sampled_from(sorted(COLUMNS)))
        rows[number][name] = data.draw(st.sampled_from(COLUMNS[name]))
    source = tmp_path / f"in{ending}"
    write_rows(source, rows)
    both_ways(tmp_path, source, *options)


NUMBERS = [
    "0",
    "1",
    "1.0",
    "0.5",
    "-0",
    "1e0",
    "1.00",
    "01",
    "0.",
    ".5",
    "1E-400",
    "1e400",
    "0.50000000000000001",
    "NaN",
]


def test_pass_rates_are_read_as_python_reads_them(tmp_path):
    rates = [f"0.{n:017d}" for n in range(1, 40)] + [str(n / 7) for n in range(8)]
    rates += NUMBERS + [f"0.{'1234567890' * 3}"[:length] for length in range(12, 26)]
    lines = [json.dumps(row(f"r{n}"))[:-1] + f', "pass_rate": {rate}}}' for n, rate in enumerate(rates)]
    both_ways(tmp_path, write_lines(tmp_path / "in.jsonl", *lines))
    found = read_lines(tmp_path / "usual" / "out.jsonl")
    assert len(found) > 60
    assert keys(found, "difficulty") == sorted(keys(found, "difficulty"))


def test_usual_rows_have_a_shape(tmp_path, monkeypatch):
    """Else every row would be read strictly, which nobody would notice but for the time it takes."""
    read = Counter()
    monkeypatch.setattr(keyed_rows, "parse_row", lambda record: read.update(rows=1) or parse_row(record))
    rows = samples(500, k=16, note=None, scene={"shapes": [1, 2], "by": {"name": "x"}})
    for number, layout in enumerate(("default", "utf-8", "compact", "sorted")):
        source = write_lines(tmp_path / f"{number}.jsonl", *map(LAYOUTS[layout], rows))
        assert order(source, tmp_path / "out.jsonl") == 0
    assert read["rows"] <= 4
    write_rows(tmp_path / "in.parquet", rows)
    assert order(tmp_path / "in.parquet", tmp_path / "out.parquet") == 0
    assert read["rows"] <= 4


# The command


@pytest.mark.parametrize("ending", ENDINGS)
def test_json_summary(tmp_path, capsys, ending):
    rows = [row(f"r{n}", pass_rate=rate, capability="perception") for n, rate in enumerate([1.0, 0.25, 0.75])]
    source, output = tmp_path / f"in{ending}", tmp_path / f"out{ending}"
    write_rows(source, rows)
    assert order(source, output, "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {
        "inputs": [str(source)],
        "by": "difficulty",
        "ties": "random",
        "seed": 42,
        "rows_read": 3,
        "dropped_solved": 0,
        "dropped_unsolved": 0,
        "outputs": [{"file": str(output), "rows": 3, "capabilities": {"perception": 3}, "pass_rates": [1.0, 0.25]}],
        "bad_rows": 0,
        "bad_rows_file": None,
    }
    assert printed.err == ""


def test_plain_summary(tmp_path, capsys):
    rows = [row(f"r{n}", pass_rate=rate) for n, rate in enumerate([1.0, 0.25, 0.75])]
    source, output = write_lines(tmp_path / "in.jsonl", *rows, "{"), tmp_path / "out.jsonl"
    assert order(source, output, "--on-bad-row", "skip", "--drop-solved") == 0
    printed = capsys.readouterr()
    assert printed.out == (
        f"2 rows -> {output}, pass rates 0.75 to 0.25\n1 solved rows dropped\n1 bad rows -> {output}.bad.jsonl\n"
    )
    assert printed.err == ""


BAD_COMMANDS = {
    "in.jsonl none.jsonl out.jsonl": ["none.jsonl: no such file"],
    "in.jsonl empty.jsonl out.jsonl": ["empty.jsonl: the file is empty"],
    "in.jsonl empty.jsonl.gz out.jsonl": ["empty.jsonl.gz: the file has no rows"],
    "in.jsonl empty.parquet out.jsonl": ["empty.parquet: the file has no rows"],
    "empty.parquet out.parquet": ["empty.parquet: the file has no rows"],
    "folder.jsonl out.jsonl": ["folder.jsonl: is a folder"],
    "in.jsonl folder.jsonl": ["folder.jsonl: is a folder"],
    "in.jsonl none/out.jsonl": ["none/out.jsonl: the folder none does not exist"],
    "in.jsonl in.jsonl": ["in.jsonl: is the input too"],
    "other.jsonl in.jsonl link.jsonl": ["link.jsonl: is the input too"],
    "perception.jsonl {capability}.jsonl": ["perception.jsonl: is the input too"],
    "in-val.jsonl in.jsonl --split": ["in-val.jsonl: is the input too"],
    "out.jsonl.bad.jsonl out.jsonl": ["out.jsonl.bad.jsonl: is the input, but bad rows would be written there"],
    "in.jsonl link.jsonl out.jsonl": ["link.jsonl: is given twice"],
    "in.jsonl out.csv": ["out.csv: the name must end in"],
    "in.csv out.jsonl": ["in.csv: the name must end in"],
    "in.jsonl {capability}/out.jsonl": ["{capability} can stand in the name of the file"],
    "in.jsonl {split}.jsonl": ["{split} in the name goes with --split"],
    "in.jsonl out.jsonl --split-by index": ["--split-by goes with --split"],
    "in.jsonl out.jsonl --by taste": ["--by", "'taste'"],
    "in.jsonl out.jsonl --by difficulty,capability": ["--by"],
    "in.jsonl out.jsonl --ties none": ["--ties", "'none'"],
    "in.jsonl out.jsonl --seed x": ["--seed", "'x'"],
    "in.jsonl out.jsonl --seed -1": ["--seed", "-1 is not from 0 to 2^64 - 1"],
    f"in.jsonl out.jsonl --seed {2**64}": ["--seed", "2^64 - 1"],
    "in.jsonl out.jsonl --capability taste": ["--capability", "'taste' is none of perception"],
    "in.jsonl out.jsonl --capability perception,visual_reasoning": ["names 2 capabilities for 1 inputs"],
    "in.jsonl": ["OUT"],
}


@pytest.mark.parametrize("command", BAD_COMMANDS)
def test_bad_command(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    for name in ("in", "other", "perception", "in-val", "out.jsonl.bad"):
        write_lines(Path(f"{name}.jsonl"), row(name, pass_rate=1))
    Path("folder.jsonl").mkdir()
    Path("link.jsonl").symlink_to("in.jsonl")
    Path("empty.jsonl").touch()
    Path("empty.jsonl.gz").write_bytes(gzip.compress(b""))
    pq.write_table(pa.table({"index": pa.array([], pa.string())}), "empty.parquet")
    before = {path: path.is_file() and path.read_bytes() for path in Path().iterdir()}
    assert order(*command.split()) == 2
    told = error_line(capsys)
    for phrase in BAD_COMMANDS[command]:
        assert phrase in told
    assert {path: path.is_file() and path.read_bytes() for path in Path().iterdir()} == before


# Jobs that do not come to their end

COMMAND = [sys.executable, "-m", "capcurr_plugin.cli", "data", "order"]


def big_file(path: Path, count: int) -> Path:
    line = json.dumps(row("@", problem="What is @?" * 20, pass_rate=0.5, extra=[1, {"a": "@"}])) + "\n"
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            file.write(line.replace("@", str(number)).replace("0.5", f"0.{number % 97}"))
    return path


def start_job(folder: Path, ending: str, until: str) -> tuple[subprocess.Popen[str], Path]:
    """A job on its way, with an old output in place; `until`: what it has open."""
    source, output = big_file(folder / "in.jsonl", 150_000), folder / f"out{ending}"
    output.write_bytes(b"what was here before")
    job = subprocess.Popen(
        [*COMMAND, str(source), str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not any(until in name for name in open_files(job.pid)) and time.monotonic() < deadline:
        time.sleep(0.002)
    assert job.poll() is None
    return job, output


def open_files(process: int) -> list[str]:
    found = []
    for link in Path(f"/proc/{process}/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


@pytest.mark.parametrize("until", ["in.jsonl", ".part"])
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet"])
def test_interrupted_job_says_so_and_leaves_nothing(tmp_path, ending, until):
    job, output = start_job(tmp_path, ending, until)
    job.send_signal(signal.SIGINT)
    printed, told = job.communicate(timeout=60)
    assert (job.returncode, printed, told) == (130, "", "capcurr: stopped\n")
    assert output.read_bytes() == b"what was here before"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.jsonl", output.name])


@pytest.mark.parametrize("until", ["in.jsonl", ".part"])
def test_killed_job_leaves_the_old_output(tmp_path, until):
    job, output = start_job(tmp_path, ".jsonl", until)
    job.kill()
    job.communicate(timeout=60)
    assert output.read_bytes() == b"what was here before"
    left = {path.name for path in tmp_path.iterdir()} - {"in.jsonl", output.name}
    assert all(name.endswith(".part") for name in left)  # what is sorted on the disk has no name
    assert order(write_lines(tmp_path / "small.jsonl", row(pass_rate=1)), output) == 0
    assert len(read_lines(output)) == 1


LIMITED = """
import resource, sys
from capcurr_plugin.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(main(["data", "order", *sys.argv[2:]]))
"""


@pytest.mark.parametrize("options", [(), ("--split",)], ids=["one", "split"])
@pytest.mark.parametrize("limit", [200_000, 12_000_000])
@pytest.mark.parametrize("ending", ENDINGS)
def test_disk_full_is_told_in_one_line(tmp_path, ending, limit, options):
    """The limit on the size of a file stands in for the disk; the lower one is met while the rows are sorted."""
    source, output = big_file(tmp_path / "in.jsonl", 80_000), tmp_path / f"out{ending}"
    outputs = [output] if not options else [tmp_path / f"out-{part}{ending}" for part in PARTS]
    for path in outputs:
        path.write_bytes(b"what was here before")
    command = [sys.executable, "-c", LIMITED, str(limit), str(source), str(output), *options]
    job = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if job.returncode == 0:  # packed, it has room
        assert limit == 12_000_000
        return
    assert job.returncode == 1
    assert job.stderr.count("\n") == 1
    assert "not written" in job.stderr
    assert all(path.read_bytes() == b"what was here before" for path in outputs)
    assert sorted(tmp_path.iterdir()) == sorted([source, *outputs])


MEASURED = """
import re, sys
from pathlib import Path
from capcurr_plugin.cli import main
code = main(["data", "order", *sys.argv[1:]])
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "megabytes"), [(".jsonl", 250), (".parquet", 450)])
def test_memory_does_not_grow_with_the_file(tmp_path, ending, megabytes):
    """170 MB of rows; what grows are the keys, by some 100 bytes a row."""
    source = big_file(tmp_path / "in.jsonl", 500_000)
    if ending == ".parquet":
        assert convert(source, tmp_path / "in.parquet") == 0
    command = [sys.executable, "-c", MEASURED, str(tmp_path / f"in{ending}"), str(tmp_path / f"out{ending}")]
    job = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=500, check=True)
    assert int(job.stdout.split()[-1]) / 1024 < megabytes
