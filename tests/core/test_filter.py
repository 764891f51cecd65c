"""`capcurr data filter`: what is kept, by what the models answer from image and caption."""

import json
import random
import re
import time

import local_servers as servers
import pytest
from killing import kill_often

from capcurr_plugin.cli import main
from capcurr_plugin.data.filter import Rule
from capcurr_plugin.data.mcq import letter_of, reordered
from capcurr_plugin.rows import Row, RowError

COLOURS = ["red", "green", "blue", "pink"]
NONE = "I cannot see it"
# What each of two models answers, from (image, caption), to a row whose answer is A
CASES = {
    "both wrong, both right": (("green", "red"), ("blue", "red"), True),
    "one right from the image": (("green", "red"), ("red", "red"), False),
    "one wrong from the caption": (("green", "red"), ("green", "pink"), False),
    "one unparsed from the image": (("green", "red"), (NONE, "red"), False),
    "one unparsed from the caption": (("green", "red"), ("green", NONE), False),
    "all right": (("red", "red"), ("red", "red"), False),
}


def make_rows(folder):
    from PIL import Image

    Image.new("RGB", (40, 30), "red").save(folder / "1.png")
    rows = []
    for name in CASES:
        options = dict(zip(("option_A", "option_B", "option_C", "option_D"), COLOURS, strict=True))
        lines = "\n".join(f"{letter}: {colour}" for letter, colour in zip("ABCD", COLOURS, strict=True))
        prompt = f"<image>Which colour has the door? ({name})\n{lines}\nAnswer with the letter only."
        row = {"index": name, "prompt": prompt, "image_path": ["1.png"], "answer": "A", **options}
        rows.append(row | {"example_id": name, "split": "train", "caption": f"A red door. ({name})", "note": 1})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "rows.jsonl"


def model(number, likes=None):
    """Answers as the cases say, by the letter of the option; with `likes`, always that letter."""

    def answer(body):
        content = body["messages"][-1]["content"]
        from_image = not isinstance(content, str)
        text = servers.asked_text(body)
        assert ("A red door." in text) != from_image
        case = re.findall(r"\(([^)]*)\)", text)[-1]
        said = CASES[case][number][0 if from_image else 1]
        letters = dict(re.findall(r"^([A-D]): (.*)$", text, re.MULTILINE))
        letter = next((letter for letter, option in letters.items() if option == said), said)
        return servers.chat_completion(likes or f"{letter}.")

    return answer


def filtered(rows, out, first, second, *words, code=0):
    models = ["--model", f"small={first.url}", "--model", f"large={second.url}"]
    assert main(["data", "filter", str(rows), str(out), *models, *map(str, words)]) == code


def kept(out):
    return [json.loads(line)["index"] for line in out.read_text().splitlines()]


@pytest.mark.parametrize("second_order", [(), ("--second-order",)])
def test_what_both_miss_in_the_image_and_find_in_the_caption_is_kept(tmp_path, capsys, second_order):
    rows, out = make_rows(tmp_path), tmp_path / "kept.jsonl"
    with servers.serving(model(0)) as first, servers.serving(model(1)) as second:
        filtered(rows, out, first, second, *second_order)
        asked = len(first.requests)
        assert asked == len(CASES) * (4 if second_order else 2)
        filtered(rows, out, first, second, *second_order)
        assert len(first.requests) == asked  # a second run asks nothing
    assert kept(out) == [name for name, case in CASES.items() if case[2]]
    (row,) = map(json.loads, out.read_text().splitlines())
    source = next(
        json.loads(line) for line in rows.read_text().splitlines() if json.loads(line)["index"] == row["index"]
    )
    assert row["problem"] == source["prompt"]
    assert row["note"] == 1
    table = {record["index"]: record for record in map(json.loads, (tmp_path / "kept.jsonl.table.jsonl").open())}
    assert table["one unparsed from the image"]["models"]["large"]["image"] == [None] * (2 if second_order else 1)
    assert table["both wrong, both right"]["models"]["small"]["image"] == ["B"] * (2 if second_order else 1)
    report = json.loads((tmp_path / "kept.jsonl.report.json").read_text())
    assert report["models"]["large"]["image"] == {"right": 2, "wrong": 3, "unsettled": 0, "unparsed": 1}
    assert report["models"]["small"]["caption"] == {"right": 6, "wrong": 0, "unsettled": 0, "unparsed": 0}
    assert report["agreement"] == [{"models": ["small", "large"], "image": 3, "caption": 4}]
    said = capsys.readouterr().out
    assert "1 of 6 rows kept" in said
    assert "small and large gave the same answer: 3 from the image, 4 from the caption" in said
    sent = first.requests[0]
    assert (sent["max_tokens"], sent["temperature"]) == (8, 0)


