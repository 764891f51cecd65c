"""What the commands share that ask a model about each row: servers, answers that outlive a kill, progress, refusals."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from capcurr_plugin import chat
from capcurr_plugin.answers import Answers
from capcurr_plugin.arguments import positive, take_words_after_dashes
from capcurr_plugin.atomic import replacing
from capcurr_plugin.chat import Question, Reply, Sampling, Settings, Tally, Unusable
from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.evaluation.aliases import Alias, Backbone, load_aliases
from capcurr_plugin.evaluation.engines import ENGINES
from capcurr_plugin.evaluation.serve import Options, Plan, ended_by_signals, make_plan, serving
from capcurr_plugin.ray_jobs import IMAGES_AT_ONCE, Mapped
from capcurr_plugin.row_files import BadRows, OnBadRow, RowReader, write_rows
from capcurr_plugin.rows import ImageRoot, Row

PARALLEL = Settings.parallel
PORT = 8000
SHOWN = 3  # refused questions that the error names
TELL_SECONDS = 0.5


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Of one model."""
    group = add_client_arguments(parser)
    group.add_argument("--api-base", nargs="+", metavar="URL", help="one or more that serve the same model")
    group.add_argument(
        "--model",
        metavar="NAME",
        help="its name there (default: the first that they list); with --engine what it loads",
    )


def add_client_arguments(parser: argparse.ArgumentParser) -> Any:
    group = parser.add_argument_group("the model's servers")
    group.add_argument(
        "--engine",
        choices=[name for name, engine in ENGINES.items() if engine.service is None],
        help="start a server, of a model's folder, an alias or a name on the hub, and stop it afterwards; words after "
        "a bare -- go to it as they are",
    )
    group.add_argument("--port", type=positive, default=PORT, metavar="N", help="of --engine (%(default)s)")
    group.add_argument("--api-key", metavar="KEY", help="default: $OPENAI_API_KEY")
    group.add_argument(
        "--parallel", type=positive, default=PARALLEL, metavar="N", help="requests in flight, in all (%(default)s)"
    )
    group.add_argument(
        "--timeout", type=positive, default=int(Settings.timeout), metavar="SECONDS", help="for a request (%(default)s)"
    )
    group.add_argument("--skip-refused", action="store_true", help="leave out rows that the servers refuse")
    take_words_after_dashes(parser)
    return group


def add_sampling_arguments(parser: argparse.ArgumentParser, default: Sampling) -> None:
    group = parser.add_argument_group("sampling")
    group.add_argument("--temperature", type=float, default=default.temperature, metavar="T", help="%(default)s")
    group.add_argument("--top-p", type=float, default=default.top_p, metavar="P", help="%(default)s")
    group.add_argument("--max-tokens", type=positive, default=default.max_tokens, metavar="N", help="%(default)s")


def sampling_of(args: argparse.Namespace, seed: int | None = None) -> Sampling:
    if not 0 <= args.temperature <= 2:
        raise InputError(f"--temperature is {args.temperature:g}; use a number from 0 to 2")
    if not 0 < args.top_p <= 1:
        raise InputError(f"--top-p is {args.top_p:g}; use a number above 0 and up to 1")
    return Sampling(args.temperature, args.top_p, args.max_tokens, seed)


@dataclass(frozen=True)
class Servers:
    """Those that run already, or one that is to be started."""

    settings: Settings
    plan: Plan | None = None
    log: Path | None = None

    @property
    def model(self) -> str | None:
        return self.plan.launch.model if self.plan else self.settings.model

    @contextlib.contextmanager
    def up(self) -> Iterator[Settings]:
        if self.plan is None:
            yield self.settings
            return
        with ended_by_signals(), serving(self.plan, log=self.log) as server:
            yield replace(self.settings, urls=[self.plan.api_base], model=server.model)


def servers_of(
    args: argparse.Namespace, sampling: Sampling, urls: Sequence[str] | None, model: str | None, part: str = ""
) -> Servers:
    """Servers that were found to answer, or the plan to start one of `model`."""
    settings = Settings(urls or (), model, args.api_key, args.parallel, args.timeout, sampling=sampling)
    if args.engine is None:
        if args.more:
            raise InputError(f"{' '.join(args.more)}: words after -- are for --engine, which is not given")
        if not urls:
            raise InputError("name the model's server with --api-base URL, or start one with --engine and --model")
        return Servers(chat.connect(settings))
    if urls or not model:
        raise InputError(f"--engine {args.engine} starts a server itself: give --model and no --api-base")
    aliases = load_aliases()
    alias = aliases.get(model) or Alias(model, Backbone(model, model, args.engine), "none", "", weights=model)
    plan = make_plan(alias, args.engine, Options(port=args.port, more=tuple(args.more)))
    return Servers(settings, plan, _beside(args.output, part, "engine.log"))


def _beside(output: Path, part: str, ending: str) -> Path:
    return output.with_name(f"{output.name}.{part}.{ending}" if part else f"{output.name}.{ending}")


