"""`capcurr results` as a user calls it."""

import csv
import json
import math
import os
import re

import pytest
from results_samples import BASE, JUDGE, RUN, STAGED, Run, asked, verdict, write_table

from capcurr_plugin import cli

MAIN = ["visual_math", "perception", "overall"]


def call(capsys, *arguments):
    code = cli.main(["results", *map(str, arguments)])
    output, errors = capsys.readouterr()
    assert "Traceback" not in errors
    return code, output, errors


def report(capsys, *arguments):
    code, output, errors = call(capsys, *arguments, "--resamples", "400", "--json")
    assert code == 0, errors
    return json.loads(output)


def only_model(capsys, *arguments):
    (model,) = report(capsys, *arguments)["models"].values()
    return model


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The main suite of two models."""
    folder = tmp_path_factory.mktemp("work")
    Run(folder, STAGED).main_suite()
    Run(folder, BASE).main_suite(-20)
    return folder


# What is read


def test_headlines_and_averages(work, capsys):
    model = only_model(capsys, work / STAGED, "--suite", "main")
    values = {name: cell["value"] for name, cell in model["benchmarks"].items()}
    wanted = {
        "MathVista_MINI": 75.9,
        "MathVision_MINI": 100 * 100 / 304,
        "MathVerse_MINI_Vision_Intensive": 100 * 300 / 788,
        "WeMath": 56.0,
        "A-OKVQA": 100 * 900 / 1145,
        "RealWorldQA": 100 * 570 / 765,
        "MMStar": 100 * 1096 / 1500,
        "POPE": 200 * 2200 / 4700,
    }
    assert values == pytest.approx(wanted, abs=1e-5)
    for name, cell in model["benchmarks"].items():
        assert cell["agrees"], (name, cell["doubts"])
        assert cell["doubts"] == [], name
        low, high = cell["interval"]
        assert low < cell["value"] < high, name
    math_values, perception = list(wanted.values())[:4], list(wanted.values())[4:]
    averages = model["averages"]
    assert averages["visual_math"]["value"] == pytest.approx(sum(math_values) / 4, abs=1e-5)
    assert averages["perception"]["value"] == pytest.approx(sum(perception) / 4, abs=1e-5)
    assert averages["overall"]["value"] == pytest.approx(sum(wanted.values()) / 8, abs=1e-5)
    assert list(averages) == MAIN
    for cell in averages.values():
        assert cell["interval"][0] < cell["value"] < cell["interval"][1]
        assert (cell["complete"], cell["missing"]) == (True, [])


def test_an_averages_interval_is_narrower_than_its_members(work, capsys):
    model = only_model(capsys, work / STAGED, "--suite", "main")

    def width(cell):
        return cell["interval"][1] - cell["interval"][0]

    members = [width(cell) for cell in model["benchmarks"].values()]
    assert width(model["averages"]["overall"]) == pytest.approx(math.hypot(*members) / 8, rel=0.2)


def test_published_numbers_stand_beside(work, capsys):
    models = report(capsys, work, "--suite", "main")["models"]
    staged = models[STAGED]
    assert staged["published_as"] == "qwen3_vl_8b/staged"
    assert staged["benchmarks"]["MathVista_MINI"]["published"] == 75.9
    assert staged["benchmarks"]["MathVista_MINI"]["difference_from_published"] == 0
    assert staged["benchmarks"]["POPE"]["published"] is None
    assert staged["averages"]["overall"]["published"] == 65.77
    assert models[BASE]["published_as"] == "qwen3_vl_8b/base"
    code, output, _ = call(capsys, work, "--suite", "main", "--resamples", "400")
    assert code == 0
    assert "as its authors measured it in their setup" in output


def test_published_numbers_beside_a_model_of_another_name(tmp_path, capsys):
    Run(tmp_path, "my_run").mcq("RealWorldQA", 500, 765)
    model = only_model(capsys, tmp_path, "--published", "my_run=qwen3_vl_8b/staged")
    assert model["benchmarks"]["RealWorldQA"]["published"] == 74.51
    for wrong, line in (
        ("my_run=qwen3_vl_8b/stage", "'qwen3_vl_8b/stage': no such published model; there are qwen3_vl_8b/base"),
        ("other=qwen3_vl_8b/staged", "--published other: no such model in the folders; there are my_run"),
    ):
        code, _, errors = call(capsys, tmp_path, "--published", wrong)
        assert code == 2
        assert line in errors


@pytest.mark.parametrize("name", ["work", "model", "run"])
def test_any_of_the_folders_will_do(tmp_path, capsys, name):
    run = Run(tmp_path, STAGED)
    run.mcq("RealWorldQA", 500, 765)
    for path in run.folder.iterdir():  # as upstream does
        (run.folder.parent / path.name).symlink_to(path.relative_to(run.folder.parent))
    folder = {"work": tmp_path, "model": tmp_path / STAGED, "run": run.folder}[name]
    found = report(capsys, folder)
    assert list(found["models"]) == [STAGED]
    assert found["warnings"] == []
    cell = found["models"][STAGED]["benchmarks"]["RealWorldQA"]
    assert (cell["run"], cell["judge"], cell["rows"]) == (RUN, JUDGE, 765)
    assert cell["files"]["judged"] == str(run.path("RealWorldQA", f"_{JUDGE}_result.tsv"))


def test_files_in_the_models_folder_itself(tmp_path, capsys):
    Run(tmp_path, STAGED, run=".").mcq("RealWorldQA", 500, 765)
    cell = only_model(capsys, tmp_path)["benchmarks"]["RealWorldQA"]
    assert (cell["run"], cell["agrees"]) == (STAGED, True)


def test_names_may_hold_anything(tmp_path, capsys):
    """A model named like a data set, a judge with a colon, a data set whose name is the start of another's."""
    model, judge = "X_MMStar_tuned-1.5_v2", "bedrock:claude-haiku-4.5_v1"
    run = Run(tmp_path, model, judge=judge)
    run.mcq("MMStar", 900, 1500)
    run.mathverse("MathVerse_MINI_Vision_Only", 300, 788)
    run.mathverse("MathVerse_MINI_Vision_Only_cot", 700, 788)
    run.mcq("BLINK_circular", 1, 2)
    told = report(capsys, tmp_path)
    found = told["models"]
    assert list(found) == [model]
    also = "also holds BLINK_circular, MathVerse_MINI_Vision_Only_cot: read with --data NAME=LAYOUT"
    assert told["warnings"] == [f"{run.folder}: {also}"]
    cells = found[model]["benchmarks"]
    assert {name for name, cell in cells.items() if cell["value"] is not None} == {
        "MMStar",
        "MathVerse_MINI_Vision_Only",
    }
    assert cells["MathVerse_MINI_Vision_Only"]["value"] == pytest.approx(100 * 300 / 788)
    assert cells["MMStar"]["judge"] == judge


