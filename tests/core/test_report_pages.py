"""`capcurr report` of a study: numbers and sections of scores, errors, lengths and training, and what is refused."""

import json
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planted_errors import kinds_for, oracle
from row_samples import error_line
from study_samples import (
    BASE,
    MERGED,
    STAGED,
    changes,
    comparison,
    corrected,
    lengths,
    record,
    results,
    some_records,
    summary,
    write_attribution,
    write_picture,
    write_record,
    write_run,
    write_steps,
    write_study,
)
from test_attribute import world  # noqa: F401  a fixture
from test_report import Cells, numbers_of, rated, report

from capcurr_plugin.attribution.records import OUTCOMES, Vote, images_folder, read_records, summary_path
from capcurr_plugin.errors import InputError
from capcurr_plugin.report.attributions import read_attributions
from capcurr_plugin.report.errors_browser import MAX_RESPONSE, card, draw, read_errors
from capcurr_plugin.report.json_files import misfit, share


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def page_of(tmp_path: Path, *options: Any) -> Cells:
    assert report(tmp_path / "out.html", *options) == 0
    return Cells((tmp_path / "out.html").read_text())


def test_what_readers_should_know_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rated(tmp_path, "rows.jsonl", ("perception", 0.5))
    rows = ["--rows", tmp_path / "rows.jsonl"]
    about = tmp_path / "about.txt"
    about.write_text("A toy:\nno claim.\n\n<b>Second</b> \u202eparagraph.\n")
    page_of(tmp_path, *rows, "--about", about)
    capsys.readouterr()
    assert "<p>A toy: no claim.</p>\n<p>&lt;b&gt;Second&lt;/b&gt; " in texts(tmp_path)
    assert "\u202e" not in texts(tmp_path)
    about.write_bytes(b"\xff")
    assert report(tmp_path / "out.html", *rows, "--about", about) == 2
    assert "about.txt: cannot be read (it is no UTF-8)" in error_line(capsys)
    about.write_text("x" * 20_001)
    assert report(tmp_path / "out.html", *rows, "--about", about) == 2
    assert "has over 20,000 characters" in error_line(capsys)
    assert report(tmp_path / "out.html", *rows, "--about", tmp_path / "none.txt") == 2
    assert "none.txt: cannot be read (No such file or directory)" in error_line(capsys)


def texts(tmp_path: Path) -> str:
    return (tmp_path / "out.html").read_text()


def cards_of(tmp_path: Path) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="errors-data">(.*?)</script>', texts(tmp_path), re.DOTALL)
    assert found
    return json.loads(found[1])["cards"]


# All together, and each alone


def test_a_whole_study_on_one_page(tmp_path, capsys):
    assert report(tmp_path / "out.html", *write_study(tmp_path), "--title", "My <study>") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    size = (tmp_path / "out.html").stat().st_size / (1 << 20)
    assert printed.out == (
        "scores of 3 models; 240 wrong answers of 2 models; 200 of 240 errors to browse; training curves of 2 runs -> "
        f"{tmp_path}/out.html ({size:.1f} MiB), figures in {tmp_path}/out_figures\n"
    )
    text = texts(tmp_path)
    assert "<title>My &lt;study&gt;</title>" in text
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings == [
        "Scores",
        "Staged against merged against base: qwen3_vl_8b",
        f"{STAGED} against {MERGED}",
        "Kinds of errors",
        "Corrected for the judge&#x27;s errors",
        f"Errors fixed and new: {STAGED} against {BASE}",
        "How long the models think",
        "Training",
        "Single errors",
    ]
    names = {path.name for path in (tmp_path / "out_figures").iterdir()}
    figures = ("scores", "stages_qwen3_vl_8b", "comparison_1", "error_kinds", "corrected", "changes_1", "lengths")
    assert names == {f"{name}.{end}" for name in (*figures, "training") for end in ("svg", "png")}
    found = Cells(text)
    assert len(found.ids) == len(set(found.ids))
    assert {link[1:] for link in found.links} <= set(found.ids)


def test_the_same_files_give_the_same_bytes(tmp_path):
    options = write_study(tmp_path, 30)[2:4]  # the errors; figures are drawn alike in test_report.py
    assert report(tmp_path / "out.html", *options) == 0
    first = texts(tmp_path)
    assert report(tmp_path / "out.html", *options) == 0
    assert texts(tmp_path) == first


@pytest.mark.parametrize("part", ["--results", "--attribution", "--train"])
def test_any_part_will_do(tmp_path, part):
    options = write_study(tmp_path, 20)
    place = options.index(part)
    page_of(tmp_path, part, options[place + 1])
    assert ("Single errors" in texts(tmp_path)) == (part == "--attribution")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', texts(tmp_path))
    assert policy
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy[1]
    assert ("script-src" in policy[1]) == (part == "--attribution")


