"""Files that are cut off, mixed up, or made to harm: a visible mark or one clear line, and never a traceback."""

import json
import os
import random
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_samples import JUDGE, RUN, Run, asked, verdict, write_table

from capcurr_plugin import cli
from capcurr_plugin.evaluation import table_files
from capcurr_plugin.evaluation.host_rules import number_of
from capcurr_plugin.evaluation.table_files import MAX_CELL, Unreadable, canonical, read_rows

JUDGED = f"_{JUDGE}_result.tsv"


def report(capsys, *arguments):
    code = cli.main(["results", *map(str, arguments), "--resamples", "100", "--json"])
    output, errors = capsys.readouterr()
    assert "Traceback" not in errors
    assert code == 0, errors
    return json.loads(output)


def cell(capsys, folder, name="RealWorldQA"):
    (model,) = report(capsys, folder)["models"].values()
    return model["benchmarks"][name]


@pytest.fixture
def run(tmp_path):
    made = Run(tmp_path, "m")
    made.mcq("RealWorldQA", 500, 765)
    return made


def doubts(capsys, run):
    return "; ".join(cell(capsys, run.folder)["doubts"])


# Files that are cut off, or not what they should be


def test_a_judged_file_cut_off_within_a_row(run, capsys):
    path = run.path("RealWorldQA", JUDGED)
    text = path.read_text()
    for end in (len(text) // 2, len(text) - 2, len(text) - 40):
        path.write_text(text[:end])
        found = cell(capsys, run.folder)
        assert found["value"] == pytest.approx(100 * 500 / 765, abs=1e-5)
        assert found["interval"] is None
        assert "is cut off or damaged" in "; ".join(found["doubts"]), end


def test_a_judged_file_cut_off_between_rows(run, capsys):
    path = run.path("RealWorldQA", JUDGED)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:600]))
    found = cell(capsys, run.folder)
    assert (found["agrees"], found["interval"]) == (False, None)
    told = "; ".join(found["doubts"])
    assert "its score file says 65.36, its rows give 83.47: files are cut off, or of different runs" in told
    assert "599 rows, where the benchmark has 765" in told
    assert "166 of the predictions were not judged" in told


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n\n", "has no row"),
        (b'"split","Overall"\n', "has no row"),
        (b'"split","Overall"\n"none","nan"\n', "has 'nan' for 'Overall'"),
        (b'"split","Overall"\n"none",""\n', "has '' for 'Overall'"),
        (b'"split","Overall"\n"none","inf"\n', "has 'inf' for 'Overall'"),
        (b'"split","Overall"\n"none","many"\n', "has 'many' for 'Overall'"),
        (b'"split","Overall"\n"none","7.5"\n', "has 750 for a headline, which is no percentage"),
        (b'"split","Overall"\n"none","-0.5"\n', "has -50 for a headline, which is no percentage"),
        (b'"split","Accuracy"\n"none","0.5"\n', "does not say 'Overall' where it is expected"),
        (b'"split","Overall","Overall"\n"none","0.5","0.6"\n', "has column 'Overall' 2 times"),
        (b'"split","Overall"\n"none","0.5', "is cut off or damaged"),
        (b'"split","Overall"\n"none"\n', "is cut off or damaged: row 1 has 1 cells, its header 2"),
        (b"\xff\xfe\x00split", "is no UTF-8 text, or cut off"),
        (b"\x00\x00\x00\x00", "m_RealWorldQA_acc.csv"),
    ],
)
def test_a_damaged_score_file(run, capsys, content, why):
    run.path("RealWorldQA", "_acc.csv").write_bytes(content)
    found = cell(capsys, run.folder)
    assert found["value"] is None
    assert why in found["missing"]
    assert "m_RealWorldQA_acc.csv" in found["missing"]