def test_files_that_were_copied_elsewhere(tmp_path, capsys):
    """In a folder of another name the models are those of the files' names."""
    run = Run(tmp_path / "x", "A_B", run=".")
    run.mcq("MMStar", 900, 1500)
    (tmp_path / "x" / "A_B").rename(tmp_path / "copies")
    run = Run(tmp_path / "x", "C", run=".")
    run.mcq("MMStar", 800, 1500)
    for path in run.folder.iterdir():
        path.rename(tmp_path / "copies" / path.name)
    assert list(report(capsys, tmp_path / "copies")["models"]) == ["A_B", "C"]


def test_other_data_sets_by_their_layout(tmp_path, capsys):
    Run(tmp_path, "m").mcq("MyQuestions", 6, 8)
    cell = only_model(capsys, tmp_path, "--data", "MyQuestions=mcq")["benchmarks"]["MyQuestions"]
    assert cell["value"] == 75
    code, _, errors = call(capsys, tmp_path, "--data", "MyQuestions=new")
    assert code == 2
    assert "write NAME=LAYOUT, with a layout of mcq, cvbench, " in errors


def test_wemath_without_a_judge(tmp_path, capsys):
    """VLMEvalKit then scores the predictions themselves, and writes no judged file."""
    run = Run(tmp_path, "m", judge="exact_matching")
    run.wemath(100)
    judged = run.path("WeMath", "_exact_matching.tsv")
    rows = list(csv.DictReader(judged.open(), delimiter="\t"))
    predicted = [row | {"prediction": "Answer: B." if row["hit"] == "1" else "Answer: C"} for row in rows]
    for row in predicted:
        del row["hit"], row["log"]
    judged.unlink()
    run.write("WeMath", ".tsv", predicted)
    cell = only_model(capsys, tmp_path)["benchmarks"]["WeMath"]
    assert (cell["agrees"], cell["value"], cell["judge"]) == (True, 19.05, "exact_matching")
    assert cell["files"]["judged"].endswith("m_WeMath.tsv")
    assert cell["doubts"] == []


