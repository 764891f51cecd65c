"""The side-car: one record for each row of a prediction file, whatever happened on the way."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capcurr_plugin.evaluation.responses import (
    Replies,
    Response,
    journal_of,
    read_responses,
    reply_of,
    same_text,
    settle,
    side_car,
)


def reply(said, tokens=None, **message):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said, **message}}
    return json.dumps({"id": "1", "model": "m", "choices": [choice], "usage": {"completion_tokens": tokens}}).encode()


def answered(journal, index, answer="B", **facts):
    journal.keep(index, reply(f"<think> x </think> \\boxed{{{answer}}}", **facts), answer=answer)


def settled(predictions, rows):
    counts = settle(predictions, rows)
    records = list(read_responses(side_car(predictions)))
    assert [record.index for record in records] == [str(index) for index, _ in rows]
    assert counts.rows == len(rows)
    return counts, records


def test_ten_thousand_rows_join_one_to_one(tmp_path):
    """With retries, answers that came twice, and text that a table changes."""
    predictions = tmp_path / "M_D.tsv"
    journal = Replies(journal_of(predictions))
    said = ["B", "42", "1.50", "None", "nan", "two\nlines", "ä" * 50, "007"]
    read = ["B", 42, 1.5, float("nan"), None, "two\nlines", "ä" * 50, 7]
    for index in range(10_000):
        if index % 7 == 0:
            answered(journal, index, "an earlier try")
        answered(journal, index, said[index % 8], tokens=index)
    counts, records = settled(predictions, [(index, read[index % 8]) for index in range(10_000)])
    assert (counts.missing, counts.unparsed) == (0, 0)
    assert [record.completion_tokens for record in records] == list(range(10_000))
    assert not journal_of(predictions).exists()
    again, _ = settled(predictions, [(index, read[index % 8]) for index in range(10_000)])
    assert again == counts


def test_a_row_without_a_record_is_counted_and_keeps_its_prediction(tmp_path):
    predictions = tmp_path / "M_D.tsv"
    Replies(journal_of(predictions)).keep(1, reply(" raw text\n"), answer=None)
    counts, (first, second, third) = settled(predictions, [(1, "raw text"), (2, "B"), (1, "another")])
    assert (counts.missing, counts.unparsed) == (2, 1)
    assert (first.answer, first.response) == (None, "raw text")
    assert second == Response("2", "B")
    assert third.response is None  # a record of other words is none of this row


@pytest.mark.parametrize(
    ("said", "apart", "thinking"),
    [
        ("<think> x </think> B", None, "x"),
        ("x </think> B", None, "x"),
        ("<thinking>x</thinking> B", None, "x"),
        ("<think> x", None, None),
        ("B", None, None),
        ("B", "y", "y"),
    ],
)
def test_thinking_stands_in_a_field_of_its_own(tmp_path, said, apart, thinking):
    predictions = tmp_path / "M_D.tsv"
    Replies(journal_of(predictions)).keep(1, reply(said, reasoning_content=apart), answer="B")
    _, (record,) = settled(predictions, [(1, "B")])
    assert (record.thinking, record.response) == (thinking, said)


def test_rows_taken_over_from_an_earlier_run_bring_their_records(tmp_path):
    older, newer = (tmp_path / f"T2026112{day}-120000" / "M_D.tsv" for day in (0, 1))
    for predictions in (older, newer):
        predictions.parent.mkdir()
    answered(Replies(journal_of(older)), 1, tokens=1)
    answered(Replies(journal_of(older)), 2, tokens=2)
    settle(older, [(1, "B"), (2, "B")])
    answered(Replies(journal_of(newer)), 2, tokens=3)
    _, records = settled(newer, [(1, "B"), (2, "B")])
    assert [record.completion_tokens for record in records] == [1, 3]


def test_half_a_line_is_passed_over_and_the_next_is_whole(tmp_path):
    path = journal_of(tmp_path / "M_D.tsv")
    answered(Replies(path), 1)
    with path.open("ab") as file:
        file.write(b'{"index": "2", "predic')  # killed
    answered(Replies(path), 3)
    with path.open("ab") as file:
        file.write(b"[1]\n{}\nnull\n\xff\xfe\n" + b"[" * 100_000 + b"\n")
    answered(Replies(path), 4)
    assert [record.index for record in read_responses(path)] == ["1", "3", "4"]


def append_many(path, start, count):
    journal = Replies(path)
    for index in range(start, start + count):
        answered(journal, index, "x" * (index % 5000 + 1))


def test_several_processes_write_whole_lines(tmp_path):
    path = tmp_path / "M_D_responses.partial.jsonl"
    writers = [multiprocessing.Process(target=append_many, args=(path, n * 500, 500)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = {record.index: record.prediction for record in read_responses(path)}
    assert found == {str(n): "x" * (n % 5000 + 1) for n in range(2000)}


def test_what_was_kept_before_a_kill_is_there(tmp_path):
    path = tmp_path / "M_D_responses.partial.jsonl"
    writer = multiprocessing.Process(target=append_many, args=(path, 0, 10**9))
    writer.start()
    while not path.exists() or path.stat().st_size < 100_000:
        assert writer.is_alive()
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    indices = [int(record.index) for record in read_responses(path)]
    assert indices == list(range(len(indices)))
    assert len(indices) > 10


@given(st.text(), st.text())
def test_any_text_survives_the_file(tmp_path_factory, said, answer):
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    Replies(path).keep(1, reply_of(said), answer=answer)
    (read,) = read_responses(path)
    assert (read.response, read.answer, read.prediction) == (said.strip(), answer, answer or said.strip())


@pytest.mark.parametrize("ascii", [True, False])
def test_half_of_a_surrogate_pair_survives_the_file(tmp_path, ascii):
    predictions = tmp_path / "M_D.tsv"
    said = json.dumps({"choices": [{"message": {"content": "\ud800"}}]}, ensure_ascii=ascii)
    Replies(journal_of(predictions)).keep(1, said.encode("utf-8", "backslashreplace"), answer="\udfff\ud83d")
    _, (record,) = settled(predictions, [(1, "\udfff\ud83d")])
    assert (record.response, record.answer) == ("\ud800", "\udfff\ud83d")


def test_what_a_reply_says(tmp_path):
    said = reply(" <think>x</think> B ", tokens=7)
    Replies(tmp_path / "j.jsonl").keep(1, said, answer="B", model="asked for", prompt="system", request="r", run="p")
    (record,) = read_responses(tmp_path / "j.jsonl")
    assert record == Response(
        index="1",
        prediction="B",
        response="<think>x</think> B",
        answer="B",
        thinking="x",
        finish_reason="stop",
        completion_tokens=7,
        model="m",
        prompt="system",
        request="r",
        run="p",
    )


@pytest.mark.parametrize("usage", [None, [], "many", {}])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_replies_in_other_forms(tmp_path, usage, indent, encoding):
    said = {"choices": [{"message": {"content": "ä\n"}}], "usage": usage}
    said = json.dumps(said, indent=indent, ensure_ascii=False).encode(encoding)
    Replies(tmp_path / "j.jsonl").keep(1, said, answer=None, model="asked for")
    (record,) = read_responses(tmp_path / "j.jsonl")
    assert record == Response("1", "ä", "ä", model="asked for")


@pytest.mark.parametrize("said", [{}, {"choices": []}, {"choices": "B"}, {"choices": [{"message": None}]}])
def test_what_is_no_reply_is_passed_over(tmp_path, said):
    Replies(tmp_path / "j.jsonl").keep(1, json.dumps(said).encode(), answer=None)
    assert list(read_responses(tmp_path / "j.jsonl")) == []


def test_a_reply_that_is_not_quite_text_is_kept(tmp_path):
    said = reply("B?").replace(b"?", b"\xff")
    Replies(tmp_path / "j.jsonl").keep(1, said, answer=None)
    (record,) = read_responses(tmp_path / "j.jsonl")
    assert record.response == "B\ufffd"


def test_unknown_fields_of_a_later_version_are_no_obstacle(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text(json.dumps({"index": "1", "prediction": "B", "mood": "good"}) + "\n")
    assert list(read_responses(path)) == [replace(Response("1", "B"))]


@pytest.mark.parametrize(
    ("read", "written", "same"),
    [
        ("B", "B", True),
        ("B", "A", False),
        (42, "42", True),
        (42, "43", False),
        (1.5, "1.50", True),
        (True, "True", True),
        (float("nan"), "None", True),
        (None, "N/A", True),
        (float("nan"), "B", False),
        ("a b", "a\r\nb", True),
        ("a b", "ab", False),
        ("nan", "B", False),
    ],
)
def test_text_that_has_been_through_a_table(read, written, same):
    assert same_text(read, written) is same
