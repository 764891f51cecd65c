"""`capcurr eval` before it runs anything: the command it would run, and what it refuses in one line."""

import fcntl
import json
import subprocess
import sys

import pytest

from capcurr_plugin.cli import main

# A clone whose run.py says what it was given; the real one is met in tests/vlmeval.
RUN = r"""
import json, os, pathlib, sys
words = sys.argv[1:]
folder = pathlib.Path(words[words.index("--work-dir") + 1], words[words.index("--model") + 1])
names = words[words.index("--data") + 1 : words.index("--work-dir")]
known = ("CAPCURR_ALIASES", "CAPCURR_API_BASE", "CAPCURR_RUN", "CAPCURR_MAX_JUDGE_USD", "PRED_FORMAT")
settings = {name: os.environ.get(name) for name in known}
(folder / "given.json").write_text(json.dumps({"words": words, "settings": settings}))
done = {name: {"status": "done", "error_message": os.environ.get("BROKEN")} for name in names}
(folder / "status.json").write_text(json.dumps({"datasets": done}))
if not os.environ.get("BROKEN"):
    stem = str(folder / (folder.name + "_POPE"))
    score = "split,Overall,acc,precision,recall\nOverall,100,100,100,100\n"
    pathlib.Path(stem + "_score.csv").write_text(score)
    row = "index\tquestion\tanswer\tcategory\tprediction\textracted\tscore\n0\tq\tYes\tpopular\tYes\tYes\tTrue\n"
    pathlib.Path(stem + "_auxmatch.tsv").write_text(row)
    pathlib.Path(stem + ".tsv").write_text("index\tquestion\tanswer\tcategory\tprediction\n0\tq\tYes\tpopular\tYes\n")
sys.exit(int(os.environ.get("EXIT", 0)))
"""


@pytest.fixture
def clone(tmp_path, monkeypatch):
    home = tmp_path / "VLMEvalKit"
    (home / "vlmeval").mkdir(parents=True)
    (home / "run.py").write_text(RUN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLMEVALKIT_HOME", str(home))
    monkeypatch.setenv("CAPCURR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    for name in ("CAPCURR_ALIASES", "CAPCURR_API_BASE", "CAPCURR_JUDGES", "PRED_FORMAT", "CAPCURR_RUN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def given(folder, model="Qwen3_VL_8B_Staged"):
    return json.loads((folder / "outputs" / model / "given.json").read_text())


def refused(capsys, *words, code=2):
    assert main(["eval", *map(str, words)]) == code
    return capsys.readouterr().err.splitlines()[-1]


def test_run_py_is_given_the_suite_the_judge_and_the_alias_as_it_is_used(clone):
    words = ["Qwen3_VL_8B_Staged", "--api-base", "http://127.0.0.1:9", "--max-judge-usd", "3", "--", "--verbose"]
    assert main(["eval", *words]) == 0
    run = given(clone)
    assert run["words"][:3] == ["--model", "Qwen3_VL_8B_Staged", "--data"]
    assert len(run["words"][3 : run["words"].index("--work-dir")]) == 8
    assert run["words"][-6:] == ["--reuse", "--api-nproc", "8", "--judge", "claude-haiku-4.5", "--verbose"]
    assert run["settings"]["CAPCURR_MAX_JUDGE_USD"] == "3.0"
    assert run["settings"]["PRED_FORMAT"] == "tsv"
    alias = (clone / "outputs" / "Qwen3_VL_8B_Staged" / "capcurr-alias.yaml").read_text()
    assert "api_base: http://127.0.0.1:9/v1" in alias
    first = run["settings"]["CAPCURR_RUN"]
    assert main(["eval", *words]) == 0
    assert given(clone)["settings"]["CAPCURR_RUN"] == first  # the spend of all runs of a folder is added up


def test_a_dry_run_prints_the_command_and_writes_nothing(clone, capsys):
    assert main(["eval", "InternVL3_8B_Base", "--suite", "extended", "--mode", "infer", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        f"{sys.executable} {clone}/VLMEvalKit/run.py --model InternVL3_8B_Base --data MathVerse_MINI_V"
    )
    assert "--judge" not in said
    assert not (clone / "outputs").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--judge", "claude-sonnet-4.5"], "holds results with judge "),
        (["--checkpoint", "other/weights"], "holds results with checkpoint UCSC-VLAA/"),
        (["--limit", "5"], "holds results with rows null, and this is 5"),
    ],
)
def test_another_setup_is_refused_in_the_same_folder(clone, capsys, change, told):
    words = ["Qwen3_VL_8B_Staged", "--api-base", "http://127.0.0.1:9", "--data", "POPE"]
    assert main(["eval", *words]) == 0
    said = refused(capsys, *words, *change)
    assert told in said
    assert said.endswith("use another --work-dir")
    assert main(["eval", *words, *change, "--work-dir", "elsewhere"]) == 0


def test_another_prompt_or_vlmevalkit_is_refused_too(clone, capsys):
    words = ["Mine", "--api-base", "http://127.0.0.1:9", "--data", "POPE", "--config", "own.yaml"]
    own = "aliases: {Mine: {backbone: qwen3_vl_8b, port: 1, prompt: %s}}"
    (clone / "own.yaml").write_text(own % "system")
    assert main(["eval", *words]) == 0
    (clone / "own.yaml").write_text(own % "user")
    assert "holds results with prompt system" in refused(capsys, *words)
    (clone / "own.yaml").write_text(own % "system")
    subprocess.run(["git", "init", "-q", clone / "VLMEvalKit"], check=True)
    identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
    commit = ["git", "-C", clone / "VLMEvalKit", *identity, "commit", "-q", "--allow-empty", "-m", "m"]
    subprocess.run(commit, check=True)
    assert "holds results with VLMEvalKit upstream" in refused(capsys, *words)


def test_results_of_unknown_origin_are_not_mixed_in(clone, capsys):
    (clone / "outputs" / "Qwen3_VL_8B_Staged" / "T20261120-120000").mkdir(parents=True)
    said = refused(capsys, "Qwen3_VL_8B_Staged", "--data", "POPE")
    assert "holds results that capcurr eval has no record of; use another --work-dir" in said


def test_two_at_once_in_one_folder(clone, capsys):
    folder = clone / "outputs" / "Qwen3_VL_8B_Staged"
    folder.mkdir(parents=True)
    with (folder / ".capcurr-eval.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "another capcurr eval is at work here" in refused(capsys, "Qwen3_VL_8B_Staged", "--data", "POPE")


def test_a_data_set_that_failed_fails_the_job(clone, capsys, monkeypatch):
    monkeypatch.setenv("BROKEN", "judge x: HTTP 401")
    said = refused(capsys, "Qwen3_VL_8B_Staged", "--data", "POPE", code=1)
    assert said.startswith("capcurr: failed: POPE: judge x: HTTP 401; more in ")
    monkeypatch.setenv("EXIT", "3")
    assert "run.py ended with exit code 3" in refused(capsys, "Qwen3_VL_8B_Staged", "--data", "POPE", code=1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "which model? give an ALIAS, or --checkpoint DIR with --backbone NAME"),
        (["Nobody"], "Nobody: no such alias; there are Qwen2_5_VL_7B_Base, "),
        (["--checkpoint", "x"], "which model?"),
        (["--checkpoint", "x", "--backbone", "llama"], "backbone 'llama' is not known; choose one of "),
        (["Qwen3_VL_8B_Base", "--backbone", "qwen3_vl_8b"], "not both"),
        (["InternVL3_8B_Base", "--local"], "VLMEvalKit has no class for internvl3_8b; serve it"),
        (["Qwen3_VL_8B_Base", "--serve", "--api-base", "http://h"], "leave --local and --api-base out"),
        (["Qwen3_VL_8B_Base", "--api-base", "nowhere"], "is no server's address"),
        (["Qwen3_VL_8B_Base", "--data", "../POPE"], "is no name of a data set"),
        (["Qwen3_VL_8B_Base", "--judge", "openai:m"], "has no address; add --judge-base-url"),
        (
            ["Qwen3_VL_8B_Base", "--judge", "gpt-4o-mini", "--max-judge-usd", "1"],
            "no price is known for judge gpt-4o-mini",
        ),
        (["Qwen3_VL_8B_Base", "--vlmevalkit", "cache"], "is no clone of VLMEvalKit"),
        (["Qwen3_VL_8B_Merged", "--serve"], "has no released weights; serve your own with --checkpoint FOLDER"),
    ],
)
def test_what_cannot_work_is_one_line(clone, capsys, words, told):
    said = refused(capsys, *words)
    assert told in said
    assert said.startswith("capcurr: error: ")