def test_what_the_side_car_says(tmp_path, capsys):
    run = Run(tmp_path, "m")
    run.mcq("RealWorldQA", 500, 765)
    lines = [{"index": str(i), "prediction": "B", "response": "\\boxed{B}", "answer": "B"} for i in range(765)]
    for line in lines[:3]:
        line |= {"answer": None}
    for i, line in enumerate(lines[:10]):
        line |= {"finish_reason": "length" if i < 2 else "stop", "completion_tokens": 100 + 10 * i}
    lines[10] |= {"completion_tokens": "many"}
    lines[11] |= {"completion_tokens": True}
    lines[12] |= {"finish_reason": ["length"], "answer": {"a": 1}}
    path = run.path("RealWorldQA", "_responses.jsonl")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"index": "9", "resp')
    cell = only_model(capsys, tmp_path)["benchmarks"]["RealWorldQA"]
    assert cell["responses"] == {"rows": 765, "unparsed": 3, "truncated": 2, "mean_completion_tokens": 145.0}
    assert cell["files"]["responses"] == str(path)
    _, output, _ = call(capsys, tmp_path, "--resamples", "400")
    line = next(line for line in output.splitlines() if line.startswith("RealWorldQA") and line.endswith(".tsv"))
    assert re.split(r" {2,}", line)[1:-1] == ["765", "765", "0", "0", "0", "0", "3", "2", "145"]


def test_how_rows_were_judged(tmp_path, capsys):
    run = Run(tmp_path, "m")
    logs = {
        "Match Log: B. ": 700,
        "Match Log: The option is B. ": 40,
        "Match Log: Failed to predict, thus randomly generate one. . ": 20,
        "Match Log: Failed in Prefetch, no GPT-based answer matching under `exact_matching` policy.. ": 5,
    }
    rows = [verdict(True, log) for log, count in logs.items() for _ in range(count)]
    rows = [asked(i) | row for i, row in enumerate(rows)]
    rows[0]["prediction"] = "Failed to obtain answer via API."
    rows[0]["log"] = "Match Log: Failed to obtain answer via API.. "
    run.write("RealWorldQA", f"_{JUDGE}_result.tsv", rows)
    run.write("RealWorldQA", "_acc.csv", [{"split": "none", "Overall": 1.0}])
    cell = only_model(capsys, tmp_path)["benchmarks"]["RealWorldQA"]
    assert cell["verdicts"] == {"rule": 700, "judge": 40, "random": 20, "none": 5, "unknown": 0}
    assert cell["api_failed"] == 1
    assert cell["doubts"] == ["20 rows answered at random, because no option could be made out"]
    assert "1 row with a failure of the API instead of an answer" in cell["notes"]
    assert f"5 rows left to the rule, because {JUDGE} did not work, counted as wrong" in cell["notes"]


def test_all_right_still_has_an_interval(tmp_path, capsys):
    """Resampling rows that are all right says nothing."""
    Run(tmp_path, "m").mcq("VStarBench", 191, 191)
    cell = only_model(capsys, tmp_path)["benchmarks"]["VStarBench"]
    assert cell["interval_method"] == "Wilson"
    assert cell["interval"] == pytest.approx([98.03, 100], abs=0.01)


# Several runs, several judges


def test_the_newest_complete_run_is_used(tmp_path, capsys):
    Run(tmp_path, "m", "T20260101-000000").mcq("RealWorldQA", 400, 765)
    Run(tmp_path, "m", "T20260103-000000").mcq("RealWorldQA", 500, 765)
    Run(tmp_path, "m", "T20260104-000000").mcq("RealWorldQA", 15, 20)  # --limit 20
    broken = Run(tmp_path, "m", "T20260105-000000")
    broken.predictions("RealWorldQA", [asked(0)])
    cell = only_model(capsys, tmp_path)["benchmarks"]["RealWorldQA"]
    assert (cell["run"], cell["value"]) == ("T20260103-000000", pytest.approx(100 * 500 / 765))
    notes = " ".join(cell["notes"])
    assert "T20260105-000000 is newer, and was passed over: predicted, but not judged" in notes
    assert f"T20260104-000000 by {JUDGE} is newer, and was passed over: 20 rows, where the benchmark has 765" in notes
    assert "chosen from 4 runs" in notes


