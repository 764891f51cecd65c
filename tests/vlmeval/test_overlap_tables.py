"""`capcurr data overlap` reads from a table what VLMEvalKit reads."""

import base64
import csv
import json

import pandas as pd
import pytest
from toy_suites import BENCHMARKS, picture, write_tables

from capcurr_plugin.cli import main
from capcurr_plugin.data.benchmark_tables import read_questions
from capcurr_plugin.evaluation.suites import load_suites
from capcurr_plugin.row_files import BadRows


def shared_and_listed(path):
    """A table whose images are their own, another row's, and lists."""
    several = str([picture(3), picture(4)])
    rows = [
        {"index": 0, "image": picture(1), "question": 'a "quoted" question\nof two lines', "answer": "1"},
        {"index": 1, "image": "0", "question": "tabs\tand 'quotes'", "answer": "2"},
        {"index": 2, "image": several, "question": "two images", "answer": "3"},
        {"index": 3, "image": "2", "question": "the same two", "answer": "4"},
        {"index": 4, "image": "0", "question": "and again", "answer": "5"},
    ]
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_table_holds_the_same_for_both(tmp_path, monkeypatch, quoting):
    from vlmeval.dataset.image_vqa import CustomVQADataset

    monkeypatch.setenv("LMUData", str(tmp_path))
    path = tmp_path / "Shared.tsv"
    shared_and_listed(path)
    pd.read_csv(path, sep="\t").to_csv(path, sep="\t", index=False, quoting=quoting)
    data = CustomVQADataset("Shared").data
    expected = {
        str(index): (question, [base64.b64decode(one) for one in ([image] if isinstance(image, str) else image)])
        for index, question, image in zip(data["index"], data["question"], data["image"], strict=True)
    }
    with BadRows("fail", path) as bad:
        found = list(read_questions(path, bad, lambda share: None))
    own = {one.index: [content for content, _ in one.images] for one in found if one.same_images_as is None}
    read = {one.index: (one.texts[0], own[one.same_images_as or one.index]) for one in found}
    assert read == expected


def test_every_benchmark_of_the_suites_is_found(tmp_path, monkeypatch, capsys):
    """Each table of the toy suites, by the image of its first question."""
    monkeypatch.setenv("LMUData", str(tmp_path))
    monkeypatch.setenv("CAPCURR_CACHE", str(tmp_path / "cache"))
    write_tables(tmp_path)
    (tmp_path / "a.png").write_bytes(base64.b64decode(picture(0)))
    row = {"index": "r", "problem": "<image>?", "answer": "x", "images": ["a.png"], "source": "s"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert main(["data", "overlap", str(tmp_path / "rows.jsonl"), "--suite", "all", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["benchmarks"]
    assert sorted(found) == sorted(load_suites().chosen(["all"])) == sorted(BENCHMARKS)
    assert {name for name, counts in found.items() if counts["exact-image"]} == set(BENCHMARKS)
    assert all(counts["questions"] == len(BENCHMARKS[name][0]()) for name, counts in found.items())
