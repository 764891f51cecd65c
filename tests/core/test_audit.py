"""Audits of verdicts: the sample, the file, the server, and the numbers."""

import http.client
import itertools
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from urllib.parse import urlsplit

import local_servers
import numpy as np
import pytest
from audit_samples import auditing, many, png, record, write
from hypothesis import given
from hypothesis import strategies as st
from planted_errors import kinds_for, oracle, plant

from capcurr_plugin.attribution import audit as command
from capcurr_plugin.attribution.audit_numbers import (
    effective_confusion,
    effective_rates,
    joined,
    judge_numbers,
)
from capcurr_plugin.attribution.audit_sample import draw, read_population, shared_out
from capcurr_plugin.attribution.audit_server import MAX_BODY, Server, Session
from capcurr_plugin.attribution.audits import (
    CANNOT_TELL,
    Audit,
    Choice,
    Header,
    OpenAudit,
    Stratum,
    combine,
    read_audit,
)
from capcurr_plugin.attribution.kinds import KINDS
from capcurr_plugin.attribution.records import OUTCOMES, Vote, images_folder, read_records
from capcurr_plugin.cli import main
from capcurr_plugin.errors import InputError

# The sample


@given(
    st.dictionaries(st.sampled_from(OUTCOMES), st.integers(0, 400), min_size=1),
    st.integers(1, 500),
)
def test_shares_grow_with_the_sample(sizes, total):
    given_, more = shared_out(sizes, total), shared_out(sizes, total + 1)
    assert sum(given_.values()) == min(total, sum(sizes.values()))
    assert all(given_[name] <= min(more[name], sizes[name]) for name in sizes)
    if total >= 10 * len(sizes):
        assert all(given_[name] >= min(10, sizes[name]) for name in sizes)


def test_a_large_sample_is_in_proportion_and_rare_kinds_have_ten():
    assert shared_out({"a": 6000, "b": 3000, "c": 500, "d": 4}, 204) == {"a": 126, "b": 63, "c": 11, "d": 4}


def test_the_sample_hangs_on_seed_and_id_alone(tmp_path):
    records = many(200)
    path = write(tmp_path, records)
    first = draw(read_population(path, "stratified"), 80, 1)
    random.Random(3).shuffle(records)
    again = draw(read_population(write(tmp_path, records), "stratified"), 80, 1)
    assert list(first.stratum_of.items()) == list(again.stratum_of.items())
    other = draw(read_population(path, "stratified"), 80, 2)
    assert set(other.stratum_of) != set(first.stratum_of)
    larger = draw(read_population(path, "stratified"), 120, 1)
    assert set(first.stratum_of) < set(larger.stratum_of)
    assert first.strata["perception"].size == sum(one.kind == "perception" for one in records)


def test_the_order_shown_does_not_tell_the_stratum(tmp_path):
    shown = list(draw(read_population(write(tmp_path, many(400)), "stratified"), 200, 1).stratum_of.values())
    changes = sum(one != other for one, other in itertools.pairwise(shown))
    assert changes > 80


def test_each_of_a_stratum_is_drawn_as_often(tmp_path):
    population = read_population(write(tmp_path, many(40)), "simple")
    times = Counter(id for seed in range(400) for id in draw(population, 10, seed).stratum_of)
    assert len(times) == 40
    assert all(60 < count < 140 for count in times.values())  # 100 expected, 8.7 the standard deviation


def test_a_restricted_population(tmp_path):
    path = write(tmp_path, [*many(20), *(record(n, model="M2", benchmark="POPE") for n in range(5))])
    assert read_population(path, "simple", models=["M2"]).size == 5
    assert read_population(path, "simple", benchmarks=["RealWorldQA"]).size == 20
    with pytest.raises(InputError, match="no model 'M3'; there are M2, Qwen3_VL_8B_Base"):
        read_population(path, "simple", models=["M3"])
    with pytest.raises(InputError, match="has no wrong answer of these"):
        read_population(path, "simple", ["M2"], ["RealWorldQA"])


def test_what_stands_twice_or_is_of_two_judges_is_refused(tmp_path):
    with pytest.raises(InputError, match="line 3: the same wrong answer"):
        read_population(write(tmp_path, [record(1), record(2), record(1)]), "simple")
    with pytest.raises(InputError, match="verdicts of a and b"):
        read_population(write(tmp_path, [record(1, judge="b"), record(2, judge="a")]), "simple")


