"""`capcurr score FILE` as a user calls it."""

import json
import sys

import pytest

from capcurr_plugin import cli
from capcurr_plugin.reward import workers

ROWS = [
    {"index": "p1", "response": "<think> a </think> \\boxed{A}", "ground_truth": "A", "capability": "perception"},
    {"index": "p2", "response": "\\boxed{(B)}", "ground_truth": "A", "capability": "perception", "source": "docci"},
    {"index": "t1", "response": "\\boxed{12 cm}", "ground_truth": ["11", "12"], "capability": "textual_reasoning"},
    {"index": "t2", "response": "no answer", "ground_truth": 12, "capability": "textual_reasoning"},
    {"index": "v1", "response": "\\boxed{2, 1}", "ground_truth": "1, 2", "capability": "visual_reasoning"},
    {"index": "v2", "response": "\\boxed{a blue door}", "ground_truth": "B", "options": ["a red door", "a blue door"]},
]


@pytest.fixture
def file(tmp_path):
    def write(*rows, name="responses.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def score(capsys, *arguments):
    code = cli.main(["score", *map(str, arguments)])
    output, errors = capsys.readouterr()
    return code, output, errors


def summary(capsys, *arguments):
    code, output, errors = score(capsys, *arguments, "--json")
    assert code == 0, errors
    return json.loads(output)


def test_a_file_is_scored_by_capability_and_source(file, capsys):
    report = summary(capsys, file(*ROWS))
    assert report["total"] == {"answers": 6, "accuracy": 0.666667, "format": 0.166667, "score": 0.616667}
    capabilities = report["by"]["capability"]
    assert {name: (means["answers"], means["accuracy"]) for name, means in capabilities.items()} == {
        "(none)": (1, 1.0),
        "perception": (2, 0.5),
        "textual_reasoning": (2, 0.5),
        "visual_reasoning": (1, 1.0),
    }
    assert report["by"]["source"]["docci"]["accuracy"] == 0
    tiers = {tier: numbers["answers"] for tier, numbers in report["tiers"].items()}
    assert tiers == {"exact": 1, "choice": 2, "value": 2, "none": 1}
    assert sum(numbers["right"] for numbers in report["tiers"].values()) == 4
    assert all(0 < numbers["median_seconds"] <= numbers["max_seconds"] < 1 for numbers in report["tiers"].values())
    assert (report["without_answer"], report["timed_out"], report["bad_rows"]) == (1, 0, 0)


def test_the_table_shows_the_same(file, capsys):
    code, output, _ = score(capsys, file(*ROWS))
    lines = [line.split() for line in output.splitlines()]
    assert code == 0
    assert ["capability", "perception", "2", "50.0%", "50.0%", "0.500"] in lines
    assert ["all", "6", "66.7%", "16.7%", "0.617"] in lines
    assert "1 without an answer, 0 timed out" in output


def test_every_answer_is_written_with_its_score(file, capsys, tmp_path):
    out = tmp_path / "scored.jsonl"
    summary(capsys, file(*ROWS), "--out", out)
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["index"] for row in scored] == [row["index"] for row in ROWS]
    assert [row["accuracy"] for row in scored] == [1, 0, 1, 0, 1, 1]
    assert scored[2]["answer"] == "12 cm"
    assert scored[2]["tier"] == "value"
    assert scored[2]["ground_truth"] == ["11", "12"]


def test_disagreements_with_another_grader_stand_side_by_side(file, capsys, tmp_path):
    out = tmp_path / "scored.jsonl"
    report = summary(capsys, file(*ROWS), "--against", "mathruler", "--out", out)["against"]
    assert report["grader"] == "mathruler"
    assert {one["index"] for one in report["shown"]} == {"v1", "v2"}
    assert report["disagreements"] == 2
    assert report["agreement"] == pytest.approx(4 / 6, abs=1e-6)
    code, output, _ = score(capsys, file(*ROWS), "--against", "mathruler")
    (line,) = [line for line in output.splitlines() if line.startswith("v1")]
    assert code == 0
    assert line.split() == ["v1", "1,", "2", "2,", "1", "right", "(value)", "wrong"]
    assert [json.loads(line)["other_accuracy"] for line in out.read_text().splitlines()][:2] == [True, False]