@dataclass
class Table:
    """The rows of a job. They are read anew each time, since they may be more than memory holds."""

    input: Path
    output: Path
    images: ImageRoot
    on_bad_row: OnBadRow
    check: Callable[[Row], object] = lambda row: None  # may raise RowError

    def rows(self) -> Iterator[Row]:
        def checked(row: Row) -> Row:
            self.check(row)
            return row

        with BadRows(self.on_bad_row, self.output) as bad:
            reader = RowReader(self.input, bad)
            reader.images = self.images
            yield from reader.converted(checked)

    def write(self, rows: Iterable[Row]) -> int:
        """What became of the rows; how many there are."""
        return write_rows(self.output, (row.record() for row in rows))


@dataclass
class Job:
    """One run over the questions of a command to one model. Its answers lie beside the output."""

    answers: Answers
    refused_path: Path
    skip_refused: bool = False
    refused: dict[str, str] = field(default_factory=dict)  # why, by key
    cluster: Mapped | None = None  # which reads and resizes images

    @staticmethod
    def start(
        args: argparse.Namespace, servers: Servers, part: str = "", cluster: Mapped | None = None, **setup: Any
    ) -> Job:
        """`setup` and the sampling are what answers depend on; another setup is refused in the same place. A `part` has
        files of its own."""
        sampling = servers.settings.sampling
        asked = {
            "model": servers.model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
        }
        answers = Answers(_beside(args.output, part, "answers.jsonl"), {**asked, **setup})
        return Job(answers, _beside(args.output, part, "refused.jsonl"), args.skip_refused, cluster=cluster)

    def ask_missing(self, servers: Servers, questions: Callable[[], Iterator[Question]], title: str) -> list[Tally]:
        """Ask what has no answer yet; when that is nothing, no server is started."""
        missing = sum(1 for _ in questions())
        if not missing:
            return []
        with servers.up() as settings:
            return [self.ask(settings, questions(), missing, title)]

    def ask(self, settings: Settings, questions: Iterable[Question], total: int, title: str) -> Tally:
        tally, start = Tally(), time.monotonic()

        def keep(question: Question, has: int, reply: Reply) -> None:
            self.answers.add(question.key, has, reply)

        def refuse(question: Question, reason: str) -> None:
            self.refused[question.key] = reason

        with _bar(tally, total, title):
            chat.ask_all(settings, _prepared(questions, self.cluster), keep, refuse, tally)
        tally.seconds = time.monotonic() - start
        self._settle_refused()
        return tally

    def _settle_refused(self) -> None:
        if not self.refused:
            self.refused_path.unlink(missing_ok=True)
            return
        with replacing(self.refused_path) as file:
            for key, reason in self.refused.items():
                file.write(json.dumps({"key": key, "reason": reason}).encode() + b"\n")
        if not self.skip_refused:
            some = "; ".join(f"{key}: {reason}" for key, reason in list(self.refused.items())[:SHOWN])
            raise JobError(
                f"{len(self.refused):,} questions were not answered ({some}); {self.refused_path} names all. What was "
                "answered is kept: run again to ask those anew, or with --skip-refused to go on without them"
            )


def _prepared(questions: Iterable[Question], cluster: Mapped | None) -> Iterable[Question]:
    """The same questions, whose messages a cluster has made."""
    if cluster is None:
        yield from questions
        return
    waiting: deque[Question] = deque()

    def makers() -> Iterator[Any]:
        for question in questions:
            waiting.append(question)
            yield question.messages if callable(question.messages) else None

    for made in cluster(_made, makers(), IMAGES_AT_ONCE):
        question = waiting.popleft()
        yield question if made is None else replace(question, messages=partial(_taken, made))


def _made(messages: Callable[[], Any] | None) -> Any:
    try:
        return messages and messages()
    except Unusable as error:
        return error


def _taken(made: Any) -> Any:
    if isinstance(made, Unusable):
        raise made
    return made


@contextlib.contextmanager
def _bar(tally: Tally, total: int, title: str) -> Iterator[None]:
    """Shows the tally as it grows: rows, answers a second, tokens, failures."""
    import threading

    from tqdm import tqdm

    done = threading.Event()
    with tqdm(total=total, desc=title, unit="row", disable=None, smoothing=0.05) as bar:

        def show() -> None:
            while not done.wait(TELL_SECONDS):
                _show(bar, tally)

        thread = threading.Thread(target=show, daemon=True)
        if not bar.disable:
            thread.start()
        try:
            yield
        finally:
            done.set()
            if not bar.disable:
                thread.join()
                _show(bar, tally)


def _show(bar: Any, tally: Tally) -> None:
    bar.n = tally.questions
    failed = {"failed": f"{tally.failures:,}"} if tally.failures else {}
    refused = {"refused": f"{tally.refused:,}"} if tally.refused else {}
    seconds = max(bar.format_dict["elapsed"], 0.1)
    bar.set_postfix(
        answers=f"{tally.answers:,}",
        tokens=f"{tally.completion_tokens:,}",
        **{"tok/s": f"{tally.completion_tokens / seconds:,.0f}"},
        flight=tally.in_flight,
        **failed,
        **refused,
    )


def print_summary(tallies: Sequence[Tally], **facts: Any) -> None:
    names = ("requests", "answers", "failures", "refused", "prompt_tokens", "completion_tokens")
    counts = {name: sum(getattr(tally, name) for tally in tallies) for name in names}
    seconds = sum(tally.seconds for tally in tallies)
    print(json.dumps({**facts, **counts, "seconds": round(seconds, 1)}), file=sys.stderr)