def test_training_data_beside_a_study(tmp_path, capsys):
    rows = rated(tmp_path, "rows.jsonl", ("perception", 0.5))
    source = write_json(tmp_path / "results.json", results(BASE))
    numbers = numbers_of(capsys, tmp_path / "out.html", "--results", source, "--rows", rows)
    assert {"scores", "pass_rates"} <= set(numbers)


# Scores


def test_scores_stand_beside_the_published_ones_and_doubts_are_shown(tmp_path):
    told = results()
    told["models"][STAGED]["benchmarks"]["POPE"]["doubts"] = ["12 rows have no verdict"]
    told["models"][BASE]["benchmarks"]["POPE"] = {"value": None, "missing": "no judge", "published": None} | {
        "difference_from_published": None
    }
    told["warnings"] = ["sizes differ"]
    found = page_of(tmp_path, "--results", write_json(tmp_path / "results.json", told))
    overview, base = found.tables[0], found.tables[1]
    assert overview[0] == ["", BASE, MERGED, STAGED]
    assert ["POPE", "-", "91.00", "92.50 !"] in overview
    assert base[1][:5] == ["MathVista_MINI", "accuracy", "72.00", "69.50 to 74.40", "1,000"]
    assert base[1][5:] == ["claude-haiku-4.5", "72.40", "-0.40"]
    visible = re.sub(r"<details>.*?</details>", "", texts(tmp_path), flags=re.DOTALL)
    for remark in ("POPE ! 12 rows have no verdict", "POPE: missing: no judge", "sizes differ"):
        assert f"<li>{remark}</li>" in visible


def test_staged_against_merged_against_base(tmp_path):
    told = results() | {"comparison": comparison(MERGED, STAGED)}
    found = page_of(tmp_path, "--results", write_json(tmp_path / "results.json", told))
    kinds = next(table for table in found.tables if table[0][:2] == ["kind", "model"])
    assert [row[:3] for row in kinds[1:3]] == [["base", BASE, "61.25 (59.75 to 62.85)"], ["base", "published", "45.17"]]
    gains = next(table for table in found.tables if "published difference" in table[0])
    assert gains[1] == ["merged minus base", "visual math", "+3.00", "-", "-", "+4.47"]
    assert gains[-1] == ["staged minus merged", "perception", "+1.50", "+0.20 to +2.80", "0.013", "+0.73"]


def test_a_comparison_the_other_way_round_is_turned(tmp_path):
    told = results() | {"comparison": comparison(STAGED, MERGED)}
    found = page_of(tmp_path, "--results", write_json(tmp_path / "results.json", told))
    gains = next(table for table in found.tables if "published difference" in table[0])
    assert gains[-1][2:4] == ["-1.50", "-2.80 to -0.20"]


def test_several_files_are_one_table(tmp_path, capsys):
    one, other = results(BASE), results(STAGED)
    del other["benchmarks"]["POPE"], other["models"][STAGED]["benchmarks"]["POPE"]
    del other["averages"]["perception"], other["models"][STAGED]["averages"]["perception"]
    files = [write_json(tmp_path / "base.json", one), write_json(tmp_path / "staged.json", other)]
    numbers = numbers_of(capsys, tmp_path / "out.html", "--results", *files)["scores"]
    assert list(numbers["models"]) == [BASE, STAGED]
    assert numbers["models"][STAGED]["benchmarks"]["POPE"]["missing"] == "not in staged.json"
    assert numbers["models"][STAGED]["averages"]["perception"]["have"] == 0
    assert "Staged against base: qwen3_vl_8b" in texts(tmp_path)


def test_a_model_of_two_files_is_named_by_its_file(tmp_path, capsys):
    files = [write_json(tmp_path / f"{name}.json", results(BASE)) for name in ("monday", "friday")]
    numbers = numbers_of(capsys, tmp_path / "out.html", "--results", *files)["scores"]
    assert list(numbers["models"]) == [f"{BASE} (monday)", f"{BASE} (friday)"]


def spoilt(value: dict[str, Any], path: str, new: Any = None) -> dict[str, Any]:
    """A copy with another value at a place; None: with nothing there."""
    copy = json.loads(json.dumps(value))
    *way, last = path.split("/")
    place = copy
    for key in way:
        place = place[key]
    if new is None:
        del place[last]
    else:
        place[last] = new
    return copy


