"""`capcurr train` without verl: its plan, its checks, what it writes down, and how it watches a job."""

import fcntl
import json
import os
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from capcurr_plugin import cli, recipes
from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.rows import CAPABILITIES
from capcurr_plugin.verl_host import checkpoints, preflight, stages, watch
from capcurr_plugin.verl_host.steps import Plateau, StepsTail, end_line, read_steps

PUBLISHED = json.loads(Path(__file__).with_name("published_runs.json").read_text())


def row(number, capability):
    return {
        "index": f"{capability}{number}",
        "problem": "1 + 1?",
        "answer": "2",
        "images": [],
        "source": "sums",
        "capability": capability,
    }


def write_rows(path, rows):
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))


def write_safetensors(path, size=64):
    header = json.dumps({"weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))


def make_model(folder, family="qwen3_vl"):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    write_safetensors(folder / "model.safetensors")
    return folder


def make_checkpoint(folder, step, ranks=2):
    checkpoint = folder / f"global_step_{step}"
    (checkpoint / "actor").mkdir(parents=True)
    names = [
        f"{kind}_world_size_{ranks}_rank_{n}.pt" for kind in ("model", "optim", "extra_state") for n in range(ranks)
    ]
    for path in (*(checkpoint / "actor" / name for name in names), checkpoint / "data.pt"):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("data.pkl", b"x" * 1000)
    (folder / checkpoints.TRACKER).write_text(str(step))
    return checkpoint


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for capability in (*CAPABILITIES, "validation"):
        rows = [row(n, capability if capability in CAPABILITIES else "perception") for n in range(8)]
        write_rows(folder / f"{capability}.jsonl", rows)
    return folder


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model")


@pytest.fixture(autouse=True)
def verl_is_installed(monkeypatch):
    monkeypatch.setattr(preflight, "check_host", lambda: None)


SMALL = ["--set", "data.train_batch_size=8", "data.val_batch_size=8"]


def arguments(data, model, out, *more):
    return ["train", "qwen3_vl_8b", "--data", str(data), "--model", str(model), "--out", str(out), *more]


def fails(capsys, argv, code=2):
    assert cli.main(list(map(str, argv))) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


# The plan


def commands(capsys, *argv):
    assert cli.main([*map(str, argv), "--dry-run"]) == 0
    text = capsys.readouterr().out.replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if not line.startswith("#")]


def test_every_published_chain_is_planned():
    for backbone in stages.FAMILIES:
        for last in stages.recipes_of(backbone).values():
            *before, own = stages.chain(backbone, next(k for k, v in stages.recipes_of(backbone).items() if v == last))
            assert own == last
            rows = [PUBLISHED["rows"][run] for run in before]
            assert rows == PUBLISHED["starts_from"][last]
    planned = {last for backbone in stages.FAMILIES for last in stages.recipes_of(backbone).values()}
    in_chains = {run for backbone in stages.FAMILIES for run in stages.chain(backbone, "staged")}
    assert planned | in_chains == set(PUBLISHED["runs"])


def test_a_dry_run_prints_each_command_and_leaves_nothing(capsys, data, tmp_path):
    out = tmp_path / "out"
    printed = commands(capsys, *arguments(data, "org/name", out, *SMALL))
    assert [words[3] for words in printed] == [
        "+capcurr=qwen3_vl_8b/stage1_perception",
        "+capcurr=qwen3_vl_8b/stage2_text_reasoning",
        "+capcurr=qwen3_vl_8b/stage3_visual_reasoning",
    ]
    assert all(words[1:3] == ["-m", "verl.trainer.main_ppo"] for words in printed)
    assert "actor_rollout_ref.model.path=org/name" in printed[0]
    assert f"data.train_files=[{data}/textual_reasoning.jsonl]" in printed[1]
    model = next(word for word in printed[1] if word.startswith("actor_rollout_ref.model.path="))
    assert model.endswith("1_stage1_perception/global_step_LAST/actor/huggingface")
    assert all(words[-3:] == [*SMALL[1:], "trainer.resume_mode=disable"] for words in printed)
    assert not out.exists()


def test_machines_seed_and_stopping_reach_verl(capsys, data, tmp_path):
    more = ["--nnodes", 4, "--gpus-per-node", 2, "--ray-address", "10.0.0.1:6379", "--seed", 7, "--image-root", data]
    more += ["--stop-when", "plateau", "--patience", 5, "--min-steps", 10, "--recipe", "merged"]
    (words,) = commands(capsys, *arguments(data, "org/name", tmp_path / "out", *more))
    for word in (
        "trainer.nnodes=4",
        "trainer.n_gpus_per_node=2",
        "+ray_kwargs.ray_init.address='10.0.0.1:6379'",
        "data.seed=7",
        "actor_rollout_ref.rollout.seed=7",
        f"+data.image_root={data}",
        "capcurr.stop_when=plateau",
        "capcurr.patience=5",
        "capcurr.min_steps=10",
        f"data.train_files=[{','.join(f'{data}/{name}.jsonl' for name in CAPABILITIES)}]",
    ):
        assert word in words
    assert not any(word.startswith("+data.capability") for word in words)


def test_a_path_with_signs_of_hydras_grammar_is_quoted(capsys, tmp_path, data):
    odd = tmp_path / "it's [a] {folder}, $really"
    data.rename(odd)
    (words,) = commands(capsys, *arguments(odd, "org/name", tmp_path / "out", "--recipe", "stage3_only"))
    quoted = str(odd / "visual_reasoning.jsonl").replace("'", "\\'")
    assert f"data.train_files=['{quoted}']" in words


def test_recipes_are_listed(capsys):
    assert cli.main(["train", "qwen3_vl_8b", "--recipe", "list"]) == 0
    listed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert listed["staged"] == "qwen3_vl_8b/stage3_visual_reasoning"
    assert listed["stage_order_213"] == "ablations/qwen3_vl_8b_stage_order_213"


# What is wrong is one line, before anything starts


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "llama", "--dry-run"], "llama: no such backbone; there are qwen2_5_vl_7b, qwen3_vl_8b"),
        (["train", "qwen3_vl_8b", "--recipe", "x"], "--recipe x: not a recipe of qwen3_vl_8b; it has staged, merged"),
        (["train", "qwen3_vl_8b"], "no rows of perception are given; put them there, or name them with --rows"),
        (["train", "qwen3_vl_8b", "--rows", "sight=a.jsonl"], "--rows sight=a.jsonl: write it as NAME=FILE"),
        (["train", "qwen3_vl_8b", "--set", "lr"], "lr: not a setting of verl; write it as path=value"),
        (
            ["train", "qwen3_vl_8b", "--cpu", "--ray-address", "auto"],
            "--cpu: runs on this machine, in a Ray of its own",
        ),
        (["train", "qwen3_vl_8b", "--nnodes", "0"], "argument --nnodes: 0 is not 1 or more"),
        (["train", "qwen3_vl_8b", "--stall-minutes", "nan"], "nan is not a time in minutes"),
    ],
)
def test_a_wrong_command_line(capsys, argv, message):
    try:
        code = cli.main(argv)
    except SystemExit as end:
        code = end.code
    assert code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_wrong_data(capsys, data, model, tmp_path):
    argv = arguments(data, model, tmp_path / "out", *SMALL)
    bad = row(3, "perception")
    bad["answer"] = None
    write_rows(data / "perception.jsonl", [row(1, "perception"), bad])
    assert "perception.jsonl, line 2: column 'answer' is null" in fails(capsys, argv)
    write_rows(data / "perception.jsonl", [row(1, "perception") | {"images": ["a.png"], "problem": "<image>?"}])
    assert f"line 1: image 'a.png' does not exist under {data}" in fails(capsys, argv)
    write_rows(data / "perception.jsonl", [row(n, "perception") for n in range(7)])
    assert "7 rows are fewer than a batch of 8, so that qwen3_vl_8b/stage1_perception would" in fails(capsys, argv)
    (data / "validation.jsonl").unlink()
    assert "holds no validation.jsonl or validation.parquet" in fails(capsys, argv)
    (data / "perception.jsonl.gz").write_bytes(b"")
    assert "holds perception.jsonl and perception.jsonl.gz; remove all but one" in fails(capsys, argv)


