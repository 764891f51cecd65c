"""`capcurr attribute`, through the real SDK at a local judge that knows the kind of every planted error."""

import json
import threading
import time
from collections import Counter

import local_servers as servers
import pytest
from planted_errors import Batches, case_of, kinds_for, oracle, plant, reply_of

from capcurr_plugin.attribution.records import images_folder, read_records, summary_path
from capcurr_plugin.cli import main


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPCURR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LMUData", str(tmp_path / "lmu"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
    (tmp_path / "lmu").mkdir()

    def attribute(answer, *options, fault=None, out="out.jsonl", batches=None):
        with servers.serving(answer, fault) as server:
            if batches:
                server.post, server.get = batches.post, batches.get
            monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
            attribute.server = server
            words = [tmp_path / "work", tmp_path / out, "--resamples", "200", *options]
            return main(["attribute", *map(str, words)])

    attribute.plant = lambda model, kinds, **more: plant(tmp_path / "work", tmp_path / "lmu", model, kinds, **more)
    attribute.out = tmp_path / "out.jsonl"
    attribute.records = lambda: list(read_records(attribute.out))
    attribute.summary = lambda: json.loads(summary_path(attribute.out).read_text())
    return attribute


def test_every_wrong_answer_is_judged_with_all_that_was_said(world):
    kinds = kinds_for(40, right=10)
    world.plant("M", kinds)
    assert world(oracle) == 0
    records = world.records()
    assert [record.kind for record in records] == kinds[10:]
    assert [record.index for record in records] == [str(i) for i in range(10, 50)]
    first = records[0]
    assert first.whole and first.final == "C" and first.truth == "B. green"
    assert first.question == "What is in picture 10?\nA. red\nB. green\nC. blue"
    assert (images_folder(world.out) / first.images[0]).read_bytes().startswith(b"\x89PNG")
    body = world.server.requests[0]
    system = body["system"][0]
    assert system["cache_control"] == {"type": "ephemeral"} and "FIRST error" in system["text"]
    shown = [part["type"] for part in body["messages"][0]["content"]]
    assert shown == ["text", "image", "text"] and body["temperature"] == 0
    assert len(world.server.requests) == 40


def test_what_both_code_bases_leave_and_what_they_lack(world, tmp_path):
    """Without a side-car the prediction is judged, and that is said; several models on the same pictures."""
    world.plant("A", ["perception", None], side_car=False)
    world.plant("B", ["reasoning", "perception"])
    with_words = tmp_path / "work" / "A" / "T20260102-030405" / "A_MMStar_gpt-4o-mini_result.tsv"
    with_words.write_text(with_words.read_text().replace('"C"\t', '"C"\t', 1))

    def answer(body):
        text = servers.asked_text(body)
        id = text.rpartition("<response id=")[2].partition(">")[0] or text
        kind = "perception" if "of kind perception" in text else "reasoning"
        return servers.claude_message(reply_of(id, kind, quote="" if "of kind" not in text else "The error is"))

    assert world(answer) == 0
    a, b, c = world.records()
    assert (a.model, a.whole, a.final, a.response) == ("A", False, None, "C")
    assert a.kind == "undecided" and a.votes[0].tries == 3 and "3 to 600 characters" in a.votes[0].why
    assert (b.model, b.kind) == ("B", "reasoning") and (c.model, c.kind) == ("B", "perception")
    assert a.images == b.images != c.images
    summary = world.summary()
    assert summary["models"]["A"]["kinds"]["undecided"]["share"] == 1.0
    (comparison,) = summary["comparisons"]
    assert comparison["new"] == {"perception": 1} and comparison["moved"] == {"undecided": {"reasoning": 1}}


def test_the_numbers_are_those_that_were_planted(world):
    kinds = kinds_for(60, right=40)
    world.plant("M", kinds)
    world.plant("M", kinds[:50], name="RealWorldQA")
    assert world(oracle, "--confidence", "0.9") == 0
    summary = world.summary()
    model = summary["models"]["M"]
    planted = Counter(kinds[40:]) + Counter(kinds[40:50])
    assert {kind: cell["count"] for kind, cell in model["kinds"].items()} == planted
    assert (model["rows"], model["wrong"]) == (150, 70)
    one = model["benchmarks"]["RealWorldQA"]
    assert (one["rows"], one["wrong"], set(one["categories"])) == (50, 10, {"colour", "count"})
    assert sum(scope["wrong"] for scope in one["categories"].values()) == 10
    assert sum(scope["rows"] for scope in one["categories"].values()) == 50
    own = model["own_errors"]
    assert own["of"] == sum(
        planted[kind] for kind in ("perception", "reasoning", "knowledge", "question_comprehension")
    )
    cell = model["kinds"]["perception"]
    for low, high in (cell["wilson"], cell["bootstrap"]):
        assert 0 < low < cell["share"] < high < 1
    lengths = model["lengths"]
    assert lengths["all"]["rows"] == 150 and lengths["right"]["rows"] + lengths["wrong"]["rows"] == 150
    assert sum(lengths["all"]["histogram"]["counts"]) == 150
    assert summary["spend"]["calls"] == 60  # 10 of RealWorldQA are asked with the same words and pictures


