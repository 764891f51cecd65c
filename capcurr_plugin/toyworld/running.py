"""What the demo's steps run on: commands in the hosts' environments, servers beside them, a record of what is done."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from capcurr_plugin.atomic import replacing
from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.evaluation.keeper import Kept, below
from capcurr_plugin.locks import holding
from capcurr_plugin.ports import free_port

Host = Literal["core", "verl", "vlmeval"]

RECORD, LOGS = "demo.json", "logs"
SERVER_SECONDS = 180.0  # that one may take to come up
POLL_SECONDS = 0.2
TELL_SECONDS = 1.0
GRACE_SECONDS = 5.0  # a server has nothing to bring to an end
SHOWN_LINES = 15  # of the log of a command that failed


@dataclass
class Record:
    """What was done, in `demo.json`: a step that stands there is not done again."""

    settings: Mapping[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)  # by step, added up over restarts
    done: list[str] = field(default_factory=list)
    peak_memory_mb: int = 0  # of all processes together, pages they share counted for each


@dataclass
class Workshop:
    folder: Path  # commands run in it: for `python -m`, a file like cmd.py beside the user would be Python's own
    pythons: Mapping[Host, Path]
    record: Record
    at_work: Kept | None = None  # the command that was started last

    @classmethod
    def open(cls, folder: Path, pythons: Mapping[Host, Path], settings: Mapping[str, Any]) -> Workshop:
        folder = folder.absolute()
        path = folder / RECORD
        if not path.exists():
            if folder.is_dir() and any(folder.iterdir()):
                raise InputError(f"{folder}: holds other files; name a folder of its own with --out")
            try:
                (folder / LOGS).mkdir(parents=True)
            except OSError as error:
                raise InputError(f"{folder}: cannot be made ({error.strerror})") from None
            workshop = cls(folder, pythons, Record(settings))
            workshop.keep()
            return workshop
        try:
            record = Record(**json.loads(path.read_text()))
        except (ValueError, TypeError):
            raise InputError(f"{path}: is damaged; remove {folder}, or name another folder with --out") from None
        if record.settings != json.loads(json.dumps(settings)):
            raise InputError(f"{folder}: holds a demo with other settings; name another folder with --out")
        return cls(folder, pythons, record)

    @classmethod
    @contextlib.contextmanager
    def alone(cls, folder: Path, pythons: Mapping[Host, Path], settings: Mapping[str, Any]) -> Iterator[Workshop]:
        """No other demo works in the folder as long as the block lasts."""
        folder = cls.open(folder, pythons, settings).folder
        with holding(folder / LOGS / "lock", f"{folder}: another capcurr demo is at work here; wait for it"):
            yield cls.open(folder, pythons, settings)  # read again, now that nobody else writes it

    def keep(self) -> None:
        with replacing(self.folder / RECORD) as file:
            file.write(json.dumps(vars(self.record), indent=1).encode() + b"\n")

    # Commands

    def capcurr(self, host: Host, log: str, *words: object, **environment: str) -> None:
        """A command of the plugin, in an environment; what it prints goes to the log."""
        told = [str(word) for word in words]
        print(f"      $ capcurr {shlex.join(told)}", flush=True)
        self.run(host, log, "-m", "capcurr_plugin.cli", *told, **environment)

    def run(self, host: Host, log: str, *words: object, **environment: str) -> None:
        command = [str(self.pythons[host]), *map(str, words)]
        path = self._log(log)
        with path.open("ab", buffering=0) as sink:
            kept = Kept(command, sink, environment={**_surroundings(), **environment}, folder=self.folder)
            self.at_work = kept
            code = kept.wait()
        if code:
            lines = "\n".join(f"      | {line}" for line in kept.last_lines(SHOWN_LINES))
            print(lines, file=sys.stderr)
            raise JobError(f"{log}: it ended with {code}; all it said is in {path}. Run the same command to go on")

    @contextlib.contextmanager
    def serving(self, host: Host, log: str, *words: object) -> Iterator[str]:
        """A server of this project, as long as the block lasts: its address."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [str(self.pythons[host]), "-m", *map(str, words), "--port", str(port)]
        with self._log(log).open("ab", buffering=0) as sink:
            kept = Kept(command, sink, GRACE_SECONDS, environment=_surroundings(), folder=self.folder)
            try:
                _wait_for(url, kept, log)
                yield url
            finally:
                kept.end()

    def _log(self, name: str) -> Path:
        return self.folder / LOGS / f"{name}.log"


# No hub, and no threads of the tokenizers beside torch's. Torch's wait for each other at every turn, and shall not spin
# for long meanwhile: on a machine that is busy otherwise the lessons would take ten times as long.
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "GOMP_SPINCOUNT": "2000",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONUNBUFFERED": "1",
}


def _surroundings() -> dict[str, str]:
    """What commands find in their environment. Byte code is kept, though a container may forbid it: without, each of
    verl's starts takes 40 s more."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | _QUIET


def _wait_for(url: str, kept: Kept, log: str) -> None:
    deadline = time.monotonic() + SERVER_SECONDS
    while time.monotonic() < deadline:
        if kept.poll() is not None:
            raise JobError(f"{log}: the server ended before it was up: {' '.join(kept.last_lines(3))}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(POLL_SECONDS)
    raise JobError(f"{log}: the server was not up after {SERVER_SECONDS:.0f} s")


# Telling what runs


@dataclass(frozen=True)
class Step:
    name: str
    what: str  # and why, in a few words
    seconds: float  # that it took on 2 cores


@contextlib.contextmanager
def told(step: Step, number: int, of: int, workshop: Workshop) -> Iterator[None]:
    """Says what begins and how long that takes, shows the time while it runs, and writes down that it is done."""
    print(f"[{number}/{of}] {step.what} (about {clock(step.seconds)})", flush=True)
    start, watch = time.monotonic(), _Watch(step, workshop)
    try:
        with watch:
            yield
        workshop.record.done.append(step.name)
    finally:
        seconds = time.monotonic() - start
        workshop.record.seconds[step.name] = round(workshop.record.seconds.get(step.name, 0.0) + seconds, 1)
        workshop.keep()
    print(f"      done in {clock(seconds)}", flush=True)


def clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


class _Watch(threading.Thread):
    """The time that has passed and what the command said last, on a terminal; and the most memory that was in use."""

    def __init__(self, step: Step, workshop: Workshop) -> None:
        super().__init__(daemon=True)
        self._step, self._workshop, self._over = step, workshop, threading.Event()
        self._shows = sys.stderr.isatty()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        start, record = time.monotonic(), self._workshop.record
        while not self._over.wait(TELL_SECONDS):
            record.peak_memory_mb = max(record.peak_memory_mb, memory_below(os.getpid()) >> 20)
            if self._shows:
                passed = clock(time.monotonic() - start)
                line = f"      {passed} of about {clock(self._step.seconds)}   {self._said_last()}"
                print(f"\r\x1b[K{_fitting(line)}", end="", file=sys.stderr, flush=True)
        if self._shows:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _said_last(self) -> str:
        kept = self._workshop.at_work
        return "".join(kept.last_lines(1)) if kept and kept.poll() is None else ""


def _fitting(line: str) -> str:
    """In one line of the terminal, and without orders to it."""
    return "".join(filter(str.isprintable, line))[: shutil.get_terminal_size().columns - 1]


def memory_below(pid: int) -> int:
    """Bytes of a process and all that it started, where the system tells."""
    page, size = os.sysconf("SC_PAGE_SIZE"), 0
    for one in (pid, *below(pid)):
        with contextlib.suppress(OSError):  # it has just ended
            size += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * page
    return size
