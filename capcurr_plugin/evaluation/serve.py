"""`capcurr serve`: prints or runs the command of an engine that serves an alias's model, and stops it in order."""

import argparse
import contextlib
import errno
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

from capcurr_plugin.arguments import minutes, positive, take_words_after_dashes
from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.evaluation import health
from capcurr_plugin.evaluation.aliases import API_BASE, Alias, load_aliases
from capcurr_plugin.evaluation.engines import ENGINES, PUBLISHED_TENSOR_PARALLEL, Engine, Launch
from capcurr_plugin.evaluation.keeper import Kept

TIMEOUT_MINUTES = 60.0  # the first start of a model downloads it
POLL_SECONDS = 0.25
GLANCE_SECONDS = 2.0  # for what holds a port to say what it serves
TOOL_SECONDS = 60.0  # for nvidia-smi and docker to answer
SHOWN_LINES, SHOWN_CHARACTERS = 5, 800  # of what an engine that died said last
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
MODEL_FOLDERS = ("huggingface", "actor/huggingface")  # in verl's checkpoints


@dataclass(frozen=True)
class Options:
    """What may be set besides the alias and the engine."""

    checkpoint: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    tensor_parallel: int | None = None
    gpu_memory_utilization: float | None = None
    max_model_len: int | None = None
    more: tuple[str, ...] = ()  # words for the engine, as they are


@dataclass(frozen=True)
class Plan:
    alias: Alias
    engine: Engine
    launch: Launch
    notes: tuple[str, ...] = ()  # what one might not expect of it

    @property
    def api_base(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.launch.host, self.launch.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.launch.port}{self.engine.api_path}"

    @property
    def shell_line(self) -> str:
        return " && ".join(map(shlex.join, self.engine.commands(self.launch)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Serve the model of an alias until Ctrl-C: start an engine, wait until it answers, and end it with all that it "
        "started. Words after a bare -- go to the engine as they are."
    )
    parser.add_argument("alias", metavar="ALIAS", help="such as Qwen3_VL_8B_Staged")
    parser.add_argument("--checkpoint", metavar="MODEL", help="a model's folder, or its name on the hub")
    parser.add_argument("--engine", choices=ENGINES, help="default: vllm for Qwen, lmdeploy for InternVL")
    parser.add_argument("--config", type=Path, metavar="FILE", help="aliases of your own, in YAML")
    server = parser.add_argument_group("server")
    server.add_argument("--host", default=Options.host, help="where it listens (default: %(default)s)")
    server.add_argument("--port", type=_port, metavar="N", help="default: the alias's")
    server.add_argument("--tensor-parallel", type=positive, metavar="N", help="GPUs that share the model (default: 4)")
    server.add_argument("--gpu-memory-utilization", type=_share, metavar="F", help="of each GPU (default on vllm: 0.9)")
    server.add_argument("--max-model-len", type=positive, metavar="N", help="tokens of a prompt with its answer")
    server.add_argument("--log", type=Path, metavar="FILE", help="append what the engine prints to this file")
    wait = f"that it has to come up (default: {TIMEOUT_MINUTES:g})"
    server.add_argument("--timeout", type=minutes, default=TIMEOUT_MINUTES, metavar="MINUTES", help=wait)
    parser.add_argument("--dry-run", action="store_true", help="print the engine's command, and run nothing")
    take_words_after_dashes(parser)


def run(args: argparse.Namespace) -> int:
    settings: dict[str, Any] = {field.name: getattr(args, field.name) for field in fields(Options)}
    settings["more"] = tuple(args.more)
    plan = make_plan(find_alias(load_aliases(args.config), args.alias), args.engine, Options(**settings))
    for note in plan.notes:
        _say(f"note: {note}")
    if args.dry_run:
        print(plan.shell_line)
        return 0
    with ended_by_signals(), serving(plan, log=args.log, timeout_minutes=args.timeout) as server:
        at = f"{plan.alias.name} at {plan.api_base}, model {server.model}"
        print(f"ready: {at} (after {server.seconds:.0f} s)", flush=True)
        while True:
            server.check()
            time.sleep(POLL_SECONDS)


# The command line


def _port(text: str) -> int:
    number = int(text)
    if not 0 < number < 65536:
        raise argparse.ArgumentTypeError(f"{text} is not a port, 1 to 65535")
    return number


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share above 0 and up to 1")
    return share


# The plan


def find_alias(aliases: Mapping[str, Alias], name: str) -> Alias:
    if name not in aliases:
        raise InputError(f"{name}: no such alias; there are {', '.join(aliases)}")
    return aliases[name]


def make_plan(alias: Alias, engine_name: str | None = None, options: Options = Options()) -> Plan:
    """What will run. Looks at the checkpoint's folder and counts GPUs, and starts nothing."""
    engine = ENGINES.get(engine_name or alias.backbone.engine)
    if engine is None:
        raise InputError(f"engine {engine_name or alias.backbone.engine!r} is not one of {', '.join(ENGINES)}")
    _check_options(engine, options)
    tensor_parallel, gpu_note = _tensor_parallel(engine, options.tensor_parallel)
    launch = Launch(
        model=_model(alias, options.checkpoint),
        host=options.host,
        port=options.port or (engine.service.port if engine.service else alias.port),
        model_id=alias.model,
        tensor_parallel=tensor_parallel,
        gpu_memory_utilization=options.gpu_memory_utilization or engine.gpu_memory_utilization,
        max_model_len=options.max_model_len,
        min_pixels=alias.min_pixels,
        max_pixels=alias.max_pixels,
        more=options.more,
    )
    plan = Plan(alias, engine, launch)
    return replace(plan, notes=tuple(filter(None, (gpu_note, *_mismatches(plan)))))


def _check_options(engine: Engine, options: Options) -> None:
    for name in ("tensor_parallel", "gpu_memory_utilization", "max_model_len"):
        if getattr(options, name) is not None and name not in engine.options:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option}: {engine.name} has no option for it; leave it out, or use another --engine")


