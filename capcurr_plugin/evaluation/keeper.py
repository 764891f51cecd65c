"""A process that ends, with all that it started, when the one that asked for it ends, however that happens.

Between the two stands a keeper: this file, run by itself. It adopts what loses its parent, and ends everything below it
once its standard input closes, which a `kill -9` of the asker does too. Standard library only.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

GRACE_SECONDS = 20.0  # from SIGTERM to SIGKILL
KILL_SECONDS = 10.0
POLL_SECONDS = 0.2
TAIL_BYTES = 64 << 10
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class Sink(Protocol):
    """A file, as far as it is written to."""

    def write(self, chunk: bytes, /) -> object: ...

    def flush(self) -> object: ...


class Kept:
    """A command that runs under a keeper. What it prints goes to `sink` as it comes; its end is remembered."""

    def __init__(
        self,
        command: Sequence[str],
        sink: Sink,
        grace_seconds: float = GRACE_SECONDS,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,  # in which it runs
    ) -> None:
        self.sink_error: OSError | None = None
        self._tail = bytearray()
        # In a session of its own: a terminal's Ctrl-C reaches the asker, who then ends the command in order
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(grace_seconds), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
            cwd=folder,
        )
        self._pump = threading.Thread(target=self._copy, args=(sink,), daemon=True)
        self._pump.start()

    def _copy(self, sink: Sink) -> None:
        assert self.process.stdout
        with self.process.stdout as output:
            while chunk := os.read(output.fileno(), 1 << 16):
                self._tail = (self._tail + chunk)[-TAIL_BYTES:]
                if self.sink_error is None:
                    try:
                        sink.write(chunk)
                        sink.flush()
                    except OSError as error:  # a full disk, a closed terminal: the command must not block on it
                        self.sink_error = error

    def poll(self) -> int | None:
        """The exit code once all has ended; 128 + N when signal N ended the command."""
        return self.process.poll()

    def wait(self) -> int:
        """The exit code, in the end; whatever ends the wait ends the command."""
        try:
            while (code := self.poll()) is None:
                time.sleep(POLL_SECONDS)
            return code
        finally:
            self.end()

    def last_lines(self, count: int) -> list[str]:
        """Of what the command printed, without empty lines."""
        if self.process.poll() is not None:
            self._pump.join(timeout=5)
        lines = self._tail.decode(errors="replace").replace("\r", "\n").split("\n")
        return [line.strip() for line in lines if line.strip()][-count:]

    def end(self) -> None:
        """The command and all that it started: SIGTERM first, SIGKILL after a while, or when asked a second time."""
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait()
        except BaseException:  # a second Ctrl-C
            self.process.terminate()
            self.process.wait()
            raise
        finally:
            self._pump.join(timeout=5)


def main(grace_seconds: float, command: Sequence[str]) -> int:
    """The keeper's life. Its exit code is the command's, 128 + N when signal N ended it."""
    hurry = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: hurry.set())
    libc = ctypes.CDLL(None)
    on_linux = sys.platform == "linux"
    if on_linux:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=(lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)) if on_linux else None,
        )
    except OSError as error:
        print(f"{command[0]}: cannot be started ({error.strerror})", flush=True)
        return 127
    code = None
    while code is None and not _asked_to_end(hurry):
        code = _reap(process)
    _end_all(process, grace_seconds, hurry)
    return 0 if code is None else code if code >= 0 else 128 - code


def _asked_to_end(hurry: threading.Event) -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], POLL_SECONDS)
    return bool(readable) or hurry.is_set()


def _reap(process: "subprocess.Popen[bytes]") -> int | None:
    """The exit code of the command once it has ended. Adopted processes leave their entries to this one, too."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return process.returncode
        if pid == 0:
            return process.returncode
        if pid == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)


def _end_all(process: "subprocess.Popen[bytes]", grace_seconds: float, hurry: threading.Event) -> None:
    for sign, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, KILL_SECONDS)):
        deadline = time.monotonic() + seconds
        signalled: set[int] = set()
        while living := _living(process.pid):
            for pid in living - signalled:
                _send(pid, sign)
            signalled |= living  # once each: to some, a second SIGTERM means at once
            if time.monotonic() > deadline or (hurry.is_set() and sign == signal.SIGTERM):
                break
            time.sleep(POLL_SECONDS / 2)
            _reap(process)
    if living := _living(process.pid):
        print(f"still there after SIGKILL: {sorted(living)}", flush=True)


def _living(group: int) -> set[int]:
    """What lives below this process; where that cannot be asked, the command's process group as one number."""
    if sys.platform != "linux":
        return {-group} if _send(-group, 0) else set()
    return below(os.getpid())


def below(pid: int) -> set[int]:
    """What a process has started, and what that has; as Linux tells."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended
            continue
        if state != "Z":
            parents[int(entry.parent.name)] = int(parent)
    found = {pid}
    while new := {child for child, parent in parents.items() if parent in found and child not in found}:
        found |= new
    return found - {pid}


def _send(pid: int, sign: int) -> bool:
    try:
        os.kill(pid, sign)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