def test_a_short_run_is_used_only_with_a_mark(tmp_path, capsys):
    run = Run(tmp_path, "m")
    run.mcq("RealWorldQA", 15, 20)
    status = {"argv": ["run.py", "--limit", "20"], "datasets": {"RealWorldQA": {"judge_model": JUDGE}}}
    (run.folder / "status.json").write_text(json.dumps(status))
    cell = only_model(capsys, tmp_path)["benchmarks"]["RealWorldQA"]
    assert cell["value"] == 75
    assert cell["doubts"] == ["20 rows, where the benchmark has 765 (its run was given --limit)"]
    _, output, _ = call(capsys, tmp_path, "--resamples", "400")
    assert "75.00 !" in output
    assert "RealWorldQA ! 20 rows, where the benchmark has 765" in output


def test_models_with_different_numbers_of_rows(tmp_path, capsys):
    Run(tmp_path, "m").mcq("A-OKVQA", 15, 20)
    Run(tmp_path, "n").mcq("A-OKVQA", 15, 30)
    assert report(capsys, tmp_path)["warnings"] == ["A-OKVQA: models have different numbers of rows: 20 (m), 30 (n)"]


def test_judges_are_not_mixed(tmp_path, capsys):
    Run(tmp_path, "m", "T20260101-000000", judge="claude-haiku-4.5").mcq("RealWorldQA", 400, 765)
    Run(tmp_path, "m", "T20260102-000000").mcq("RealWorldQA", 500, 765)
    Run(tmp_path, "m", "T20260102-000000", judge="claude-haiku-4.5").mcq("MMStar", 700, 1500)
    model = only_model(capsys, tmp_path, "--suite", "main", "--partial")
    cell = model["benchmarks"]["RealWorldQA"]
    assert (cell["judge"], cell["run"]) == (JUDGE, "T20260102-000000")
    assert "also judged by claude-haiku-4.5; choose with --judge" in cell["notes"]
    mixed = f"mixes judges: {JUDGE} judged RealWorldQA; claude-haiku-4.5 judged MMStar"
    assert mixed in model["averages"]["perception"]["doubts"]
    _, output, _ = call(capsys, tmp_path, "--suite", "main", "--partial", "--resamples", "400")
    assert f"perception ! {mixed}" in output

    model = only_model(capsys, tmp_path, "--suite", "main", "--judge", "claude-haiku-4.5", "--partial")
    assert {cell["judge"] for cell in model["benchmarks"].values() if cell["value"]} == {"claude-haiku-4.5"}
    assert model["averages"]["perception"]["doubts"] == []
    model = only_model(capsys, tmp_path, "--suite", "main", "--judge", JUDGE)
    assert model["benchmarks"]["MMStar"]["missing"] == "judged by claude-haiku-4.5 only"


def test_short_forms_of_judges_are_the_same_judge(work, capsys):
    """VLMEvalKit names files of WeMath gpt4o-mini, and all others gpt-4o-mini."""
    model = only_model(capsys, work / STAGED, "--suite", "main", "--judge", JUDGE)
    assert model["benchmarks"]["WeMath"]["judge"] == JUDGE
    assert model["benchmarks"]["WeMath"]["files"]["score"].endswith("_WeMath_gpt4o-mini_score.csv")
    assert model["averages"]["visual_math"]["doubts"] == []


def test_a_score_file_of_another_judge_is_not_taken(tmp_path, capsys):
    """Multiple-choice score files do not name the judge: the last run writes over it."""
    Run(tmp_path, "m", judge="first").mcq("RealWorldQA", 400, 765)
    Run(tmp_path, "m", judge="second").mcq("RealWorldQA", 500, 765)
    for judge, right in (("first", 400), ("second", 500)):
        cell = only_model(capsys, tmp_path, "--judge", judge)["benchmarks"]["RealWorldQA"]
        assert cell["value"] == pytest.approx(100 * right / 765, abs=1e-5), judge
        assert cell["doubts"] == []
        assert any("of another judge" in note for note in cell["notes"]) == (judge == "first")


# What is missing


