"""The command line itself: help, wrong usage, how commands end, and what a start costs."""

import importlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from capcurr_plugin import cli
from capcurr_plugin.errors import InputError, JobError

COMMAND = [sys.executable, "-m", "capcurr_plugin.cli"]
HELP = [
    pytest.param(["--help"], id="capcurr"),
    *[pytest.param([group, "--help"], id=group) for group in cli.GROUPS],
    *[pytest.param([*name.split(), "--help"], id=name) for name in cli.COMMANDS],
]


def start(*arguments, **options):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False, **options)


def exit_code(*arguments):
    """What the process would end with; an escaped interrupt must not end the test run."""
    try:
        return cli.main(list(arguments))
    except SystemExit as stop:
        return stop.code
    except KeyboardInterrupt:
        return "interrupt escaped"


def error_line(capsys):
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.endswith("\n")
    assert printed.err.count("\n") == 1, printed.err
    return printed.err


@pytest.fixture
def add_command(monkeypatch):
    """Adds the command `boom`, made of two functions."""

    def add(run=lambda args: 0, add_arguments=lambda parser: None):
        module = ModuleType("boom_command")
        module.run, module.add_arguments = run, add_arguments
        monkeypatch.setitem(sys.modules, "boom_command", module)
        monkeypatch.setitem(cli.COMMANDS, "boom", ("boom_command", "fails"))

    return add


def raiser(error):
    def run(*_):
        raise error

    return run


@pytest.mark.parametrize("arguments", HELP)
def test_help(arguments, capsys):
    assert exit_code(*arguments) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"usage: {' '.join(['capcurr', *arguments[:-1]])} [-h]")
    assert printed.err == ""


def test_help_names_every_command(capsys):
    for name in cli.COMMANDS:
        group, _, word = name.rpartition(" ")
        assert exit_code(*group.split(), "--help") == 0
        assert re.search(rf"^ +{word}\s", capsys.readouterr().out, re.MULTILINE)


def test_installed_script_answers():
    script = Path(sys.executable).with_name("capcurr")
    done = subprocess.run([script, "data", "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: capcurr data ")


def test_version():
    done = start("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"capcurr-plugin \d+\.\d+\.\d+\n", done.stdout)


def test_help_imports_nothing_heavy():
    code = """
import sys
from capcurr_plugin.cli import COMMANDS, main
try:
    main(["--help"])
finally:
    unwanted = {"pyarrow", "numpy", "torch", "yaml", "tqdm", "packaging", *(module for module, _ in COMMANDS.values())}
    print("loaded:", sorted(unwanted & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_help_is_instant():
    seconds = []
    for _ in range(5):
        before = time.perf_counter()
        assert start("--help").returncode == 0
        seconds.append(time.perf_counter() - before)
    assert min(seconds) < 0.3


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_command_modules(name):
    module = importlib.import_module(cli.COMMANDS[name][0])
    assert callable(module.add_arguments)
    assert callable(module.run)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_command_does_not_import_torch(name):
    # A torch that cannot be imported shows an attempt, although none is installed here.
    code = f"import sys; sys.modules['torch'] = None; import {cli.COMMANDS[name][0]}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        ([], "COMMAND"),
        (["nonsense"], "'nonsense'"),
        (["doc"], "'doc'"),
        (["data"], "COMMAND"),
        (["data", "nonsense"], "'nonsense'"),
        (["data", "conv"], "'conv'"),
        (["data", "convert"], "IN, OUT"),
        (["data", "convert", "a.jsonl"], "OUT"),
        (["data", "convert", "a.jsonl", "b.jsonl", "c.jsonl"], "c.jsonl"),
        (["data", "convert", "a.jsonl", "b.jsonl", "--to", "csv"], "'csv'"),
        (["data", "convert", "a.jsonl", "b.jsonl", "--to"], "--to"),
        (["data", "convert", "a.jsonl", "b.jsonl", "--ima", "x"], "--ima"),
        (["data", "convert", "a.jsonl", "b.jsonl", "--embed"], "--embed"),
        (["doctor", "--for", "nonsense"], "'nonsense'"),
        (["doctor", "--js"], "--js"),
        (["demo", "extra"], "extra"),
        (["--vers"], "capcurr"),
        (["--", "doctor"], "capcurr"),
        (["demo", "a\nb"], "capcurr"),
    ],
    ids=repr,
)
def test_wrong_usage_is_one_line(arguments, phrase, capsys):
    assert exit_code(*arguments) == 2
    line = error_line(capsys)
    assert line.startswith("capcurr")
    assert ": error: " in line
    assert phrase in line


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("rows.jsonl: no such file"), 2, "capcurr: error: rows.jsonl: no such file\n"),
        (JobError("the server went away"), 1, "capcurr: failed: the server went away\n"),
        (KeyboardInterrupt(), 130, "capcurr: stopped\n"),
    ],
)
def test_bad_ends_are_one_line(error, code, line, add_command, capsys):
    add_command(run=raiser(error))
    assert exit_code("boom") == code
    assert error_line(capsys) == line


def test_interrupt_while_a_command_is_loaded(add_command, capsys):
    add_command(add_arguments=raiser(KeyboardInterrupt()))
    assert exit_code("boom") == 130
    assert error_line(capsys) == "capcurr: stopped\n"


def test_newline_in_a_file_name_stays_in_one_line(tmp_path, capsys):
    assert exit_code("data", "convert", str(tmp_path / "a\nb.jsonl"), str(tmp_path / "out.jsonl")) == 2
    assert "no such file" in error_line(capsys)


@pytest.mark.parametrize("error", [ValueError("defect"), OSError("defect"), AssertionError("defect")])
def test_a_defect_keeps_its_traceback(error, add_command):
    add_command(run=raiser(error))
    with pytest.raises(type(error), match="defect"):
        cli.main(["boom"])


@pytest.mark.parametrize("code", [0, 1, 7])
def test_exit_code_is_the_commands(code, add_command):
    add_command(run=lambda args: code)
    assert cli.main(["boom"]) == code


@pytest.mark.parametrize("buffering", ["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", ["--help", "--version", "data convert --help", "doctor", "doctor --json"])
def test_closed_pipe_leaves_no_traceback(arguments, buffering):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    if buffering == "unbuffered":
        environment["PYTHONUNBUFFERED"] = "1"
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, *arguments.split()],
            stdout=writing,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.stderr == ""