@pytest.mark.parametrize(
    ("path", "new", "said"),
    [
        ("format", 2, "format 2 is not known; update capcurr-plugin"),
        ("format", None, "format is missing"),
        ("models", {}, "holds no model"),
        ("models", [], "models is a list of 0"),
        (f"models/{BASE}/benchmarks/POPE/value", "x", "benchmarks.POPE.value is"),
        (f"models/{BASE}/benchmarks/POPE/value", 1e300, "benchmarks.POPE"),
        (f"models/{BASE}/benchmarks/POPE/interval", [1], "interval is a list of 1"),
        (f"models/{BASE}/benchmarks/POPE", None, f"the benchmarks of {BASE}"),
        (f"models/{BASE}/averages/perception/missing", ["POPE"], "misses a benchmark that is there"),
        ("comparison", {"first": "x", "second": BASE, "benchmarks": {}, "averages": {}}, "compares x"),
        ("settings/confidence", 95, "settings.confidence is 95"),
        ("warnings", "none", "warnings is"),
    ],
)
def test_results_that_are_none(tmp_path, capsys, path, new, said):
    source = write_json(tmp_path / "results.json", spoilt(results(BASE), path, new))
    assert report(tmp_path / "out.html", "--results", source) == 2
    line = error_line(capsys)
    assert str(source) in line
    assert said in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "too early"),
        (b"[]", "the whole is a list"),
        (b'{"format": 1', "too early"),
        (b'{"format": NaN}', "NaN"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"a": ' * 50 + b"1" + b"}" * 50, "nested too deeply"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
@pytest.mark.parametrize("option", ["--results", "--attribution", "--train"])
def test_files_that_are_broken(tmp_path, capsys, content, said, option):
    for name in ("results.json", "errors_summary.json", "run.json"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "errors.jsonl").write_bytes(record().line())
    source = {"--results": "results.json", "--attribution": "errors.jsonl", "--train": "."}[option]
    assert report(tmp_path / "out.html", option, tmp_path / source) == 2
    assert said in error_line(capsys)


def test_results_that_do_not_go_together(tmp_path, capsys):
    one = write_json(tmp_path / "one.json", results(BASE))
    assert report(tmp_path / "out.html", "--results", one, one) == 2
    assert "give each file once" in error_line(capsys)
    other = write_json(tmp_path / "other.json", spoilt(results(STAGED), "settings/confidence", 0.9))
    assert report(tmp_path / "out.html", "--results", one, other) == 2
    assert "its intervals are of 0.9 and those of" in error_line(capsys)
    other = write_json(tmp_path / "other.json", spoilt(results(STAGED), "averages/perception", ["POPE"]))
    assert report(tmp_path / "out.html", "--results", one, other) == 2
    assert "perception is made otherwise" in error_line(capsys)
    assert report(tmp_path / "out.html", "--results", tmp_path) == 2
    assert "cannot be read (Is a directory)" in error_line(capsys)


def test_a_published_name_leads_nowhere(tmp_path):
    told = results()
    for number, model in enumerate(told["models"].values()):
        model["published_as"] = f"../../../evil/{('base', 'merged', 'staged')[number]}"
    page_of(tmp_path, "--results", write_json(tmp_path / "results.json", told))
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]
    assert "<h2>Staged" not in texts(tmp_path)


# Kinds of errors


def test_shares_are_those_of_the_summary(tmp_path, capsys):
    records = [record(n, kind) for n, kind in enumerate(["perception"] * 3 + ["reasoning", "undecided"])]
    source = write_attribution(tmp_path / "errors.jsonl", records)
    numbers = numbers_of(capsys, tmp_path / "out.html", "--attribution", source)["kinds"]
    assert numbers["models"][BASE]["kinds"]["perception"]["share"] == 0.6
    table = Cells(texts(tmp_path)).tables[0]
    assert table[0][:4] == ["model", "benchmark", "rows", "wrong"]
    assert table[0][4:] == ["perception", "reasoning", "undecided", "95 % interval of perception"]
    assert table[1][:7] == [BASE, "all", "15", "5", "3 (60.0%)", "1 (20.0%)", "1 (20.0%)"]
    assert "5 wrong answers" in texts(tmp_path)
    svg = (tmp_path / "out_figures" / "error_kinds.svg").read_text()
    assert "MathVista_MINI" in svg
    assert ">undecided</text>" in svg


def test_a_model_without_a_wrong_answer(tmp_path):
    source = write_attribution(tmp_path / "errors.jsonl", [record()])
    told = summary([record()])
    nothing = {"rows": 10, "wrong": 0, "kinds": {}, "own_errors": {"of": 0, "kinds": {}}}
    told["models"]["perfect"] = {**nothing, "benchmarks": {"POPE": {**nothing, "categories": {}}}} | {
        "corrected": None,
        "lengths": None,
    }
    write_json(summary_path(source), told)
    page_of(tmp_path, "--attribution", source)