def _model(alias: Alias, checkpoint: str | None) -> str:
    model = checkpoint or alias.weights or (alias.backbone.base if alias.prompt == "none" else None)
    if model is None:
        raise InputError(f"{alias.name}: has no released weights; serve your own with --checkpoint FOLDER")
    folder = Path(model)
    if not folder.is_dir():
        if folder.exists() or not HUB_NAME.fullmatch(model):
            raise InputError(f"{model}: no such folder; --checkpoint takes a model's folder, or its name on the hub")
        return model
    if not (folder / "config.json").is_file():
        inner = next((folder / name for name in MODEL_FOLDERS if (folder / name / "config.json").is_file()), None)
        raise InputError(f"{folder}: holds no config.json, so no model" + (f"; give {inner}" if inner else ""))
    return str(folder)


def _tensor_parallel(engine: Engine, asked: int | None) -> tuple[int | None, str | None]:
    """How many GPUs share the model, and what to say about that."""
    if not engine.needs_gpu:
        return None, None
    visible = visible_gpus()
    if visible == 0:
        return asked or PUBLISHED_TENSOR_PARALLEL, f"no GPU is visible here, and {engine.name} needs one"
    if asked or visible >= PUBLISHED_TENSOR_PARALLEL:
        return asked or PUBLISHED_TENSOR_PARALLEL, None
    fitting = 1 << (visible.bit_length() - 1)  # the models' attention heads divide by 1, 2 and 4, not by 3
    note = (
        f"GPUs that share the model: {fitting}, not the published {PUBLISHED_TENSOR_PARALLEL}; {visible} visible here"
    )
    return fitting, note


def visible_gpus(environment: Mapping[str, str] = os.environ) -> int:
    """NVIDIA GPUs that a process started here may use. The driver is asked, so that torch need not be imported."""
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    present = len(done.stdout.split()) if done.returncode == 0 else 0
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return present
    names = [name.strip() for name in chosen.split(",")]
    valid = next((count for count, name in enumerate(names) if name in ("", "-1")), len(names))  # CUDA stops there
    return min(present, valid)


def _mismatches(plan: Plan) -> Iterator[str]:
    """Where the server will not be what the alias says."""
    alias, engine = plan.alias, plan.engine
    if plan.launch.pixels and not {"pixels", "image_pixels"} & engine.options.keys():
        yield f"{engine.name} has no option for min_pixels and max_pixels; images go as large as the model takes them"
    if alias.model and "model_id" not in engine.options:
        yield f"{engine.name} cannot list the model as {alias.model}, the id that the alias names"
    if plan.api_base != alias.api_base:
        yield f"the alias expects {alias.api_base}; clients need {API_BASE}={alias.name}={plan.api_base}"


# A server's life


@dataclass(frozen=True)
class Server:
    """One that answers."""

    plan: Plan
    model: str  # its id in requests
    seconds: float  # that it took to come up
    kept: Kept | None  # None: a service that runs anyway

    def check(self) -> None:
        """JobError once the engine has ended."""
        if self.kept and self.kept.poll() is not None:
            raise JobError(_ended(self.plan.engine.name, self.kept))