def test_an_average_over_missing_benchmarks_is_not_given(tmp_path, capsys):
    run = Run(tmp_path, STAGED)
    run.main_suite()
    for path in run.folder.glob("*_POPE*"):
        path.unlink()
    model = only_model(capsys, tmp_path, "--suite", "main")
    perception = model["averages"]["perception"]
    assert (perception["value"], perception["interval"], perception["complete"]) == (None, None, False)
    assert (perception["have"], perception["of"], perception["missing"]) == (3, 4, ["POPE"])
    assert model["averages"]["overall"]["value"] is None
    assert model["averages"]["visual_math"]["value"] is not None
    _, output, _ = call(capsys, tmp_path, "--suite", "main", "--resamples", "400")
    assert re.search(r"^POPE +F1 +missing", output, re.MULTILINE)
    assert re.search(r"^perception +3 of 4 +80\.44$", output, re.MULTILINE)
    assert "POPE: missing: not run" in output
    assert "perception: without POPE; see --partial" in output

    model = only_model(capsys, tmp_path, "--suite", "main", "--partial")
    perception = model["averages"]["perception"]
    there = [model["benchmarks"][name]["value"] for name in ("A-OKVQA", "RealWorldQA", "MMStar")]
    assert perception["value"] == pytest.approx(sum(there) / 3, abs=1e-5)
    assert (perception["complete"], perception["difference_from_published"]) == (False, None)
    _, output, _ = call(capsys, tmp_path, "--suite", "main", "--partial", "--resamples", "400")
    assert re.search(r"^perception +3 of 4 +\d\d\.\d\d ~", output, re.MULTILINE)


def test_a_suite_that_was_not_run_is_one_line(work, capsys):
    _, output, _ = call(capsys, work / STAGED, "--resamples", "400")
    assert "extended: none of its 10 benchmarks was run" in output
    assert "TextVQA_VAL" not in output


# Two models


def test_models_are_compared_row_by_row(work, capsys):
    comparison = report(capsys, work, "--suite", "main", "--compare", BASE, STAGED)["comparison"]
    cells = comparison["benchmarks"]
    assert (comparison["first"], comparison["second"]) == (BASE, STAGED)
    vista = cells["MathVista_MINI"]
    assert (vista["n01"], vista["n10"], vista["test"]) == (20, 0, "McNemar exact")
    assert vista["p"] == pytest.approx(2 * 0.5**20)
    assert vista["difference"] == pytest.approx(2)
    assert vista["interval"][0] > 0
    assert (cells["WeMath"]["test"], cells["WeMath"]["unit"], cells["WeMath"]["units"]) == (
        "paired bootstrap",
        "problem",
        525,
    )
    assert (cells["POPE"]["test"], cells["POPE"]["unit"], cells["POPE"]["units"]) == ("paired bootstrap", "image", 500)
    p_values = {name: cell["p"] for name, cell in cells.items()}
    smallest = min(p_values, key=p_values.get)
    assert cells[smallest]["p_holm"] == pytest.approx(8 * p_values[smallest])
    assert all(cell["p_holm"] >= cell["p"] for cell in cells.values())
    for name in MAIN:
        average = comparison["averages"][name]
        assert 0 < average["interval"][0] < average["difference"] < average["interval"][1]
        assert average["p"] < 0.01


def test_pairing_narrows_the_interval(work, capsys):
    """The two models are right on mostly the same rows."""
    found = report(capsys, work, "--suite", "main", "--compare", BASE, STAGED)
    low, high = found["comparison"]["benchmarks"]["MathVista_MINI"]["interval"]
    alone = found["models"][STAGED]["benchmarks"]["MathVista_MINI"]["interval"]
    assert high - low < (alone[1] - alone[0]) / 2


