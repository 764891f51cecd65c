"""`capcurr demo` without its hosts: what it refuses, and how its steps are told, recorded and gone on with."""

import json
import os
import sys
from pathlib import Path

import pytest
from row_samples import error_line

from capcurr_plugin import locks
from capcurr_plugin.cli import main
from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.toyworld import running
from capcurr_plugin.toyworld.demo import _settings
from capcurr_plugin.toyworld.loop import Loop, Training, model_name, runs
from capcurr_plugin.toyworld.running import Record, Step, Workshop, memory_below, told

PYTHONS = dict.fromkeys(("core", "verl", "vlmeval"), Path(sys.executable))


def demo(tmp_path, *words):
    pythons = ["--verl-python", sys.executable, "--vlmeval-python", sys.executable]
    return main(["demo", "--out", str(tmp_path / "demo"), *pythons, *words])


def settings_of(**words):
    from argparse import Namespace

    return _settings(Namespace(**{"quick": True, "compare": False, "seeds": [1], **words}))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "1", "1"], "--seeds: give different whole numbers"),
        (["--seeds", "0"], "--seeds: give different whole numbers"),
        (
            ["--compare", "--seeds", *map(str, range(1, 7))],
            "--seeds: makes 12 runs; one page has room for the models of 11",
        ),
        (["--verl-python", "/none"], "--verl-python /none: no such file"),
    ],
)
def test_wrong_input(words, said, tmp_path, capsys):
    assert demo(tmp_path, *words) == 2
    assert said in error_line(capsys)
    assert not (tmp_path / "demo").exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path, capsys):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine.txt").write_text("mine")
    assert demo(tmp_path) == 2
    assert "holds other files" in error_line(capsys)
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "demo").write_text("mine")
    assert demo(tmp_path) == 2
    assert "demo: cannot be made" in error_line(capsys)


def test_other_settings_and_a_damaged_record_are_refused(tmp_path):
    Workshop.open(tmp_path / "demo", PYTHONS, settings_of().record())
    Workshop.open(tmp_path / "demo", PYTHONS, settings_of().record())
    with pytest.raises(InputError, match="holds a demo with other settings"):
        Workshop.open(tmp_path / "demo", PYTHONS, settings_of(compare=True).record())
    (tmp_path / "demo" / "demo.json").write_text('{"settings"')
    with pytest.raises(InputError, match="is damaged"):
        Workshop.open(tmp_path / "demo", PYTHONS, settings_of().record())


def test_two_demos_in_one_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0)
    settings = settings_of().record()
    with (
        Workshop.alone(tmp_path / "demo", PYTHONS, settings),
        pytest.raises(InputError, match=r"another capcurr demo is at work here; wait for it \(process [0-9]+\)"),
        Workshop.alone(tmp_path / "demo", PYTHONS, settings),
    ):
        pass
    with Workshop.alone(tmp_path / "demo", PYTHONS, settings) as workshop:
        assert workshop.record.done == []


def test_each_recipe_and_seed_is_a_run_with_a_model():
    settings = settings_of(compare=True, seeds=[1, 2])
    assert runs(settings) == [("staged", 1), ("merged", 1), ("staged", 2), ("merged", 2)]
    assert [model_name(*run) for run in runs(settings)] == ["Toy_Staged", "Toy_Merged", "Toy_Staged_2", "Toy_Merged_2"]


def test_merged_has_the_steps_of_all_stages():
    words = {recipe: Training(steps=8).words(recipe) for recipe in ("staged", "merged")}
    assert "trainer.total_training_steps=8" in words["staged"]
    assert "trainer.total_training_steps=24" in words["merged"]
    differing = set(words["staged"]) ^ set(words["merged"])
    assert {word.partition("=")[0] for word in differing} == {"trainer.total_training_steps"}


class Steps(Loop):
    """Three steps that write their names; the second fails as often as it is told to."""

    fails = 0

    def steps(self):
        for name in ("one", "two", "three"):
            yield Step(name, f"Do {name}", 1), lambda name=name: self.do(name)

    def do(self, name):
        if name == "two" and type(self).fails:
            type(self).fails -= 1
            raise JobError("two: it ended with 1")
        with (self.workshop.folder / "said.txt").open("a") as file:
            file.write(f"{name}\n")


def test_a_second_run_goes_on_where_the_first_one_failed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Steps, "fails", 1)
    settings = settings_of()
    with pytest.raises(JobError, match="two"):
        Steps(Workshop.open(tmp_path / "demo", PYTHONS, settings.record()), settings).run()
    first = capsys.readouterr().out
    assert first.startswith("3 of 3 steps to do, about 3 s on 2 cores\n")
    assert "[1/3] Do one (about 1 s)" in first and "[3/3]" not in first
    Steps(Workshop.open(tmp_path / "demo", PYTHONS, settings.record()), settings).run()
    again = capsys.readouterr().out
    assert again.startswith("2 of 3 steps to do, about 2 s on 2 cores\n")
    assert "[1/3] Do one: done before" in again and "[3/3] Do three (about 1 s)" in again
    assert (tmp_path / "demo" / "said.txt").read_text() == "one\ntwo\nthree\n"
    record = Record(**json.loads((tmp_path / "demo" / "demo.json").read_text()))
    assert record.done == ["one", "two", "three"]
    assert set(record.seconds) == {"one", "two", "three"}