def test_no_more_calls_than_asked_for_are_under_way_and_no_fewer(world):
    world.plant("M", kinds_for(40))
    under_way, most, lock = 0, 0, threading.Lock()

    def answer(body):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.2)
        with lock:
            under_way -= 1
        return oracle(body)

    assert world(answer, "--parallel", "4") == 0
    assert most == 4


def test_a_second_run_pays_for_nothing(world, capsys):
    world.plant("M", kinds_for(20))
    assert world(oracle) == 0
    first = world.out.read_bytes()
    assert world(oracle) == 0
    assert world.server.requests == [] and world.out.read_bytes() == first
    assert "20 verdicts are there; nothing is left to ask" in capsys.readouterr().err
    assert world.summary()["spend"]["calls"] == 20


def test_a_dry_run_asks_nothing_and_says_what_it_would_cost(world, capsys):
    world.plant("M", kinds_for(20))
    assert world(oracle, "--dry-run", "--max-usd", "1") == 0
    told = capsys.readouterr().err
    assert "20 wrong answers; 20 calls to claude-haiku-4.5" in told and "it stops before $1" in told
    assert world.server.requests == [] and not world.out.exists()
    dear = float(told.split("about $")[1].split(",")[0])
    assert world(oracle, "--dry-run", "--batch") == 0
    assert float(capsys.readouterr().err.split("about $")[1].split(",")[0]) == pytest.approx(dear / 2, abs=0.01)


def test_the_bound_is_never_passed(world, capsys):
    world.plant("M", kinds_for(30))
    assert world(oracle, "--max-usd", "0.05", "--parallel", "4") == 1
    told = capsys.readouterr().err
    assert "over the bound of $0.05" in told and "verdicts so far are kept" in told
    paid = len(world.server.answered)
    assert 0 < paid < 30
    assert world(oracle, "--max-usd", "5") == 0
    assert len(world.server.answered) == 30 - paid


def test_votes_are_asked_apart_at_a_temperature_and_the_server_is_told_to_keep_the_question(world):
    world.plant("M", ["perception"] * 10)
    said = Counter()

    def answer(body):
        id, _, _ = case_of(body)
        said[id] += 1
        return servers.claude_message(reply_of(id, "reasoning" if said[id] == 2 else "perception"), tokens=(9, 9))

    assert world(answer, "--votes", "3", "--parallel", "1") == 0
    assert all([vote.kind for vote in r.votes] == ["perception", "reasoning", "perception"] for r in world.records())
    assert {record.kind for record in world.records()} == {"perception"}
    assert {record.agreement for record in world.records()} == {2 / 3}
    body = world.server.requests[0]
    assert body["temperature"] == 1 and body["messages"][0]["content"][-1]["cache_control"] == {"type": "ephemeral"}
    assert world.summary()["agreement"]["votes"] == 3
    assert world.summary()["agreement"]["fleiss_kappa"] == pytest.approx(-0.5)


def test_what_the_servers_cache_gave_costs_a_tenth(world):
    world.plant("M", ["perception"])

    def answer(body):
        usage = {"input_tokens": 100, "cache_read_input_tokens": 800, "cache_creation_input_tokens": 100}
        message = oracle(body)
        return {**message, "usage": {**message["usage"], **usage}}

    assert world(answer) == 0
    spend = world.summary()["spend"]
    assert (spend["input_tokens"], spend["cached_tokens"]) == (1000, 800)
    assert spend["usd"] == pytest.approx((100 + 80 + 125 + 100 * 5) / 1e6)


BAD_REPLIES = {
    "a refusal": (servers.claude_message("", stop="refusal"), "the judge refused"),
    "an empty reply": (servers.claude_message(""), "the reply was empty"),
    "no JSON": (servers.claude_message("I think it is perception."), "holds no JSON object"),
    "broken JSON": (servers.claude_message('{"id": "1", "kind": "perc'), "holds no JSON object"),
    "cut off": (servers.claude_message('{"id": "1', stop="max_tokens"), "the reply was cut off"),
}


