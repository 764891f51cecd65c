"""`capcurr eval`: from an alias and a suite to a table, through VLMEvalKit's own run.py, which is run as it is."""

import argparse
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from capcurr_plugin.arguments import dollars, take_words_after_dashes
from capcurr_plugin.atomic import replacing
from capcurr_plugin.endpoints import api_root
from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.evaluation import health
from capcurr_plugin.evaluation.aliases import OWN_ALIASES, Alias, load_aliases, own_checkpoint
from capcurr_plugin.evaluation.engines import ENGINES
from capcurr_plugin.evaluation.keeper import Kept
from capcurr_plugin.evaluation.serve import (
    Options,
    ended_by_signals,
    find_alias,
    make_plan,
    serving,
)
from capcurr_plugin.evaluation.suites import load_suites
from capcurr_plugin.judge.config import BY_URL, PERCEPTION_ERROR, find_judge
from capcurr_plugin.judge.judge import MAX_USD, RUN, spend_line
from capcurr_plugin.locks import holding

HOME = "VLMEVALKIT_HOME"
RECORD = "capcurr-eval.json"
JUDGE = "claude-haiku-4.5"  # the published one
PARALLEL = 8  # calls at once, as published
GLANCE_SECONDS = 5.0
OWN_KEYS = {"anthropic": "ANTHROPIC_API_KEY"}  # without which a judge cannot be asked

DESCRIPTION = """\
Score a model on a suite with VLMEvalKit's run.py and a judge, and tabulate it. Run it again to go on after a stop:
what is answered and judged is kept. One work folder holds one setup of a model; another prompt, judge or checkpoint is
refused there. Words after a bare -- go to run.py as they are."""