def test_rows_without_what_a_stage_goes_by(capsys, data, model, tmp_path):
    bare = row(1, "perception")
    del bare["capability"]
    write_rows(data / "perception.jsonl", [bare, *(row(n, "perception") for n in range(2, 9))])
    argv = arguments(data, model, tmp_path / "out", "--recipe", "merged", *SMALL)
    assert "perception.jsonl, line 1: column 'capability' is missing, which a run on all" in fails(capsys, argv)
    assert cli.main([*argv[:-4], "staged", *SMALL, "--dry-run"]) == 0  # a stage knows its capability
    argv = arguments(data, model, tmp_path / "out", "--recipe", "difficulty_only", *SMALL)
    write_rows(data / "perception.jsonl", [row(n, "perception") for n in range(8)])
    assert "perception.jsonl, line 1: column 'pass_rate' is missing, which the order" in fails(capsys, argv)


def test_verls_form_is_taken_wherever_its_images_lie(capsys, data, model, tmp_path, ran):
    (data / "image.png").write_bytes(b"png")
    rows = [row(n, "perception") | {"images": ["image.png"], "problem": "<image>?"} for n in range(8)]
    write_rows(data / "perception.jsonl", rows)
    (tmp_path / "elsewhere").mkdir()
    converted = tmp_path / "elsewhere" / "perception.parquet"
    assert cli.main(["data", "convert", str(data / "perception.jsonl"), str(converted), "--to", "verl"]) == 0
    argv = arguments(data, model, tmp_path / "out", "--rows", f"perception={converted}", *SMALL)
    assert cli.main(argv) == 0


