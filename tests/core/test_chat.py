"""The client for OpenAI-compatible servers: every question gets all its answers, or one line says why not."""

import threading
import time
from collections import Counter

import local_servers as servers
import pytest

from capcurr_plugin import chat
from capcurr_plugin.chat import Question, Sampling, Settings, Unusable, ask_all, connect
from capcurr_plugin.errors import InputError, JobError


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr(chat, "WAITS", (0.01, 0.1))
    monkeypatch.setattr(chat, "OUT_SECONDS", (0.05, 0.2))


def completion(texts):
    choices = [{"index": n, "finish_reason": "stop", "message": {"content": text}} for n, text in enumerate(texts)]
    usage = {"prompt_tokens": 7, "completion_tokens": 3 * len(texts)}
    return {"id": "1", "model": "served/model", "choices": choices, "usage": usage}


def echo(body):
    """As many answers as are asked for, each with the question and the request's seed."""
    return completion([f"{servers.asked_text(body)}, {body.get('seed')}-{n}" for n in range(body["n"])])


def few(most):
    """Without a word gives fewer answers than were asked for."""
    return lambda body: completion(
        [choice["message"]["content"] for choice in echo(body)["choices"]][: most if body["n"] > most else body["n"]]
    )


def one_at_a_time(number, body):
    return servers.http_error(400) if body["n"] > 1 else None


def questions(count, wants=1):
    return [Question(f"q{n}", [{"role": "user", "content": f"q{n}"}], wants) for n in range(count)]


class Kept(dict):
    """Answers by question; each must be to its own, and come once."""

    def __init__(self):
        super().__init__()
        self.refused = {}

    def keep(self, question, has, reply):
        assert has == question.has + len(self.get(question.key, []))
        texts = [choice.text for choice in reply.choices]
        assert all(text.startswith(f"{question.key}, ") for text in texts)
        self.setdefault(question.key, []).extend(texts)

    def refuse(self, question, reason):
        self.refused[question.key] = reason


def ask(urls, asked, **settings):
    kept = Kept()
    settings = {"model": "m", "parallel": 16, "timeout": 10, "sampling": Sampling(seed=42), **settings}
    tally = ask_all(Settings([urls] if isinstance(urls, str) else urls, **settings), asked, kept.keep, kept.refuse)
    return kept, tally


def all_answered(kept, count, wants):
    assert not kept.refused
    assert {key: len(texts) for key, texts in kept.items()} == {f"q{n}": wants for n in range(count)}
    return all(len(set(texts)) == wants for texts in kept.values())


def test_each_question_gets_its_answers_in_one_request():
    with servers.serving(echo) as server:
        kept, tally = ask(server.url, questions(50, wants=16))
    assert all_answered(kept, 50, 16)
    assert len(server.requests) == tally.requests == 50
    assert (tally.answers, tally.prompt_tokens, tally.completion_tokens) == (800, 350, 2400)
    sent = server.requests[0]
    assert sent["path"] == "/v1/chat/completions"
    assert (sent["model"], sent["n"], sent["temperature"], sent["max_tokens"]) == ("m", 16, 0.0, 1024)


def test_sampling_key_and_further_fields_are_sent():
    with servers.serving(echo) as server:
        sampling = Sampling(0.7, 0.9, 5, more={"response_format": {"type": "json_object"}})
        ask(server.url, questions(1), sampling=sampling, api_key="secret")
    sent = server.requests[0]
    assert "seed" not in sent
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"]) == (0.7, 0.9, 5)
    assert sent["response_format"] == {"type": "json_object"}
    assert sent["headers"]["authorization"] == "Bearer secret"


def test_the_same_question_has_the_same_seed_in_every_run_and_none_shares_it():
    seeds = []
    for order in (1, -1):
        with servers.serving(echo) as server:
            ask(server.url, questions(30, wants=4)[::order])
        seeds.append({servers.asked_text(body): body["seed"] for body in server.requests})
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0].values())) == 30


@pytest.mark.parametrize("most", [1, 3, 15])
def test_a_server_that_gives_fewer_answers_than_asked_is_asked_again(most):
    with servers.serving(few(most)) as server:
        kept, _ = ask(server.url, questions(20, wants=16), parallel=4)
    assert all_answered(kept, 20, 16)
    # It is found out once for each request that was under way, and then asked for no more than it gives
    assert sum(body["n"] > most for body in server.requests) <= 4


