"""The process in which the graders of others run: math-verify as the last tier, and MathRuler for parity with the
published runs. sympy can neither be bounded nor interrupted from within, so each worker is a fork that the system kills
when its time is up, and its parent, which has imported the graders once, forks the next one at once.

usage: python -m capcurr_plugin.reward.graders FD... - one worker for each socket.

A worker speaks JSON lines: `[id, grader, answer, ground_truth, seconds]` in, `[id, verdict]` out, null where it could
not be judged; `[0, null]` says that a fresh worker is ready.
"""

import contextlib
import gc
import json
import os
import re
import resource
import signal
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

MEMORY = 2 << 30  # bytes of address space of a worker; importing sympy takes about a third

Grader = Callable[[str, str], bool]


def math_verify(answer: str, truth: str) -> bool:
    module = import_module("math_verify")
    # No timeouts of its own: they rely on signals, and the alarm of this process decides
    sides = [module.parse(f"${text}$", parsing_timeout=0) for text in (truth, answer)]
    return bool(module.verify(sides[0], sides[1], timeout_seconds=0))


def mathruler(response: str, truth: str) -> bool:
    """As the published reward calls it, with the same bounds on what is too complex to look at."""
    module = import_module("mathruler.grader")
    answer = module.extract_boxed_content(response)
    too_complex = (
        len(answer) > 200
        or answer.count("^") + answer.count("**") > 10
        or max(answer.count("("), answer.count("{")) > 40
        or re.search(r"\d{50}", answer)
    )
    return bool(answer) and not too_complex and bool(module.grade_answer(answer, truth))


GRADERS: dict[str, Grader] = {"math-verify": math_verify, "mathruler": mathruler}


def main(sockets: list[int]) -> None:
    with contextlib.suppress(ValueError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the libraries print is no reply
    for name in ("math_verify", "mathruler.grader"):
        with contextlib.suppress(ImportError):  # whoever asks for it has looked that it is there
            import_module(name)
    gc.freeze()  # so that forks go on sharing what is imported
    workers = {_fork(number): number for number in sockets}
    while workers:
        pid, status = os.wait()
        number = workers.pop(pid)
        if status != 0:  # killed: a worker whose asker has gone ends with 0
            workers[_fork(number)] = number


def _fork(number: int) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            serve(socket.socket(fileno=number))
            code = 0
        except OSError:  # nobody listens
            code = 0
        finally:
            os._exit(code)
    return pid


def serve(connection: socket.socket) -> None:
    connection.sendall(b"[0, null]\n")
    for line in connection.makefile("rb"):
        number, grader, answer, truth, seconds = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, seconds)  # nothing handles the signal: the system ends this process
        verdict = judge(GRADERS[grader], answer, truth)
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.sendall(json.dumps([number, verdict]).encode() + b"\n")


def judge(grader: Callable[[str, str], Any], answer: str, truth: str) -> bool | None:
    try:
        return grader(answer, truth)
    except Exception:  # noqa: BLE001  sympy raises whatever comes to it on what a model may write
        return None


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]])