def test_wrong_models(capsys, data, model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    other = make_model(tmp_path / "other", "internvl")
    error = fails(capsys, arguments(data, other, out, *SMALL))
    assert f"{other}: holds a model of the family internvl, and qwen3_vl_8b is qwen3_vl" in error
    (other / "config.json").unlink()
    assert "config.json: no such file; the folder holds no model" in fails(capsys, arguments(data, other, out, *SMALL))
    assert "no such folder; --model takes" in fails(capsys, arguments(data, tmp_path / "none", out, *SMALL))
    whole = (model / "model.safetensors").read_bytes()
    for damaged in (whole[:-1], whole[:40], whole[:3], b"", b"\xff" * 80, whole + b"x"):
        (model / "model.safetensors").write_bytes(damaged)
        error = fails(capsys, arguments(data, model, out, *SMALL))
        assert "model.safetensors: is damaged, or was not written to its end" in error
    (model / "model.safetensors").unlink()
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    write_safetensors(model / "one.safetensors")
    error = fails(capsys, arguments(data, model, out, *SMALL))
    assert "two.safetensors: no such file, though the model needs it" in error


def test_a_full_disk(capsys, data, model, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage(10, 9, 1))
    error = fails(capsys, arguments(data, model, tmp_path / "out", *SMALL))
    kept = recipes.settings("qwen3_vl_8b/stage1_perception")["trainer.max_actor_ckpt_to_keep"]
    assert f"0.0 GB are free, and a stage's {kept + 1} checkpoints take about" in error
    assert "make room, or keep fewer" in error


def test_an_out_that_cannot_be_written(capsys, data, model, tmp_path):
    (tmp_path / "file").write_text("")
    error = fails(capsys, arguments(data, model, tmp_path / "file" / "out", *SMALL))
    assert "cannot be written" in error


# One run in a folder


@pytest.fixture
def ran(monkeypatch):
    """Stands for verl: leaves what a run of 4 steps leaves, for each job that it is given."""
    jobs = []

    def run(job):
        jobs.append(job)
        job.folder.mkdir(parents=True, exist_ok=True)
        lines = [
            {"step": n, "of": 4, "reward": n / 4, "validation": {"val-core/a/reward/mean@1": n}} for n in range(1, 5)
        ]
        (job.folder / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        make_model(checkpoints.model_of(checkpoints.step_folder(job.folder, 4), "actor"))

    monkeypatch.setattr(watch, "run", run)
    return jobs


def test_a_run_is_written_down_and_not_run_twice(capsys, data, model, tmp_path, ran):
    out = tmp_path / "out"
    argv = arguments(data, model, out, *SMALL)
    assert cli.main(argv) == 0
    assert len(ran) == 3
    record = json.loads((out / "run.json").read_text())
    assert [stage["run"] for stage in record["stages"]] == stages.chain("qwen3_vl_8b", "staged")
    assert [(s["done"], s["steps"], s["measure"], s["first"], s["last"]) for s in record["stages"]] == [
        (True, 4, "reward", 0.25, 1.0)
    ] * 3
    assert record["stages"][2]["validation_last"] == {"val-core/a/reward/mean@1": 4}
    assert record["stages"][0]["train"][0]["rows"] == 8
    assert str(out / "3_stage3_visual_reasoning" / "global_step_4") in capsys.readouterr().out
    assert cli.main(argv) == 0
    assert len(ran) == 3
    assert "1. qwen3_vl_8b/stage1_perception: done already, 4 steps" in capsys.readouterr().out


@pytest.mark.parametrize("plateau", [False, True])
def test_a_kill_between_a_stages_end_and_its_record_does_not_run_it_again(capsys, data, model, tmp_path, ran, plateau):
    out = tmp_path / "out"
    argv = arguments(data, model, out, "--recipe", "stage3_only", *SMALL)
    assert cli.main(argv) == 0
    stage = out / "1_qwen3_vl_8b_stage3_only"
    make_model(tmp_path / "again")
    shutil.rmtree(stage / "global_step_4")
    make_checkpoint(stage, 4)
    (tmp_path / "again").rename(stage / "global_step_4" / "actor" / "huggingface")
    if plateau:
        with (stage / "steps.jsonl").open("a") as steps:
            steps.write('{"step": 4, "of": 400, "reward": 1.0, "plateau": true}\n')
    record = json.loads((out / "run.json").read_text())
    record["stages"][0]["done"] = False
    (out / "run.json").write_text(json.dumps(record))
    assert cli.main(argv) == 0
    assert len(ran) == 1
    assert json.loads((out / "run.json").read_text())["stages"][0]["done"]


def test_other_data_or_settings_are_another_run(capsys, data, model, tmp_path, ran):
    out = tmp_path / "out"
    assert cli.main(arguments(data, model, out, *SMALL)) == 0
    capsys.readouterr()
    error = fails(capsys, arguments(data, model, out, *SMALL, "data.seed=4"))
    assert "holds another run: overrides was" in error
    write_rows(data / "textual_reasoning.jsonl", [row(n, "textual_reasoning") for n in range(9)])
    error = fails(capsys, arguments(data, model, out, *SMALL))
    assert "the train rows of qwen3_vl_8b/stage2_text_reasoning have changed; give another --out" in error


def test_a_run_that_ends_early_has_failed(capsys, data, model, tmp_path, monkeypatch):
    def run(job):
        job.folder.mkdir(parents=True)
        (job.folder / "steps.jsonl").write_text('{"step": 2, "of": 4, "reward": 1}\n')

    monkeypatch.setattr(watch, "run", run)
    error = fails(capsys, arguments(data, model, tmp_path / "out", *SMALL), code=1)
    assert "verl ended without an error after step 2, before its last" in error


def test_a_second_run_in_the_same_folder_is_refused(capsys, data, model, tmp_path, ran):
    out = tmp_path / "out"
    out.mkdir()
    with (out / ".lock").open("a+") as held:
        held.write("1234")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        error = fails(capsys, arguments(data, model, out, *SMALL))
    assert "a run is under way there (process 1234)" in error


def test_a_record_that_is_not_ours_is_told(capsys, data, model, tmp_path, ran):
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text("[]")
    assert "run.json: is not what capcurr train writes" in fails(capsys, arguments(data, model, out, *SMALL))


# Checkpoints


def test_the_newest_checkpoint_is_the_one_that_verl_has_finished(tmp_path):
    assert checkpoints.newest(tmp_path, "actor") is None
    make_checkpoint(tmp_path, 2)
    make_checkpoint(tmp_path, 4)
    (make_checkpoint(tmp_path, 6) / "data.pt").unlink()
    (tmp_path / checkpoints.TRACKER).write_text("4")  # the kill came before verl was done with 6
    assert checkpoints.newest(tmp_path, "actor") == tmp_path / "global_step_4"


@pytest.mark.parametrize("damage", ["truncated", "missing rank", "missing data", "missing optimizer"])
def test_a_damaged_checkpoint_is_one_line_that_says_what_to_do(tmp_path, damage):
    make_checkpoint(tmp_path, 2)
    last = make_checkpoint(tmp_path, 4)
    optimizer = last / "actor" / "optim_world_size_2_rank_1.pt"
    if damage == "truncated":
        optimizer.write_bytes(optimizer.read_bytes()[:-10])
    elif damage == "missing rank":
        optimizer.unlink()
    elif damage == "missing data":
        (last / "data.pt").unlink()
    else:
        for part in last.glob("actor/optim*"):
            part.unlink()
    with pytest.raises(InputError, match=r"remove .*global_step_4 and run again, to go on from step 2"):
        checkpoints.newest(tmp_path, "actor")
    for part in sorted(last.rglob("*"), reverse=True):
        part.unlink() if part.is_file() else part.rmdir()
    last.rmdir()
    assert checkpoints.newest(tmp_path, "actor") == tmp_path / "global_step_2"


def test_a_tracker_without_a_number_is_told(tmp_path):
    make_checkpoint(tmp_path, 2)
    (tmp_path / checkpoints.TRACKER).write_text("two")
    with pytest.raises(InputError, match="should hold the number of a step"):
        checkpoints.newest(tmp_path, "actor")


# Steps


def test_steps_are_read_as_they_come_and_a_cut_line_is_left_out(tmp_path):
    file = tmp_path / "steps.jsonl"
    tail = StepsTail(file)
    assert list(tail.new()) == []
    file.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [step["step"] for step in tail.new()] == [1, 2]
    end_line(file)
    with file.open("a") as more:
        more.write('{"step": 2, "again": 1}\n{"step": 3}\n')
    assert [step["step"] for step in tail.new()] == [2, 3]
    assert read_steps(file) == [{"step": 1}, {"step": 2, "again": 1}, {"step": 3}]


@pytest.mark.parametrize(
    ("rewards", "reached"),
    [
        ([0.1, 0.2, 0.3, 0.4], False),
        ([0.4, 0.4, 0.4], False),  # fewer than the patience allows
        ([0.4, 0.4, 0.4, 0.4], True),
        ([0.4, 0.1, 0.1, 0.1], True),
        ([0.4, 0.1, 0.1, 0.5], False),
        ([0.1, 0.4, 0.1, 0.1], False),
        ([0.4, 0.4, 0.4, 0.4005], True),  # no gain to speak of
    ],
)
def test_a_plateau(rewards, reached):
    plateau = Plateau(patience=3, min_steps=0, rewards=[(10 * n, reward) for n, reward in enumerate(rewards)])
    assert plateau.reached == reached
    plateau.min_steps = 1000
    assert not plateau.reached


# Watching


def job(tmp_path, code, stall_seconds=60.0):
    return watch.Job(
        [sys.executable, "-c", code],
        os.environ,
        tmp_path / "stage",
        tmp_path / "steps.jsonl",
        "1/1 stage",
        stall_seconds,
    )


def test_a_job_that_ends_well(tmp_path):
    watch.run(job(tmp_path, "print('said')"))
    assert (tmp_path / "stage" / "log.txt").read_text() == "said\n"


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("raise RuntimeError('out of memory')", JobError, "exit code 1: RuntimeError: out of memory"),
        ("import os; os.kill(os.getpid(), 9)", JobError, "killed by signal 9; run the same command again"),
        ("import sys; sys.exit(3)", JobError, "exit code 3 "),
        (
            "from capcurr_plugin.errors import InputError; raise InputError('mend it')",
            InputError,
            "1/1 stage: mend it$",
        ),
        ("from capcurr_plugin.errors import JobError; raise JobError('gone')", JobError, "1/1 stage: gone$"),
        ("open('/dev/full', 'w').write('x' * 9999)", JobError, "No space left on device"),
    ],
)
def test_a_job_that_ends_badly_says_why(tmp_path, code, error, message):
    with pytest.raises(error, match=message):
        watch.run(job(tmp_path, code))


