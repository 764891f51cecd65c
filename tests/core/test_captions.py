"""`capcurr data captions`: captions as supervised training data."""

import json

import pyarrow.parquet as pq
import pytest

from capcurr_plugin import cli

DOCCI = {"example_id": "d1", "description": "A red door.", "image_file": "d1.png", "split": "train"}


@pytest.fixture
def folder(tmp_path):
    for name in ("d1.png", "d2.png"):
        (tmp_path / name).write_bytes(b"png")
    return tmp_path


def write(folder, *records, name="captions.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def convert(*words):
    return cli.main(["data", "captions", *map(str, words)])


def test_verls_form(folder, capsys):
    source = write(folder, DOCCI, DOCCI | {"example_id": "d2", "description": "Ein Tor.", "image_file": "d2.png"})
    assert convert(source, folder / "out.parquet", "--request", "Say all.") == 0
    first, second = pq.read_table(folder / "out.parquet").to_pylist()
    assert first == {
        "id": "d1",
        "messages": [
            {"role": "user", "content": "<image>Say all."},
            {"role": "assistant", "content": "A red door."},
        ],
        "images": [{"image": str(folder / "d1.png")}],
    }
    assert second["messages"][1]["content"] == "Ein Tor."
    assert json.loads(capsys.readouterr().err)["conversations"] == 2


def test_llama_factorys_form_and_its_entry_beside_others(folder):
    (folder / "dataset_info.json").write_text('{"other": {"file_name": "other.json"}}')
    assert convert(write(folder, DOCCI), folder / "docci_captions.jsonl") == 0
    (row,) = [json.loads(line) for line in (folder / "docci_captions.jsonl").read_text().splitlines()]
    assert row["images"] == [str(folder / "d1.png")]
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
    entries = json.loads((folder / "dataset_info.json").read_text())
    assert entries["other"] == {"file_name": "other.json"}
    entry = entries["docci_captions"]
    assert entry["file_name"] == "docci_captions.jsonl"
    assert entry["formatting"] == "sharegpt"
    assert set(entry["columns"].values()) <= set(row)
    assert {entry["tags"]["role_tag"], entry["tags"]["content_tag"]} == set(row["messages"][0])
    assert row["messages"][0]["role"] == entry["tags"]["user_tag"]


def test_other_fields_by_their_names(folder):
    source = write(folder, {"text": "A cat.", "file": "d1.png"})
    assert convert(source, folder / "out.jsonl", "--caption-field", "text", "--image-field", "file") == 0


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"image_file": "d1.png"}, "field description or caption is missing; name the field of the caption with --cap"),
        (DOCCI | {"description": " "}, "field description should be a text that is not empty"),
        (DOCCI | {"description": 3}, "field description should be a text"),
        (DOCCI | {"description": "an <image>"}, "holds a mark such as <image>"),
        (DOCCI | {"image_file": "none.png"}, "image 'none.png' does not exist under"),
        (DOCCI | {"image_file": "../secret.png"}, "../secret.png"),
    ],
)
def test_a_bad_caption_is_one_clear_line_or_set_aside(folder, capsys, record, message):
    source = write(folder, DOCCI, record)
    assert convert(source, folder / "out.jsonl") == 2
    error = capsys.readouterr().err
    assert "captions.jsonl, line 2: " in error
    assert message in error
    assert not (folder / "out.jsonl").exists()
    assert convert(source, folder / "out.jsonl", "--on-bad-row", "skip") == 0
    assert len((folder / "out.jsonl.bad.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_nothing_is_written_when_every_caption_is_bad(folder, capsys, name):
    (folder / name).write_bytes(b"of an earlier run")
    source = write(folder, DOCCI | {"description": ""})
    assert convert(source, folder / name, "--on-bad-row", "skip") == 2
    assert "all 1 rows are bad; " in capsys.readouterr().err
    assert (folder / name).read_bytes() == b"of an earlier run"
    assert not (folder / "dataset_info.json").exists()


def test_a_list_of_data_sets_that_is_none_is_told(folder, capsys):
    (folder / "dataset_info.json").write_text("[]")
    assert convert(write(folder, DOCCI), folder / "out.jsonl") == 2
    assert "dataset_info.json: holds no JSON object" in capsys.readouterr().err
