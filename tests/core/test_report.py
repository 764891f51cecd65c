"""`capcurr report` and `analysis/pass_rates.py`: the numbers, the pictures, the page, and what is refused."""

import json
import os
import random
import re
import struct
import subprocess
import sys
import tracemalloc
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from row_samples import choice, error_line, row, write_lines

from capcurr_plugin.atomic import replacing_folder
from capcurr_plugin.cli import main
from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.report.command import read_numbers
from capcurr_plugin.report.figures import INK, KIND_LOOKS, LOOKS, SERIES, check_folder
from capcurr_plugin.report.page import Section, Table, page
from capcurr_plugin.report.pass_rates import (
    LARGEST_K,
    MOST_SLICES,
    NO_CAPABILITY,
    Bars,
    Measured,
    Order,
    RowFile,
    Tally,
    order_of,
    read_measured,
)
from capcurr_plugin.row_files import BadRows
from capcurr_plugin.statistics import wilson_interval

CHECKOUT = Path(__file__).resolve().parents[2]


def report(*arguments: Any) -> int:
    try:
        return main(["report", *map(str, arguments)])
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


def numbers_of(capsys, *arguments: Any) -> dict[str, Any]:
    assert report(*arguments, "--json") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)


def read(folder: Path, rows: list[Any] = [], kept: list[Any] = [], order: list[Any] = []) -> dict[str, Any]:  # noqa: B006
    """The numbers alone, without a picture."""
    with BadRows("fail", folder / "out.html") as bad:
        return read_numbers(*([RowFile.of(str(file)) for file in files] for files in (rows, kept, order)), bad)


def rated(folder: Path, name: str, *rows: tuple[str | None, float | None]) -> Path:
    """A file of rows, each a capability and a pass rate; None: the row has none."""
    lines = []
    for number, (capability, rate) in enumerate(rows):
        columns = {"capability": capability, "pass_rate": rate}
        lines.append(row(f"{name}-{number}", **{key: value for key, value in columns.items() if value is not None}))
    return write_lines(folder / name, *lines)


SEEN, TEXT, VISUAL = "perception", "textual_reasoning", "visual_reasoning"
BEFORE = [(SEEN, 0.0), (SEEN, 0.25), (SEEN, 0.25), (SEEN, 1.0), (TEXT, 0.5), (TEXT, None), (None, 0.75)]
AFTER = [(SEEN, 0.25), (SEEN, 0.25), (TEXT, 0.5), (TEXT, None), (None, 0.75)]


