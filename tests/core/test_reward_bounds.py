"""The reward under hostile answers: in time, in every kind of process, in bounded memory, and nothing is executed."""

import multiprocessing
import os
import random
import resource
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from hostile_answers import CODE, HOSTILE, TRUTHS

from capcurr_plugin.reward import (
    compute_score,
    compute_score_batch,
    graders,
    timed_out_verdicts,
    verdict,
    verify,
    warm_up,
    workers,
)

LIMIT_SECONDS = 1.5
SLOW = HOSTILE["polynomial_power_of_many"]  # that no rule refuses, and math-verify takes long for
INTEGRAL = "\\int_0^1 x dx"  # that only math-verify can judge


@pytest.fixture(scope="module", autouse=True)
def warm():
    warm_up()


@pytest.fixture(autouse=True)
def no_cache():
    verdict._cache.clear()


@pytest.fixture
def patient(monkeypatch):
    """Other programs may run beside the tests."""
    monkeypatch.setattr(workers, "SECONDS", 20.0)


def response(answer):
    return f"<think> so </think> \\boxed{{{answer}}}"


def score_in_time(name):
    """Right or not, and the seconds it took: the least of three tries, since the machine may be late for once."""
    scored, least = response(HOSTILE.get(name, CODE.get(name, ""))), float("inf")
    for _ in range(3):
        verdict._cache.clear()
        start = time.monotonic()
        right = compute_score("", scored, TRUTHS.get(name, "42"))["accuracy"] == 1
        least = min(least, time.monotonic() - start)
        if least <= LIMIT_SECONDS:
            break
    return name, right, least


def assert_wrong_and_in_time(results):
    assert len(results) >= 60
    assert [r for r in results if r[1]] == []
    assert [r for r in results if r[2] > LIMIT_SECONDS] == []


@pytest.mark.slow
def test_hostile_answers_in_the_main_thread():
    assert_wrong_and_in_time([score_in_time(name) for name in (*HOSTILE, *CODE)])


@pytest.mark.slow
def test_hostile_answers_in_32_threads():
    with ThreadPoolExecutor(32) as threads:
        assert_wrong_and_in_time(list(threads.map(score_in_time, (*HOSTILE, *CODE))))


def in_daemon(connection):
    warm_up()
    connection.send([score_in_time(name) for name in (*HOSTILE, *CODE)])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_hostile_answers_in_a_daemonic_process(method):
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=in_daemon, args=(theirs,), daemon=True)
    process.start()
    assert_wrong_and_in_time(ours.recv())
    process.join()


def test_nothing_of_an_answer_is_executed(tmp_path):
    canary = tmp_path / "canary"
    for code in CODE.values():
        filled = code.replace("{canary}", str(canary))
        verify(filled, "42")
        verify("42", filled)
        compute_score("", response(filled), "42")
        compute_score("", response(filled), "42", grader="mathruler")
    time.sleep(0.2)
    assert not canary.exists()


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def hostile_variants(count):
    chance = random.Random(7)
    answers = [answer for answer in HOSTILE.values() if len(answer) < 20_000]
    for number in range(count):
        answer = chance.choice(answers)
        place = chance.randint(0, len(answer))
        yield answer[:place] + chance.choice(["", "1", "x", "^", "!", "{", " "]) + str(number) + answer[place:]


@pytest.mark.slow
def test_ten_thousand_hostile_answers_leave_no_memory_behind(monkeypatch):
    """Their time is cut short here, so that the test is; what is kept of each is the same."""
    monkeypatch.setattr(workers, "SECONDS", 0.05)
    for answer in hostile_variants(500):
        compute_score("", response(answer), "42")
    before = resident_bytes()
    rows = [response(answer) for answer in hostile_variants(10_000)]
    scores = compute_score_batch([""] * len(rows), rows, ["42"] * len(rows))
    assert len(scores) == 10_000
    assert resident_bytes() - before < 200 << 20


# Workers