@pytest.mark.parametrize("name", [*BAD_REPLIES, "a quote that does not occur", "another response's verdict"])
def test_what_is_no_verdict_is_asked_again_then_undecided_and_in_every_denominator(world, name):
    world.plant("M", ["perception"] * 3 + ["reasoning"])

    def answer(body):
        id, _, kind = case_of(body)
        if kind == "reasoning":
            return oracle(body)
        if name == "a quote that does not occur":
            return servers.claude_message(reply_of(id, kind, quote="what nobody said"))
        if name == "another response's verdict":
            return servers.claude_message(reply_of("0" * 16, kind))
        return BAD_REPLIES[name][0]

    assert world(answer) == 0
    records = world.records()
    assert [record.kind for record in records] == ["undecided"] * 3 + ["reasoning"]
    assert all(record.votes[0].tries == 3 for record in records[:3]) and len(world.server.requests) == 10
    if name in BAD_REPLIES:
        assert BAD_REPLIES[name][1] in records[0].votes[0].why
    third = servers.asked_text(world.server.requests[-1]) + servers.asked_text(world.server.requests[-2])
    assert "Your earlier replies to this were rejected:" in third
    model = world.summary()["models"]["M"]
    assert (model["wrong"], model["kinds"]["reasoning"]["share"], model["kinds"]["undecided"]["share"]) == (
        4,
        0.25,
        0.75,
    )
    assert model["own_errors"]["of"] == 1


def test_a_rejected_reply_is_mended_by_the_next(world):
    world.plant("M", ["knowledge"])
    replies = iter(["no idea", None])
    assert world(lambda body: servers.claude_message(said) if (said := next(replies)) else oracle(body)) == 0
    (record,) = world.records()
    assert (record.kind, record.votes[0].tries) == ("knowledge", 2)


def test_a_question_that_the_judges_server_does_not_take_is_undecided_and_many_end_the_run(world, capsys):
    world.plant("M", ["perception"] * 30)

    def refused(some):
        def fault(number, body):
            return servers.http_error(400) if some(case_of(body)[1]) else None

        return fault

    assert world(oracle, "--parallel", "1", fault=refused(lambda said: "row 7." in said or "row 19." in said)) == 0
    undecided = [record for record in world.records() if record.kind == "undecided"]
    assert [record.index for record in undecided] == ["7", "19"]
    assert all("HTTP 400" in record.votes[0].why and record.votes[0].tries == 0 for record in undecided)
    assert world(oracle, out="again.jsonl") == 0  # such a refusal is not kept
    assert len(world.server.requests) == len(undecided)
    world.plant("N", ["reasoning"] * 30)
    assert world(oracle, "--model", "N", "--parallel", "1", fault=refused(lambda said: True)) == 1
    assert "(so it went with 5 of 5 questions)" in capsys.readouterr().err


def test_a_picture_that_cannot_be_had_leaves_its_answers_undecided(world, tmp_path):
    world.plant("M", ["perception"] * 4)
    table = tmp_path / "lmu" / "MMStar.tsv"
    lines = table.read_text().splitlines()
    lines[1] = '"0"\t"bm8gaW1hZ2UgYXQgYWxsIGhlcmUsIG9ubHkgd29yZHMgdGhhdCBnbyBvbiBhbmQgb24gYW5kIG9u"\t"q0"'
    lines[2] = '"1"\t"3"\t"q1"'  # the picture of row 3
    del lines[3]
    table.write_text("\n".join(lines) + "\n")
    assert world(oracle) == 0
    bad, referring, missing, good = world.records()
    assert bad.kind == "undecided" and "is none of PNG, JPEG" in bad.votes[0].why
    assert missing.kind == "undecided" and "has no row '2'" in missing.votes[0].why
    assert referring.images == good.images and referring.kind == good.kind == "perception"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--judge", "gpt-5"], "--judge gpt-5: is none of claude-haiku-4.5"),
        (["--tables", "nowhere"], "nowhere: no MMStar.tsv, which holds the pictures"),
        (["--compare", "M", "X"], "--compare X: no such model in the folders; there are M"),
        (["--model", "X"], "--model X: no such model"),
        (["--votes", "99"], "--votes is 99; use at most 25"),
        (["--judge-accuracy", "82.5"], "82.5 is no share; write 0.825 for 82.5 %"),
        (["--max-usd", "-1"], "-1 is no sum of dollars above 0"),
        (["--batch", "--judge", "bedrock-claude-haiku-4.5"], "only Anthropic's own API takes batches"),
    ],
)
def test_a_wrong_command_line_is_one_line(world, capsys, options, told):
    world.plant("M", ["perception"])
    try:
        code = world(oracle, *options)
    except SystemExit as end:
        code = end.code
    error = capsys.readouterr().err
    assert code in (1, 2) and told in error and "Traceback" not in error