def test_several_splits_have_no_overall_value_of_their_own(run, capsys):
    run.write("RealWorldQA", "_acc.csv", [{"split": "a", "Overall": 0.2}, {"split": "b", "Overall": 0.9}])
    found = cell(capsys, run.folder)
    assert found["value"] == pytest.approx(100 * 500 / 765, abs=1e-5)
    assert "its score file has a row to each split and none over all; computed over all rows" in found["notes"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"hit": "nan"}, "765 rows without a verdict|holds no judged row"),
        ({"index": ""}, "has a row without an index"),
        ({"log": None}, "has no column 'log'"),
        ({"prediction": None}, "has no column 'prediction'"),
    ],
)
def test_a_judged_file_without_what_it_must_have(run, capsys, change, why):
    (key, value), *_ = change.items()
    rows = [{**asked(i), **verdict(i < 500), **change} for i in range(765)]
    if value is None:
        rows = [{k: v for k, v in row.items() if k != key} for row in rows]
    run.write("RealWorldQA", JUDGED, rows)
    assert any(one in doubts(capsys, run) for one in why.split("|"))


def test_rows_without_a_verdict_are_counted(run, capsys):
    rows = [asked(i) | verdict(i < 500) for i in range(765)]
    for row in rows[500:520]:
        row["hit"] = "nan"
    run.write("RealWorldQA", JUDGED, rows)
    run.write("RealWorldQA", "_acc.csv", [{"split": "none", "Overall": 500 / 745}])
    found = cell(capsys, run.folder)
    assert (found["without_verdict"], found["agrees"]) == (20, True)
    assert "20 rows without a verdict, which VLMEvalKit leaves out" in found["doubts"]


def test_an_answer_that_only_a_computer_algebra_finds_equal(tmp_path, capsys):
    """MathVision's judged file does not say what is right."""
    for right, told in ((101, True), (104, False)):
        run = Run(tmp_path / str(right), "m")
        run.math("MathVision_MINI", 100, 304, "Subject")
        run.write("MathVision_MINI", f"_{JUDGE}_score.csv", [{"Subject": "Overall", "acc": 100 * right / 304}])
        found = cell(capsys, tmp_path / str(right), "MathVision_MINI")
        assert found["value"] == pytest.approx(100 * right / 304, abs=1e-5)
        assert (found["agrees"], found["interval"] is not None) == (told, told)
        text = "its rows give 32.89 here: some answers are equal to a computer algebra only"
        assert (text in found["notes"]) == told


def test_repeated_indexes_are_told(run, capsys):
    rows = [asked(i % 700) | verdict(i < 500) for i in range(765)]
    run.write("RealWorldQA", JUDGED, rows)
    assert "65 rows with the index of another row" in doubts(capsys, run)