def test_an_error_of_an_earlier_start_is_not_told_again(tmp_path):
    with pytest.raises(JobError, match="first"):
        watch.run(job(tmp_path, "raise RuntimeError('first')"))
    with pytest.raises(JobError, match="exit code 4 "):
        watch.run(job(tmp_path, "import sys; sys.exit(4)"))


HANGS = """
import subprocess, sys, time
print("pid", subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""


def alive(pid):
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def ends(pid):
    """A killed process takes a moment to go."""
    deadline = time.monotonic() + 20
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def test_a_job_that_hangs_is_stopped_with_all_that_it_started(tmp_path):
    with pytest.raises(JobError, match=r"no step for 0\.05 minutes, so the run was stopped"):
        watch.run(job(tmp_path, HANGS, stall_seconds=3))
    child = int((tmp_path / "stage" / "log.txt").read_text().split()[1])
    assert ends(child)


LEAVES_ONE = """
import subprocess, sys
command = [sys.executable, "-c", "import time; time.sleep(600)"]
print("pid", subprocess.Popen(command, start_new_session=True).pid, flush=True)
"""


def test_what_a_job_leaves_behind_in_a_session_of_its_own_is_ended(tmp_path):
    watch.run(job(tmp_path, LEAVES_ONE))
    assert ends(int((tmp_path / "stage" / "log.txt").read_text().split()[1]))


def test_what_outlived_an_earlier_start_is_ended_before_the_next(tmp_path):
    mark = {watch.MARK: str(tmp_path / "stage")}
    other = {watch.MARK: str(tmp_path / "stage2")}
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    left, foreign = subprocess.Popen(sleep, env=os.environ | mark), subprocess.Popen(sleep, env=os.environ | other)
    watch.run(job(tmp_path, "pass"))
    assert left.wait(timeout=10) == -signal.SIGKILL
    assert foreign.poll() is None
    foreign.kill()
    foreign.wait()


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_command_leaves_no_job_behind(tmp_path, sign):
    sleeper = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    script = (
        "import os, signal, sys; from pathlib import Path; from capcurr_plugin.verl_host import watch\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored by what runs in a shell's background
        f"command = [sys.executable, '-c', {sleeper!r}]\n"
        f"watch.run(watch.Job(command, os.environ, Path({str(tmp_path)!r}), Path('steps'), 'job', 600))"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    log = tmp_path / "log.txt"
    deadline = time.monotonic() + 30
    while not (log.exists() and log.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.1)
    child = int(log.read_text())
    process.send_signal(sign)
    process.wait()
    assert ends(child)