def test_corrected_shares_have_their_assumptions(tmp_path):
    records = some_records(60)
    told = summary(records)["models"]
    told[BASE]["corrected"] = corrected(0.4)
    told[BASE]["corrected"]["methods"][2]["kinds"]["perception"][0] = None
    source = write_attribution(tmp_path / "errors.jsonl", records, models=told)
    found = page_of(tmp_path, "--attribution", source)
    assumed = next(table for table in found.tables if table[0] == ["method", "assumes"])
    assert ["bounds", "Nothing but the judge's accuracy is known."] in assumed
    estimates = next(table for table in found.tables if table[0][2:4] == ["method", "share"])
    assert [row[2] for row in estimates[1:]] == ["uncorrected", "audited shares", "Rogan-Gladen", "bounds"]
    assert estimates[4][3:] == ["-", "34.0% to 52.0%"]


def test_fixed_and_new_errors(tmp_path):
    records = some_records(40)
    source = write_attribution(tmp_path / "errors.jsonl", records, comparisons=[changes()])
    found = page_of(tmp_path, "--attribution", source)
    table = next(table for table in found.tables if table[0] == ["kind", "fixed", "new", "new minus fixed"])
    assert table[1:3] == [["perception", "180", "70", "-110"], ["reasoning", "90", "110", "+20"]]
    assert "-3.7 percentage points (95 % interval -5.0 to -2.4)" in texts(tmp_path)


def test_lengths(tmp_path):
    records = some_records(40)
    told = summary(records)["models"]
    told[STAGED]["lengths"] = lengths()
    source = write_attribution(tmp_path / "errors.jsonl", records, models=told)
    found = page_of(tmp_path, "--attribution", source)
    table = next(table for table in found.tables if "median" in table[0])
    assert [row[:4] for row in table[1:4]] == [
        [STAGED, "all", "all", "900"],
        [STAGED, "all", "right", "600"],
        [STAGED, "all", "wrong", "300"],
    ]
    assert "medians: right " in (tmp_path / "out_figures" / "lengths.svg").read_text()


def test_lengths_of_nothing(tmp_path):
    records = some_records(10)
    told = summary(records)["models"]
    zero = {"rows": 3, "mean": 0.0, "median": 0.0, "quantiles": dict.fromkeys(("5", "25", "75", "95"), 0.0)}
    zero["histogram"] = {"edges": [0, 1, 2], "counts": [3, 0]}
    told[BASE]["lengths"] = {"unit": "tokens", "all": zero, "right": None, "wrong": zero, "benchmarks": {}}
    told[STAGED]["lengths"] = {"unit": "tokens", "all": zero, "right": None, "wrong": None, "benchmarks": {}}
    page_of(tmp_path, "--attribution", write_attribution(tmp_path / "errors.jsonl", records, models=told))


def test_a_comparison_without_verdicts_and_a_sample(tmp_path):
    records = some_records(20)
    told = summary(records)["models"]
    told[BASE]["of_wrong"] = 110
    one = changes() | {"fixed": {"not_judged": 3}, "moved": {"not_judged": {"perception": 2}}, "lengths": None}
    one |= {"perception_difference": None, "benchmarks": {"POPE": {"rows": 0, "reason": "they share no row"}}}
    source = write_attribution(tmp_path / "errors.jsonl", records, models=told, comparisons=[one])
    found = page_of(tmp_path, "--attribution", source)
    table = next(table for table in found.tables if table[0][:2] == ["kind", "fixed"])
    assert table[-1] == ["not judged", "3", "0", "-3"]
    assert "POPE: not tested: they share no row" in texts(tmp_path)
    assert "20 wrong answers (drawn from 120) hangs on" in texts(tmp_path)


@pytest.mark.parametrize(
    ("path", "new", "said"),
    [
        ("format", 7, "format 7 is not known"),
        ("judge", None, "judge is missing"),
        (f"models/{BASE}/kinds/perception/share", 1.5, "kinds.perception.share is 1.5"),
        (f"models/{BASE}/kinds/perception/count", 5, "do not add up"),
        (f"models/{BASE}/kinds/made_up", {}, "made_up is no kind"),
        (f"models/{BASE}/wrong", -1, "wrong is -1"),
        (f"models/{BASE}/lengths", {}, "lengths.all is missing"),
        ("comparisons", [changes("x", BASE)], "compares x"),
        ("models", {}, "holds no model"),
    ],
)
def test_summaries_that_are_none(tmp_path, capsys, path, new, said):
    source = write_attribution(tmp_path / "errors.jsonl", [record()])
    write_json(summary_path(source), spoilt(summary([record()]), path, new))
    assert report(tmp_path / "out.html", "--attribution", source) == 2
    line = error_line(capsys)
    assert str(summary_path(source)) in line
    assert said in line