def test_only_rows_that_both_have_are_paired(tmp_path, capsys):
    first, second = Run(tmp_path, "a"), Run(tmp_path, "b")
    rows = first.mcq("MMStar", 6, 12)
    other = [dict(row) for row in rows[3:]]
    other[0]["question"] = "another question"
    other[1]["answer"] = "A"
    other[2]["question"] = f"  {other[2]['question']}\n"  # a table may change spaces
    other[3]["index"] = "6.0"
    other += [asked(40) | verdict(True)] + 2 * [asked(11) | verdict(False)]
    second.write("MMStar", f"_{JUDGE}_result.tsv", other)
    hits = sum(int(row["hit"]) for row in other)
    second.write("MMStar", "_acc.csv", [{"split": "none", "Overall": hits / len(other)}])
    found = report(capsys, tmp_path, "--compare", "a", "b")
    cell = found["comparison"]["benchmarks"]["MMStar"]
    assert cell["left_out"] == {
        "only_first": ["0", "1", "2"],
        "only_second": ["40"],
        "refused": ["3", "4", "11"],
        "incomplete": [],
    }
    assert cell["rows"] == 6
    assert "2 rows with the index of another row" in found["models"]["b"]["benchmarks"]["MMStar"]["doubts"]
    _, output, _ = call(capsys, tmp_path, "--compare", "a", "b", "--resamples", "400")
    assert "MMStar: 3 rows only a has: 0, 1, 2" in output
    assert "MMStar: 1 row only b has: 40" in output
    assert "an index that is there twice: 3, 4, 11" in output


def test_a_problem_is_paired_whole_or_not_at_all(tmp_path, capsys):
    first, second = Run(tmp_path, "a"), Run(tmp_path, "b")
    first.wemath(200)
    second.wemath(300)
    judged = second.path("WeMath", "_gpt4o-mini.tsv")
    lines = judged.read_text().splitlines(keepends=True)
    judged.write_text("".join(lines[:1] + lines[2:]))  # the first step of the first problem
    cell = report(capsys, tmp_path, "--compare", "a", "b")["comparison"]["benchmarks"]["WeMath"]
    assert cell["units"] == 524
    assert cell["left_out"]["only_first"] == ["0"]
    assert cell["left_out"]["incomplete"] == ["1", "2"]
    assert cell["values"] == pytest.approx([100 * 199 / 524, 100 * 299 / 524], abs=1e-5)


def test_models_that_share_nothing(tmp_path, capsys):
    Run(tmp_path, "a").mcq("MMStar", 6, 12, question="x")
    Run(tmp_path, "b").mcq("MMStar", 6, 12, question="y")
    Run(tmp_path, "a").mcq("BLINK", 6, 12)
    found = report(capsys, tmp_path, "--compare", "a", "b")["comparison"]
    assert found["benchmarks"]["MMStar"]["reason"] == "they share no row"
    assert "BLINK" not in found["benchmarks"]
    assert found["averages"] == {}
    code, output, _ = call(capsys, tmp_path, "--compare", "a", "b")
    assert code == 0
    assert "MMStar: not compared: they share no row" in output


def test_judges_of_a_comparison_are_told(tmp_path, capsys):
    Run(tmp_path, "a").mcq("MMStar", 6, 12)
    Run(tmp_path, "b", judge="other").mcq("MMStar", 6, 12)
    _, output, _ = call(capsys, tmp_path, "--compare", "a", "b", "--resamples", "400")
    assert f"MMStar: judged by {JUDGE} and other" in output


# Seeds


def test_the_same_seed_gives_the_same_numbers_in_any_order_of_rows(tmp_path, capsys):
    run = Run(tmp_path, "m")
    run.mcq("MMStar", 900, 1500)
    before = only_model(capsys, tmp_path)["benchmarks"]["MMStar"]
    assert only_model(capsys, tmp_path)["benchmarks"]["MMStar"] == before
    assert only_model(capsys, tmp_path, "--seed", "7")["benchmarks"]["MMStar"]["interval"] != before["interval"]
    judged = run.path("MMStar", f"_{JUDGE}_result.tsv")
    header, *lines = judged.read_text().splitlines()
    judged.write_text("\n".join([header, *reversed(lines)]) + "\n")
    assert only_model(capsys, tmp_path)["benchmarks"]["MMStar"]["interval"] == before["interval"]


def test_another_confidence(work, capsys):
    wide, narrow = (
        only_model(capsys, work / STAGED, "--confidence", c)["averages"]["overall"]["interval"] for c in ("0.99", "0.8")
    )
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


# What is written


