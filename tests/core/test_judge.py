"""Judges, asked through the real SDK at local servers: what is sent, what is kept, what it costs, what can go wrong."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import local_servers as servers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.judge.clients import Image, JudgeFailed
from capcurr_plugin.judge.config import JudgeConfig, find_judge, load_judges
from capcurr_plugin.judge.judge import Judge
from capcurr_plugin.judge.ledger import Ledger, OverBudget


def echo(body):
    return servers.claude_message(f"verdict on {servers.asked_text(body)}")


def openai_echo(body):
    return servers.chat_completion(f"verdict on {servers.asked_text(body)}")


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPCURR_CACHE", str(tmp_path / "cache"))
    for name in ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def make_judge(server, name="claude-haiku-4.5", max_usd=None, run="a run", **changes):
        settings = {"base_url": server.url, "key": "k", "timeout": 5, "retry": 8, **changes}
        config = replace(load_judges()[name], **settings)
        return Judge(config, max_usd, Ledger(tmp_path / "cache" / "judges.sqlite"), run)

    return make_judge


# What is sent


def test_the_request_is_one_that_every_version_of_the_api_takes(make):
    with servers.serving(echo) as server:
        judge = make(server)
        assert judge.ask(["is it B?", Image(b"123", "image/png")], temperature=1.5, system="be fair") == (
            "verdict on is it B?"
        )
    (request,) = server.requests
    assert request["path"] == "/v1/messages"
    assert request["headers"]["anthropic-version"] == "2023-06-01"
    assert request["model"] == "claude-haiku-4-5-20251001"
    assert request["temperature"] == 1.0  # clamped: evaluators ask with up to 2.0
    assert request["max_tokens"] == 2048
    assert request["system"] == [{"type": "text", "text": "be fair", "cache_control": {"type": "ephemeral"}}]
    image = request["messages"][0]["content"][1]["source"]
    assert image == {"type": "base64", "media_type": "image/png", "data": "MTIz"}


def test_bedrock_is_asked_with_a_key_for_the_same(make):
    with servers.serving(echo) as server:
        assert make(server, "bedrock-claude-haiku-4.5").ask(["x"]) == "verdict on x"
    (request,) = server.requests
    assert request["path"] == "/model/global.anthropic.claude-haiku-4-5-20251001-v1:0/invoke"
    assert request["anthropic_version"] == "bedrock-2023-05-31"
    assert request["headers"]["authorization"] == "Bearer k"
    assert request["temperature"] == 0


def test_any_openai_server_by_its_url(make):
    with servers.serving(openai_echo) as server:
        config = find_judge("openai:Qwen--Qwen3-32B", f"{server.url}/v1/chat/completions")
        judge = Judge(config, None, Ledger(make(server).ledger.path), "a run")
        assert judge.ask(["x", Image(b"123", "image/png")], temperature=0.5) == "verdict on x"
    (request,) = server.requests
    assert (request["path"], request["model"]) == ("/v1/chat/completions", "Qwen/Qwen3-32B")
    assert request["messages"][0]["content"][1]["image_url"]["url"] == "data:image/png;base64,MTIz"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (servers.without_end(0), "the reply has over 16 MB"),
        (servers.without_end(0.2, b" "), "the reply did not end in time"),
    ],
)
def test_a_reply_without_end_ends(make, reply, said):
    with servers.serving(openai_echo, lambda number, body: reply) as server:
        config = replace(find_judge("openai:m", server.url), timeout=1, retry=1)
        with pytest.raises(JudgeFailed, match=said):
            Judge(config, None, Ledger(make(server).ledger.path), "a run").ask(["x"])
    assert len(server.requests) == 2


# What is kept, and what it costs


def test_a_verdict_is_paid_for_once(make):
    with servers.serving(echo) as server:
        judge = make(server)
        assert [judge.ask([text]) for text in "abab"] == [f"verdict on {text}" for text in "abab"]
        assert len(server.answered) == 2
    dead = make(server, run="another run")  # the server is gone, and none is needed
    assert dead.ask(["a"]) == "verdict on a"
    assert dead.spend().calls == 0


def test_whoever_asks_again_at_once_gets_another_verdict_and_a_second_run_gets_both(make):
    """An evaluator that cannot use a verdict asks the same again."""
    answers = iter(["what?", "B"])
    with servers.serving(lambda body: servers.claude_message(next(answers))) as server:
        judge = make(server)
        assert [judge.ask(["which?"]), judge.ask(["which?"])] == ["what?", "B"]
        again = make(server)
        assert [again.ask(["which?"]), again.ask(["which?"])] == ["what?", "B"]
        assert len(server.answered) == 2


def test_other_words_models_temperatures_and_images_are_other_verdicts(make):
    with servers.serving(echo) as server:
        judge, other = make(server), make(server, "claude-sonnet-4.5")
        for asked in (judge, other):
            asked.ask(["x"])
            asked.ask(["x "])
            asked.ask(["x"], temperature=0.5)
            asked.ask(["x"], max_tokens=5)
            asked.ask(["x"], system="s")
            asked.ask(["x", Image(b"1", "image/png")])
            asked.ask(["x", Image(b"2", "image/png")])
        assert len(server.answered) == 14


def test_the_same_question_from_many_threads_is_paid_for_once(make):
    def slow(body):
        time.sleep(0.2)
        return echo(body)

    with servers.serving(slow) as server:
        judge, together = make(server), threading.Barrier(16)

        def ask(_):
            together.wait()
            return judge.ask(["x"])

        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(ask, range(16))) == {"verdict on x"}
        assert len(server.answered) == 1


def test_spend_is_added_up_over_processes_of_a_run_and_priced(make):
    with servers.serving(lambda body: servers.claude_message("x", tokens=(1_000_000, 100_000))) as server:
        for judge in (make(server), make(server)):
            judge.ask([f"{id(judge)}"])
        make(server, "claude-sonnet-4.5", run="other").ask(["z"])
        spend = make(server).spend()
    assert (spend.calls, spend.input_tokens, spend.output_tokens) == (2, 2_000_000, 200_000)
    assert spend.usd == pytest.approx(2 * (1 + 0.5))
    assert make(server, run="other").spend().usd == pytest.approx(3 + 1.5)


def test_the_bound_is_never_passed_and_is_told_in_one_line(make):
    """Each call may cost about a cent: 2,048 tokens at $5 a million."""
    with servers.serving(lambda body: servers.claude_message("x", tokens=(1000, 1800))) as server:
        judge = make(server, max_usd=0.055)
        with ThreadPoolExecutor(8) as pool:
            done = [pool.submit(judge.ask, [f"question {n}"]) for n in range(20)]
        failed = [future.exception() for future in done if future.exception()]
        paid = len(server.answered)
    assert judge.spend().usd <= 0.055
    assert judge.spend().usd == pytest.approx(paid * 0.01)
    assert (paid, len(failed)) == (5, 15)
    assert all(isinstance(error, OverBudget) for error in failed)
    assert "over the bound of $0.055; raise the bound and run again, verdicts so far are kept" in str(failed[0])


# What goes wrong


@pytest.mark.parametrize("name", ["claude-haiku-4.5", "by url"])
def test_every_question_is_answered_and_none_twice_paid_when_a_third_of_all_calls_fail(make, monkeypatch, name):
    monkeypatch.setattr("capcurr_plugin.judge.judge.BACKOFF", 0.01)
    answer = openai_echo if name == "by url" else echo
    with servers.serving(answer, servers.sometimes(seed=7)) as server:
        judge = make(server, timeout=2, retry=12)
        if name == "by url":
            judge = replace(judge, config=replace(find_judge("openai:m", server.url), timeout=2, retry=12))
        questions = [f"question {n}" for n in range(120)]
        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(lambda q: judge.ask([q]), questions)) == [f"verdict on {q}" for q in questions]
    paid = Counter(map(servers.asked_text, server.answered))
    assert set(paid.values()) == {1}
    assert len(server.requests) > len(questions) * 1.2  # the faults did happen
    assert judge.spend().unanswered == 0


def test_the_servers_own_retry_after_is_kept(make):
    asked = []

    def twice_busy(number, body):
        asked.append(time.monotonic())
        return servers.http_error(429, retry_after="1") if number < 2 else None

    with servers.serving(echo, twice_busy) as server:
        make(server).ask(["x"])
    assert [later - earlier >= 1 for earlier, later in pairwise(asked)] == [True, True]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (401, "judge claude-haiku-4.5: HTTP 401: .*; check its API key"),
        (403, "HTTP 403: .*; check that the key may use the model"),
        (404, "HTTP 404: .*; check the model's name and the address"),
        (400, "HTTP 400: "),
    ],
)
def test_what_asking_again_cannot_help_fails_at_once(make, fault, told):
    with servers.serving(echo, lambda number, body: servers.http_error(fault)) as server:
        judge = make(server)
        with pytest.raises(JudgeFailed, match=told):
            judge.ask(["x"])
    assert len(server.requests) == 1
    assert judge.spend().calls == 0


def test_a_judge_that_stays_busy_fails_with_the_last_reason(make, monkeypatch):
    monkeypatch.setattr("capcurr_plugin.judge.judge.BACKOFF", 0.01)
    busy = servers.serving(echo, lambda number, body: servers.http_error(529))
    with busy as server, pytest.raises(JudgeFailed, match="no verdict after 4 tries, last: HTTP 529"):
        make(server, retry=3).ask(["x"])
    assert len(server.requests) == 4
    with pytest.raises(JudgeFailed, match=r"no verdict after 2 tries, last: .*Connect"):
        make(server, retry=1).ask(["x"])


def test_a_judge_that_refuses_now_and_then_is_heard_and_one_that_refuses_much_is_not(make):
    with servers.serving(
        lambda body: servers.claude_message("", "refusal") if "bad" in servers.asked_text(body) else echo(body)
    ) as server:
        judge = make(server)
        for n in range(40):
            judge.ask([f"good {n}"])
        assert [judge.ask([f"bad {n}"]) for n in range(9)] == [""] * 9
        with pytest.raises(JudgeFailed, match="refused 10 of 50 questions"):
            for n in range(9, 20):
                judge.ask([f"bad {n}"])


def test_without_a_key_nothing_is_sent(make):
    with servers.serving(echo) as server, pytest.raises(JudgeFailed, match="no API key; set ANTHROPIC_API_KEY"):
        make(server, key=None).ask(["x"])
    assert not server.requests


def test_a_ledger_that_is_no_database_is_told(make, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "judges.sqlite").write_bytes(b"not a database" * 100)
    with (
        servers.serving(echo) as server,
        pytest.raises(JobError, match=r"judges\.sqlite: the verdicts cannot be kept"),
    ):
        make(server).ask(["x"])


# The file of judges


def test_the_published_judges():
    assert {name: (judge.api, judge.model) for name, judge in load_judges({}).items()} == {
        "claude-haiku-4.5": ("anthropic", "claude-haiku-4-5-20251001"),
        "claude-sonnet-4.5": ("anthropic", "claude-sonnet-4-5-20250929"),
        "bedrock-claude-haiku-4.5": ("bedrock", "global.anthropic.claude-haiku-4-5-20251001-v1:0"),
        "bedrock-claude-sonnet-4.5": ("bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    }


def test_a_judge_of_the_users(tmp_path):
    own = tmp_path / "judges.yaml"
    own.write_text("judges:\n  mine: {api: openai, model: m, base_url: 'http://h/v1', retry: 2}\n")
    assert load_judges({"CAPCURR_JUDGES": str(own)})["mine"] == JudgeConfig(
        "mine", "openai", "m", "http://h/v1", retry=2
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1]", "must hold a mapping"),
        ("judges: {x: 1}", "'x' must be a name with settings"),
        ("judges: {x: {api: telepathy, model: m}}", "api is 'telepathy'; use one of anthropic, bedrock, openai"),
        ("judges: {x: {api: openai, model: m}}", "needs a base_url"),
        ("judges: {x: {api: anthropic}}", "names no model"),
        ("judges: {x/y: {api: anthropic, model: m}}", "cannot hold '/'"),
        ("judges: {x: {api: anthropic, model: m, retri: 1}}", "unknown setting 'retri'"),
        ("judges: {x: {api: anthropic, model: m, retry: -1}}", "retry is -1"),
        ("judges: {x: {api: anthropic, model: m, usd_per_million: 3}}", "usd_per_million is 3"),
        ("other: {}", "must hold `judges:` and nothing else"),
        ("judges: {", "is no YAML"),
    ],
)
def test_a_wrong_file_of_judges_is_one_line(tmp_path, text, told):
    own = tmp_path / "judges.yaml"
    own.write_text(text)
    with pytest.raises(InputError, match=told) as raised:
        load_judges({"CAPCURR_JUDGES": str(own)})
    assert str(own) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_judge_by_url_needs_one():
    with pytest.raises(InputError, match="has no address; add --judge-base-url"):
        find_judge("openai:m")
    assert find_judge("gpt-4o-mini", "http://h/v1") is None


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_any_text_can_be_asked(tmp_path_factory, parts):
    judge = Judge(load_judges({})["claude-haiku-4.5"], None, Ledger(tmp_path_factory.mktemp("c") / "l.sqlite"), "r")
    judge._client = lambda question: servers_reply(question)
    assert judge.ask(parts) == "".join(parts) + "!"


def servers_reply(question):
    from capcurr_plugin.judge.ledger import Reply

    return Reply("".join(question.parts) + "!", "end_turn")