# The file

HEADER = Header("ann", "base.jsonl", "J", 1, 5, "stratified", {k: Stratum(9, 3) for k in OUTCOMES})


def choice(id="a", kind="perception", stratum="perception", **other):
    values = {"model": "M", "benchmark": "B", "index": "1", "note": "", "seconds": 1.5, "at": "2026-01-01T00:00:00"}
    return Choice(id=id, kind=kind, stratum=stratum, **(values | other))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "audit.jsonl"


def begun(path, *choices, header=HEADER):
    opened = OpenAudit(path)
    opened.begin(header)
    for one in choices:
        opened.keep(one)
    opened.close()
    return path


def test_what_was_kept_is_read(file):
    begun(file, choice(), choice("b", "reasoning"), choice("a", CANNOT_TELL, note="größer \ud800 ​"))
    audit = read_audit(file)
    assert audit.header == HEADER
    assert {id: one.kind for id, one in audit.choices.items()} == {"a": CANNOT_TELL, "b": "reasoning"}
    assert audit.choices["a"].note == "größer ? ​"
    assert audit.changed == {"a"}
    assert len(file.read_text().splitlines()) == 4


def test_a_later_header_counts(file):
    larger = Header("ann", "base.jsonl", "J", 1, 5, "stratified", {k: Stratum(9, 4) for k in OUTCOMES})
    begun(begun(file, choice()), choice("b"), header=larger)
    assert read_audit(file).header == larger
    assert set(read_audit(file).choices) == {"a", "b"}


def test_it_may_be_cut_off_anywhere(file):
    whole = begun(file, choice(), choice("b"), choice("c")).read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == 10]
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        begun(file, choice("z"))
        # A line whose end alone is missing is whole; a part of one was never confirmed.
        kept = sum(length >= end - 1 for end in ends) - 1
        assert set(read_audit(file).choices) == {"z", *"abc"[: max(0, kept)]}, length


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{}\n", "line 2: is no choice"),
        (b"[]\n", "line 2: the line is not a JSON object"),
        (b"\n", "line 2: the line is empty"),
        (b"{\n", "line 2: the JSON ends too early"),
        (choice(kind="undecided").line(), "line 2: is no choice"),
        (choice(stratum="elsewhere").line(), "line 2: is no choice"),
        (b'{"format": 2}\n', "line 2: is of format 2, and this capcurr reads 1"),
        (b'{"format": 1}\n', "line 2: is no header"),
    ],
)
def test_a_bad_line_is_named(file, line, said):
    begun(file)
    with file.open("ab") as out:
        out.write(line + choice().line())
    with pytest.raises(InputError, match=said):
        read_audit(file)


@pytest.mark.parametrize(
    "change", [{"design": "other"}, {"seed": "1"}, {"strata": {"a": {"size": 1, "sampled": 2}}}, {"judge": None}]
)
def test_a_bad_header_is_named(file, change):
    told = json.loads(HEADER.line()) | change
    file.write_text(json.dumps(told) + "\n")
    with pytest.raises(InputError, match="line 1: is no header"):
        read_audit(file)