@dataclass(frozen=True)
class Host:
    """A VLMEvalKit."""

    command: tuple[str, ...]  # that starts its run.py
    version: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    suites = load_suites()
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("alias", metavar="ALIAS", nargs="?", help="such as Qwen3_VL_8B_Staged")
    own = parser.add_argument_group("a checkpoint of your own")
    own.add_argument("--checkpoint", metavar="DIR", help="a model's folder, or its name on the hub")
    own.add_argument("--backbone", metavar="NAME", help="what it was trained from, such as qwen3_vl_8b")
    own.add_argument("--name", help="its name in files and tables (default: that of the folder)")
    what = parser.add_argument_group("what is scored, and how")
    what.add_argument("--suite", default="main", choices=suites.suites, help="default: %(default)s")
    what.add_argument("--data", nargs="+", metavar="NAME", help="these data sets instead of a suite's")
    what.add_argument("--judge", default=JUDGE, metavar="NAME", help="default: %(default)s")
    what.add_argument("--judge-base-url", metavar="URL", help="the judge is a model on this OpenAI-compatible server")
    what.add_argument("--max-judge-usd", type=dollars, metavar="USD", help="bound on what judging may cost, in all")
    what.add_argument("--mode", default="all", choices=["all", "infer", "eval"], help="default: %(default)s")
    what.add_argument("--limit", type=int, metavar="N", help="only the first rows of each data set (ms-vlmeval)")
    server = parser.add_argument_group("the model's server")
    server.add_argument("--api-base", metavar="URL", help="where it is (default: the alias's address)")
    server.add_argument("--serve", action="store_true", help="start it, and stop it afterwards")
    server.add_argument(
        "--engine", choices=ENGINES, help="with --serve (default: vllm for Qwen, lmdeploy for InternVL)"
    )
    server.add_argument("--local", action="store_true", help="no server: load the model in VLMEvalKit's own class")
    server.add_argument("--config", type=Path, metavar="FILE", help="aliases of your own, in YAML")
    server.add_argument("--api-nproc", type=int, default=PARALLEL, metavar="N", help="calls at once (%(default)s)")
    parser.add_argument("--work-dir", type=Path, default=Path("outputs"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--vlmevalkit", type=Path, metavar="DIR", help=f"a clone (default: ${HOME}, or ms-vlmeval)")
    parser.add_argument("--dry-run", action="store_true", help="print run.py's command, and run nothing")
    take_words_after_dashes(parser)


def run(args: argparse.Namespace) -> int:
    host = find_host(args.vlmevalkit)
    alias = _alias(args)
    names = load_suites().chosen(args.data or [args.suite])
    judge = _judge(args)
    command = _command(args, host, alias, names, judge)
    if args.dry_run:
        print(shlex.join(command))
        return 0
    _check_key(judge, args.judge_base_url)
    folder = args.work_dir / _model_name(args, alias)
    busy = f"{folder}: another capcurr eval is at work here; wait for it"
    with holding(folder / ".capcurr-eval.lock", busy), ended_by_signals(), contextlib.ExitStack() as stack:
        alias = _at_its_server(args, alias, stack)
        record = _record(folder, _identity(args, alias, host, judge))
        environment = _environment(args, folder, alias, record["run"])
        _run_host(command, environment, folder / "capcurr-eval.log")
    if line := spend_line(record["run"]):
        print(f"{line} in all runs of this folder", file=sys.stderr)
    failed = _failures(folder, names)
    if args.mode != "infer":
        no_table = _tabulate(args, folder, names)
        failed = failed or no_table
    if failed:
        raise JobError("; ".join(failed) + f"; more in {folder / 'capcurr-eval.log'}; run it again to go on")
    return 0


# Who and what


def find_host(home: Path | None) -> Host:
    """The clone that is named, or the one that the environment names, or what is installed."""
    home = home or (Path(os.environ[HOME]) if os.environ.get(HOME) else None)
    if home:
        script = home / "run.py"
        if not script.is_file() or not (home / "vlmeval").is_dir():
            raise InputError(f"{home}: is no clone of VLMEvalKit; it holds no run.py with a folder vlmeval beside it")
        return Host((sys.executable, str(script.resolve())), _commit(home))
    spec = importlib.util.find_spec("vlmeval")
    if spec is None or spec.origin is None:  # nothing, or a mere folder of that name
        raise InputError(f"VLMEvalKit is not here; pip install ms-vlmeval, or set {HOME} to a clone")
    try:
        version = f"ms-vlmeval {importlib.metadata.version('ms-vlmeval')}"
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    return Host((sys.executable, "-m", "vlmeval"), version)


def _commit(home: Path) -> str:
    asked = ["git", "-C", str(home), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return f"upstream {done.stdout.strip()}" if done.returncode == 0 else "upstream, no git"


def _alias(args: argparse.Namespace) -> Alias:
    aliases = load_aliases(args.config)
    if args.alias and (args.backbone or args.name):
        raise InputError("give an ALIAS, or --checkpoint with --backbone; not both")
    if args.alias:
        alias = find_alias(aliases, args.alias)
        alias = replace(alias, weights=args.checkpoint) if args.checkpoint else alias
    elif args.checkpoint and args.backbone:
        name = args.name or Path(args.checkpoint).resolve().name
        alias = own_checkpoint(aliases, name, args.backbone, weights=args.checkpoint)
    else:
        raise InputError("which model? give an ALIAS, or --checkpoint DIR with --backbone NAME")
    if args.local and not alias.backbone.local:
        raise InputError(f"--local: VLMEvalKit has no class for {alias.backbone.name}; serve it")
    if args.serve and (args.local or args.api_base):
        raise InputError("--serve starts a server of its own; leave --local and --api-base out")
    return replace(alias, api_base=api_root(args.api_base)) if args.api_base else alias


def _judge(args: argparse.Namespace) -> str | None:
    """Its name for run.py."""
    if args.mode == "infer":
        return None
    judge = args.judge.removeprefix(PERCEPTION_ERROR)
    by_url = args.judge_base_url and not judge.startswith(BY_URL) and find_judge(judge) is None
    name = args.judge.removesuffix(judge) + (BY_URL + judge.replace("/", "--") if by_url else judge)
    config = find_judge(name, args.judge_base_url)
    if args.max_judge_usd is not None and (config is None or config.usd_per_million is None):
        raise InputError(f"--max-judge-usd: no price is known for judge {name}; give it one in a file of judges")
    return name


def _check_key(judge: str | None, base_url: str | None) -> None:
    """Without one, judging would fail only after hours of inference."""
    config = find_judge(judge, base_url) if judge else None
    if config and config.api in OWN_KEYS and not config.key and not os.environ.get(OWN_KEYS[config.api]):
        raise InputError(f"judge {judge}: no API key; set {OWN_KEYS[config.api]}")


def _model_name(args: argparse.Namespace, alias: Alias) -> str:
    return f"{alias.name}_Local" if args.local else alias.name


def _command(args: argparse.Namespace, host: Host, alias: Alias, names: list[str], judge: str | None) -> list[str]:
    words = [*host.command, "--model", _model_name(args, alias), "--data", *names]
    words += ["--work-dir", str(args.work_dir), "--mode", args.mode, "--reuse", "--api-nproc", str(args.api_nproc)]
    words += ["--judge", judge] if judge else []
    words += ["--judge-base-url", args.judge_base_url] if judge and args.judge_base_url else []
    words += ["--limit", str(args.limit)] if args.limit else []
    return [*words, *args.more]


# One setup in a folder


def _identity(args: argparse.Namespace, alias: Alias, host: Host, judge: str | None) -> dict[str, Any]:
    """All that results of one folder must have in common."""
    prompt = alias.system_prompt or ""
    config = find_judge(judge, args.judge_base_url) if judge else None
    return {
        "backbone": alias.backbone.name,
        "checkpoint": alias.weights,
        "served model": None if args.local else alias.model,
        "in process": bool(args.local),
        "prompt": f"{alias.prompt} {hashlib.sha256(prompt.encode()).hexdigest()[:12]}",
        "temperature": alias.temperature,
        "max tokens": alias.max_tokens,
        "pixels": [alias.min_pixels, alias.max_pixels],
        "rows": args.limit,
        "judge": judge and [judge, config.model if config else None],
        "VLMEvalKit": host.version,
    }


def _record(folder: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """The folder's record: the one that is there, if it is of this setup, or a new one."""
    path = folder / RECORD
    if not path.exists():
        if any(folder.glob("*_responses*.jsonl")) or any(folder.glob("status.json")) or any(folder.glob("T[0-9]*")):
            raise InputError(f"{folder}: holds results that capcurr eval has no record of; use another --work-dir")
        record = {"run": uuid.uuid4().hex, "setup": identity}
    else:
        record = _read_record(path)
        for key, value in identity.items():
            known = record["setup"].get(key)
            if value is None and key in ("judge", "served model"):  # neither judged nor asked for this time
                continue
            if known is None and key in ("judge", "served model"):
                record["setup"][key] = value
            elif known != json.loads(json.dumps(value)):
                raise InputError(
                    f"{folder}: holds results with {key} {_shown(known)}, and this is {_shown(value)}; "
                    "use another --work-dir"
                )
    with replacing(path) as file:
        file.write(json.dumps(record, indent=2).encode() + b"\n")
    return record


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes()[: 1 << 20])
        if isinstance(record["run"], str) and isinstance(record["setup"], dict):
            return record
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise InputError(f"{path}: is damaged; move it away together with the folder, or use another --work-dir")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# The run


def _at_its_server(args: argparse.Namespace, alias: Alias, stack: contextlib.ExitStack) -> Alias:
    """The alias with the address and the id of the model that answers; without an id when none answers now, which
    does no harm if everything is answered already."""
    if args.local:
        return alias
    if args.serve:
        plan = make_plan(alias, args.engine, Options(checkpoint=alias.weights))
        for note in plan.notes:
            print(f"note: {note}", file=sys.stderr)
        server = stack.enter_context(serving(plan, log=args.work_dir / alias.name / "capcurr-serve.log"))
        return replace(alias, api_base=plan.api_base, model=server.model)
    listed = health.listed_models(alias.api_base, GLANCE_SECONDS)
    if alias.model or not listed:
        return alias
    return replace(alias, model=alias.weights if alias.weights in listed else listed[0])


def _environment(args: argparse.Namespace, folder: Path, alias: Alias, run: str) -> dict[str, str]:
    """run.py reads the alias as it is used now from a file in the folder."""
    settings = {**vars(alias), "backbone": alias.backbone.name}
    del settings["name"]
    path = folder / "capcurr-alias.yaml"
    with replacing(path) as file:
        file.write(yaml.safe_dump({"aliases": {alias.name: settings}}).encode())
    environment = {name: value for name, value in os.environ.items() if name != "CAPCURR_API_BASE"}
    environment |= {OWN_ALIASES: str(path.resolve()), RUN: run, "PRED_FORMAT": os.environ.get("PRED_FORMAT", "tsv")}
    if args.max_judge_usd is not None:
        environment[MAX_USD] = str(args.max_judge_usd)
    return environment


def _run_host(command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """What it prints goes to the terminal and, when that is none, to the log alone."""
    with log.open("ab", buffering=0) as sink:
        kept = Kept(command, _Tee(sink), environment=environment)
        code = kept.wait()
    if code:
        said = " | ".join(kept.last_lines(3))
        raise JobError(f"run.py ended with exit code {code} (it said: {said[-500:]}); more in {log}")


class _Tee:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, chunk: bytes) -> int:
        if sys.stderr.isatty():
            sys.stderr.buffer.write(chunk)
            sys.stderr.buffer.flush()
        return self._file.write(chunk)

    def flush(self) -> None:
        self._file.flush()


# What came of it


def _failures(folder: Path, names: Sequence[str]) -> list[str]:
    """The data sets that VLMEvalKit did not get done, each with its reason."""
    found = sorted([*folder.glob("T[0-9]*/status.json"), *folder.glob("status.json")], key=lambda p: p.stat().st_mtime)
    try:
        status = json.loads(found[-1].read_bytes()[: 16 << 20])["datasets"]
    except (IndexError, ValueError, KeyError, TypeError, RecursionError):
        return [f"{folder}: VLMEvalKit left no status"]
    failed = []
    for name in names:
        entry = status.get(name) or {}
        reason = entry.get("error_message") or (None if entry.get("status") == "done" else "was not done")
        if reason:
            failed.append(f"{name}: {' '.join(str(reason).split())[:300]}")
    return failed


def _tabulate(args: argparse.Namespace, folder: Path, names: Sequence[str]) -> list[str]:
    """Print the table of what is there, and write it beside; why there is none, if so."""
    from capcurr_plugin import cli

    suite = "all" if args.data else args.suite
    if not set(names) & set(load_suites().benchmarks(suite)):
        return []
    outputs = [word for ending in ("json", "md") for word in ("--out", str(folder / f"capcurr-results.{ending}"))]
    try:
        cli.run(["results", str(folder), "--suite", suite, *outputs])
        return []
    except InputError as error:
        return [str(error)[:200]]
