"""`capcurr data synthesize`: from captions to multiple-choice rows, whatever the model makes of them."""

import json
import random
import re
import time
from collections import Counter

import local_servers as servers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from killing import kill_often

from capcurr_plugin.cli import main
from capcurr_plugin.data.drafts import Draft, Rejected, lettered, prompt_for, read_draft
from capcurr_plugin.data.split import part_of
from capcurr_plugin.row_files import BadRows, RowReader

GOOD = {
    "question": "What is left of the door?",
    "options": ["a bench", "a bin", "a bike", "a bush"],
    "answer": "a bike",
}


def write_captions(folder, count=20):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(folder / "1.jpg")
    lines = [
        {
            "example_id": f"e{n}",
            "description": f"Picture {n}: a door {{and}} ```a bike``` 自転車.",
            "image_file": "1.jpg",
        }
        for n in range(count)
    ]
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "captions.jsonl"


def answering(draft):
    return servers.chat_completion(draft if isinstance(draft, str) else json.dumps(draft))


def probed(body):
    return servers.asked_text(body) == "Hi"


def synthesize(captions, out, url, *words, code=0):
    assert main(["data", "synthesize", str(captions), str(out), "--api-base", url, *map(str, words)]) == code


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_caption_becomes_a_row_that_the_other_commands_read(tmp_path, capsys):
    captions, out = write_captions(tmp_path), tmp_path / "rows.jsonl"
    with servers.serving(lambda body: answering(GOOD)) as server:
        synthesize(captions, out, server.url)
        synthesize(captions, out, server.url)  # asks nothing
    rows = read(out)
    assert len(server.requests) == 1 + 20
    for n, row in enumerate(rows):
        options = {letter: row[f"option_{letter}"] for letter in "ABCD"}
        assert sorted(options.values()) == sorted(GOOD["options"])
        assert options[row["answer"]] == "a bike"
        lines = "".join(f"{letter}: {text}\n" for letter, text in options.items())
        assert (
            row["problem"]
            == f"<image>What is left of the door?\n{lines}Answer with the letter of the right option only."
        )
        assert (row["index"], row["example_id"], row["images"]) == (f"e{n}", f"e{n}", ["1.jpg"])
        assert (row["capability"], row["generator"]) == ("perception", "served/model")
        assert row["caption"] == f"Picture {n}: a door {{and}} ```a bike``` 自転車."
    assert len({row["answer"] for row in rows}) > 2
    assert {row["split"] for row in rows} <= {"train", "val", "test"}
    assert {row["about"] for row in rows} == {"spatial", "detail"}
    with BadRows("fail", tmp_path / "x.jsonl") as bad:
        assert len(list(RowReader(out, bad))) == 20
    sent = server.requests[1]
    assert (sent["temperature"], sent["max_tokens"]) == (0, 512)
    assert sent["response_format"]["json_schema"]["schema"]["required"] == ["question", "options", "answer"]
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["rejected"] == {}


def test_a_server_without_schemas_is_asked_without_one(tmp_path):
    captions, out = write_captions(tmp_path, 5), tmp_path / "rows.jsonl"

    def no_schema(number, body):
        return servers.http_error(400) if "response_format" in body else None

    with servers.serving(lambda body: answering(f"Sure:\n```json\n{json.dumps(GOOD)}\n```"), no_schema) as server:
        synthesize(captions, out, server.url)
    assert len(read(out)) == 5
    assert ["response_format" in body for body in server.requests] == [True] + [False] * 5