def test_a_letter_that_a_model_likes_is_not_taken_for_an_answer(tmp_path, capsys):
    rows, out = make_rows(tmp_path), tmp_path / "kept.jsonl"
    with servers.serving(model(0, likes="A")) as first, servers.serving(model(0)) as second:
        filtered(rows, out, first, second, "--second-order", code=1)
    assert "no row is kept, so it is not written" in capsys.readouterr().err
    assert not out.exists()
    report = json.loads((tmp_path / "kept.jsonl.report.json").read_text())
    # A is right in the rows' own order only
    assert report["models"]["small"]["caption"] == {"right": 0, "wrong": 0, "unsettled": 6, "unparsed": 0}


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_files(tmp_path):
    rows = make_rows(tmp_path)
    table = [json.loads(line) for line in rows.read_text().splitlines()]
    many = [row | {"index": f"{n} {row['index']}"} for n in range(6) for row in table]
    rows.write_text("".join(json.dumps(row) + "\n" for row in many))

    def slow(number):
        def answer(body):
            time.sleep(0.01)
            return model(number)(body)

        return answer

    with servers.serving(slow(0)) as first, servers.serving(slow(1)) as second:
        filtered(rows, tmp_path / "whole.jsonl", first, second)
        out = tmp_path / "killed.jsonl"
        journals = [tmp_path / f"killed.jsonl.{name}.answers.jsonl" for name in ("small", "large")]
        models = ["--model", f"small={first.url}", "--model", f"large={second.url}", "--parallel", "2"]
        kill_often(["data", "filter", rows, out, *models], journals)
        filtered(rows, out, first, second)
    for name in ("", ".table.jsonl", ".report.json"):
        assert (tmp_path / f"killed.jsonl{name}").read_bytes() == (tmp_path / f"whole.jsonl{name}").read_bytes()
    for journal in journals:
        keys = [json.loads(line).get("key") for line in journal.read_text().splitlines() if line]
        assert len(keys) == len(set(keys)) == 1 + 2 * len(many)


def test_thresholds(tmp_path):
    rows, out = make_rows(tmp_path), tmp_path / "kept.jsonl"
    with servers.serving(model(0)) as first, servers.serving(model(1)) as second:
        filtered(rows, out, first, second, "--wrong-from-image", 1, "--right-from-caption", 1)
    # What one answer from the image leaves open is dropped all the same
    assert kept(out) == [name for name in CASES if name not in ("one unparsed from the image", "all right")]


def test_the_rule_is_its_definition_on_ten_thousand_tables():
    dice = random.Random(0)
    for _ in range(10_000):
        models, orders = dice.randint(1, 4), dice.randint(1, 2)
        answer, letters = dice.choice("ABCD"), ["A", "B", "C", "D", None]
        weights = [1 + 4 * (letter == answer) * (dice.random() < 0.5) for letter in letters]

        def table(letters=letters, weights=weights, models=models, orders=orders):
            return [dice.choices(letters, weights, k=orders) for _ in range(models)]

        images, captions = table(), table()
        wrong, right = dice.randint(1, models), dice.randint(1, models)
        expected = True
        if any(None in answers for answers in images):
            expected = False
        if len([1 for answers in images if all(a != answer for a in answers)]) < wrong:
            expected = False
        if len([1 for answers in captions if all(a == answer for a in answers)]) < right:
            expected = False
        seen = [{"image": image, "caption": caption} for image, caption in zip(images, captions, strict=True)]
        assert Rule(wrong, right).keeps(answer, seen) is expected


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("B: green", "B"),
        ("green", "B"),
        ("The answer is B", "B"),
        ("\\boxed{B}", "B"),
        ("<think> A? </think> B", "B"),
        ("B\n\nThe door is", "B"),
        ("A green", "B"),
        ("B or C", None),
        ("A red and green", None),
        ("", None),
        (NONE, None),
    ],
)
def test_the_letter_of_an_answer(said, letter):
    assert letter_of(said, dict(zip("ABCD", COLOURS, strict=True))) == letter


def test_the_second_order_moves_every_option_and_the_answer_with_it():
    options = {f"option_{letter}": colour for letter, colour in zip("ABCD", COLOURS, strict=True)}
    lines = "A: red\nB: green\nC: blue\nD: pink"
    row = Row("1", f"<image>Which?\n{lines}\nLetter?", "B", ["1.png"], "s", extra=options)
    moved = reordered(row, 2)
    assert moved.problem == "<image>Which?\nA: blue\nB: pink\nC: red\nD: green\nLetter?"
    assert (moved.answer, moved.options) == ("D", ["blue", "pink", "red", "green"])
    assert reordered(moved, 2).problem == row.problem
    with pytest.raises(RowError, match="do not stand as lines"):
        reordered(Row("1", "<image>Which? A) red B) green", "B", ["1.png"], "s", extra=options), 2)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model", "x"], "--model x: write NAME=URL"),
        (["--model", "../x=http://h"], "--model ../x=http://h: write NAME=URL"),
        (["--model", "small=http://h"], "the name small is given twice"),
        (["--wrong-from-image", "3"], "--wrong-from-image is 3, but there are 2 models"),
        (["--caption-field", "text"], "rows.jsonl, line 1: column text should be the caption"),
    ],
)
def test_a_wrong_command_line_is_one_line(tmp_path, capsys, words, told):
    rows = make_rows(tmp_path)
    with servers.serving(model(0)) as first, servers.serving(model(1)) as second:
        filtered(rows, tmp_path / "kept.jsonl", first, second, *words, code=2)
        assert not first.requests
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