def test_without_a_key_for_the_judge_nothing_starts(clone, capsys, monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    assert "no API key; set ANTHROPIC_API_KEY" in refused(capsys, "Qwen3_VL_8B_Staged")
    assert not (clone / "outputs").exists()


def test_the_kinds_of_errors_can_be_asked_for_too(clone, capsys, monkeypatch):
    words = ["eval", "Qwen3_VL_8B_Staged", "--dry-run", "--judge"]
    assert main([*words, "perception-error:claude-haiku-4.5"]) == 0
    assert "--judge perception-error:claude-haiku-4.5" in capsys.readouterr().out
    assert main([*words, "perception-error:Qwen/VL", "--judge-base-url", "http://h/v1"]) == 0
    assert "--judge perception-error:openai:Qwen--VL --judge-base-url" in capsys.readouterr().out
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    words = ["Qwen3_VL_8B_Staged", "--judge", "perception-error:claude-haiku-4.5"]
    assert "no API key; set ANTHROPIC_API_KEY" in refused(capsys, *words)


def test_without_a_vlmevalkit(clone, capsys, monkeypatch):
    monkeypatch.delenv("VLMEVALKIT_HOME")
    assert "VLMEvalKit is not here; pip install ms-vlmeval, or set VLMEVALKIT_HOME" in refused(
        capsys, "Qwen3_VL_8B_Base"
    )


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run": 1, "setup": {}}', "[" * 5000])
def test_a_damaged_record_is_told(clone, capsys, content):
    folder = clone / "outputs" / "Qwen3_VL_8B_Staged"
    folder.mkdir(parents=True)
    (folder / "capcurr-eval.json").write_text(content)
    assert "capcurr-eval.json: is damaged; move it away" in refused(capsys, "Qwen3_VL_8B_Staged", "--data", "POPE")