def test_a_server_that_refuses_several_answers_is_asked_for_one_at_a_time():
    with servers.serving(echo, one_at_a_time) as server:
        kept, _ = ask(server.url, questions(20, wants=4), parallel=4)
    assert all_answered(kept, 20, 4)
    assert sum(body["n"] > 1 for body in server.requests) <= 4
    assert len(server.answered) == 80


def test_a_server_that_gives_several_is_asked_for_several_beside_one_that_does_not():
    def slow(body):
        time.sleep(0.01)
        return echo(body)

    with servers.serving(slow) as able, servers.serving(slow, one_at_a_time) as single:
        kept, _ = ask([able.url, single.url], questions(60, wants=4), parallel=4)
    assert all_answered(kept, 60, 4)
    assert sum(body["n"] == 4 for body in able.answered) > 20
    assert {body["n"] for body in single.answered} == {1}


def test_more_choices_than_asked_for_are_cut():
    with servers.serving(lambda body: echo({**body, "n": 5})) as server:
        kept, _ = ask(server.url, questions(3, wants=2))
    assert all_answered(kept, 3, 2)


def test_a_third_of_all_requests_fail_in_every_way_and_nothing_is_lost_or_asked_twice():
    with servers.serving(echo, servers.sometimes(seed=3)) as server:
        kept, tally = ask(server.url, questions(150, wants=4), timeout=2, attempts=50)
    assert all_answered(kept, 150, 4)
    assert Counter(map(servers.asked_text, server.answered)) == {f"q{n}": 1 for n in range(150)}
    assert tally.failures == len(server.requests) - 150 > 30


def test_load_goes_to_the_server_with_the_fewest_requests_in_flight():
    def slow(body):
        time.sleep(0.2)
        return echo(body)

    with servers.serving(echo) as fast, servers.serving(slow) as lame:
        kept, _ = ask([fast.url, lame.url], questions(200), parallel=8)
    assert all_answered(kept, 200, 1)
    assert len(fast.answered) > 3 * len(lame.answered) > 0


def test_a_dead_server_of_several_is_left_alone_and_tried_again():
    with servers.serving(echo) as lost:
        pass
    back = threading.Event()

    def down(number, body):
        return None if back.is_set() else servers.http_error(503)

    def slow(body):
        time.sleep(0.01)
        if len(good.answered) == 60:
            back.set()
        return echo(body)

    with servers.serving(slow) as good, servers.serving(echo, down) as late:
        kept, tally = ask([lost.url, good.url, late.url], questions(400), parallel=8)
    assert all_answered(kept, 400, 1)
    assert len(late.answered) > 20
    assert tally.failures < 60  # a dead server is not asked for every question


def test_a_busy_server_is_asked_later_and_by_fewer_at_once():
    under_way, seen, lock = [0], [], threading.Lock()

    def busy(number, body):
        with lock:
            under_way[0] += 1
            seen.append(under_way[0])
            return servers.http_error(429, retry_after="0") if under_way[0] > 4 else None

    def answer(body):
        time.sleep(0.02)
        with lock:
            under_way[0] = 0
        return echo(body)

    with servers.serving(answer, busy) as server:
        kept, _ = ask(server.url, questions(100), parallel=32)
    assert all_answered(kept, 100, 1)


def test_the_servers_own_retry_after_is_kept():
    asked = []

    def busy_once(number, body):
        asked.append(time.monotonic())
        return servers.http_error(429, retry_after="1") if number == 0 else None

    with servers.serving(echo, busy_once) as server:
        ask(server.url, questions(1))
    assert asked[1] - asked[0] >= 1


def test_a_question_that_no_server_takes_is_refused_with_the_reason():
    def too_long(number, body):
        return servers.http_error(400) if servers.asked_text(body) == "q3" else None

    with servers.serving(echo, too_long) as server:
        kept, tally = ask(server.url, questions(6, wants=2))
    assert kept.refused.keys() == {"q3"}
    assert "HTTP 400: " in kept.refused["q3"]
    assert "not now" in kept.refused["q3"]
    assert len(kept) == 5
    assert tally.refused == 1


def test_a_question_that_always_fails_is_given_up_while_others_go_on():
    def poison(number, body):
        return servers.http_error(500) if servers.asked_text(body) == "q3" else None

    def slow(body):
        time.sleep(0.02)
        return echo(body)

    with servers.serving(slow, poison) as server:
        kept, _ = ask(server.url, questions(200), attempts=4, parallel=4)
    assert kept.refused.keys() == {"q3"}
    assert kept.refused["q3"].startswith("failed 4 times, at last with: HTTP 500")
    assert len(kept) == 199