def test_all_forms_say_the_same(work, capsys, tmp_path):
    paths = [tmp_path / f"out{ending}" for ending in (".json", ".csv", ".md", ".tex")]
    options = [option for path in paths for option in ("--out", path)]
    code, output, _ = call(
        capsys, work, "--suite", "main", "--compare", BASE, STAGED, "--resamples", "400", *options, "--json"
    )
    assert code == 0
    as_json, as_csv, as_markdown, as_latex = (path.read_text() for path in paths)
    assert json.loads(as_json) == json.loads(output)
    records = list(csv.DictReader(as_csv.splitlines()))
    vista = next(
        r for r in records if r["name"] == "MathVista_MINI" and r["model"] == STAGED and r["kind"] == "benchmark"
    )
    assert (vista["value"], vista["judge"], vista["rows"], vista["verdicts_rule"]) == ("75.9", JUDGE, "1000", "1000")
    cell = json.loads(as_json)["models"][STAGED]["benchmarks"]["MathVista_MINI"]
    assert [float(vista["low"]), float(vista["high"])] == cell["interval"]
    kinds = {record["kind"] for record in records}
    assert kinds == {"benchmark", "average", "difference of benchmark", "difference of average"}
    low, high = cell["interval"]
    assert f"| MathVista_MINI | accuracy | 75.90 | {low:.2f} to {high:.2f} | 1,000 |" in as_markdown
    assert f"MathVista\\_MINI & accuracy & 75.90 & {low:.2f} to {high:.2f} & 1,000 &" in as_latex
    assert as_latex.count("\\begin{tabular}") == as_latex.count("\\end{tabular}") == 6
    assert "nan" not in (as_csv + as_markdown + as_latex).lower().replace("chan", "")


def test_names_are_escaped(tmp_path, capsys):
    model = "a|b_50%&{x}\x1b[31m$"
    Run(tmp_path, model).mcq("MMStar", 6, 12)
    paths = [tmp_path / "out.md", tmp_path / "out.tex"]
    code, output, _ = call(capsys, tmp_path, "--resamples", "400", "--out", paths[0], "--out", paths[1])
    assert code == 0
    assert "\x1b" not in output
    markdown, latex = (path.read_text() for path in paths)
    assert "### a\\|b_50%&{x}?\\[31m$" in markdown
    assert "\\textbf{a|b\\_50\\%\\&\\{x\\}?[31m\\$}" in latex


def test_a_file_that_cannot_be_written_is_told_first(work, capsys, tmp_path):
    for out, line in (
        ("x.docx", "the file's ending must be one of .json, .csv, .md, .tex"),
        ("no/x.md", "create it first"),
    ):
        code, output, errors = call(capsys, work, "--out", tmp_path / out)
        assert (code, output) == (2, "")
        assert line in errors


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--compare", STAGED, "nobody"], "--compare nobody: no such model in the folders; there are"),
        (["--compare", STAGED, STAGED], "name two different models"),
        (["--model", "nobody"], "--model nobody: no such model in the folders"),
        (["--resamples", "5"], "--resamples is 5; use a number from 100"),
        (["--confidence", "95"], "--confidence is 95; use a number from 0.5 to below 1"),
        (["--seed", "-1"], "--seed is -1; use 0 or more"),
        (["--suite", "big"], "invalid choice: 'big'"),
    ],
)
def test_a_wrong_command_line_is_one_line(work, capsys, arguments, line):
    try:
        code, output, errors = call(capsys, work, *arguments)
    except SystemExit as end:
        code, (output, errors) = end.code, capsys.readouterr()
    assert (code, output) == (2, "")
    assert line in errors
    assert errors.count("\n") == 1


def test_no_results_is_one_line(tmp_path, capsys):
    code, _, errors = call(capsys, tmp_path)
    assert code == 2
    assert "no files of VLMEvalKit's on " in errors
    code, _, errors = call(capsys, tmp_path / "nothing")
    assert code == 2
    assert "is no folder; name VLMEvalKit's work folder" in errors
    write_table(tmp_path / "a.tsv", [{"a": 1}])
    code, _, errors = call(capsys, tmp_path / "a.tsv")
    assert code == 2


def test_a_model_alone(work, capsys):
    assert list(report(capsys, work, "--model", BASE)["models"]) == [BASE]


def test_help_is_there(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["results", "--help"])
    assert end.value.code == 0
    assert "--compare A B" in capsys.readouterr().out


def test_paths_are_shown_below_the_folder_as_it_was_given(work, capsys, monkeypatch):
    monkeypatch.chdir(work)
    cell = only_model(capsys, STAGED)["benchmarks"]["MMStar"]
    assert cell["files"]["judged"] == os.path.join(STAGED, RUN, f"{STAGED}_MMStar_{JUDGE}_result.tsv")  # noqa: PTH118
