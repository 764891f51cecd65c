"""`capcurr demo`: the whole loop on a laptop's CPU, in real verl and real VLMEvalKit."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from capcurr_plugin import environments
from capcurr_plugin.arguments import dollars
from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.evaluation.serve import ended_by_signals
from capcurr_plugin.toyworld.lessons import Mix
from capcurr_plugin.toyworld.loop import Loop, SecondJudge, Settings, Training
from capcurr_plugin.toyworld.running import Host, Workshop
from capcurr_plugin.toyworld.world import Sizes

DESCRIPTION = """\
Go through the whole loop in a toy world: questions from captions, a filter, pass rates, a curriculum; three stages of
GRPO by verl, on the CPU; scores by VLMEvalKit; the first error of each wrong answer, by an oracle that knows every
scene; and one page of it all. A tiny model is made, nothing is downloaded but packages. Run it again after a stop of
any kind: it goes on where it stopped."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("demo"), help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="less of everything: to see it run, not to see it learn")
    parser.add_argument("--compare", action="store_true", help="train merged, too: all capabilities at once")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], metavar="N", help="of the training; default: 1")
    parser.add_argument("--judge", metavar="NAME", help="also have a real judge find the errors: claude-haiku-4.5")
    parser.add_argument("--max-usd", type=dollars, default=1.0, metavar="USD", help="for that judge (%(default)g)")
    parser.add_argument("--verl-python", metavar="FILE", type=Path, help="of an environment with verl and this plugin")
    parser.add_argument("--vlmeval-python", metavar="FILE", type=Path, help="the same for ms-vlmeval")


def run(args: argparse.Namespace) -> int:
    settings = _settings(args)
    with ended_by_signals(), Workshop.alone(args.out, _pythons(args), settings.record()) as workshop:
        start = time.monotonic()
        judge = SecondJudge(args.judge, args.max_usd) if args.judge else None
        Loop(workshop, settings, judge).run()
    memory = workshop.record.peak_memory_mb / 1024
    print(f"\nall of it took {(time.monotonic() - start) / 60:.1f} min, and at most {memory:.1f} GB of memory")
    print((args.out / "results.md").read_text())
    print(f"the page: {args.out / 'report.html'}")
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    from capcurr_plugin.report.attributions import MOST_MODELS

    recipes = ("staged", "merged") if args.compare else ("staged",)
    if len(set(args.seeds)) < len(args.seeds) or min(args.seeds) < 1:
        raise InputError("--seeds: give different whole numbers from 1 on")
    if (count := len(recipes) * len(args.seeds)) >= MOST_MODELS:
        raise InputError(f"--seeds: makes {count} runs; one page has room for the models of {MOST_MODELS - 1}")
    quick = bool(args.quick)
    return Settings(
        seeds=args.seeds,
        recipes=recipes,
        sizes=Sizes(360, 120, 120, 48, 24, 100) if quick else Sizes(),
        lessons=700 if quick else 2200,
        mix=Mix(),
        answers=4 if quick else 8,
        training=Training(steps=6 if quick else 20),
    )


def _pythons(args: argparse.Namespace) -> dict[Host, Path]:
    """The environments are made where they are not given."""
    given: dict[Host, Path | None] = {"verl": args.verl_python, "vlmeval": args.vlmeval_python}
    pythons: dict[Host, Path] = {"core": Path(sys.executable)}
    for host, python in given.items():
        if python and not python.is_file():
            raise InputError(f"--{host}-python {python}: no such file")
        if not python and not (environments.CHECKOUT / "pyproject.toml").exists():
            raise InputError(f"run the demo in a clone of the project, or name an environment with --{host}-python")
        try:
            pythons[host] = python.absolute() if python else environments.ensure(host)
        except environments.EnvironmentFailed as error:
            raise JobError(str(error)) from None
    return pythons
