"""capcurr audit: look at a random sample of a judge's verdicts in the browser, and say which kind each error is.

Resumed where it was stopped; what was confirmed on the page is on the disk."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import re
import sys
import threading
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from capcurr_plugin.arguments import positive
from capcurr_plugin.attribution.audit_numbers import SEED, judge_numbers
from capcurr_plugin.attribution.audit_sample import Population, draw, read_population, read_sampled
from capcurr_plugin.attribution.audit_server import Server, Session
from capcurr_plugin.attribution.audits import Design, Header, OpenAudit, read_audit
from capcurr_plugin.attribution.records import images_folder, read_records, summary_path
from capcurr_plugin.errors import InputError

SAMPLE = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Opens a page on which a human says of a random sample of wrong answers which kind of error each is, and then "
        "sees what the judge said. Ctrl-C ends; the same command goes on."
    )
    parser.add_argument("attribution", metavar="ATTRIBUTION.jsonl", type=Path, help="what capcurr attribute wrote")
    parser.add_argument("--annotator", metavar="NAME", help="who audits (the login); each has a file of their own")
    parser.add_argument("--sample", metavar="N", type=positive, help=f"verdicts to look at ({SAMPLE}); may grow later")
    parser.add_argument("--seed", metavar="N", type=int, help=f"of the sample ({SEED}): the same for all annotators")
    parser.add_argument("--simple", action="store_true", help="draw from all verdicts alike, not from each kind")
    parser.add_argument("--model", metavar="NAME", action="append", help="only verdicts on this model; may be repeated")
    parser.add_argument("--benchmark", metavar="NAME", action="append", help="only of this benchmark; may be repeated")
    parser.add_argument("--blind", action="store_true", help="show the sentence the judge quotes only after the choice")
    parser.add_argument("--out", metavar="FILE", type=Path, help="the audit (ATTRIBUTION_audit_NAME.jsonl beside)")
    parser.add_argument("--port", metavar="N", type=_port, default=0, help="of this machine (a free one)")
    parser.add_argument("--no-open", action="store_true", help="print the address, and open no browser")
    parser.add_argument("--show", action="store_true", help="serve nothing: print how good the judge is by the audits")
    parser.add_argument("--audit", metavar="FILE", type=Path, action="append", help="for --show (all that lie beside)")
    parser.add_argument("--json", action="store_true", help="for --show: every number")


def run(args: argparse.Namespace) -> int:
    if args.show:
        return show(args)
    if args.audit or args.json:
        raise InputError(f"--{'audit' if args.audit else 'json'} goes with --show")
    name = _annotator(args.annotator)
    path = args.out or args.attribution.with_name(f"{args.attribution.stem}_audit_{name}.jsonl")
    with contextlib.closing(OpenAudit(path)) as opened:
        session = _session(args, name, opened)
        with Server(session, args.port) as server:
            _greet(session, server)
            if not args.no_open and _has_display():
                threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
            with contextlib.suppress(KeyboardInterrupt):  # the way to end
                server.serve_forever()
        _say_goodbye(session)
    return 0


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return number


def _annotator(given: str | None) -> str:
    name = given if given is not None else getpass.getuser()
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name):
        raise InputError(f"--annotator: {name!r} is no name of letters, digits, - _ and .")
    return name


# The sample


def _session(args: argparse.Namespace, name: str, opened: OpenAudit) -> Session:
    before = opened.audit.header if opened.audit else None
    if before:
        _check_same(args, name, before, opened.path)
    seed = args.seed if args.seed is not None else (before.seed if before else SEED)
    design: Design = "simple" if args.simple or (before and before.design == "simple") else "stratified"
    models = before.models if before else _chosen(args.model)
    benchmarks = before.benchmarks if before else _chosen(args.benchmark)
    population = read_population(args.attribution, design, models, benchmarks)
    if before:
        _check_population(population, before, args.attribution, opened.path)
    had = sum(stratum.sampled for stratum in before.strata.values()) if before else 0
    sample = draw(population, args.sample or had or SAMPLE, seed)
    if opened.audit and not opened.audit.choices.keys() <= sample.stratum_of.keys():
        _refuse(opened.path, f"has choices about wrong answers that {args.attribution} does not have")
    prompt = before.prompt if before else _prompt(args.attribution)
    attribution = args.attribution.name
    opened.begin(Header(name, attribution, population.judge, prompt, seed, design, sample.strata, models, benchmarks))
    return Session(opened, read_sampled(args.attribution, sample), images_folder(args.attribution), blind=args.blind)


def _chosen(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return tuple(sorted(set(names))) if names else None


def _check_same(args: argparse.Namespace, name: str, before: Header, path: Path) -> None:
    """An audit goes on as it began; what is not given is as it was."""
    had = sum(stratum.sampled for stratum in before.strata.values())
    models, benchmarks = _chosen(args.model), _chosen(args.benchmark)
    if name != before.annotator:
        _refuse(path, f"is the audit of {before.annotator}")
    if args.seed is not None and args.seed != before.seed:
        _refuse(path, f"was drawn with --seed {before.seed}")
    if args.simple and before.design != "simple":
        _refuse(path, "was drawn without --simple")
    if models and models != before.models:
        _refuse(path, f"is of {_named('--model', before.models)}")
    if benchmarks and benchmarks != before.benchmarks:
        _refuse(path, f"is of {_named('--benchmark', before.benchmarks)}")
    if args.sample and args.sample < had:
        _refuse(path, f"has a sample of {had}, which can only grow")


def _named(option: str, names: Sequence[str] | None) -> str:
    return " ".join(f"{option} {name}" for name in names) if names else f"a sample without {option}"


def _refuse(path: Path, why: str) -> None:
    raise InputError(f"{path}: {why}; go on like that, or begin another audit with --out or --annotator")


def _check_population(population: Population, before: Header, attribution: Path, path: Path) -> None:
    sizes = {name: len(ids) for name, ids in population.strata.items()}
    same = sizes == {name: stratum.size for name, stratum in before.strata.items()}
    if not same or population.judge != before.judge:
        _refuse(path, f"was drawn from other verdicts ({before.attribution} of {before.judge}) than {attribution} has")


def _prompt(attribution: Path) -> int | None:
    """Which version of the prompt the judge got, if the summary beside the verdicts tells."""
    path = summary_path(attribution)
    if not path.is_file():
        return None
    try:
        version = json.loads(path.read_bytes())["judge"]["prompt"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{path}: is no summary of capcurr attribute; delete it or make it anew") from None
    return version if type(version) is int else None


# What the terminal says


def _greet(session: Session, server: Server) -> None:
    done, total = len(session.audit.choices), len(session.records)
    population = sum(stratum.size for stratum in session.audit.header.strata.values())
    print(f"{done} of {total} done, drawn from {population:,} verdicts of {session.audit.header.judge}")
    print(f"Each choice is kept at once in {session.audit.path}")
    print(f"\n  {server.address}\n")
    print("Ctrl-C ends; the same command goes on.", flush=True)


def _has_display() -> bool:
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _say_goodbye(session: Session) -> None:
    summary = session.summary()
    print(f"\n{summary['done']} of {summary['total']} done, in {session.audit.path}")
    if summary["accuracy"]:
        print(f"the judge's accuracy so far: {_percent(summary['accuracy'])}")


# The numbers


def show(args: argparse.Namespace) -> int:
    path: Path = args.attribution
    chosen = args.audit or ([args.out] if args.out else sorted(path.parent.glob(f"{_plain(path.stem)}_audit_*.jsonl")))
    if not chosen:
        raise InputError(f"{path}: no audit lies beside it; make one with capcurr audit {path}")
    numbers = judge_numbers(read_records(path), [read_audit(one) for one in chosen])
    print(json.dumps(numbers, indent=1) if args.json else as_text(numbers))
    return 0


def _plain(stem: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", stem)


def as_text(numbers: Mapping[str, Any]) -> str:
    lines = [f"{numbers['audited']} audited by {', '.join(numbers['annotators'])} ({numbers['design']} sample)"]
    for key, text in (
        ("cannot_tell", "left out, since nobody could tell"),
        ("ties", "left out, since annotators are split"),
        ("absent", "left out, since these verdicts have none on them"),
        ("changed", "changed after the judge's verdict was shown"),
    ):
        if numbers[key]:
            lines.append(f"{numbers[key]} {text}")
    if numbers["not_covered"]:
        lines.append(f"nothing audited yet, and so not in these numbers: {', '.join(numbers['not_covered'])}")
    if numbers["agreement"]:
        shared = numbers["agreement"]
        lines.append(
            f"annotators agree on {shared['all_same']} of {shared['cases']}; "
            f"Krippendorff's alpha {shared['krippendorff_alpha']:.2f}"
        )
    if numbers["accuracy"]:
        lines.append(f"accuracy {_percent(numbers['accuracy'])}")
        lines.extend(["", *_table(numbers["kinds"])])
    return "\n".join(lines)


def _table(kinds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rates = ("sensitivity", "specificity", "predictive_value")
    rows = [["kind", "found", "said", *(rate.replace("_", " ") for rate in rates)]]
    for kind, one in kinds.items():
        rows.append([kind, str(one["found"]), str(one["said"]), *(_percent(one[rate]) for rate in rates)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _percent(rate: Sequence[float] | None) -> str:
    if rate is None:
        return "-"
    value, low, high = (100 * one for one in rate)
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"
