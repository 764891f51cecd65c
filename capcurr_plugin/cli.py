"""The `capcurr` command. A command's module is imported only when it is the one to run, so that help is instant."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from capcurr_plugin.errors import InputError, JobError

# name -> (module with add_arguments and run, help). A name with a space belongs to a group.
COMMANDS = {
    "doctor": ("capcurr_plugin.doctor", "show what is installed, what works, and how to mend what does not"),
    "demo": ("capcurr_plugin.toyworld.demo", "see the whole loop in a toy world, on this machine's CPU"),
    "audit": ("capcurr_plugin.attribution.audit", "say which of a judge's verdicts are right, and how good it is"),
    "recipes": ("capcurr_plugin.recipes", "list the published runs, and show the command that runs one"),
    "train": ("capcurr_plugin.verl_host.train", "train a backbone: the stages of a recipe, each a run of verl"),
    "attribute": ("capcurr_plugin.attribution.attribute", "judge what kind of error each wrong answer begins with"),
    "eval": ("capcurr_plugin.evaluation.evaluate", "score a model on a suite with VLMEvalKit, and tabulate it"),
    "report": ("capcurr_plugin.report.command", "draw a study on one page: scores, errors, training, data"),
    "results": (
        "capcurr_plugin.evaluation.results",
        "tabulate VLMEvalKit's scores with intervals, and compare two models",
    ),
    "serve": ("capcurr_plugin.evaluation.serve", "serve an alias's model with an engine, until Ctrl-C"),
    "score": ("capcurr_plugin.score_file", "score a file of responses, also beside math-verify or MathRuler"),
    "data captions": ("capcurr_plugin.data.captions", "write captions as supervised training data"),
    "data convert": ("capcurr_plugin.data.convert", "convert and check row files: JSON Lines, Parquet, verl's form"),
    "data filter": ("capcurr_plugin.data.filter", "keep the questions that models cannot answer from the image"),
    "data overlap": ("capcurr_plugin.data.overlap", "find training rows that leak benchmarks, and leave them out"),
    "data pass-rate": ("capcurr_plugin.data.pass_rate", "measure how often a served model solves each row"),
    "data synthesize": ("capcurr_plugin.data.synthesize", "have a model write questions from captions"),
    "data order": ("capcurr_plugin.data.order", "order rows for a curriculum: by difficulty, by capability, or both"),
    "data visonlyqa": ("capcurr_plugin.data.visonlyqa", "write VisOnlyQA's public files as a table for VLMEvalKit"),
}
GROUPS = {"data": "build and convert training data"}

DESCRIPTION = "The staged capability curriculum for vision-language models: perception, textual, then visual reasoning."


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong command line gets one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {_one_line(message)} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    return ended(lambda: run(sys.argv[1:] if argv is None else argv))


def ended(job: Callable[[], int]) -> int:
    """The exit code of a job, which may be a script's; what ends it badly is told in one line."""
    try:
        try:
            return job()
        finally:
            if sys.stdout:
                sys.stdout.flush()  # a closed pipe must show here, not when Python ends
    except InputError as error:
        return _end(2, f"error: {error}")
    except JobError as error:
        return _end(1, f"failed: {error}")
    except KeyboardInterrupt:
        return _end(130, "stopped")
    except BrokenPipeError:  # `capcurr ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def run(argv: Sequence[str]) -> int:
    """Run one command; what is wrong with it is raised."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a file's name may be any bytes
    args = _parser(argv).parse_args(argv)
    return args.run(args)


def _end(code: int, message: str) -> int:
    print(f"capcurr: {_one_line(message)}", file=sys.stderr)
    return code


def _one_line(message: str) -> str:
    """A file's name or a value in a message may hold line ends and other control characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)


def _parser(argv: Sequence[str]) -> Parser:
    """The parser with the arguments of the one command that argv names."""
    parser = Parser(prog="capcurr", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action=_Version, help="print the version")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    groups = {}
    for name, text in GROUPS.items():
        group = commands.add_parser(name, help=text, description=text.capitalize() + ".", allow_abbrev=False)
        groups[name] = group.add_subparsers(metavar="COMMAND", required=True)
    chosen = " ".join(argv[:2] if argv and argv[0] in GROUPS else argv[:1])
    for name, (module, text) in COMMANDS.items():
        group, _, word = name.rpartition(" ")
        command = (groups[group] if group else commands).add_parser(word, help=text, allow_abbrev=False)
        if name == chosen:
            implementation = importlib.import_module(module)
            implementation.add_arguments(command)
            command.set_defaults(run=implementation.run)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, **options: object) -> None:
        super().__init__(nargs=0, **options)  # pyright: ignore[reportArgumentType]

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"capcurr-plugin {version('capcurr-plugin')}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
