"""`capcurr data pass-rate`: K answers to each row, kept over kills, and what they say about the row."""

import base64
import io
import json
import random
import time
from collections import Counter

import local_servers as servers
import pytest
from killing import kill_often

from capcurr_plugin.cli import main


def write_rows(path, count=30, **more):
    rows = [
        {"index": f"r{n}", "problem": f"Which option, {n}? A or B", "answer": "A", "images": [], "source": "s", **more}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


SEED = ["--seed", "42"]  # the served models here answer by it


def solver(body):
    """Right in as many of a hundred answers as the question's number says, by the request's seed."""
    number = int(servers.asked_text(body).split(", ")[1].split("?")[0])
    dice = random.Random(body["seed"])
    texts = [f"<think> x </think> \\boxed{{{'A' if dice.random() < number / 100 else 'B'}}}" for _ in range(body["n"])]
    choices = [{"index": n, "finish_reason": "stop", "message": {"content": text}} for n, text in enumerate(texts)]
    return {"model": "served/model", "choices": choices, "usage": {"prompt_tokens": 5, "completion_tokens": 9}}


def measure(*words, code=0):
    assert main(["data", "pass-rate", *map(str, words), *SEED]) == code


def test_rows_get_predictions_correctness_and_a_pass_rate_with_its_interval(tmp_path, capsys):
    rows = write_rows(tmp_path / "rows.jsonl", 101, note="kept")
    with servers.serving(solver) as server:
        measure(rows, tmp_path / "out.jsonl", "--api-base", server.url, "-k", 64)
    found = read(tmp_path / "out.jsonl")
    assert [row["index"] for row in found] == [f"r{n}" for n in range(101)]
    for n, row in enumerate(found):
        assert set(row["predictions"]) <= {"A", "B"}
        assert row["correctness"] == [prediction == "A" for prediction in row["predictions"]]
        assert row["pass_rate"] == sum(row["correctness"]) / 64
        assert row["pass_rate_low"] <= row["pass_rate"] <= row["pass_rate_high"]
        assert abs(row["pass_rate"] - n / 100) < 0.3
        assert row["note"] == "kept"
    assert sum(row["pass_rate_low"] <= n / 100 <= row["pass_rate_high"] for n, row in enumerate(found)) > 85
    summary = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (summary["rows"], summary["answers"], summary["completion_tokens"]) == (101, 64 * 101, 9 * 101)
    sent = server.requests[0]
    assert (sent["n"], sent["temperature"], sent["top_p"], sent["max_tokens"]) == (64, 0.7, 0.9, 1024)
    assert sent["messages"][-1]["content"].endswith("\\boxed{final answer here}")


def test_images_stand_where_the_problem_has_them(tmp_path):
    from PIL import Image

    for name, width in (("1.png", 40), ("2.png", 400)):
        Image.new("RGB", (width, 30), "red").save(tmp_path / name)
    problem = "<image>Which option, 7? A or B<image> "
    rows = write_rows(tmp_path / "rows.jsonl", 1, problem=problem, images=["1.png", "2.png"])
    with servers.serving(solver) as server:
        measure(rows, tmp_path / "out.jsonl", "--api-base", server.url, "-k", 1, "--max-pixels", 3000)
    first, text, second, prompt = server.requests[0]["messages"][0]["content"]
    assert text == {"type": "text", "text": "Which option, 7? A or B"}
    assert prompt["text"].endswith("\\boxed{final answer here}")
    sizes = []
    for part in (first, second):
        content = base64.b64decode(part["image_url"]["url"].removeprefix("data:image/png;base64,"))
        sizes.append(Image.open(io.BytesIO(content)).size)
    assert sizes == [(40, 30), (200, 15)]


def test_a_row_whose_image_cannot_be_read_is_refused_by_name(tmp_path, capsys):
    (tmp_path / "1.png").write_bytes(b"<svg/>")
    rows = write_rows(tmp_path / "rows.jsonl", 1, problem="<image>Which?", images=["1.png"])
    with servers.serving(solver) as server:
        measure(rows, tmp_path / "out.jsonl", "--api-base", server.url, code=1)
    said = capsys.readouterr().err
    assert "1 questions were not answered (r0 " in said
    assert "image '1.png' is none of PNG, JPEG, GIF, WEBP, BMP, TIFF, but SVG, HTML or other text in tags" in said


def test_a_second_run_asks_nothing_and_a_larger_k_only_what_is_missing(tmp_path):
    rows, out = write_rows(tmp_path / "rows.jsonl"), tmp_path / "out.jsonl"
    with servers.serving(solver) as server:
        measure(rows, out, "--api-base", server.url, "-k", 4)
        first = out.read_bytes()
        measure(rows, out, "--api-base", server.url, "-k", 4)
        assert out.read_bytes() == first
        assert len(server.requests) == 30
        measure(rows, out, "--api-base", server.url, "-k", 6)
    assert [body["n"] for body in server.requests[30:]] == [2] * 30
    assert [row["predictions"][:4] for row in read(out)] == [
        json.loads(line)["predictions"] for line in first.splitlines()
    ]


def test_answers_of_another_setup_are_not_mixed_in(tmp_path, capsys):
    rows, out = write_rows(tmp_path / "rows.jsonl"), tmp_path / "out.jsonl"
    with servers.serving(solver) as server:
        measure(rows, out, "--api-base", server.url, "-k", 1)
        measure(rows, out, "--api-base", server.url, "-k", 1, "--temperature", 0.2, code=2)
        assert len(server.requests) == 30
    said = capsys.readouterr().err.splitlines()[-1]
    assert "out.jsonl.answers.jsonl: holds answers with temperature 0.7, and this run has 0.2; give the output" in said


def test_a_row_that_has_changed_is_asked_anew(tmp_path):
    rows, out = write_rows(tmp_path / "rows.jsonl"), tmp_path / "out.jsonl"
    with servers.serving(solver) as server:
        measure(rows, out, "--api-base", server.url, "-k", 1)
        rows.write_text(rows.read_text().replace("option, 7?", "option, 70?"))
        measure(rows, out, "--api-base", server.url, "-k", 1)
    assert len(server.requests) == 31


def test_bad_rows_are_told_before_the_model_is_asked(tmp_path, capsys):
    rows = write_rows(tmp_path / "rows.jsonl")
    with rows.open("a") as file:
        file.write('{"index": "x"}\n')
    with servers.serving(solver) as server:
        measure(rows, tmp_path / "out.jsonl", "--api-base", server.url, code=2)
        assert "rows.jsonl, line 31: column 'problem' is missing" in capsys.readouterr().err
        assert not server.requests
        measure(rows, tmp_path / "out.jsonl", "--api-base", server.url, "-k", 1, "--on-bad-row", "skip")
    assert len(read(tmp_path / "out.jsonl")) == 30
    assert len(read(tmp_path / "out.jsonl.bad.jsonl")) == 1


def test_what_the_server_refuses_ends_in_one_line_and_can_be_left_out(tmp_path, capsys):
    def too_long(number, body):
        return servers.http_error(400) if "option, 7?" in servers.asked_text(body) else None

    rows, out = write_rows(tmp_path / "rows.jsonl"), tmp_path / "out.jsonl"
    with servers.serving(solver, too_long) as server:
        measure(rows, out, "--api-base", server.url, "-k", 2, code=1)
        assert not out.exists()
        assert "1 questions were not answered (r7 " in capsys.readouterr().err.splitlines()[-1]
        measure(rows, out, "--api-base", server.url, "-k", 2, "--skip-refused")
    assert [row["index"] for row in read(out)] == [f"r{n}" for n in range(30) if n != 7]
    (refused,) = read(tmp_path / "out.jsonl.refused.jsonl")
    assert refused["key"].startswith("r7 ")
    assert Counter(map(servers.asked_text, server.answered)).most_common(1)[0][1] == 1


def test_rows_are_asked_until_their_interval_is_narrow_enough(tmp_path):
    rows, out = write_rows(tmp_path / "rows.jsonl", 101), tmp_path / "out.jsonl"
    with servers.serving(solver) as server:
        measure(rows, out, "--api-base", server.url, "-k", 64, "--until-width", 0.4)
        asked = len(server.requests)
        measure(rows, out, "--api-base", server.url, "-k", 64, "--until-width", 0.4)
        assert len(server.requests) == asked
    found = read(out)
    counts = [len(row["predictions"]) for row in found]
    assert all(row["pass_rate_high"] - row["pass_rate_low"] <= 0.4 for row in found)
    assert counts[0] == counts[100] == 8  # an easy case is decided soon
    assert max(counts) > 16
    assert all(count % 4 == 0 for count in counts)


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_file(tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", 60)

    def slow(body):
        time.sleep(0.01)
        return solver(body)

    with servers.serving(slow) as server:
        measure(rows, tmp_path / "whole.jsonl", "--api-base", server.url, "-k", 4)
        server.answered.clear()
        out, journal = tmp_path / "killed.jsonl", tmp_path / "killed.jsonl.answers.jsonl"
        words = [rows, out, "--api-base", server.url, "-k", 4, "--parallel", 2, *SEED]
        kill_often(["data", "pass-rate", *words], [journal])
        kept = Counter(json.loads(line).get("key") for line in journal.read_bytes().splitlines() if line.endswith(b"}"))
        assert 20 <= sum(kept.values()) < 60  # every run was killed in the middle of its work
        measure(*words[: -len(SEED)])
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    # What was on its way at a kill was asked again: at most the two requests in flight
    assert len(server.answered) <= 60 + 2 * 20
    answered_before = Counter(json.loads(line)["key"] for line in journal.read_bytes().splitlines()[1:] if line)
    assert max(answered_before.values()) == 1


def test_faulty_servers_of_every_kind_give_every_row_all_its_answers(tmp_path):
    """One fails a third of the time, one is dead, one gives fewer answers than asked, one refuses to give several."""

    def few(body):
        reply = solver(body)
        return reply | {"choices": reply["choices"][:5]}

    def one_at_a_time(number, body):
        return servers.http_error(400) if body["n"] > 1 else None

    rows, out = write_rows(tmp_path / "rows.jsonl", 101), tmp_path / "out.jsonl"
    with servers.serving(solver) as dead:
        pass
    with (
        servers.serving(solver, servers.sometimes(seed=4)) as faulty,
        servers.serving(few) as stingy,
        servers.serving(solver, one_at_a_time) as single,
    ):
        urls = [server.url for server in (dead, faulty, stingy, single)]
        measure(rows, out, "--api-base", *urls, "--timeout", 2, "--parallel", 12)
    found = read(out)
    assert [row["index"] for row in found] == [f"r{n}" for n in range(101)]
    assert {len(row["predictions"]) for row in found} == {16}
    assert all(abs(row["pass_rate"] - n / 100) < 0.6 for n, row in enumerate(found))
    assert (found[0]["pass_rate"], found[100]["pass_rate"]) == (0, 1)
    assert min(len(server.answered) for server in (faulty, stingy, single)) > 5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--until-width", "1.5"], "--until-width is 1.5; use a number between 0 and 1"),
        (["--temperature", "3"], "--temperature is 3; use a number from 0 to 2"),
        (["--top-p", "0"], "--top-p is 0; use a number above 0 and up to 1"),
        (["--min-pixels", "9", "--max-pixels", "8"], "--min-pixels 9 is over --max-pixels 8"),
        (["-k", "0"], "argument -k: 0 is not 1 or more"),
        (["--api-base", "http://127.0.0.1:9"], "no model server answers: http://127.0.0.1:9/v1: "),
        (["--api-base", "nonsense"], "'nonsense': is no server's address"),
        (["--engine", "vllm"], "--engine vllm starts a server itself: give --model and no --api-base"),
        (["--", "--seed", "1"], "--seed 1: words after -- are for --engine, which is not given"),
    ],
)
def test_a_wrong_command_line_is_one_line(tmp_path, capsys, words, told):
    rows = write_rows(tmp_path / "rows.jsonl")
    with servers.serving(solver) as server:
        command = ["data", "pass-rate", str(rows), str(tmp_path / "out.jsonl"), "--api-base", server.url, *words]
        try:
            assert main(command) == 2
        except SystemExit as end:
            assert end.code == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray-address", "auto"], "--ray-address goes with --ray"),
        (["--ray"], "--ray: Ray cannot be imported (No module named 'ray'); it comes with verl"),
    ],
)
def test_what_ray_needs_is_told(tmp_path, capsys, words, said):
    rows = write_rows(tmp_path / "rows.jsonl", 1)
    with servers.serving(solver) as server:
        measure(rows, tmp_path / "out.jsonl", "--api-base", server.url, *words, code=2)
    assert capsys.readouterr().err == f"capcurr: error: {said}\n"