def test_two_jobs_with_one_output_do_not_meet(world, tmp_path, capsys):
    world.plant("M", ["perception"])

    def answer(body):
        if not answer.met:
            answer.met = True
            words = ["attribute", tmp_path / "work", world.out]
            assert main([str(word) for word in words]) == 2
        return oracle(body)

    answer.met = False
    assert world(answer) == 0
    assert "another capcurr attribute works on it" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == [
        "out.jsonl",
        "out_images",
        "out_summary.json",
    ]


def test_a_sample_takes_the_same_questions_of_each_model(world):
    world.plant("A", ["perception"] * 40)
    world.plant("B", ["reasoning"] * 30 + [None] * 10)
    assert world(oracle, "--sample", "15") == 0
    taken = {model: {r.index for r in world.records() if r.model == model} for model in "AB"}
    assert len(taken["A"]) == len(taken["B"]) == 15
    assert len(taken["A"] & taken["B"]) >= 10
    assert "A: 15 of its 40 wrong answers, drawn at random" in world.summary()["warnings"]


def test_any_openai_server_judges(world):
    world.plant("M", ["perception", "knowledge"])

    def answer(body):
        id, _, kind = case_of(body)
        return servers.chat_completion(reply_of(id, kind))

    with servers.serving(answer) as server:
        assert world(oracle, "--judge", "openai:Qwen--VL", "--judge-base-url", server.url) == 0
    assert [record.kind for record in world.records()] == ["perception", "knowledge"]
    content = server.requests[0]["messages"][1]["content"]
    assert server.requests[0]["messages"][0]["role"] == "system"
    assert content[1]["image_url"]["url"].startswith("data:image/png;base64,")


# In batches


def test_a_batch_comes_to_the_same_at_half_the_price(world, tmp_path):
    world.plant("M", kinds_for(30))
    batches = Batches(oracle)
    assert world(oracle, "--batch", batches=batches) == 0
    in_batches, spend = world.out.read_bytes(), world.summary()["spend"]
    assert len(batches.batches) == 1 and len(batches.batches[0]["requests"]) == 30
    assert spend["usd"] == pytest.approx(30 * (1000 + 500) / 1e6 / 2)
    assert not list(tmp_path.glob("*batches.jsonl"))
    assert world(oracle, "--batch", batches=batches) == 0
    assert len(batches.batches) == 1 and world.out.read_bytes() == in_batches


def test_what_a_batch_does_not_answer_is_sent_again_and_what_is_refused_is_undecided(world):
    world.plant("M", kinds_for(30))

    def fate(number, params):
        if number == 3:
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}}
            return {"type": "errored", "error": error}
        if number in (5, 6):
            return {"type": "expired"}
        if number == 7:
            return {"type": "errored", "error": {"type": "error", "error": {"type": "api_error", "message": "no"}}}
        if number == 8:
            return {"type": "succeeded", "message": servers.claude_message("what?")}
        return None

    batches = Batches(oracle, fate=fate)
    assert world(oracle, "--batch", batches=batches) == 0
    records = world.records()
    (undecided,) = [record for record in records if record.kind == "undecided"]
    assert "the question is refused: too long" in undecided.votes[0].why
    assert [len(batch["requests"]) for batch in batches.batches] == [30, 4]
    assert sum(record.votes[0].tries == 2 for record in records) == 1


def test_a_batch_that_the_server_took_and_could_not_confirm_is_found(world):
    world.plant("M", kinds_for(20))
    batches = Batches(oracle)
    told = batches.post
    replies = iter([b'{"id": "msgba', b"{"])

    def post(handler, body):
        made = told(handler, body)
        return next(replies, made)

    batches.post = post
    assert world(oracle, "--batch", batches=batches) == 0
    assert [len(batch["requests"]) for batch in batches.batches] == [20]
    assert world.summary()["spend"]["calls"] == 20


def test_under_a_bound_batches_are_sent_one_after_another(world):
    world.plant("M", kinds_for(40))
    batches = Batches(oracle)
    assert world(oracle, "--batch", "--max-usd", "0.12", batches=batches) == 0
    assert len(batches.batches) > 1 and sum(len(batch["requests"]) for batch in batches.batches) == 40
    assert world.summary()["spend"]["usd"] <= 0.12