def test_math_verify_is_asked_too(file, capsys):
    report = summary(capsys, file(*ROWS), "--against", "math-verify")["against"]
    assert report["grader"] == "math-verify"
    assert "v2" in {one["index"] for one in report["shown"]}


def test_a_slow_answer_is_told(file, capsys, monkeypatch):
    monkeypatch.setattr(workers, "SECONDS", 2.0)
    slow = {"index": "slow", "response": "\\boxed{(x+y+z)^{300}}", "ground_truth": "7"}
    report = summary(capsys, file(ROWS[0], slow), "--against", "math-verify")
    assert report["against"]["timed_out"] == 1


@pytest.mark.parametrize(
    "row",
    [
        {"output": "\\boxed{7}", "gts": "7", "input": "q", "score": 0.9, "step": 1},  # verl's dumps
        {"index": "1", "problem": "q", "answer": "7", "images": [], "source": "s", "predictions": ["\\boxed{7}"]},
        {"prediction": "\\boxed{7}", "answer": "7"},
        {"solution_str": "\\boxed{7}", "ground_truth": 7},
    ],
)
def test_files_of_many_writers_are_read(file, capsys, row):
    assert summary(capsys, file(row))["total"]["accuracy"] == 1


def test_columns_can_be_named(file, capsys):
    row = {"text": "7", "gold": "7", "response": "8", "answer": "9"}
    assert summary(capsys, file(row), "--response", "text", "--truth", "gold", "--bare")["total"]["accuracy"] == 1


def test_several_responses_of_a_row_count_each(file, capsys):
    row = {"responses": ["\\boxed{7}", "\\boxed{8}", None], "ground_truth": "7"}
    report = summary(capsys, file(row))
    assert report["total"]["answers"] == 3
    assert report["total"]["accuracy"] == pytest.approx(1 / 3, abs=1e-6)
    assert report["without_answer"] == 2 - 1


def test_the_format_weight_is_a_setting(file, capsys):
    assert summary(capsys, file(ROWS[1]), "--format-weight", "0.5")["total"]["score"] == 0
    assert summary(capsys, file(ROWS[4]), "--format-weight", "0.5")["total"]["score"] == 0.5


def test_parquet_is_read(file, capsys, tmp_path):
    rows = file(*ROWS[:2])
    table = tmp_path / "responses.parquet"
    summary(capsys, rows, "--out", table)
    assert summary(capsys, table, "--response", "answer", "--bare")["total"]["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"ground_truth": "7"}, "no column holds the response (response, responses, output"),
        (
            {"response": "7"},
            "no column holds the ground truth (ground_truth, gts, answer, solution); name it with --tr",
        ),
        ({"response": 7, "ground_truth": "7"}, "the response is neither a text nor a list of texts"),
        ({"response": [["7"]], "ground_truth": "7"}, "the response is neither a text nor a list of texts"),
        ({"response": "7", "ground_truth": None}, "the ground truth is neither a text nor a number nor a list"),
        ({"response": "7", "ground_truth": []}, "the ground truth is neither a text nor a number nor a list"),
        ({"response": "7", "ground_truth": True}, "the ground truth is neither a text nor a number nor a list"),
        ({"response": "7", "ground_truth": " "}, "the ground truth is empty"),
        ({"response": "7", "ground_truth": "7", "options": "A"}, "column 'options' is neither a list of texts nor"),
    ],
)
def test_a_bad_row_is_one_clear_line(file, capsys, row, reason):
    path = file(ROWS[0], row)
    code, output, errors = score(capsys, path)
    assert (code, output) == (2, "")
    assert errors.startswith(f"capcurr: error: {path}, line 2: {reason}")
    assert errors.count("\n") == 1