def test_rejected_drafts_are_asked_again_warmer_and_counted_by_reason(tmp_path, capsys):
    captions, out = write_captions(tmp_path, 30), tmp_path / "rows.jsonl"
    bad = [
        "no idea",
        GOOD | {"answer": "a cat"},
        GOOD | {"options": ["a bench", "A bench.", "a bike", "a bush"]},
        GOOD | {"question": "What does the description say?"},
    ]

    def moody(body):
        if probed(body):
            return answering("Hello")
        number = int(re.search(r"Picture (\d+)", servers.asked_text(body))[1])
        if number % 3 == 0:  # never good
            return answering(bad[number % 4])
        return answering(GOOD if body["temperature"] > 0 or number % 3 == 1 else bad[number % 4])

    with servers.serving(moody) as server:
        synthesize(captions, out, server.url, "--retries", 2)
        asked = len(server.requests)
        synthesize(captions, out, server.url, "--retries", 2)
        assert len(server.requests) == asked
    assert [row["index"] for row in read(out)] == [f"e{n}" for n in range(30) if n % 3]
    warm = Counter(body["temperature"] for body in server.requests[1:])
    assert warm == {0: 30, 0.7: 10 + 10 + 10}
    rejected = json.loads(capsys.readouterr().err.splitlines()[-1])["rejected"]
    assert sum(rejected.values()) == 10
    assert set(rejected) == {
        "no JSON object",
        "answer not among the options",
        "options not distinct",
        "question speaks of a text",
    }
    assert Counter(line["reason"] for line in read(tmp_path / "rows.jsonl.rejected.jsonl")) == rejected


def test_when_no_draft_will_do_there_is_no_file(tmp_path, capsys):
    captions, out = write_captions(tmp_path, 3), tmp_path / "rows.jsonl"
    with servers.serving(lambda body: answering("no")) as server:
        synthesize(captions, out, server.url, "--retries", 0, code=1)
    assert "rows.jsonl: no draft will do, so it is not written (no JSON object: 3)" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_file(tmp_path):
    captions = write_captions(tmp_path, 60)

    def slow(body):
        time.sleep(0.01)
        dice = random.Random(f"{body['temperature']} {body['messages']}")
        return answering(GOOD if dice.random() < 0.6 else "no")

    with servers.serving(slow) as server:
        synthesize(captions, tmp_path / "whole.jsonl", server.url)
        out, journal = tmp_path / "killed.jsonl", tmp_path / "killed.jsonl.answers.jsonl"
        words = ["data", "synthesize", captions, out, "--api-base", server.url, "--parallel", 2]
        kill_often(words, [journal])
        synthesize(captions, out, server.url)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    kept = Counter(
        (r["key"], r["at"]) for r in map(json.loads, filter(None, journal.read_text().splitlines())) if "key" in r
    )
    assert set(kept.values()) == {1}


def test_letters_are_dealt_evenly():
    draft = Draft("q", ("a", "b", "c", "d"), 2)
    answers = Counter(lettered(draft, f"e{n}", 42)[1] for n in range(4000))
    assert all(900 < answers[letter] < 1100 for letter in "ABCD")
    assert lettered(draft, "e1", 42) == lettered(draft, "e1", 42)
    assert any(lettered(draft, f"e{n}", 42) != lettered(draft, f"e{n}", 43) for n in range(10))


def test_examples_are_split_by_their_id():
    parts = Counter(part_of(f"e{n}") for n in range(10_000))
    assert parts.keys() == {"train", "val", "test"}
    assert all(abs(parts[part] / 100 - share) < 1 for part, share in {"train": 85, "val": 5, "test": 10}.items())
    assert [part_of(name) for name in ("e0", "e6", "e29")] == ["train", "test", "val"]  # on every machine


# Drafts