def test_a_histogram_that_does_not_fit(tmp_path, capsys):
    told = summary([record()])
    told["models"][BASE]["lengths"] = lengths()
    told["models"][BASE]["lengths"]["right"]["histogram"]["edges"] = [1, 2]
    source = write_attribution(tmp_path / "errors.jsonl", [record()], models=told["models"])
    assert report(tmp_path / "out.html", "--attribution", source) == 2
    assert "edges that do not fit its counts" in error_line(capsys)


def test_a_file_or_its_summary_is_missing(tmp_path, capsys):
    source = write_attribution(tmp_path / "errors.jsonl", [record()])
    assert report(tmp_path / "out.html", "--attribution", tmp_path / "none.jsonl") == 2
    assert "none.jsonl: no such file" in error_line(capsys)
    assert report(tmp_path / "out.html", "--attribution", source, source) == 2
    assert "give each file once" in error_line(capsys)
    source.write_bytes(record().line() + b'{"id": "cut off')
    assert report(tmp_path / "out.html", "--attribution", source) == 2
    assert "errors.jsonl: line 2: is no line of capcurr attribute" in error_line(capsys)
    summary_path(source).unlink()
    assert report(tmp_path / "out.html", "--attribution", source) == 2
    assert "errors_summary.json: cannot be read" in error_line(capsys)
    assert not (tmp_path / "out.html").exists()


def test_what_capcurr_attribute_writes_is_read(world, tmp_path, capsys):  # noqa: F811
    world.plant("A", kinds_for(30, right=10))
    world.plant("B", kinds_for(30, right=20)[::-1])
    assert world(oracle, "--votes", "2", "--judge-accuracy", "0.7") == 0
    capsys.readouterr()
    numbers = numbers_of(capsys, tmp_path / "page.html", "--attribution", world.out)
    assert list(numbers["kinds"]["models"]) == ["A", "B"]
    assert numbers["errors"]["shown"] == 60
    assert numbers["errors"]["pictures_not_shown"] == 0
    assert numbers["errors"]["remarks"] == []
    assert {"corrected", "changes", "lengths"} <= {name for name, value in numbers.items() if value}


# Single errors


def drawn(path: Path, number: int, seed: int = 2026) -> list[Any]:
    attributions = read_attributions([path])
    lines = {line for _, line in draw(attributions, number, seed).places}
    return [one for line, one in enumerate(read_records(path)) if line in lines]


def test_kinds_that_are_rare_are_among_the_errors(tmp_path):
    records = [record(n) for n in range(500)]
    records += [record(1000 + n, "knowledge", benchmark="POPE") for n in range(3)]
    records += [record(2000 + n, "reasoning", model=STAGED) for n in range(40)]
    source = write_attribution(tmp_path / "errors.jsonl", records)
    counts = Counter(one.kind for one in drawn(source, 43))
    assert counts == {"perception": 20, "knowledge": 3, "reasoning": 20}
    assert {one.kind for one in drawn(source, 3)} == {"perception", "knowledge", "reasoning"}
    assert len(drawn(source, 5000)) == 543


def test_kinds_take_turns_when_not_every_group_can_be_there(tmp_path):
    records = [record(n, benchmark=f"b{n}") for n in range(50)] + [record(99, "knowledge")]
    source = write_attribution(tmp_path / "errors.jsonl", records)
    assert Counter(one.kind for one in drawn(source, 4)) == {"perception": 3, "knowledge": 1}


def test_the_seed_draws_whatever_the_order_of_the_file(tmp_path):
    records = some_records(300)
    source = write_attribution(tmp_path / "errors.jsonl", records)
    first = {one.id for one in drawn(source, 50)}
    source = write_attribution(tmp_path / "errors.jsonl", records[::-1])
    assert {one.id for one in drawn(source, 50)} == first
    assert {one.id for one in drawn(source, 50, seed=1)} != first


def test_cards_hold_what_is_known_of_an_error(tmp_path, capsys):
    votes = (Vote("reasoning", "So the answer", "", "low"), record().vote, record().vote)
    source = write_attribution(tmp_path / "errors.jsonl", [record(7, votes=votes, images=("a.png",))])
    numbers = numbers_of(capsys, tmp_path / "out.html", "--attribution", source)["errors"]
    assert (numbers["shown"], numbers["of"], numbers["pictures"], numbers["pictures_not_shown"]) == (1, 1, 1, 0)
    (one,) = cards_of(tmp_path)
    assert one["response"] == [
        "Look at the picture. ",
        "The tallest bar ends at 60.\nSo",
        " the answer is 60 + 20 = 80.\n\\boxed{80}",
    ]
    assert (one["kind"], one["votes"], one["others"]) == ("perception", [2, 3], ["reasoning"])
    assert (one["truth"], one["final"], one["image"]) == ("60", "80", "The tallest bar ends at 40.")
    assert one["pictures"] == [{"place": 0, "size": [640, 427]}]
    assert texts(tmp_path).count("data:image/webp;base64,") == 1