class Cells(HTMLParser):
    """The tables of a page, as lists of rows of texts, and all that could lead elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self._in_cell:
            self.tables[-1][-1][-1] += data


# The numbers


def test_pass_rates_before_and_after_are_those_counted_by_hand(tmp_path, capsys):
    before, after = rated(tmp_path, "before.jsonl", *BEFORE), rated(tmp_path, "after.jsonl", *AFTER)
    numbers = numbers_of(capsys, tmp_path / "out.html", "--rows", before, "--kept", after)["pass_rates"]
    assert numbers["k"] == 4
    assert numbers["bars"] == ["0", "1/4", "2/4", "3/4", "1"]
    assert numbers["files"] == {"before": [str(before)], "after": [str(after)]}
    assert list(numbers["capabilities"]) == [SEEN, TEXT, NO_CAPABILITY]
    seen = numbers["capabilities"][SEEN]
    interval = [round(end, 6) for end in wilson_interval(1.5, 4, 0.95)]
    assert seen["before"] == {
        "rows": 4,
        "not_measured": 0,
        "mean": 0.375,
        "interval": interval,
        "at_0": 1,
        "at_1": 1,
        "bars": [1, 2, 0, 0, 1],
    }
    assert seen["after"]["bars"] == [0, 2, 0, 0, 0]
    text = numbers["capabilities"][TEXT]["before"]
    assert (text["rows"], text["not_measured"], text["mean"], text["bars"]) == (2, 1, 0.5, [0, 0, 1, 0, 0])
    assert numbers["capabilities"][NO_CAPABILITY]["after"]["bars"] == [0, 0, 0, 1, 0]
    assert numbers["all"]["before"]["bars"] == [1, 2, 1, 1, 1]
    assert (numbers["all"]["before"]["rows"], numbers["all"]["after"]["rows"]) == (7, 5)


def test_the_page_has_the_same_numbers(tmp_path):
    before, after = rated(tmp_path, "before.jsonl", *BEFORE), rated(tmp_path, "after.jsonl", *AFTER)
    assert report(tmp_path / "out.html", "--rows", before, "--kept", after) == 0
    summary, bars = Cells((tmp_path / "out.html").read_text()).tables
    cells = {(line[0], line[1]): line[2:] for line in summary[1:]}
    assert cells["perception", "before"] == ["4", "0", "0.375 (0.092 to 0.781)", "1 (25.0%)", "1 (25.0%)"]
    assert cells["textual reasoning", "after"][:2] == ["2", "1"]
    assert cells["all", "before"][:2] == ["7", "1"]
    names = ("perception", "textual reasoning", "no capability")
    assert bars[0] == ["pass rate", *(f"{name}, {kind}" for name in names for kind in ("before", "after"))]
    assert bars[2] == ["1/4", "2", "2", "0", "0", "0", "0"]
    assert bars[-1] == ["not measured", "0", "0", "1", "1", "0", "0"]


def test_rows_without_any_measurement_are_shown_as_such(tmp_path, capsys):
    source = rated(tmp_path, "rows.jsonl", (None, None), (None, None))
    numbers = numbers_of(capsys, tmp_path / "out.html", "--rows", source, "--order", source)
    one = numbers["pass_rates"]["capabilities"][NO_CAPABILITY]["before"]
    assert (one["rows"], one["not_measured"], one["mean"], one["interval"]) == (2, 2, None, None)
    assert numbers["order"]["stages"][0]["capabilities"][NO_CAPABILITY]["direction"] == "not measured"
    assert ">measured</text>" in (tmp_path / "out_figures" / "pass_rates.svg").read_text()
    assert "no capability" in (tmp_path / "out_figures" / "order.svg").read_text()


def test_a_capability_for_the_rows_of_a_file_that_name_none(tmp_path):
    source = rated(tmp_path, "rows.jsonl", (None, 0.5), (TEXT, 0.5))
    numbers = read(tmp_path, [f"perception={source}"])["pass_rates"]
    assert {name: one["before"]["rows"] for name, one in numbers["capabilities"].items()} == {SEEN: 1, TEXT: 1}
    assert RowFile.of("a=b.jsonl") == (Path("a=b.jsonl"), None)
    assert RowFile.of("./perception=b.jsonl") == (Path("./perception=b.jsonl"), None)


@pytest.mark.parametrize("k", range(1, LARGEST_K + 1))
@pytest.mark.parametrize("digits", [3, 4, 17])
def test_a_bar_for_each_rate_of_k_answers(k, digits):
    one = Tally()
    for right in range(k + 1):
        for _ in range(right + 1):
            one.add(round(right / k, digits))
    assert Bars.fitting([one]).k == k
    assert Bars(k).heights(one) == list(range(1, k + 2))
    assert len(Bars(k).labels()) == k + 1


def test_rates_of_no_one_k_are_binned_and_none_is_lost(tmp_path):
    chance = random.Random(3)
    rates = [0.0, 1.0, 0.1, 5e-324, 1e-9, 1 - 1e-9, 1 - 2**-53, *(chance.random() for _ in range(200))]
    source = rated(tmp_path, "rows.jsonl", *((SEEN, rate) for rate in rates))
    numbers = read(tmp_path, [source])["pass_rates"]
    assert numbers["k"] is None
    assert numbers["bars"][:3] == ["0", "0 to 0.1", "0.1 to 0.2"]
    wanted = [sum(1 for rate in rates if 0 < rate < 1 and int(rate * 10) == n) for n in range(10)]
    assert numbers["all"]["before"]["bars"] == [1, *wanted, 1]
    assert numbers["all"]["before"]["mean"] == round(sum(rates) / len(rates), 6)


def test_a_huge_k(tmp_path):
    correctness = [number < 777 for number in range(100_003)]
    source = write_lines(
        tmp_path / "rows.jsonl", row(correctness=correctness, pass_rate=777 / 100_003), row("2", pass_rate=1 / 3)
    )
    numbers = read(tmp_path, [source])["pass_rates"]
    assert numbers["k"] is None
    assert numbers["all"]["before"]["bars"] == [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]


def test_multiple_choice_rows_and_other_formats_are_read(tmp_path, capsys):
    source = write_lines(tmp_path / "rows.jsonl", choice(pass_rate=0.5, capability=SEEN))
    packed = tmp_path / "rows.parquet"
    assert main(["data", "convert", str(source), str(packed)]) == 0
    capsys.readouterr()
    numbers = read(tmp_path, [source, packed])["pass_rates"]
    assert numbers["capabilities"][SEEN]["before"]["rows"] == 2


# The order


def test_the_order_of_stages(tmp_path, capsys):
    first = rated(tmp_path, "one.jsonl", (SEEN, 1.0), (SEEN, 0.5), (SEEN, None), (SEEN, 0.5), (SEEN, 0.25))
    second = rated(tmp_path, "two.jsonl", (TEXT, 0.25), (VISUAL, 0.5), (TEXT, 0.5), (VISUAL, 0.75), (VISUAL, 0.5))
    order = numbers_of(capsys, tmp_path / "out.html", "--order", first, second)["order"]
    assert order["rows"] == 10
    assert order["capabilities"] == [SEEN, TEXT, VISUAL]
    one, two = order["stages"]
    assert (one["file"], one["first"], one["last"]) == (str(first), 1, 5)
    assert (two["file"], two["first"], two["last"]) == (str(second), 6, 10)
    seen = one["capabilities"][SEEN]
    assert (seen["rows"], seen["not_measured"], seen["mean"]) == (5, 1, 0.5625)
    assert (seen["steps_to_easier"], seen["steps_to_harder"], seen["direction"]) == (0, 2, "easy to hard")
    text, visual = two["capabilities"][TEXT], two["capabilities"][VISUAL]
    assert (text["first"], text["last"], text["direction"]) == (6, 8, "hard to easy")
    assert (visual["first"], visual["last"], visual["direction"]) == (7, 10, "mixed")
    assert [(one["stage"], one["first"], one["last"]) for one in order["slices"]] == [
        (1 + number // 5, number + 1, number + 1) for number in range(10)
    ]
    assert order["slices"][6]["capabilities"] == {
        VISUAL: {"rows": 1, "not_measured": 0, "mean": 0.5, "quartiles": [0.5, 0.5]}
    }
    assert "stage 2" in (tmp_path / "out_figures" / "order.svg").read_text()
    stages, slices = Cells((tmp_path / "out.html").read_text()).tables
    assert stages[1][:5] == ["1", "perception", "1 to 5", "5", "1"]
    assert [line[-1] for line in stages[1:]] == [
        "easy to hard",
        "hard to easy",
        "mixed: 1 of 2 steps lead to an easier row",
    ]
    assert len(slices) == 11


def test_one_file_in_one_order_is_one_stage(tmp_path, capsys):
    source = rated(tmp_path, "rows.jsonl", *[(SEEN, 0.5)] * 3)
    order = numbers_of(capsys, tmp_path / "out.html", "--order", source)["order"]
    assert len(order["stages"]) == 1
    assert order["stages"][0]["capabilities"][SEEN]["direction"] == "equally hard"
    assert "stage" not in (tmp_path / "out_figures" / "order.svg").read_text()


@pytest.mark.parametrize("sizes", [(1,), (95,), (97,), (1000,), (50_001,), (1, 20_000, 3, 700), (1,) * 150])
def test_slices_are_few_and_hold_every_row_in_its_place(sizes):
    chance = random.Random(5)
    rows = [
        Measured(stage, chance.choice((SEEN, TEXT)), chance.randrange(17) / 16)
        for stage, size in enumerate(sizes)
        for _ in range(size)
    ]
    order = order_of(iter(rows))
    numbers = order.numbers([RowFile(Path(f"{number}.jsonl"), None) for number in range(len(sizes))])
    slices = numbers["slices"]
    assert len(slices) <= MOST_SLICES + len(sizes)
    assert len(slices) >= min(len(rows), MOST_SLICES // 2 - 1)
    assert [one["first"] for one in slices] == [1, *(one["last"] + 1 for one in slices[:-1])]
    assert slices[-1]["last"] == len(rows)
    for one in slices[:: max(1, len(slices) // 20)]:
        part = rows[one["first"] - 1 : one["last"]]
        assert {row.file + 1 for row in part} == {one["stage"]}
        for group in (SEEN, TEXT):
            rates = [row.rate for row in part if row.group == group]
            found = one["capabilities"].get(group, {"rows": 0})
            assert found["rows"] == len(rates)
            if rates:
                assert found["mean"] == pytest.approx(sum(rates) / len(rates), abs=1e-6)
                for share, quartile in zip((0.25, 0.75), found["quartiles"], strict=True):
                    assert sum(rate <= quartile + 0.001 for rate in rates) >= share * len(rates)
                    assert sum(rate < quartile for rate in rates) <= share * len(rates)


# Memory


def peak_bytes(source: Path) -> int:
    tracemalloc.start()
    with BadRows("fail", source.with_suffix(".html")) as bad:
        order = order_of(read_measured([RowFile(source, None)], bad))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert order.rows >= 2000
    return peak


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path):
    chance = random.Random(1)
    rates = [(chance.choice((SEEN, TEXT, None)), chance.randrange(17) / 16) for _ in range(40_000)]
    few, many = rated(tmp_path, "few.jsonl", *rates[:2000]), rated(tmp_path, "many.jsonl", *rates)
    assert peak_bytes(many) < 4 * peak_bytes(few)  # the rows themselves would be 20 times as much


def test_the_worst_rates_make_no_more_than_a_bounded_number_of_counts():
    order = Order()
    for number in range(60_000):
        order.add(Measured(0, SEEN, number / 60_000))
    assert sum(len(one.between) for part in order.slices for one in part.tallies.values()) < 3000
    assert len(order.runs[0][SEEN].tally.between) <= 1000


# The pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    before, after = rated(folder, "before.jsonl", *BEFORE), rated(folder, "after.jsonl", *AFTER)
    assert report(folder / "out.html", "--rows", before, "--kept", after, "--order", before, after) == 0
    return folder


def test_figures_are_svg_and_png(pictures):
    folder = pictures / "out_figures"
    assert sorted(path.name for path in folder.iterdir()) == [
        "order.png",
        "order.svg",
        "pass_rates.png",
        "pass_rates.svg",
    ]
    for path in folder.glob("*.png"):
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", content[16:24])
        assert 1000 < width < 1300
        assert 300 < height < 2000
    for path in folder.glob("*.svg"):
        root = ET.fromstring(path.read_text())
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
        assert {"perception"} <= texts or {"pass rate, perception"} <= texts


def test_nothing_refers_to_the_network(pictures):
    text = (pictures / "out.html").read_text()
    assert "://" not in text
    found = Cells(text)
    assert found.links
    assert all(link.startswith("#") for link in found.links)
    assert {link[1:] for link in found.links} <= set(found.ids)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(found.tags)
    assert "@import" not in text
    assert {target[0] for target in re.findall(r"url\(['\"]?(.)", text)} == {"#"}
    for path in (pictures / "out_figures").glob("*.svg"):
        svg = path.read_text()
        assert svg.count("://") == 1  # the namespace
        assert "DOCTYPE" not in svg
        assert "href=" not in svg.replace('href="#', "")


def test_the_inline_figures_take_the_page_s_colour_and_share_no_id(pictures):
    text = (pictures / "out.html").read_text()
    assert INK not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    assert text.count("currentColor") > 20
    found = Cells(text)
    assert len(found.ids) == len(set(found.ids))
    assert "style=" not in text  # the page's policy would not heed it
    inline = re.findall(r"<svg .*?</svg>", text, flags=re.DOTALL)
    assert len(inline) == 2
    for svg in inline:
        root = ET.fromstring(svg)
        assert not [element for element in root.iter() if element.tag in ("style", "metadata")]
        assert root.get("aria-label")


def test_the_same_rows_give_the_same_bytes(pictures):
    files = [pictures / "out.html", *sorted((pictures / "out_figures").iterdir())]
    first = [path.read_bytes() for path in files]
    before, after = pictures / "before.jsonl", pictures / "after.jsonl"
    # In a process of its own, with another matplotlibrc.
    (pictures / "matplotlibrc").write_text("axes.facecolor: red\nfont.size: 30\n")
    command = f"--rows {before} --kept {after} --order {before} {after}".split()
    environment = {**os.environ, "MATPLOTLIBRC": str(pictures), "PYTHONHASHSEED": "7"}
    code = [sys.executable, "-m", "capcurr_plugin.cli", "report", str(pictures / "out.html"), *command]
    done = subprocess.run(code, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.read_bytes() for path in files] == first


def test_drawing_leaves_the_state_of_matplotlib_alone():
    code = (
        "import sys, matplotlib; from capcurr_plugin.report.figures import picture\n"
        "matplotlib.rcParams['font.size'] = 3\n"
        "picture('one', 'one', (2, 2), lambda figure: figure.subplots())\n"
        "print('matplotlib.pyplot' in sys.modules, matplotlib.rcParams['font.size'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False 3.0\n", "")


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("page_colour", ["#ffffff", "#17181b"])
def test_every_colour_stands_out_from_a_light_page_and_a_dark_one(page_colour):
    """3 to 1, as WCAG asks of graphics."""
    for look in (*LOOKS.values(), *KIND_LOOKS.values(), *SERIES):
        low, high = sorted((luminance(look.colour), luminance(page_colour)))
        assert (high + 0.05) / (low + 0.05) > 3
    for looks in (LOOKS, KIND_LOOKS):
        assert len({look.hatch for look in looks.values()}) == len(looks)
    assert len({(look.mark, look.line) for look in SERIES}) == len(SERIES)


# Hostile input


def test_hostile_names_and_texts_stay_text(tmp_path):
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    folder.mkdir()
    name = "\"><script>alert('$x^2$')</script>\n&amp;.jsonl".replace("/", "\u2215")
    source = rated(folder, name, (SEEN, 0.5))
    assert report(tmp_path / "out.html", "--rows", source, "--order", source) == 0
    text = (tmp_path / "out.html").read_text()
    found = Cells(text)
    assert not {"script", "img"} & set(found.tags)
    assert "&lt;script&gt;" in text
    assert "default-src 'none'" in text


def test_a_name_that_is_no_utf8(tmp_path):
    source = rated(tmp_path, "rows.jsonl", (SEEN, 0.5))
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jsonl"))
    source.rename(odd)
    assert report(tmp_path / "out.html", "--rows", odd) == 0
    (tmp_path / "out.html").read_text(encoding="utf-8")


def test_a_text_of_a_megabyte_does_not_reach_the_page(tmp_path):
    source = write_lines(tmp_path / "rows.jsonl", row(source="s" * (1 << 20), capability=SEEN, pass_rate=0.5))
    assert report(tmp_path / "out.html", "--rows", source, "--order", source) == 0
    assert (tmp_path / "out.html").stat().st_size < 200_000


def test_the_page_escapes_and_shortens_what_it_is_given():
    table = Table("<b>", ["<i>"], [["<u>" + "x" * 1000], ["\x00\u202e"]])
    section = Section("key", "<h2>", "<p>", sources=["<a href='http://x'>"], tables=[table], remarks=["<s>"])
    text = "".join(page("<title>", [section], "<em>"))
    found = Cells(text)
    assert not {"b", "i", "u", "em", "s"} & set(found.tags)
    assert found.tags.count("title") == 1
    assert found.links == []
    assert "x" * 500 not in text
    assert "\x00" not in text
    assert "\u202e" not in text


# What is wrong is told in one line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["out.html"], "name files with --results, --attribution, --train, --rows or --order"),
        (["out.html", "--kept", "rows.jsonl"], "--kept needs --rows"),
        (["out.html", "--kept", "rows.jsonl", "--order", "rows.jsonl"], "--kept needs --rows"),
        (["out.txt", "--rows", "rows.jsonl"], "must end in .html"),
        (["none/out.html", "--rows", "rows.jsonl"], "does not exist"),
        (["out.html", "--rows", "none.jsonl"], "no such file"),
        (["out.html", "--rows", "rows.jsonl", "none.jsonl"], "no such file"),
        (["out.html", "--rows", "rows.txt"], "must end in"),
        (["out.html", "--rows", "bad.jsonl"], "bad.jsonl, line 2: column 'pass_rate' is 1.5"),
        (["out.html", "--order", "rows.jsonl", "capability.jsonl"], "column 'capability' is 'perceptio"),
        (["out.html", "--rows", "empty.jsonl"], "empty"),
        (["taken.html", "--rows", "rows.jsonl"], "holds notes.txt, which is no figure"),
        (["linked.html", "--rows", "rows.jsonl"], "is no folder"),
        (["--rows", "rows.jsonl", "out.html"], "OUT.html"),
        (["folder.html", "--rows", "rows.jsonl"], "is a folder"),
    ],
)
def test_wrong_input(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    rated(tmp_path, "rows.jsonl", (SEEN, 0.5))
    write_lines(tmp_path / "bad.jsonl", row(), row("r2", pass_rate=1.5))
    write_lines(tmp_path / "capability.jsonl", row(capability="perceptio"))
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "taken_figures").mkdir()
    (tmp_path / "taken_figures" / "notes.txt").touch()
    (tmp_path / "linked_figures").symlink_to(tmp_path / "taken_figures")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert report(*arguments) == 2
    assert said in error_line(capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_output_is_not_an_input(tmp_path, capsys):
    source = rated(tmp_path, "out.html.bad.jsonl", (SEEN, 0.5))
    assert report(tmp_path / "out.html", "--order", source) == 2
    assert "bad rows would be written there" in error_line(capsys)


def test_bad_rows_are_kept_beside_and_counted_on_the_page(tmp_path, capsys):
    source = write_lines(tmp_path / "rows.jsonl", row(pass_rate=0.5), row("r2", pass_rate=2), "{")
    numbers = numbers_of(capsys, tmp_path / "out.html", "--rows", source, "--on-bad-row", "skip")
    assert (numbers["bad_rows"], numbers["bad_rows_file"]) == (2, str(tmp_path / "out.html.bad.jsonl"))
    assert numbers["pass_rates"]["all"]["before"]["rows"] == 1
    assert "2 bad rows are left out" in (tmp_path / "out.html").read_text()


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch, capsys):
    source = rated(tmp_path, "rows.jsonl", (SEEN, 0.5))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert report(tmp_path / "out.html", "--rows", source) == 2
    assert "pip install 'capcurr-plugin[report]'" in error_line(capsys)
    assert list(tmp_path.iterdir()) == [source]


def test_plain_summary(tmp_path, capsys):
    before, after = rated(tmp_path, "before.jsonl", *BEFORE), rated(tmp_path, "after.jsonl", *AFTER)
    assert report(tmp_path / "out.html", "--rows", before, "--kept", after, "--order", after) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out == (
        f"pass rates of 7 rows, 5 after the filter; the order of 5 rows -> {tmp_path}/out.html (0.1 MiB), "
        f"figures in {tmp_path}/out_figures\n"
    )


# Folders


def test_figures_of_before_are_replaced(tmp_path):
    source = rated(tmp_path, "rows.jsonl", (SEEN, 0.5))
    assert report(tmp_path / "out.html", "--rows", source, "--order", source) == 0
    assert report(tmp_path / "out.html", "--rows", source) == 0
    assert sorted(path.name for path in (tmp_path / "out_figures").iterdir()) == ["pass_rates.png", "pass_rates.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.html", "out_figures", "rows.jsonl"]


def test_a_failed_report_changes_nothing(tmp_path, capsys):
    source = rated(tmp_path, "rows.jsonl", (SEEN, 0.5))
    assert report(tmp_path / "out.html", "--rows", source) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write_lines(tmp_path / "bad.jsonl", "{")
    capsys.readouterr()
    assert report(tmp_path / "out.html", "--rows", source, "--order", tmp_path / "bad.jsonl") == 2
    (tmp_path / "bad.jsonl").unlink()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path, error):
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "old.png").touch()
    expected = JobError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), replacing_folder(folder) as part:
        (part / "new.png").touch()
        raise error
    assert [path.name for path in tmp_path.rglob("*")] == ["figures", "old.png"]
    with replacing_folder(folder) as part:
        (part / "new.png").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["figures", "new.png"]
    check_folder(folder)
    with pytest.raises(InputError, match="cannot be written"), replacing_folder(tmp_path / "none" / "figures"):
        pass


# The script


def script(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, CHECKOUT / "analysis" / "pass_rates.py", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def test_the_script_draws_the_same_and_prints_the_numbers(tmp_path, capsys):
    before, after = rated(tmp_path, "before.jsonl", *BEFORE), rated(tmp_path, "after.jsonl", *AFTER)
    done = script(before, "--kept", after, "--order", before, "--order", after, tmp_path / "figures")
    assert (done.returncode, done.stderr) == (0, "")
    numbers = numbers_of(capsys, tmp_path / "out.html", "--rows", before, "--kept", after, "--order", before, after)
    of_page = ("output", "bytes", "figures")
    assert json.loads(done.stdout) == {key: value for key, value in numbers.items() if key not in of_page}
    for path in (tmp_path / "out_figures").iterdir():
        assert (tmp_path / "figures" / path.name).read_bytes() == path.read_bytes()


def test_the_script_says_what_is_wrong_in_one_line(tmp_path):
    done = script(tmp_path / "none.jsonl", tmp_path / "figures")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"capcurr: error: {tmp_path}/none.jsonl: no such file\n"
    assert script("--help").returncode == 0