LONG = "a bike with a red frame and two large baskets on it"


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ("{" * 100_000, "no JSON object"),
        ('{"question": ' + "[" * 100_000, "no JSON object"),
        (GOOD | {"question": ""}, "no question"),
        (GOOD | {"question": 7}, "no question"),
        (GOOD | {"question": "x" * 2000}, "unusable question"),
        (GOOD | {"question": "<image> which?"}, "unusable question"),
        (GOOD | {"question": "which\u202e?"}, "unusable question"),
        (GOOD | {"options": ["a", "b", "c"]}, "not four options"),
        (GOOD | {"options": "abcd"}, "not four options"),
        (GOOD | {"options": ["a", "b", "c", None]}, "no option"),
        (GOOD | {"options": ["a bench", "a bin", "A BIKE ", "a bike"]}, "options not distinct"),
        (GOOD | {"answer": "E"}, "answer not among the options"),
        (GOOD | {"answer": ["a bike"]}, "answer not among the options"),
        (GOOD | {"options": ["a bench", "a bin", LONG, "a bush"], "answer": LONG}, "answer stands out by its length"),
        (GOOD | {"options": [LONG, LONG + " x", "a bike", LONG + " y"]}, "answer stands out by its length"),
        (GOOD | {"question": "Where is a bike?"}, "question holds the answer"),
        (GOOD | {"question": "According to the caption, what is there?"}, "question speaks of a text"),
    ],
)
def test_what_is_rejected(response, reason):
    with pytest.raises(Rejected) as rejected:
        read_draft(response if isinstance(response, str) else json.dumps(response))
    assert str(rejected.value) == reason


@pytest.mark.parametrize(
    "response",
    [
        json.dumps(GOOD),
        f"```json\n{json.dumps(GOOD, indent=2)}\n```",
        f"<think>{{or so?}} {{}}</think>Here: {json.dumps(GOOD)} I hope it helps {{}}.",
        json.dumps(GOOD | {"answer": "C"}),
        json.dumps(GOOD | {"answer": "C) a bike"}),
        json.dumps(GOOD | {"answer": "A bike."}),
        json.dumps(GOOD | {"options": ["A. a bench", "B. a bin", "C. a bike", "D. a bush"]}),
        json.dumps(GOOD | {"options": dict(zip("ABCD", GOOD["options"], strict=True))}),
        json.dumps({"question": GOOD["question"], "answer": "C", **dict(zip("ABCD", GOOD["options"], strict=True))}),
    ],
)
def test_a_good_draft_is_read_in_any_wrapping(response):
    assert read_draft(response) == Draft(GOOD["question"], tuple(GOOD["options"]), 2)


@given(
    st.text(max_size=300)
    | st.recursive(
        st.text() | st.integers() | st.none(),
        lambda v: st.lists(v) | st.dictionaries(st.sampled_from(["question", "options", "answer", "A", "B"]), v),
    ).map(json.dumps)
)
def test_any_response_is_read_or_rejected(response):
    try:
        draft = read_draft(response)
    except Rejected:
        return
    assert len(set(draft.options)) == 4


def test_captions_stand_in_the_prompt_as_they_are():
    text = "a {caption} {target} \\n {0} %s"
    assert text in prompt_for(text, "spatial")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"description": "x" * 1_000_000}, "the caption has 1,000,000 characters, over the 20,000 taken"),
        ({"description": ""}, "field description should be a text that is not empty"),
        ({"image_file": "../1.jpg"}, "leaves the image root"),
        ({"image_file": "2.jpg"}, "image '2.jpg' does not exist"),
        ({"example_id": "e0"}, "id 'e0' was already used"),
        ({"example_id": "x" * 1000}, "its id is empty or over 512 characters"),
    ],
)
def test_a_bad_caption_is_named_before_the_model_is_asked(tmp_path, capsys, change, told):
    captions = write_captions(tmp_path, 3)
    with captions.open("a") as file:
        file.write(json.dumps({"example_id": "e9", "description": "a door", "image_file": "1.jpg", **change}) + "\n")
    with servers.serving(lambda body: answering(GOOD)) as server:
        synthesize(captions, tmp_path / "rows.jsonl", server.url, code=2)
        assert not server.requests
        said = capsys.readouterr().err
        assert "captions.jsonl, line 4: " in said
        assert told in said
        synthesize(captions, tmp_path / "rows.jsonl", server.url, "--on-bad-row", "skip")
    assert len(read(tmp_path / "rows.jsonl")) == 3