def test_a_picture_of_many_errors_is_there_once(tmp_path, capsys):
    for name in ("base", "staged"):
        records = [record(n, model=name, images=(f"{n}.png",)) for n in range(3)]
        source = write_attribution(tmp_path / f"{name}.jsonl", records)
        for n in range(3):
            write_picture(images_folder(source) / f"{n}.png", 5)
    files = [tmp_path / "base.jsonl", tmp_path / "staged.jsonl"]
    numbers = numbers_of(capsys, tmp_path / "out.html", "--attribution", *files)["errors"]
    assert (numbers["shown"], numbers["pictures"]) == (6, 1)


def test_pictures_that_cannot_be_shown_say_why(tmp_path, capsys):
    names = ("gone.png", "text.png", "link.png", "good.png")
    source = write_attribution(tmp_path / "errors.jsonl", [record(images=names)])
    folder = images_folder(source)
    (folder / "gone.png").unlink()
    (folder / "text.png").write_text("<svg onload=alert(1)>")
    (folder / "link.png").unlink()
    write_picture(tmp_path / "secret.png", 1)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    numbers = numbers_of(capsys, tmp_path / "out.html", "--attribution", source)["errors"]
    assert (numbers["pictures"], numbers["pictures_not_shown"]) == (1, 3)
    reasons = [one.get("reason", "") for one in cards_of(tmp_path)[0]["pictures"]]
    assert "does not exist" in reasons[0]
    assert "but SVG" in reasons[1]
    assert "leads outside" in reasons[2]
    assert "3 pictures cannot be shown" in texts(tmp_path)


def test_a_folder_of_pictures_that_is_missing(tmp_path):
    source = write_attribution(tmp_path / "errors.jsonl", [record()])
    source.write_bytes(record(images=("a.png",)).line())
    page_of(tmp_path, "--attribution", source)
    assert "the folder of images is missing" in cards_of(tmp_path)[0]["pictures"][0]["reason"]


def test_how_many_errors(tmp_path, capsys):
    source = write_attribution(tmp_path / "errors.jsonl", some_records(30))
    found = page_of(tmp_path, "--attribution", source, "--errors", 10)
    assert len(cards_of(tmp_path)) == 10
    assert "10 of 30 wrong answers, drawn at random" in texts(tmp_path)
    found = page_of(tmp_path, "--attribution", source, "--errors", 0)
    assert "script" not in found.tags
    capsys.readouterr()
    for number in (-1, 10_001):
        assert report(tmp_path / "out.html", "--attribution", source, "--errors", number) == 2
        assert "use a number from 0 to 10,000" in error_line(capsys)


def test_a_summary_of_another_run_is_told(tmp_path):
    source = write_attribution(tmp_path / "errors.jsonl", some_records(30))
    write_attribution(tmp_path / "other.jsonl", some_records(20))
    summary_path(source).write_bytes(summary_path(tmp_path / "other.jsonl").read_bytes())
    page_of(tmp_path, "--attribution", source)
    assert f"holds 15 wrong answers of {BASE}, and its summary counts 10" in texts(tmp_path)


def test_one_error_in_two_files_has_two_addresses(tmp_path):
    for name in ("one", "two"):
        write_attribution(tmp_path / f"{name}.jsonl", [record()])
    page_of(tmp_path, "--attribution", tmp_path / "one.jsonl", tmp_path / "two.jsonl")
    cards = cards_of(tmp_path)
    assert {one["id"] for one in cards} == {record().id, f"{record().id}-2"}
    assert {one["model"] for one in cards} == {f"{BASE} (one)", f"{BASE} (two)"}


def shown(one: Any) -> dict[str, Any]:
    return card(one, one.model, one.id, [])


def test_a_long_response_is_cut_around_the_quote():
    vote = Vote("perception", "the bar ends at 60")
    one = shown(record(response="a" * 50_000 + "the bar ends at 60" + "b" * 50_000, votes=(vote,)))
    before, quote, after = one["response"]
    assert quote == "the bar ends at 60"
    assert before.startswith("[44,000 characters left out] a")
    assert after.endswith("b [44,000 characters left out]")
    before, quote, after = shown(record(response="c" * 50_000 + "end", votes=(vote,)))["response"]
    assert quote == ""
    assert len(before + after) < MAX_RESPONSE + 100
    assert after.endswith("end")