@contextlib.contextmanager
def serving(plan: Plan, *, log: Path | None = None, timeout_minutes: float = TIMEOUT_MINUTES) -> Iterator[Server]:
    """Start the engine, wait until it answers, and end it when the block ends. What it prints goes to `log`, or else
    to standard error."""
    program = _program(plan.engine)
    if plan.engine.service is None:
        _check_port(plan)
    start = time.monotonic()
    deadline = start + 60 * timeout_minutes
    with _sink(log) as sink, contextlib.ExitStack() as stack:
        _say(f"starting: {plan.shell_line}")
        kept = None
        if plan.engine.service:
            stack.callback(_unload, plan, sink)
            for command in plan.engine.commands(plan.launch):
                _run_to_its_end(command, sink, deadline)
        else:
            (command,) = plan.engine.commands(plan.launch)
            kept = Kept([program, *command[1:]], sink)
            stack.callback(_end, plan.engine, kept, log)
        model = _wait_until_it_answers(plan, kept, deadline)
        yield Server(plan, model, time.monotonic() - start, kept)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block in order, as Ctrl-C does, and the process with a shell's code for them."""

    def end(number: int, _: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    heeded = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) != signal.SIG_IGN]  # nohup ignores
    before = {sign: signal.signal(sign, end) for sign in heeded}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _program(engine: Engine) -> str:
    """On the PATH, or else in the environment that this command was called from by its path."""
    program = shutil.which(engine.program) or shutil.which(engine.program, path=Path(sys.executable).parent)
    if program is None:
        raise InputError(f"{engine.name}: there is no {engine.program} on the PATH; install it: {engine.install}")
    if not engine.probe:
        return program
    try:
        done = subprocess.run(engine.probe, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{shlex.join(engine.probe)}: {error}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise InputError(f"{shlex.join(engine.probe)}: {said}; install it: {engine.install}")
    return program


def _check_port(plan: Plan) -> None:
    """Some engines would share a port that is taken, so that half of the requests went to another model."""
    host, port = plan.launch.host, plan.launch.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do, for a port just left
            probe.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise InputError(f"--host {host} --port {port}: {error.strerror}") from None
        models = health.listed_models(plan.api_base, GLANCE_SECONDS)
        serves = f", which serves {', '.join(models[:3])}" if models else ""
        raise InputError(
            f"port {port} is taken by {health.listener(port)}{serves}; stop it, or give another --port"
        ) from None


@contextlib.contextmanager
def _sink(log: Path | None) -> Iterator[IO[bytes]]:
    if log is None:
        yield sys.stderr.buffer
        return
    try:
        file = log.open("ab", buffering=0)
    except OSError as error:
        raise InputError(f"--log {log}: cannot be written ({error.strerror})") from None
    with file:
        yield file


def _run_to_its_end(command: Sequence[str], sink: IO[bytes], deadline: float) -> None:
    kept = Kept(command, sink)
    try:
        while (code := kept.poll()) is None:
            if time.monotonic() > deadline:
                raise JobError(f"{shlex.join(command)}: has not ended in time")
            time.sleep(POLL_SECONDS)
    finally:
        kept.end()
    if code:
        raise JobError(_ended(shlex.join(command), kept))


def _wait_until_it_answers(plan: Plan, kept: Kept | None, deadline: float) -> str:
    """The id under which the model answers."""
    expected = plan.engine.model_id(plan.launch) if plan.engine.model_id else plan.launch.model_id
    while True:
        if kept and kept.poll() is not None:
            raise JobError(f"{_ended(plan.engine.name, kept)}, before it was ready")
        try:
            return health.answering_model(plan.api_base, deadline - time.monotonic(), expected)
        except JobError as error:
            raise JobError(f"{error}{_last_words(kept)}") from None
        except health.NotYet as reason:
            if plan.engine.service and isinstance(reason, health.Closed):
                raise JobError(f"{plan.api_base}: {reason}; {plan.engine.service.unreachable}") from None
            if time.monotonic() > deadline:
                raise JobError(f"{plan.api_base}: no answer within the time of --timeout; at last: {reason}") from None
        time.sleep(POLL_SECONDS)


def _end(engine: Engine, kept: Kept, log: Path | None) -> None:
    if kept.poll() is None:
        _say(f"stopping {engine.name}; a second signal kills it")
    kept.end()
    if log and kept.sink_error:
        _say(f"note: {log}: is not complete ({kept.sink_error.strerror})")


def _unload(plan: Plan, sink: IO[bytes]) -> None:
    assert plan.engine.service
    command = plan.engine.service.unload(plan.launch)
    _say(f"running: {shlex.join(command)}")
    try:
        _run_to_its_end(command, sink, time.monotonic() + TOOL_SECONDS)
    except JobError as error:
        _say(f"note: {error}")


def _ended(name: str, kept: Kept) -> str:
    code = kept.poll() or 0
    signals = {128 + sign: sign.name for sign in signal.Signals}
    how = f"was killed by {signals[code]}" if code in signals else f"ended with exit code {code}"
    return f"{name} {how}{_last_words(kept)}"


def _last_words(kept: Kept | None) -> str:
    said = " | ".join(kept.last_lines(SHOWN_LINES) if kept else ())
    return f" (it said: {said[-SHOWN_CHARACTERS:]})" if said else ""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