def worker_pids():
    """The children of the process that forks workers."""
    pid = workers.pool().process.pid
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def test_an_answer_that_takes_too_long_is_told_counted_and_its_worker_replaced(monkeypatch):
    warm_up()  # one may just be replaced, of a test before
    before, timed_out = worker_pids(), timed_out_verdicts()
    assert len(before) == workers.pool().size
    scores = compute_score_batch([""] * 2, [response(SLOW), response("7")], ["42", "7"])
    assert [(s["accuracy"], s["tier"], s["timed_out"]) for s in scores] == [
        (0.0, "symbolic", 1.0),
        (1.0, "exact", 0.0),
    ]
    assert timed_out_verdicts() == timed_out + 1
    warm_up()
    assert len(worker_pids()) == workers.pool().size
    assert len(worker_pids() - before) == 1
    monkeypatch.setattr(workers, "SECONDS", 60.0)
    start = time.monotonic()
    assert compute_score("", response(SLOW), "42")["timed_out"] == 1
    assert time.monotonic() - start < 30  # the same answer does not take its time twice


def test_the_seconds_of_an_answer_are_a_setting(monkeypatch):
    monkeypatch.setattr(workers, "SECONDS", 0.2)
    least = float("inf")
    for _ in range(5):  # the machine may be late for once
        verdict._cache.clear()
        start = time.monotonic()
        assert compute_score("", response(SLOW), "42")["timed_out"] == 1
        least = min(least, time.monotonic() - start)
    assert least < 0.95  # and not the second that it is without the setting


def test_a_verdict_that_was_late_for_want_of_a_worker_is_not_kept(monkeypatch):
    held = [workers.pool().idle.get() for _ in range(workers.pool().size)]
    monkeypatch.setattr(workers, "SECONDS", 0.1)
    assert compute_score("", response(INTEGRAL), "0.5")["timed_out"] == 1
    monkeypatch.setattr(workers, "SECONDS", 20.0)
    for worker in held:
        workers.pool().idle.put(worker)
    assert compute_score("", response(INTEGRAL), "0.5")["accuracy"] == 1


def test_a_worker_that_dies_is_replaced(patient):
    for pid in worker_pids():
        os.kill(pid, signal.SIGKILL)
    right = 0
    for _ in range(3 * workers.pool().size + 3):  # each that was killed may cost one verdict, and a busy machine more
        verdict._cache.clear()
        right += compute_score("", response(INTEGRAL), "0.5")["accuracy"]
    assert right > workers.pool().size


def test_a_pool_that_dies_is_replaced(patient):
    gone = workers.pool()
    os.killpg(gone.process.pid, signal.SIGKILL)
    gone.process.wait()
    assert compute_score("", response(INTEGRAL), "0.5")["timed_out"] == 1
    warm_up()
    assert workers.pool() is not gone
    assert compute_score("", response(INTEGRAL), "0.5")["accuracy"] == 1


def memory_of_a_worker(_):
    resource.setrlimit(resource.RLIMIT_AS, (graders.MEMORY, graders.MEMORY))
    return graders.judge(lambda answer, truth: len(bytearray(graders.MEMORY)) > 0, "", "")


def test_a_worker_that_wants_too_much_memory_has_no_verdict():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert list(processes.map(memory_of_a_worker, [0])) == [None]


def forked_score(connection):
    connection.send((compute_score("", response(INTEGRAL), "0.5")["accuracy"], workers.pool().process.pid))


def test_a_fork_makes_its_own_pool_and_leaves_this_one_alone(patient):
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=forked_score, args=(theirs,))
    process.start()
    accuracy, pid = ours.recv()
    process.join()
    assert pid != workers.pool().process.pid
    assert accuracy == 1
    assert compute_score("", response(INTEGRAL), "0.5")["accuracy"] == 1


def test_one_pool_for_all_threads():
    found = []
    threads = [threading.Thread(target=lambda: found.append(workers.pool())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(map(id, found)) == {id(workers.pool())}


@pytest.mark.parametrize("busy", [False, True])
def test_the_workers_end_with_the_process(busy):
    """Also when it is killed, and while they work: their sockets close."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold_a_pool, args=(theirs, busy))
    process.start()
    pid = ours.recv()
    time.sleep(0.3)
    process.kill()
    process.join()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def hold_a_pool(connection, busy):
    warm_up()
    connection.send(workers.pool().process.pid)
    if busy:
        workers.SECONDS = 3.0
        compute_score("", response(SLOW), "42")
    time.sleep(60)
