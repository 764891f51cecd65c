"""VisOnlyQA's public files as a table for VLMEvalKit."""

import base64
import csv
import json

import pytest

from capcurr_plugin.cli import main

ROW = {
    "image_path": "images/a.png",
    "question": "Which is a reasonable estimate of the angle? (a) 90 degrees (b) 135 degrees (c) 45 degrees ",
    "answer": "c",
    "image_category": "geometry",
    "task_category": "angle",
    "question_type": "single_answer",
    "response_options": ["a", "b", "c"],
    "source": "MathVista",
    "id": "x",
}
TRUE = ROW | {"question": "Is it so? True or False?", "answer": "False", "response_options": ["True", "False"]}
SEVERAL = ROW | {
    "question": "List all figures that fit.",
    "answer": "d,b",
    "response_options": ["a", "b", "c", "d"],
    "question_type": "multiple_answers",
    "task_category": "shape_multi",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"png")
    return tmp_path


def convert(folder, rows, *words):
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return main(["data", "visonlyqa", str(folder / "in.jsonl"), str(folder / "out.tsv"), *words])


def table(folder):
    with (folder / "out.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_each_kind_of_question(folder):
    assert convert(folder, [ROW, TRUE, SEVERAL]) == 0
    letters, true, several = table(folder)
    assert (letters["question"], letters["A"], letters["C"]) == (
        "Which is a reasonable estimate of the angle?",
        "90 degrees",
        "45 degrees",
    )
    assert (letters["answer"], letters["category"], letters["D"]) == ("C", "geometry__angle", "")
    assert base64.b64decode(letters["image"]) == b"png"
    assert (true["question"], true["A"], true["B"], true["answer"]) == (
        "Is it so? True or False?",
        "True",
        "False",
        "B",
    )
    assert (several["A"], several["answer"], several["question_type"]) == ("", "B,D", "multiple_answers")
    assert [row["index"] for row in (letters, true, several)] == ["0", "1", "2"]


def test_parquet_of_the_hub_and_several_files(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    embedded = ROW | {"decoded_image": {"bytes": b"jpeg", "path": "a.jpeg"}, "image_path": "nowhere.png"}
    pq.write_table(pa.Table.from_pylist([embedded]), folder / "angle.parquet")
    (folder / "in.jsonl").write_text(json.dumps(TRUE) + "\n")
    assert (
        main(["data", "visonlyqa", str(folder / "angle.parquet"), str(folder / "in.jsonl"), str(folder / "out.tsv")])
        == 0
    )
    first, second = table(folder)
    assert base64.b64decode(first["image"]) == b"jpeg"
    assert second["answer"] == "B"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"answer": "e"}, "the answer 'e' is not among the options a, b, c"),
        ({"answer": "a,b"}, "the answer 'a,b' is not among the options"),
        ({"response_options": ["a"]}, "response_options must be a list of two to eight"),
        ({"response_options": ["a", "a"]}, "response_options must be a list of two to eight different"),
        ({"question": ""}, "field 'question' must be a text"),
        ({"image_path": "../secret"}, "image"),
        ({"image_path": "images/none.png"}, "does not exist under"),
    ],
)
def test_a_bad_row_is_one_line_or_set_aside(folder, capsys, change, told):
    assert convert(folder, [ROW, ROW | change]) == 2
    assert f"{folder}/in.jsonl, line 2: " in (said := capsys.readouterr().err)
    assert told in said
    assert not (folder / "out.tsv").exists()
    assert convert(folder, [ROW, ROW | change], "--on-bad-row", "skip") == 0
    assert len(table(folder)) == 1


def test_a_table_is_a_tsv(folder, capsys):
    assert main(["data", "visonlyqa", str(folder / "in.jsonl"), str(folder / "out.csv")]) == 2
    assert "the name must end in .tsv" in capsys.readouterr().err