def test_a_quote_that_is_nowhere_stands_apart():
    one = shown(record(votes=(Vote("perception", "never said"),)))
    assert one["response"] == [record().response, "", ""]
    assert one["quote"] == "never said"
    assert shown(record(votes=(Vote("perception", ".*" * 20_000),)))["response"][1] == ""


def test_what_hides_is_written_out():
    hidden = "a\u202eb\u200bc\x00d\ue000e\ud800f"
    one = shown(record(response=hidden, question=hidden, model=hidden, votes=(Vote("perception", "b\u200bc"),)))
    assert one["question"] == "a[U+202E]b[U+200B]c[U+0000]d[U+E000]e[U+D800]f"
    assert one["response"] == ["a[U+202E]", "b[U+200B]c", "[U+0000]d[U+E000]e[U+D800]f"]
    assert one["model"] == one["question"]


def test_every_kind_and_an_error_without_a_verdict():
    for kind in OUTCOMES:
        assert shown(record(kind=kind))["kind"] == kind
    assert shown(record(kind="undecided"))["why"] == "the judge gave no verdict that could be read"


HOSTILE = "</script><script>alert(1)</script><!--<script><img src=x onerror=alert(2)>\u2028&lt;b&gt;"


def test_hostile_texts_stay_data(tmp_path):
    one = record(response=HOSTILE, question=HOSTILE, benchmark=HOSTILE, category=HOSTILE, index=HOSTILE)
    one = replace(one, model=HOSTILE, truth=HOSTILE, final=HOSTILE, judge=HOSTILE)
    one = replace(one, votes=(Vote("perception", HOSTILE, HOSTILE, HOSTILE, why=HOSTILE),))
    source = write_attribution(tmp_path / "errors.jsonl", [one])
    told = results(BASE, HOSTILE)
    told["warnings"] = [HOSTILE]
    options = ["--results", write_json(tmp_path / "results.json", told)]
    found = page_of(tmp_path, "--attribution", source, *options, "--title", HOSTILE)
    assert found.tags.count("script") == 2  # the data, and the page's own
    assert not {"img", "b"} & set(found.tags)
    text = texts(tmp_path)
    assert "<!--" not in text
    assert cards_of(tmp_path)[0]["question"] == HOSTILE
    policy = re.search(r"script-src '(.*?)'", text)
    assert policy


def test_names_that_no_figure_can_hold(tmp_path):
    name = "m\x01\u202e$x^2$" + "long" * 2000
    told = results(BASE, STAGED)
    told["models"][name] = told["models"].pop(STAGED)
    records = [record(model=name, benchmark=name, category=name)]
    source = write_attribution(tmp_path / "errors.jsonl", records)
    page_of(tmp_path, "--results", write_json(tmp_path / "r.json", told), "--attribution", source)
    assert "long" * 300 not in re.sub(r"<script.*?</script>", "", texts(tmp_path), flags=re.DOTALL)


# Training


def test_training_curves(tmp_path, capsys):
    folder = write_run(tmp_path / "run", steps=20)
    (run,) = numbers_of(capsys, tmp_path / "out.html", "--train", folder)["training"]["runs"]
    assert (run["name"], run["steps"]) == ("qwen3_vl_8b staged", 60)
    assert [(stage["first"], stage["steps"]) for stage in run["stages"]] == [(0, 20), (20, 20), (40, 20)]
    assert run["curves"]["reward"]["steps"] == list(range(1, 61))
    assert run["curves"]["validation perception"]["steps"] == [0, 10, 20, 20, 30, 40, 40, 50, 60]
    assert {"response_length", "entropy", "kl", "agreement"} <= set(run["curves"])
    svg = (tmp_path / "out_figures" / "training.svg").read_text()
    assert "stage2_text_reasoning" in svg
    table = Cells(texts(tmp_path)).tables[0]
    assert [row[:5] for row in table[1:2]] == [["qwen3_vl_8b staged", "stage1_perception", "4,000", "20", "2.0"]]


def test_a_step_that_was_run_again_counts_once(tmp_path, capsys):
    folder = tmp_path / "run"
    stage = {"run": "qwen3_vl_8b/stage1_perception", "train": [], "commands": [[], []], "done": False, "seconds": 1}
    write_record(folder, [stage])
    steps = folder / "1_stage1_perception" / "steps.jsonl"
    write_steps(steps, [{"step": 1, "reward": 0.1}, {"step": 2, "reward": 0.2}, {"step": 1, "reward": 0.5}])
    with steps.open("a") as file:
        file.write('{"step": 3, "reward": NaN}\n{"step": 4, "rew')
    (run,) = numbers_of(capsys, tmp_path / "out.html", "--train", folder)["training"]["runs"]
    assert run["curves"]["reward"] == {"steps": [1, 2], "values": [0.5, 0.2]}
    assert run["stages"][0]["steps"] == 3
    assert "stage qwen3_vl_8b/stage1_perception is not done" in texts(tmp_path)