def test_an_index_in_two_sources(tmp_path, capsys):
    """Each source keeps its rows in every resample."""
    run = Run(tmp_path, "m")
    rows = [asked(i // 2) | verdict(i % 3 == 0) | {"source": "COCO" if i % 2 else "ADE20K"} for i in range(200)]
    run.write("CV-Bench-2D", JUDGED, rows)
    shares = [sum(row["hit"] for row in rows[i::2]) / 100 for i in (0, 1)]
    run.write("CV-Bench-2D", "_acc.csv", [{"split": "2D", "Overall": sum(shares) / 2}])
    found = cell(capsys, tmp_path, "CV-Bench-2D")
    assert (found["agrees"], found["units"]) == (True, 200)
    low, high = found["interval"]
    assert low < found["value"] < high


def test_predictions_that_are_newer_than_the_judged_file(run, capsys):
    """VLMEvalKit takes a judged file that it finds for one of the predictions beside it."""
    run.predictions("RealWorldQA", [asked(i, "A" if i < 7 else "B") for i in range(765)])
    assert "7 of the judged predictions are not those in the prediction file" in doubts(capsys, run)


def test_a_prediction_file_that_cannot_be_read(run, capsys):
    run.path("RealWorldQA", ".tsv").write_text("")
    assert "m_RealWorldQA.tsv is empty" in doubts(capsys, run)


def test_a_pickle_is_named_and_not_opened(run, capsys, monkeypatch):
    monkeypatch.setattr("pickle.load", lambda *_: pytest.fail("opened"))
    run.path("RealWorldQA", JUDGED).rename(run.path("RealWorldQA", f"_{JUDGE}_result.pkl"))
    found = cell(capsys, run.folder)
    assert found["value"] == pytest.approx(100 * 500 / 765, abs=1e-5)
    assert found["interval"] is None
    run.path("RealWorldQA", "_acc.csv").rename(run.path("RealWorldQA", "_acc.pkl"))
    assert "written as a pickle only, which is not read" in cell(capsys, run.folder)["missing"]


def test_a_score_by_a_verifier_is_not_read_as_another(run, capsys):
    run.write("RealWorldQA", "_detailed_results.tsv", [asked(0)])
    write_table(run.path("RealWorldQA", "_acc.csv"), [{"Category": "Overall", "Accuracy": 50}])
    assert "(written by --use-verifier, whose files are not read)" in cell(capsys, run.folder)["missing"]


# Runs that are going on


def test_a_run_that_is_going_on(run, tmp_path, capsys):
    lock = run.folder / ".capcurr" / "m_RealWorldQA.lock"
    lock.parent.mkdir()
    lock.write_text("1767225600.0")
    found = cell(capsys, tmp_path)
    assert "its run has not ended, or was killed" in found["doubts"]
    lock.write_text("")
    assert cell(capsys, tmp_path)["doubts"] == []
    (lock.parent / "m_MMStar.lock").write_text("")
    assert cell(capsys, tmp_path, "MMStar")["missing"] == "not run"


def test_only_some_files_are_there_yet(run, tmp_path, capsys):
    run.path("RealWorldQA", "_acc.csv").unlink()
    assert "judged, but without a score file: its run has not ended" in cell(capsys, tmp_path)["missing"]
    run.path("RealWorldQA", JUDGED).unlink()
    assert "predicted, but not judged" in cell(capsys, tmp_path)["missing"]
    run.path("RealWorldQA", ".tsv").rename(run.path("RealWorldQA", "_checkpoint.pkl"))
    assert "has written no predictions yet" in cell(capsys, tmp_path)["missing"]


@pytest.mark.parametrize(
    "status",
    [
        b"",
        b"{",
        b"[1, 2]",
        b'{"datasets": 5, "argv": "x", "model_name": ["m"]}',
        b'{"datasets": {"RealWorldQA": []}}',
        b'{"datasets": {"RealWorldQA": {"judge_model": {"a": 1}, "error_message": 7}}, "argv": [1, null]}',
        b"\xff\xfe" * 50,
        b"[" * 100_000,
    ],
)
def test_status_may_hold_anything(run, tmp_path, capsys, status):
    (run.folder / "status.json").write_bytes(status)
    found = report(capsys, tmp_path)
    assert found["models"]["m"]["benchmarks"]["RealWorldQA"]["doubts"] == []
    told = any("status.json: is no JSON object, or cut off" in warning for warning in found["warnings"])
    assert told == (not status.startswith(b'{"'))


def test_what_status_says_of_errors(run, tmp_path, capsys):
    status = {"datasets": {"RealWorldQA": {"error_message": "no\n\x1b[31m space", "judge_model": JUDGE}}}
    (run.folder / "status.json").write_text(json.dumps(status))
    assert cell(capsys, tmp_path)["doubts"] == ["its run reports: no \x1b[31m space"]
    assert cli.main(["results", str(tmp_path), "--resamples", "100"]) == 0
    assert "\x1b" not in capsys.readouterr().out


# Files that do not belong here


def test_files_of_another_model_are_passed_over(run, tmp_path, capsys):
    other = Run(tmp_path / "x", "other")
    other.mcq("RealWorldQA", 100, 765)
    other.mcq("MMStar", 100, 1500)
    for path in other.folder.iterdir():
        path.rename(run.folder / path.name)
    found = report(capsys, tmp_path)
    assert list(found["models"]) == ["m"]
    (warning,) = found["warnings"]
    assert "is of model other, in the folder of m, and was passed over (and 5 more)" in warning


def test_rows_of_another_model_in_a_file_of_this_one(run, capsys):
    """The name is right, the rows are not: they do not give the score."""
    rows = [asked(i) | verdict(i < 300) for i in range(765)]
    run.write("RealWorldQA", JUDGED, rows)
    assert "its score file says 65.36, its rows give 39.22" in doubts(capsys, run)


def test_links_that_lead_out_are_not_followed(run, tmp_path, capsys):
    work, elsewhere = tmp_path / "m", tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = run.path("RealWorldQA", JUDGED)
    path.rename(elsewhere / "judged.tsv")
    path.symlink_to(elsewhere / "judged.tsv")
    (work / "T20260109-000000").symlink_to(elsewhere)
    (work / "loop").symlink_to(work)
    (work / "nothing").symlink_to(work / "gone")
    found = report(capsys, work)
    assert found["models"]["m"]["benchmarks"]["RealWorldQA"]["interval"] is None
    (warning,) = found["warnings"]
    assert "is a link out of" in warning
    assert "(and 2 more)" in warning


def test_a_pipe_is_not_opened(run, tmp_path, capsys):
    path = run.path("RealWorldQA", JUDGED)
    path.unlink()
    os.mkfifo(path)
    assert "its judged file is missing" in doubts(capsys, run)


def test_a_folder_that_may_not_be_read(run, tmp_path, capsys, monkeypatch):
    listed = Path.iterdir
    closed = tmp_path / "m" / "closed"
    closed.mkdir()

    def iterdir(path):
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert report(capsys, tmp_path)["warnings"] == [f"{closed}: cannot be read (Permission denied)"]


def test_folders_that_are_too_large(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("capcurr_plugin.evaluation.run_folders.MAX_FILES", 2)
    assert cli.main(["results", str(tmp_path)]) == 2
    assert "holds over 2 files; name a model's folder" in capsys.readouterr().err


# xlsx


def xlsx(path, parts):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def test_an_xlsx_that_is_none(run, capsys):
    path = run.path("RealWorldQA", JUDGED).with_suffix(".xlsx")
    run.path("RealWorldQA", JUDGED).rename(path)
    assert "result.xlsx is no workbook, or cut off (File is not a zip file)" in doubts(capsys, run)
    xlsx(path, {"a": b"x" * 10_000})
    path.write_bytes(path.read_bytes()[:50])
    assert "is no workbook, or cut off" in doubts(capsys, run)


def test_an_xlsx_that_unpacks_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "MAX_UNPACKED_BYTES", 1 << 20)
    path = xlsx(tmp_path / "a.xlsx", {"xl/sharedStrings.xml": b" " * (1 << 21)})
    assert path.stat().st_size < 1 << 14
    with pytest.raises(Unreadable, match="unpacks to over 1 MiB; have it written as tsv instead"):
        list(read_rows(path, ["a"]))


def test_an_xlsx_of_too_many_parts(tmp_path):
    path = xlsx(tmp_path / "a.xlsx", {f"{i}.xml": b"" for i in range(1001)})
    with pytest.raises(Unreadable, match="unpacks to over"):
        list(read_rows(path, ["a"]))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_xlsx_with_entities(tmp_path, encoding):
    bomb = f'<?xml version="1.0" encoding="{encoding}"?><!-- {"<a>" * 9000} --><!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'
    path = xlsx(tmp_path / "a.xlsx", {"xl/workbook.xml": bomb.encode(encoding)})
    with pytest.raises(Unreadable, match="declares a document type"):
        list(read_rows(path, ["a"]))


def test_xlsx_without_openpyxl_is_one_line(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    path = run.path("RealWorldQA", JUDGED)
    path.unlink()
    xlsx(path.with_suffix(".xlsx"), {"xl/workbook.xml": b"<workbook/>"})
    assert cli.main(["results", str(tmp_path)]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.count("\n") == 1
    assert "reading xlsx needs openpyxl; pip install openpyxl" in errors


# Bounds of the readers


def test_cells_and_files_have_bounds(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("a\n" + "x" * (MAX_CELL + 1) + "\n")
    with pytest.raises(Unreadable, match="field larger than field limit"):
        list(read_rows(path, ["a"]))
    path.write_text("a\n" + "1\n" * 30)
    monkeypatch.setattr(table_files, "MAX_ROWS", 20)
    with pytest.raises(Unreadable, match="has over 20 rows"):
        list(read_rows(path, ["a"]))
    monkeypatch.setattr(table_files, "MAX_BYTES", 20)
    with pytest.raises(Unreadable, match="has over 0 MiB"):
        list(read_rows(path, ["a"]))


def test_long_responses_are_read(tmp_path):
    path = write_table(tmp_path / "a.tsv", [{"index": 1, "prediction": "x\ty\n" * 100_000}])
    assert next(read_rows(path, ["prediction"]))["prediction"] == "x\ty\n" * 100_000


@pytest.mark.parametrize("content", [b"{}", b'{"a": [1]}', b"[1]", b"[{", b"nonsense", b"[" * 50_000])
def test_json_that_is_no_table(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match="is no"):
        list(read_rows(path, ["a"]))


def test_json_rows(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"index": 1, "Hit": true}, {"index": 2.0, "hit2": null, "Hit": NaN}]')
    assert list(read_rows(path, ["index", "hit"])) == [{"index": "1", "hit": "True"}, {"index": "2", "hit": "nan"}]


def test_random_damage_never_escapes(tmp_path, capsys):
    """Bytes of all files of a run are changed at random."""
    world = random.Random(4)
    for attempt in range(40):
        run = Run(tmp_path / str(attempt), "m")
        run.mcq("VStarBench", 100, 191)
        run.mathverse("MathVerse_MINI_Vision_Only", 10, 20)
        for path in run.folder.iterdir():
            content = bytearray(path.read_bytes())
            for _ in range(world.randint(0, 3)):
                content[world.randrange(len(content))] = world.randrange(256)
            path.write_bytes(bytes(content[: world.randint(len(content) // 2, len(content))]))
        found = report(capsys, run.folder)["models"]["m"]["benchmarks"]
        for name in ("VStarBench", "MathVerse_MINI_Vision_Only"):
            assert found[name].get("doubts") or found[name].get("missing") or found[name]["agrees"], name


# Texts


@given(st.text() | st.from_regex(r"[+-]?\d{0,3}\.?\d{0,3}(e\d)?", fullmatch=True))
def test_canonical_texts_stay(text):
    assert canonical(canonical(text)) == canonical(text)
    assert canonical(f" {text}\n") == canonical(text)


@given(st.integers(-(10**30), 10**30))
def test_canonical_whole_numbers(number):
    assert canonical(f"{number}.0") == canonical(f"+{number}" if number >= 0 else str(number)) == str(number)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_canonical_numbers_keep_their_value(number):
    assert float(canonical(repr(number))) == number


@pytest.mark.parametrize("words", ["nan", "None", "NULL", "", " n/a "])
def test_canonical_missing_values(words):
    assert canonical(words) == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1/3+1/6", 0.5),
        ("-2**3", -8),
        ("\\frac{1}{\\frac{1}{2}}", None),
        ("2^{10}", 1024),
        ("1e3", 1000),
        ("0.1*3", 0.3),
    ],
)
def test_arithmetic(text, value):
    found = number_of(text)
    assert (found is None) == (value is None)
    assert value is None or float(found) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9**9",
        "((2**64)**64)**64",
        "1/0",
        "__import__('os')",
        "(" * 500,
        "-" * 1900 + "1",
        "1" * 3000,
        "1e99999",
        "True",
        "1j",
        "'a'*9",
        "2**0.5",
        "[1, 2]",
        "",
        "1 if 2 else 3",
    ],
)
def test_arithmetic_that_is_none_or_too_much(text):
    assert number_of(text) is None


def test_run_folders_of_old_names(tmp_path, capsys):
    Run(tmp_path, "m", "T20250101_Gabc123").mcq("RealWorldQA", 400, 765)
    Run(tmp_path, "m", RUN).mcq("RealWorldQA", 500, 765)
    assert cell(capsys, tmp_path)["run"] == RUN
