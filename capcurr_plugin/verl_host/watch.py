"""Runs one verl job: shows its steps, keeps its log, and stops it when it hangs."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.verl_host.steps import StepsTail

POLL_SECONDS = 0.5
END_SECONDS = 20  # that a stopped job has to end by itself
PR_SET_PDEATHSIG = 1
MARK = "CAPCURR_JOB"  # in the environment of all that a job starts: the job's folder
LOG_END_BYTES = 200_000
OUR_ERROR = re.compile(r"capcurr_plugin\.errors\.(InputError|JobError): (.*)")
ANY_ERROR = re.compile(r"^(?:\x1b\[\d+m\(.*?\)\x1b\[0m )?((?:[a-z_]\w*\.)*[A-Z]\w+: .+)$", re.MULTILINE)


@dataclass(frozen=True)
class Job:
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path  # of its checkpoints and its log
    steps: Path  # that it writes
    title: str
    stall_seconds: float

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"


def run(job: Job) -> None:
    """Until the job ends; JobError with the reason when it does not end well."""
    job.folder.mkdir(parents=True, exist_ok=True)
    _kill_leftovers(job)
    with job.log.open("ab") as log:
        start = log.tell()
        process = subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**job.environment, MARK: str(job.folder)},
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    try:
        code = _watched(job, process)
    finally:
        _end(process)
        _kill_leftovers(job)
    if code != 0:
        _explain(job, code, start)


def _watched(job: Job, process: "subprocess.Popen[bytes]") -> int:
    tail = StepsTail(job.steps)
    last_sign = time.monotonic()
    with tqdm(desc=job.title, unit="step", disable=None) as bar:
        while (code := process.poll()) is None:
            time.sleep(POLL_SECONDS)
            for step in tail.new():
                last_sign = time.monotonic()
                _show(job.title, bar, step)
            if time.monotonic() - last_sign > job.stall_seconds:
                raise JobError(
                    f"{job.title}: no step for {job.stall_seconds / 60:g} minutes, so the run was stopped; {job.log} "
                    "holds what it said last; run the same command again to go on from its last checkpoint"
                )
        for step in tail.new():
            _show(job.title, bar, step)
    return code


def _show(title: str, bar: "tqdm[Any]", step: Mapping[str, Any]) -> None:
    if bar.disable:  # no terminal: a line now and then
        if step.get("validation"):
            print(f"{title}: step {step['step']} of {step['of']}", file=sys.stderr, flush=True)
        return
    bar.total = step.get("of")
    bar.update(step["step"] - bar.n)
    shown = {name: f"{step[name]:.3f}" for name in ("reward", "loss") if step.get(name) is not None}
    if shown:
        bar.set_postfix(shown)


def _die_with_parent() -> None:
    """A killed `capcurr train` must not leave a run behind that a second one would race with."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """The job and all that it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline and _group_lives(process.pid):
            process.poll()
            time.sleep(0.1)
    process.wait()


def _kill_leftovers(job: Job) -> None:
    """What the job has started in sessions of their own, or what outlived an earlier start that was killed: it would
    write into the same folder."""
    mark = f"{MARK}={job.folder}\0".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes() and int(process.name) != os.getpid():
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:  # it has ended, or is another user's
            continue


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _explain(job: Job, code: int, start: int) -> None:
    with job.log.open("rb") as log:
        log.seek(max(start, job.log.stat().st_size - LOG_END_BYTES))
        said = log.read().decode(errors="replace")
    ours = OUR_ERROR.findall(said)
    if ours:
        kind, message = ours[-1]
        raise (InputError if kind == "InputError" else JobError)(f"{job.title}: {message.strip()}")
    if code < 0:
        raise JobError(
            f"{job.title}: the run was killed by signal {-code}; run the same command again to go on from its last "
            f"checkpoint ({job.log})"
        )
    errors = ANY_ERROR.findall(said)
    reason = f": {errors[-1].strip()[:300]}" if errors else ""
    raise JobError(f"{job.title}: verl ended with exit code {code}{reason} ({job.log})")