def test_no_audit(file, tmp_path):
    file.write_text("")
    with pytest.raises(InputError, match="holds no audit"):
        read_audit(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_audit(tmp_path / "nothing")
    file.write_bytes(choice().line())
    with pytest.raises(InputError, match="line 1: is no header"):
        read_audit(file)


def test_one_process_at_a_time(file):
    opened = OpenAudit(file)
    with pytest.raises(InputError, match="another capcurr audit has it open"):
        OpenAudit(file)
    opened.close()
    OpenAudit(file).close()


def test_a_full_disk_leaves_no_half_line(file, monkeypatch):
    opened = OpenAudit(file)
    opened.begin(HEADER)
    before = file.read_bytes()
    write_ = os.write

    def full(handle, data):
        if len(data) > 5:
            return write_(handle, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        opened.keep(choice())
    monkeypatch.undo()
    assert file.read_bytes() == before
    assert opened.audit.choices == {}
    opened.keep(choice())
    assert set(read_audit(file).choices) == {"a"}
    opened.close()


# The command


@contextmanager
def served(path, *words, blind=False, images=True):
    opened = OpenAudit(path.with_name("served.jsonl"))
    population = read_population(path, "stratified")
    sample = draw(population, 200, 1)
    opened.begin(Header("ann", path.name, population.judge, 1, 1, "stratified", sample.strata))
    found = {one.id: one for one in read_records(path)}
    session = Session(opened, [found[id] for id in sample.stratum_of], images_folder(path), blind=blind)
    server = Server(session)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        opened.close()


def request(server, path="", method="GET", body=None, token=None, **headers):
    """The status, the headers and the body of the reply."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    told = {"Content-Type": "application/json"} if body is not None else {}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, f"/{server.token if token is None else token}/{path}", body, told)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, reply.headers, content


def ask(server, path):
    status, _, content = request(server, path)
    assert status == 200, content
    return json.loads(content)


def post(server, place=0, kind="perception", note="", seconds=2.0, **headers):
    body = json.dumps({"kind": kind, "note": note, "seconds": seconds})
    return request(server, f"items/{place}/choice", "POST", body, **headers)


def places(server):
    return {one.index: place for place, one in enumerate(server.session.records)}


def test_the_verdict_comes_after_the_choice(tmp_path):
    with served(write(tmp_path, many(30))) as server:
        before = [request(server, path)[2] for path in ("", "overview", "summary", *(f"items/{n}" for n in range(30)))]
        assert not any(b"SECRET" in content or b"undecided" in content for content in before)
        assert not any(b'"judge": {' in content for content in before)
        status, _, content = post(server, 3, "reasoning", "why")
        assert status == 200
        item = json.loads(content)
        said = server.session.records[3]
        assert item["chosen"]["judge"]["kind"] == said.kind
        assert item["chosen"]["judge"]["image"].startswith("SECRET")
        assert (item["chosen"]["kind"], item["chosen"]["note"]) == ("reasoning", "why")
        kept = read_audit(tmp_path / "served.jsonl").choices[said.id]
        assert (kept.kind, kept.note, kept.seconds, kept.stratum) == ("reasoning", "why", 2.0, said.kind)
        assert ask(server, "overview")["done"] == [n == 3 for n in range(30)]
        assert ask(server, "items/4")["chosen"] is None


def test_the_quote_is_marked(tmp_path):
    spaced = record(1, response="One. The picture\n shows\t a dog. Two.", votes=(Vote("perception", "shows a  dog."),))
    absent = record(2, votes=(Vote("perception", "not there"),))
    none = record(3, votes=(Vote("perception", ""),))
    with served(write(tmp_path, [spaced, absent, none])) as server:
        at = places(server)
        assert ask(server, f"items/{at['1']}")["response"] == ["One. The picture\n ", "shows\t a dog.", " Two."]
        assert ask(server, f"items/{at['2']}")["response"] == [absent.response, "", ""]
        assert ask(server, f"items/{at['3']}")["response"] == [none.response, "", ""]


def test_blind_hides_the_mark_until_the_choice(tmp_path):
    with served(write(tmp_path, [record(1)]), blind=True) as server:
        assert ask(server, "items/0")["response"] == [record(1).response, "", ""]
        assert json.loads(post(server)[2])["response"][1] == "a chart with 4 bars."


def test_hostile_texts_are_bounded_and_visible(tmp_path):
    bad = record(1, question="a‮b​<script>" + "x" * 100_000, index="\x1b[2J", response="\udc80\x00" + "y" * 200_000)
    with served(write(tmp_path, [bad])) as server:
        item = ask(server, "items/0")
        assert item["question"].startswith("a[U+202E]b[U+200B]<script>")
        assert len(item["question"]) < 61_000 and "the middle is left out" in item["question"]
        assert item["index"] == "[U+001B][2J"
        assert len(item["response"][0]) < 61_000
        assert post(server)[0] == 200


def test_what_capcurr_attribute_writes_can_be_audited(tmp_path, monkeypatch):
    for name in ("CAPCURR_CACHE", "LMUData"):
        monkeypatch.setenv(name, str(tmp_path / name))
    (tmp_path / "LMUData").mkdir()
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
    kinds = kinds_for(14, right=2)
    plant(tmp_path / "work", tmp_path / "LMUData", "M", kinds)
    out = tmp_path / "errors.jsonl"
    with local_servers.serving(oracle) as judge:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", judge.url)
        assert main(["attribute", str(tmp_path / "work"), str(out), "--resamples", "200"]) == 0
    with served(out) as server:
        for place, one in enumerate(server.session.records):
            item = ask(server, f"items/{place}")
            assert [image["problem"] for image in item["images"]] == [None]
            assert request(server, f"items/{place}/images/0")[1]["Content-Type"] == "image/png"
            assert bool(item["response"][1]) == bool(one.vote.quote)
            assert post(server, place, one.kind)[0] == 200
        assert ask(server, "summary")["accuracy"] == [1.0, 1.0, 1.0]


# What may not be asked


def test_without_the_token_nothing_is_there(tmp_path):
    with served(write(tmp_path, many(3))) as server:
        for token in ("", "x", server.token[:-1], server.token + "x", server.token.swapcase(), "%2e%2e", "é"):
            for path in ("", "overview", "items/0", "page.js", "items/0/images/0"):
                if token == "é":
                    token = "%C3%A9"
                assert request(server, path, token=token)[0] == 404
            assert post(server, token=token)[0] == 404
        assert len(server.token) >= 43
        assert server.session.audit.choices == {}


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost", "[::1]", "", "127.0.0.1.evil"]
)
def test_under_another_name_nothing_is_there(tmp_path, host):
    with served(write(tmp_path, many(3))) as server:
        assert request(server, "overview", Host=host)[0] == 404
        assert post(server, Host=host)[0] == 404
        assert request(server, "overview", Host=f"localhost:{server.server_port}")[0] == 200


def test_what_a_page_of_another_site_posts_is_refused(tmp_path):
    with served(write(tmp_path, many(3))) as server:
        assert post(server, Origin="https://evil.example")[0] == 403
        assert post(server, Origin="null")[0] == 403
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            assert post(server, Content_Type=kind)[0] == 415
        assert post(server, Origin=f"http://127.0.0.1:{server.server_port}")[0] == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("{", 400),
        ("[]", 400),
        ("[" * 5000, 400),
        (json.dumps({"kind": "undecided", "note": "", "seconds": 1}), 400),
        (json.dumps({"kind": ["perception"], "note": "", "seconds": 1}), 400),
        (json.dumps({"kind": "perception", "note": 1, "seconds": 1}), 400),
        (json.dumps({"kind": "perception", "note": "x" * 10_001, "seconds": 1}), 400),
        (json.dumps({"kind": "perception", "note": "", "seconds": -1}), 400),
        (json.dumps({"kind": "perception", "note": "", "seconds": True}), 400),
        ('{"kind": "perception", "note": "", "seconds": NaN}', 400),
        ('{"kind": "perception", "note": "", "seconds": 1e999}', 400),
        ("x" * (MAX_BODY + 1), 413),
    ],
)
def test_a_bad_body_keeps_nothing(tmp_path, body, status):
    with served(write(tmp_path, many(3))) as server:
        assert request(server, "items/0/choice", "POST", body)[0] == status
        assert server.session.audit.choices == {}


@pytest.mark.parametrize(
    "path",
    [
        "items/3",
        "items/-1",
        "items/00000000000000000001",
        "items/0/images/1",
        "items/0/images/..%2f..%2fbase.jsonl",
        "../base.jsonl",
        "page.html",
        "..%2faudit.py",
        "favicon.ico",
    ],
)
def test_nothing_else_is_there(tmp_path, path):
    with served(write(tmp_path, many(3))) as server:
        assert request(server, path)[0] == 404


def test_each_reply_is_fenced_in(tmp_path):
    with served(write(tmp_path, many(3))) as server:
        for path in ("", "page.js", "page.css", "icon.svg", "overview", "items/0", "items/0/images/0", "nothing"):
            _, headers, _ = request(server, path)
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["Cache-Control"] == "no-store"
            assert "Access-Control-Allow-Origin" not in headers
            assert "Server" not in headers
        assert request(server, "overview", "PUT")[0] == 501
        assert server.server_address[0] == "127.0.0.1"


def test_images(tmp_path):
    names = ("chart.png", "gone.png", "out.png", "page.html", "real.svg", "fine.webp", "folder")
    path = write(
        tmp_path,
        [record(1, images=names)],
        {"chart.png": png(), "page.html": b"<script>", "real.svg": b"<svg/>", "fine.webp": b"RIFF0000WEBPVP8 "},
    )
    (tmp_path / "secret.png").write_bytes(png())
    (images_folder(path) / "out.png").symlink_to(tmp_path / "secret.png")
    (images_folder(path) / "folder").mkdir()
    with served(path) as server:
        told = {image["name"]: image["problem"] for image in ask(server, "items/0")["images"]}
        assert told["chart.png"] is None and told["fine.webp"] is None
        assert told["gone.png"] == "is not there" and told["folder"] == "is not there"
        assert told["out.png"] == "leads out of the folder of images"
        assert told["page.html"] == told["real.svg"] == "is no PNG, JPEG, GIF or WebP"
        status, headers, content = request(server, "items/0/images/0")
        assert (status, headers["Content-Type"], content) == (200, "image/png", png())
        assert request(server, "items/0/images/5")[1]["Content-Type"] == "image/webp"
        assert [request(server, f"items/0/images/{n}")[0] for n in (1, 2, 3, 4, 6, 7)] == [404] * 6


def test_what_is_not_kept_is_told(tmp_path, monkeypatch):
    with served(write(tmp_path, many(3))) as server:

        def fail(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        status, _, content = post(server)
        assert (status, b"No space left on device" in content) == (500, True)
        monkeypatch.undo()
        assert ask(server, "items/0")["chosen"] is None
        assert read_audit(tmp_path / "served.jsonl").choices == {}


# The command


def audit(path, *words):
    return main(["audit", str(path), "--no-open", "--annotator", "ann", *map(str, words)])


@pytest.fixture
def unserved(monkeypatch):
    """Ctrl-C comes at once."""

    def stop(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", stop)


def test_an_audit_begins_and_goes_on(tmp_path, unserved, capsys):
    path = write(tmp_path, many(60))
    assert audit(path, "--sample", 20) == 0
    said = capsys.readouterr().out
    assert "0 of 20 done, drawn from 60 verdicts of claude-haiku-4.5" in said
    assert "http://127.0.0.1:" in said
    file = tmp_path / "base_audit_ann.jsonl"
    assert read_audit(file).header.seed == 2026
    assert audit(path) == 0
    assert "0 of 20 done" in capsys.readouterr().out
    assert audit(path, "--sample", 30) == 0
    assert "0 of 30 done" in capsys.readouterr().out
    assert sum(one.sampled for one in read_audit(file).header.strata.values()) == 30
    assert len(file.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "7"], "was drawn with --seed 2026"),
        (["--simple"], "was drawn without --simple"),
        (["--sample", "19"], "has a sample of 20, which can only grow"),
        (["--model", "Qwen3_VL_8B_Base"], "is of a sample without --model"),
        (["--annotator", "bob", "--out", "base_audit_ann.jsonl"], "is the audit of ann"),
    ],
)
def test_another_sample_than_the_files_is_refused(tmp_path, unserved, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, many(60))
    assert audit(path, "--sample", 20) == 0
    before = (tmp_path / "base_audit_ann.jsonl").read_bytes()
    assert audit(path, *words) == 2
    error = capsys.readouterr().err
    assert said in error and "go on like that, or begin another" in error
    assert (tmp_path / "base_audit_ann.jsonl").read_bytes() == before


def test_other_verdicts_are_refused(tmp_path, unserved, capsys):
    audit(write(tmp_path, many(60)), "--sample", 20)
    assert audit(write(tmp_path, many(61))) == 2
    assert "was drawn from other verdicts" in capsys.readouterr().err
    audited = tmp_path / "base_audit_ann.jsonl"
    with audited.open("ab") as file:
        file.write(choice("0" * 20).line())
    assert audit(write(tmp_path, many(60))) == 2
    assert "has choices about wrong answers that" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--annotator", "../x"], "is no name of letters"),
        (["--annotator", ""], "is no name of letters"),
        (["--port", "70000"], "70000 is no port"),
        (["--sample", "0"], "0 is not 1 or more"),
        (["--json"], "--json goes with --show"),
        (["--audit", "x"], "--audit goes with --show"),
        (["--show", "--sample", "5"], "--annotator does not go with --show"),
        (["--out", "nowhere/x.jsonl"], "create it first"),
        (["--model", "M3"], "has no model 'M3'"),
    ],
)
def test_wrong_words(tmp_path, unserved, capsys, words, said):
    path = write(tmp_path, many(20))
    try:
        code = audit(path, *words)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there_leaves_nothing_behind(tmp_path, unserved, capsys):
    assert audit(tmp_path / "nothing.jsonl") == 2
    assert "capcurr attribute writes such a file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use(tmp_path, capsys):
    with served(write(tmp_path, many(3))) as server:
        assert audit(tmp_path / "base.jsonl", "--port", server.server_port) == 2
    assert "give another --port" in capsys.readouterr().err


def test_the_browser_is_opened_where_there_is_a_display(tmp_path, unserved, monkeypatch):
    opened = []
    monkeypatch.setattr(command.webbrowser, "open", opened.append)
    path = write(tmp_path, many(20))
    for display, no_open in (("", []), (":0", ["--no-open"]), (":0", [])):
        monkeypatch.setenv("DISPLAY", display)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        assert main(["audit", str(path), "--annotator", "ann", *no_open]) == 0
    time.sleep(0.05)
    assert len(opened) == 1 and opened[0].startswith("http://127.0.0.1:")


class Remote:
    """A process's server, for `request`."""

    def __init__(self, address):
        parts = urlsplit(address)
        self.server_port, self.token = parts.port, parts.path.strip("/")


def test_stopped_by_ctrl_c_it_tells_the_accuracy(tmp_path):
    path = write(tmp_path, many(40))
    with auditing(path, "--sample", 10) as (process, address):
        server = Remote(address)
        for place in range(4):
            assert post(server, place)[0] == 200
        with pytest.raises(AssertionError, match="another capcurr audit has it open"), auditing(path):
            pass
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
        assert process.wait(10) == 0
    assert "4 of 10 done" in said
    assert "the judge's accuracy so far: " in said and "Traceback" not in said


def test_a_kill_loses_nothing_that_was_confirmed(tmp_path):
    path = write(tmp_path, many(60))
    confirmed = 0
    dice = random.Random(4)
    for _ in range(5):
        with auditing(path, "--sample", 60) as (process, address):
            server = Remote(address)
            assert sum(ask(server, "overview")["done"]) >= confirmed
            timer = threading.Timer(0.01 + 0.05 * dice.random(), process.kill)
            timer.start()
            try:
                while confirmed < 60:
                    post(server, confirmed)
                    confirmed += 1
            except (OSError, http.client.HTTPException):
                pass
            timer.join()
        assert len(read_audit(tmp_path / "base_audit_ann.jsonl").choices) >= confirmed
    assert confirmed


def test_many_choices_at_once_are_all_kept(tmp_path):
    with served(write(tmp_path, many(40))) as server:
        threads = [threading.Thread(target=post, args=(server, place)) for place in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(read_audit(tmp_path / "served.jsonl").choices) == 40


# The numbers


def audit_of(kinds, name="a", strata=None, design="stratified", stratum_of=None):
    """`kinds`: what is said of each id."""
    strata = strata or {"perception": Stratum(1000, 1000)}
    header = Header(name, "base.jsonl", "J", 1, 5, design, strata)
    found = Audit(header=header, path=f"{name}.jsonl")
    for id, kind in kinds.items():
        found.add(choice(id, kind, (stratum_of or {}).get(id, next(iter(strata)))))
    return found


class Said:
    def __init__(self, id, kind):
        self.id, self.kind = id, kind


def test_several_annotators():
    one = audit_of({"a": "perception", "b": "reasoning", "c": "reasoning", "d": CANNOT_TELL, "e": "knowledge"}, "one")
    two = audit_of({"a": "perception", "b": "knowledge", "c": "reasoning", "d": CANNOT_TELL, "e": CANNOT_TELL}, "two")
    both = combine([one, two])
    assert both.truths == {"a": "perception", "c": "reasoning", "e": "knowledge"}
    assert (both.ties, both.cannot_tell, both.annotators) == (1, 1, ("one", "two"))
    third = audit_of({"b": "knowledge"}, "three")
    assert combine([one, two, third]).truths["b"] == "knowledge"
    agree = judge_numbers([Said("a", "perception")], [one, two])["agreement"]
    assert (agree["cases"], agree["all_same"]) == (3, 2)
    assert agree["cohen_kappa"] == pytest.approx(0.5)  # 2 of 3 alike; by chance 3 of 9
    assert agree["fleiss_kappa"] is not None
    assert judge_numbers([Said("a", "perception")], [one, two, third])["agreement"]["fleiss_kappa"] is None
    assert judge_numbers([Said("a", "perception")], [one])["agreement"] is None


def test_audits_that_do_not_fit_are_refused():
    one, same = audit_of({"a": "perception"}, "one"), audit_of({"a": "perception"}, "one")
    with pytest.raises(InputError, match=r"is of one, as is one\.jsonl"):
        combine([one, same])
    other = audit_of({"a": "perception"}, "two", {"perception": Stratum(999, 3)})
    with pytest.raises(InputError, match=r"two\.jsonl: was drawn from other verdicts"):
        combine([one, other])


# 100 verdicts of perception, of which 8 of 10 audited are right; 10 of reasoning, of which 5 of 10 are.
STRATA = {"perception": Stratum(100, 10), "reasoning": Stratum(10, 10)}
TRUTHS = {f"p{n}": "perception" if n < 8 else "reasoning" for n in range(10)} | {
    f"r{n}": "reasoning" if n < 5 else "perception" for n in range(10)
}
VERDICTS = [Said(id, "perception" if id[0] == "p" else "reasoning") for id in TRUTHS]


def by_hand():
    strata = {id: "perception" if id[0] == "p" else "reasoning" for id in TRUTHS}
    return audit_of(TRUTHS, strata=STRATA, stratum_of=strata)


def test_numbers_by_hand():
    found = judge_numbers(VERDICTS, [by_hand()])
    assert found["accuracy"][0] == pytest.approx(85 / 110)
    perception = found["kinds"]["perception"]
    assert perception["sensitivity"][0] == pytest.approx(80 / 85)
    assert perception["specificity"][0] == pytest.approx(5 / 25)
    assert perception["predictive_value"][0] == pytest.approx(0.8)
    assert found["kinds"]["reasoning"]["predictive_value"] == pytest.approx([0.5, 0.5, 0.5])  # all were audited
    assert found["confusion"] == {
        "perception": {"perception": 8, "reasoning": 5},
        "reasoning": {"perception": 2, "reasoning": 5},
    }
    assert (perception["found"], perception["said"]) == (13, 10)
    assert found["strata"]["perception"] == {"size": 100, "sampled": 10, "audited": 10}
    assert found == judge_numbers(VERDICTS, [by_hand()])
    assert json.loads(json.dumps(found)) == found


def test_effective_numbers_by_hand():
    rows = effective_confusion(VERDICTS, [by_hand()])
    # Truly perception: 8 that stand for 10 each and 5 that stand for 1.
    size = 85**2 / (8 * 100 + 5)
    assert rows["perception"] == pytest.approx({"perception": size * 80 / 85, "reasoning": size * 5 / 85})
    sensitivity, specificity = effective_rates(VERDICTS, [by_hand()])["perception"]
    assert (sensitivity.of, sensitivity.share) == pytest.approx((size, 80 / 85))
    assert specificity.share == pytest.approx(5 / 25)


def test_another_judge_of_the_same_errors():
    numbers = judge_numbers([Said(id, truth) for id, truth in TRUTHS.items() if id != "p0"], [by_hand()])
    assert numbers["absent"] == 1
    assert numbers["accuracy"][0] == 1.0
    assert numbers["accuracy"][1] < 1.0
    assert numbers["kinds"]["perception"]["sensitivity"][0] == 1.0
    assert joined(VERDICTS, [by_hand()]).sizes == {"perception": 100, "reasoning": 10}


def test_what_is_not_audited_yet_is_told():
    some = {id: kind for id, kind in TRUTHS.items() if id[0] == "p"}
    found = judge_numbers(VERDICTS, [audit_of(some, strata=STRATA)])
    assert found["not_covered"] == ["reasoning"]
    assert found["accuracy"][0] == pytest.approx(0.8)
    nothing = judge_numbers(VERDICTS, [audit_of({"p1": CANNOT_TELL}, strata=STRATA)])
    assert (nothing["audited"], nothing["cannot_tell"], nothing["accuracy"], nothing["kinds"]) == (0, 1, None, None)


def test_an_undecided_judge_is_not_right():
    strata = {"undecided": Stratum(50, 5), "perception": Stratum(50, 5)}
    kinds = {f"u{n}": "perception" for n in range(5)} | {f"p{n}": "perception" for n in range(5)}
    audited = audit_of(kinds, strata=strata, stratum_of={id: strata_of(id) for id in kinds})
    found = judge_numbers([Said(id, strata_of(id)) for id in kinds], [audited])
    assert found["accuracy"][0] == pytest.approx(0.5)
    assert found["accuracy_of_decided"][0] == 1.0
    assert found["kinds"]["perception"]["specificity"] is None


def strata_of(id):
    return "undecided" if id[0] == "u" else "perception"


def test_show(tmp_path, capsys):
    path = write(tmp_path, many(60))
    assert main(["audit", str(path), "--show"]) == 2
    assert "no audit lies beside it" in capsys.readouterr().err
    for name, shift in (("ann", 0), ("bob", 1)):
        population = read_population(path, "stratified")
        sample = draw(population, 30, 1)
        header = Header(name, path.name, population.judge, 1, 1, "stratified", sample.strata)
        said = [
            choice(id, KINDS[(number * shift) % 7] if stratum == "undecided" else stratum, stratum)
            for number, (id, stratum) in enumerate(sample.stratum_of.items())
        ]
        begun(tmp_path / f"base_audit_{name}.jsonl", *said, header=header)
    assert main(["audit", str(path), "--show"]) == 0
    text = capsys.readouterr().out
    assert "audited by ann, bob (stratified sample)" in text
    assert "accuracy " in text and "predictive value" in text
    assert main(["audit", str(path), "--show", "--json", "--audit", str(tmp_path / "base_audit_bob.jsonl")]) == 0
    assert json.loads(capsys.readouterr().out)["annotators"] == ["bob"]


# Planted truths

SHARES = np.array([0.55, 0.2, 0.06, 0.06, 0.05, 0.05, 0.03])
RIGHT = (0.85, 0.75, 0.65, 0.6, 0.7, 0.8, 0.8)
SAYS = np.array([[r if k == n else (1 - r) / 7 for k in range(8)] for n, r in enumerate(RIGHT)])


def planted(generator, design, size=4000, sample=200):
    """A judge of 4,000 errors and an audit of 200: what is true of each rate, and the numbers."""
    truth = generator.choice(7, size, p=SHARES / SHARES.sum())
    said = (SAYS[truth].cumsum(axis=1) < generator.random((size, 1))).sum(axis=1)
    ids = {name: np.flatnonzero(said == k) for k, name in enumerate(OUTCOMES)}
    ids = ids if design == "stratified" else {"all": np.arange(size)}
    counts = shared_out({name: len(members) for name, members in ids.items()}, sample)
    strata = {name: Stratum(len(members), counts[name]) for name, members in ids.items()}
    drawn = [(n, name) for name in ids for n in generator.choice(ids[name], counts[name], replace=False)]
    audited = audit_of(
        {str(n): KINDS[truth[n]] for n, _ in drawn}, "a", strata, design, {str(n): name for n, name in drawn}
    )
    numbers = judge_numbers([Said(str(n), OUTCOMES[said[n]]) for n, _ in drawn], [audited], draws=400)
    rates = {("accuracy", ""): (truth == said).mean()}
    for k, kind in enumerate(KINDS):
        rates["sensitivity", kind] = (said[truth == k] == k).mean()
        rates["specificity", kind] = (said[truth != k] != k).mean()
        rates["predictive_value", kind] = (truth[said == k] == k).mean()
    return rates, numbers


@pytest.mark.slow
@pytest.mark.parametrize("design", ["stratified", "simple"])
def test_intervals_hold_the_truth(design):
    generator = np.random.default_rng(11)
    held, off = {}, {}
    for _ in range(1_000):
        rates, numbers = planted(generator, design)
        for (rate, kind), truth in rates.items():
            told = numbers[rate] if not kind else numbers["kinds"].get(kind, {}).get(rate)
            if told:
                held.setdefault((rate, kind), []).append(told[1] - 1e-9 <= truth <= told[2] + 1e-9)
                off.setdefault((rate, kind), []).append(told[0] - truth)
    coverage = {name: float(np.mean(hits)) for name, hits in held.items()}
    assert all(0.915 <= share <= 0.985 for share in coverage.values()), coverage  # of 1,000: 0.007 by chance
    for rate in ("sensitivity", "specificity", "predictive_value"):
        assert 0.94 <= np.mean([share for (name, _), share in coverage.items() if name == rate]) <= 0.97, coverage
    # Without the weights, the accuracy of the stratified sample would be off by several percentage points.
    assert abs(np.mean(off["accuracy", ""])) < 0.005