def test_a_question_that_cannot_be_made_is_refused():
    def unusable():
        raise Unusable("images/1.png: is empty")

    with servers.serving(echo) as server:
        kept, _ = ask(server.url, [*questions(3), Question("bad", unusable)])
    assert kept.refused == {"bad": "images/1.png: is empty"}
    assert len(kept) == 3


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_server_that_is_closed_to_us_ends_the_job_in_one_line(code):
    with (
        servers.serving(echo, lambda number, body: servers.http_error(code)) as server,
        pytest.raises(JobError, match=f"no server takes requests: {server.url}/v1: HTTP {code}"),
    ):
        ask(server.url, questions(5))


def test_servers_that_stay_dead_end_the_job_and_what_came_is_kept():
    kept = Kept()

    def dies(number, body):
        return servers.http_error(500) if number >= 20 else None

    with servers.serving(echo, dies) as server, pytest.raises(JobError, match=r"no server has answered for .* again"):
        settings = Settings([server.url], model="m", parallel=4, patience=0.5)
        ask_all(settings, questions(100), kept.keep, kept.refuse)
    assert len(kept) == 20


def test_questions_are_drawn_as_servers_take_them():
    drawn, answered = [0], [0]

    def draw():
        for question in questions(200):
            drawn[0] += 1
            assert drawn[0] - answered[0] <= 8 + 1  # one is drawn at a time when eight are in flight
            yield question

    def keep(question, has, reply):
        answered[0] += 1

    with servers.serving(echo) as server:
        ask_all(Settings([server.url], model="m", parallel=8), draw(), keep, print)
    assert answered[0] == 200


def test_an_error_in_what_is_asked_ends_the_job():
    def draw():
        yield from questions(5)
        raise InputError("rows.jsonl, line 6: column 'answer' is empty")

    with servers.serving(echo) as server, pytest.raises(InputError, match="line 6"):
        ask(server.url, draw())


def test_a_question_may_want_more_when_it_has_seen_its_answers():
    def until_seven(texts):
        def more(choices):
            texts.extend(choices)
            return 2 if len(texts) < 7 else 0

        return more

    asked = [Question(q.key, q.messages, 2, more=until_seven([])) for q in questions(5)]
    with servers.serving(echo) as server:
        kept, _ = ask(server.url, asked)
    assert all_answered(kept, 5, 8)


def test_an_endless_reply_is_cut_off(monkeypatch):
    monkeypatch.setattr(chat, "MAX_REPLY_BYTES", 10_000)

    def endless(number, body):
        return (lambda handler: handler.send(200, b" " * 1_000_000)) if servers.asked_text(body) == "q1" else None

    with servers.serving(echo, endless) as server:
        kept, _ = ask(server.url, questions(30), attempts=2, parallel=2)
    assert kept.refused.keys() <= {"q1"}
    assert len(kept) >= 29


# Whose model it is


def test_the_first_model_that_the_server_lists_is_asked():
    with servers.serving(echo) as server:
        assert connect(Settings([server.url])).model == "served/model"
        assert connect(Settings([f"{server.url}/v1/"], model="mine")).model == "mine"


def test_one_server_of_several_is_enough_to_start():
    with servers.serving(echo) as server:
        assert connect(Settings(["http://127.0.0.1:9", server.url])).model == "served/model"


def test_no_server_at_all_is_one_line():
    with pytest.raises(InputError, match=r"no model server answers: http://127.0.0.1:9/v1: Client.*; start one there"):
        connect(Settings(["http://127.0.0.1:9"]))


def test_servers_of_different_models_need_a_name():
    with servers.serving(echo) as one, servers.serving(echo) as other:
        other.models = ["other/model"]
        with pytest.raises(InputError, match=r"different models \(other/model, served/model\); name it with --model"):
            connect(Settings([one.url, other.url]))
        other.models = []
        assert connect(Settings([one.url, other.url])).model == "served/model"
        with pytest.raises(InputError, match="list no model; name it with --model"):
            connect(Settings([other.url]))


def test_whether_servers_take_a_field_is_asked_in_one_short_request():
    def no_schema(number, body):
        return servers.http_error(422) if "response_format" in body else None

    with servers.serving(echo) as server:
        assert chat.takes(Settings([server.url], model="m"), {"response_format": {}})
    assert [body["max_tokens"] for body in server.requests] == [16]
    with servers.serving(echo, no_schema) as server:
        assert not chat.takes(Settings([server.url], model="m"), {"response_format": {}})