def test_captions_and_a_stage_that_has_not_begun(tmp_path, capsys):
    folder = tmp_path / "run"
    stage = {"train": [{"rows": 3}], "commands": [[], []], "done": True, "seconds": 1.5}
    write_record(folder, [{**stage, "run": "caption_sft"}, {**stage, "run": "a/later", "done": False}])
    for start in (1, 2):
        lines = [{"step": start, "data": {"train/loss": 2.0 / start}}]
        write_steps(folder / "1_caption_sft" / f"losses-{start}.jsonl", lines)
    (run,) = numbers_of(capsys, tmp_path / "out.html", "--train", folder)["training"]["runs"]
    assert run["curves"] == {"loss": {"steps": [1, 2], "values": [2.0, 1.0]}}


def test_many_steps_are_a_small_figure(tmp_path):
    folder = tmp_path / "run"
    write_record(folder, [{"run": "a/b", "train": [], "commands": [[]], "done": True, "seconds": 1}])
    write_steps(folder / "1_b" / "steps.jsonl", [{"step": n, "reward": n % 7} for n in range(20_000)])
    page_of(tmp_path, "--train", folder)
    assert (tmp_path / "out.html").stat().st_size < 150_000


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[]", "holds a line that is no step"),
        ("3", "holds a line that is no step"),
        ('{"reward": 1}', "holds a line that is no step"),
        ('{"step": "x"}', "holds a step that is no number"),
        ('{"step": [1]}', "holds a line that is no step"),
        ('{"step": 1, "validation": 3}', "holds a line that is no step"),
        ('{"step": 1, "data": 3}', "holds a line that is no step"),
        ('{"step": 1}', "holds no step yet"),
        ("nonsense", "holds no step yet"),
    ],
)
def test_steps_that_are_none(tmp_path, capsys, line, said):
    folder = tmp_path / "run"
    write_record(folder, [{"run": "a/b", "train": [], "commands": [[]], "done": True, "seconds": 1}])
    write_steps(folder / "1_b" / "steps.jsonl", [])
    (folder / "1_b" / "steps.jsonl").write_text(line + "\n")
    assert report(tmp_path / "out.html", "--train", folder) == 2
    assert said in error_line(capsys)


def test_folders_that_are_no_run(tmp_path, capsys):
    assert report(tmp_path / "out.html", "--train", tmp_path / "none") == 2
    assert "no such folder" in error_line(capsys)
    assert report(tmp_path / "out.html", "--train", tmp_path) == 2
    assert "run.json: cannot be read" in error_line(capsys)
    folder = write_run(tmp_path / "run", steps=2)
    assert report(tmp_path / "out.html", "--train", folder, folder) == 2
    assert "a folder is given twice" in error_line(capsys)


# Shapes


@pytest.mark.parametrize(
    ("value", "shape", "wrong"),
    [
        (1, float, ""),
        (True, float, "the whole is true"),
        (True, int, "the whole is true"),
        (1.0, int, "the whole is 1.0"),
        ({"a": 1}, {"a": int, "b?": str}, ""),
        ({"a": 1, "b": 2}, {"a": int, "b?": str}, "b is 2"),
        ({}, {"a": int}, "a is missing"),
        ({"x": [0, 2]}, {str: [share]}, "x[1] is 2"),
        ([1], [int, int], "the whole is a list of 1"),
        ([1, 2], [int, int], ""),
        (None, (str, None), ""),
        ({"a": {"b": 1}}, {"a": ({"b": str}, None)}, "a.b is 1"),
    ],
)
def test_shapes(value, shape, wrong):
    assert misfit(value, shape) == wrong


def test_memory_does_not_grow_with_the_records(tmp_path):
    """Only ranks are kept of what is not shown."""
    source = write_attribution(tmp_path / "errors.jsonl", [record(n, response="x" * 100) for n in range(300)])
    sample = draw(read_attributions([source]), 10, 1)
    assert len(sample.places) == 10
    assert sample.found[0] == {BASE: 300}


def test_errors_of_a_name_that_is_no_utf8(tmp_path):
    source = write_attribution(tmp_path / "errors.jsonl", [record()])
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jsonl"))
    source.rename(odd)
    summary_path(source).rename(summary_path(odd))
    page_of(tmp_path, "--attribution", odd)
    with pytest.raises(InputError):
        read_errors(read_attributions([tmp_path / "none.jsonl"]), 1, 1)