def test_bad_rows_can_be_skipped_and_are_kept(file, capsys, tmp_path):
    path = file(ROWS[0], {"response": "7"}, ROWS[2])
    report = summary(capsys, path, "--on-bad-row", "skip")
    assert report["total"]["answers"] == 2
    assert report["bad_rows"] == 1
    (bad,) = (tmp_path / "responses.jsonl.bad.jsonl").read_text().splitlines()
    assert json.loads(bad)["line"] == 2
    code, _, errors = score(capsys, file({"response": "7"}), "--on-bad-row", "skip")
    assert code == 2
    assert "all 1 rows are bad" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jsonl"], "missing.jsonl: no such file"),
        (["responses.csv"], "responses.csv: the name must end in .jsonl"),
        (["responses.jsonl", "--format-weight", "2"], "--format-weight is 2; it must lie between 0 and 1"),
        (["responses.jsonl", "--format-weight", "nan"], "--format-weight is nan; it must lie between 0 and 1"),
        (["responses.jsonl", "--out", "responses.jsonl"], "responses.jsonl: is the input too; give another name"),
        (["missing.jsonl", "--out", "responses.jsonl"], "missing.jsonl: no such file"),
        (["s.jsonl.bad.jsonl", "--out", "s.jsonl"], "s.jsonl.bad.jsonl: is the input, but bad rows would be written"),
        (["responses.jsonl", "--out", "scored.txt"], "scored.txt: the name must end in"),
        (["responses.jsonl", "--response", "text"], "line 1: column 'text' is missing; name it with --response"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(file, capsys, monkeypatch, tmp_path, arguments, message):
    file(ROWS[0])
    file(ROWS[0], name="s.jsonl.bad.jsonl")
    monkeypatch.chdir(tmp_path)
    code, output, errors = score(capsys, *arguments)
    assert (code, output) == (2, "")
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "scored.txt").exists()


def test_a_grader_that_is_not_installed_is_named(file, capsys, monkeypatch):
    monkeypatch.setattr(workers, "available", lambda grader: False)
    code, _, errors = score(capsys, file(ROWS[0]), "--against", "mathruler")
    assert code == 2
    assert "--against mathruler: not installed; pip install mathruler pylatexenc" in errors


def test_an_earlier_output_stays_when_the_input_is_bad(file, capsys, tmp_path):
    out = tmp_path / "scored.jsonl"
    out.write_text("kept\n")
    assert score(capsys, file(ROWS[0], {"response": "7"}), "--out", out)[0] == 2
    assert out.read_text() == "kept\n"


def test_control_characters_of_an_answer_do_not_reach_the_terminal(file, capsys):
    row = {"index": "\x1b[2J", "response": "\\boxed{\x1b[31m9}", "ground_truth": "\x07B"}
    _, output, _ = score(capsys, file(row), "--against", "mathruler")
    assert "\x1b" not in output
    assert "\x07" not in output


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory as Linux counts it")
def test_a_large_file_is_a_stream(file, tmp_path):
    import subprocess

    path = tmp_path / "large.jsonl"
    with path.open("w") as out:
        for number in range(30_000):
            response = "<think> " + "look " * 400 + f"</think> \\boxed{{{number}}}"
            out.write(json.dumps({"index": str(number), "response": response, "ground_truth": str(number)}) + "\n")
    program = (
        "import re, sys; from capcurr_plugin import cli; code = cli.main(sys.argv[1:]);"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "score", str(path), "--json"], capture_output=True, text=True, check=True
    )
    report, peak = done.stdout.splitlines()
    assert json.loads(report)["total"] == {"answers": 30_000, "accuracy": 1.0, "format": 1.0, "score": 1.0}
    assert int(peak) < 100 * 1024  # KiB; the file has 60 MB