def test_a_command_that_fails_says_where_its_log_is(tmp_path, capsys):
    workshop = Workshop.open(tmp_path / "demo", PYTHONS, {})
    with pytest.raises(JobError, match=r"convert: it ended with 2; all it said is in .*/logs/convert\.log"):
        workshop.capcurr("core", "convert", "data", "convert", tmp_path / "none.jsonl", tmp_path / "out.jsonl")
    printed = capsys.readouterr()
    assert f"$ capcurr data convert {tmp_path}/none.jsonl" in printed.out
    assert "none.jsonl: no such file" in printed.err
    assert "none.jsonl: no such file" in (tmp_path / "demo" / "logs" / "convert.log").read_text()


def test_files_beside_the_user_are_not_taken_for_pythons_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cmd.py", "random.py"):
        Path(name).write_text("raise SystemExit(7)")
    workshop = Workshop.open(Path("demo"), PYTHONS, {})
    workshop.run("core", "said", "-m", "capcurr_plugin.cli", "recipes")
    with workshop.serving("core", "oracle", "capcurr_plugin.toyworld.rules", "oracle"):
        assert "qwen3_vl_8b/stage1_perception" in Path("demo/logs/said.log").read_text()


def test_a_server_lasts_as_long_as_its_block(tmp_path):
    import requests

    workshop = Workshop.open(tmp_path / "demo", PYTHONS, {})
    with workshop.serving("core", "oracle", "capcurr_plugin.toyworld.rules", "oracle") as url:
        assert requests.get(f"{url}/v1/models", timeout=10).json()["data"][0]["id"] == "rules-oracle"
        assert requests.post(f"{url}/v1/chat/completions", json={"messages": 3}, timeout=10).status_code == 400
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/v1/models", timeout=10)


def test_a_server_that_cannot_start_is_told(tmp_path):
    workshop = Workshop.open(tmp_path / "demo", PYTHONS, {})
    with (
        pytest.raises(JobError, match="writer: the server ended before it was up"),
        workshop.serving("core", "writer", "capcurr_plugin.toyworld.rules", "painter"),
    ):
        pass


def test_the_memory_of_all_processes_is_noted(tmp_path):
    assert memory_below(os.getpid()) > 20 << 20
    workshop = Workshop.open(tmp_path / "demo", PYTHONS, {})
    with told(Step("big", "Take memory", 3), 1, 1, workshop):
        workshop.run("core", "big", "-c", "import time; x = bytearray(300 << 20); time.sleep(3)")
    assert workshop.record.peak_memory_mb > 300


def test_a_terminal_shows_what_the_command_said_last(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(running, "TELL_SECONDS", 2.0)  # until then the command speaks, also on a busy machine
    workshop = Workshop.open(tmp_path / "demo", PYTHONS, {})
    code = "import time; print('step 1 of 2'); time.sleep(3); print('\x1b[2Jstep 2' + '.' * 99); time.sleep(3)"
    with told(Step("train", "Train", 300), 1, 1, workshop):
        workshop.run("core", "train", "-c", code)
    lines = capsys.readouterr().err.split("\r\x1b[K")
    assert "      2 s of about 5.0 min   step 1 of 2" in lines
    assert any(line.endswith("of about 5.0 min   [2Jstep 2" + "." * 21) for line in lines)
    assert max(map(len, lines)) == 59
    assert lines[-1] == ""  # it is wiped away


def test_commands_keep_byte_code(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    workshop = Workshop.open(tmp_path / "demo", PYTHONS, {})
    workshop.run("core", "said", "-c", "import sys; raise SystemExit(sys.dont_write_bytecode)")


def test_what_a_killed_warm_start_has_left_goes_away(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPCURR_CACHE", str(tmp_path / "cache"))
    settings = settings_of()
    loop = Loop(Workshop.open(tmp_path / "demo", PYTHONS, settings.record()), settings)
    monkeypatch.setattr(Workshop, "run", lambda *_: loop.base.mkdir())
    (tmp_path / "demo" / ".base.0123.part" / "new").mkdir(parents=True)
    loop.warm_start()
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {"base", "logs", "demo.json"}
    assert len(list((tmp_path / "cache" / "toyworld").iterdir())) == 1


def test_the_page_shows_the_curves_of_as_many_runs_as_can_be_told_apart(tmp_path, monkeypatch):
    settings = settings_of(compare=True, seeds=[1, 2, 3, 4, 5])
    loop = Loop(Workshop.open(tmp_path / "demo", PYTHONS, settings.record()), settings)
    compared = {"first": "Toy_Merged", "second": "Toy_Staged"}
    averages = {"toyworld": {"difference": 1.0, "interval": [-1.0, 3.0]}}
    results = {"comparison": compared | {"averages": averages}}
    (tmp_path / "demo" / "results.json").write_text(json.dumps(results))
    commands = []
    monkeypatch.setattr(Workshop, "capcurr", lambda self, host, log, *words: commands.append([str(w) for w in words]))
    loop.report()
    (words,) = commands
    assert sum("/runs/" in word for word in words) == 8
    about = (tmp_path / "demo" / "about.txt").read_text()
    assert "Toy_Staged cannot be told apart from Toy_Merged" in about
    assert "those of the first 8 of 10 runs" in about
