"""`capcurr data pass-rate`: how often a model solves each row, over K answers of a served model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from capcurr_plugin.arguments import positive
from capcurr_plugin.chat import Choice, Question, Sampling
from capcurr_plugin.data.asking import (
    Job,
    Table,
    add_sampling_arguments,
    add_server_arguments,
    print_summary,
    sampling_of,
    servers_of,
)
from capcurr_plugin.data.row_requests import Asking
from capcurr_plugin.errors import InputError
from capcurr_plugin.images import MAX_PIXELS
from capcurr_plugin.prompt import PLACEMENTS, TRAINING
from capcurr_plugin.ray_jobs import SCORES_AT_ONCE, add_ray_arguments, here, mapped_by
from capcurr_plugin.row_files import BadRows, check_output
from capcurr_plugin.rows import ImageRoot, Row

K = 16
PUBLISHED = Sampling(temperature=0.7, top_p=0.9, max_tokens=1024)
CONFIDENCE = 0.95
STEP = 4  # answers that --until-width asks for at a time

DESCRIPTION = f"""\
Ask a served model each row K times, score the answers as the training reward does, and write the rows with predictions,
correctness, pass_rate and its {CONFIDENCE:.0%} interval (pass_rate_low, pass_rate_high). Every answer is kept in
OUT.answers.jsonl as it comes: run the same command again after a stop, and only what is missing is asked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("input", type=Path, metavar="IN", help="rows")
    parser.add_argument("output", type=Path, metavar="OUT", help="the rows with their pass rates")
    parser.add_argument("-k", type=positive, default=K, help="answers to each row (%(default)s)")
    parser.add_argument(
        "--until-width",
        type=float,
        metavar="W",
        help=f"stop asking a row, {STEP} answers at a time, when its interval is this narrow; K is the most then",
    )
    parser.add_argument("--image-root", type=Path, metavar="FOLDER", help="default: the folder of IN")
    parser.add_argument(
        "--prompt", choices=PLACEMENTS, default=TRAINING, help="where the unified prompt stands (%(default)s)"
    )
    parser.add_argument("--min-pixels", type=positive, metavar="N", help="smaller images are made larger")
    parser.add_argument("--max-pixels", type=positive, metavar="N", help="larger images are made smaller")
    add_server_arguments(parser)
    add_sampling_arguments(parser, PUBLISHED)
    add_ray_arguments(parser, "read and resize images and score answers")
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="give each request a seed of its own by this one (default: none, as vLLM is slower with them)",
    )
    BadRows.add_argument(parser, beside="OUT")


def run(args: argparse.Namespace) -> int:
    check_output(args.output, args.input, args.on_bad_row)
    if args.until_width is not None and not 0 < args.until_width < 1:
        raise InputError(f"--until-width is {args.until_width:g}; use a number between 0 and 1")
    if (args.min_pixels or 1) > (args.max_pixels or MAX_PIXELS):
        raise InputError(f"--min-pixels {args.min_pixels} is over --max-pixels {args.max_pixels or MAX_PIXELS}")
    table = Table(args.input, args.output, ImageRoot(args.image_root or args.input.parent), args.on_bad_row)
    asking = Asking(args.prompt, args.min_pixels, args.max_pixels)
    total = sum(1 for _ in table.rows())  # a bad row, or one whose image is missing, is told before a model is asked
    servers = servers_of(args, sampling_of(args, args.seed), args.api_base, args.model)
    with mapped_by(args) as cluster:
        job = Job.start(args, servers, cluster=cluster, prompt=args.prompt)

        def questions() -> Iterator[Question]:
            asked = (_question(row, table.images, asking, job, args.k, args.until_width) for row in table.rows())
            return (question for question in asked if question.wants)

        tallies = job.ask_missing(servers, questions, args.output.name)
        count = table.write((cluster or here)(_measured, _answered(table, asking, job, args.k), SCORES_AT_ONCE))
    print_summary(tallies, rows=count, of=total, file=str(args.output), answers_file=str(job.answers.path))
    return 0


def _answered(table: Table, asking: Asking, job: Job, k: int) -> Iterator[tuple[Row, list[Choice]]]:
    """The rows with their answers, without those that were refused."""
    for row in table.rows():
        key = asking.key(row)
        if key not in job.refused:
            yield row, job.answers.of(key)[:k]


def _question(row: Row, images: ImageRoot, asking: Asking, job: Job, k: int, width: float | None) -> Question:
    key = asking.key(row)
    messages = partial(asking.messages, row, images) if row.images else asking.messages(row, images)
    has = job.answers.count(key)
    if width is None:
        return Question(key, messages, k - has, has)
    steps = Steps(row, k, width, _correctness(row, job.answers.of(key)) if has else [])
    return Question(key, messages, steps.next(), has, more=steps.more)


class Steps:
    """Asks for a few answers at a time, until the row's interval is narrow enough or there are K of them."""

    def __init__(self, row: Row, k: int, width: float, correctness: list[bool]) -> None:
        self.row, self.k, self.width, self.correctness = row, k, width, correctness
        self.asked = len(correctness)

    def next(self) -> int:
        """How many to ask for now."""
        if self.asked > len(self.correctness) or self._narrow():
            return 0
        step = min(STEP, self.k - self.asked)
        self.asked += max(step, 0)
        return max(step, 0)

    def more(self, choices: Sequence[Choice]) -> int:
        self.correctness += _correctness(self.row, choices)
        return self.next()

    def _narrow(self) -> bool:
        if not self.correctness:
            return False
        low, high = _interval(self.correctness)
        return high - low <= self.width


def _correctness(row: Row, choices: Sequence[Choice]) -> list[bool]:
    from capcurr_plugin.reward import compute_score_batch

    texts = [choice.text for choice in choices]
    info = {"options": row.options} if row.options else None
    scores = compute_score_batch([row.source] * len(texts), texts, [row.answer] * len(texts), [info] * len(texts))
    return [score["accuracy"] == 1 for score in scores]


def _interval(correctness: Sequence[bool]) -> tuple[float, float]:
    from capcurr_plugin.statistics import wilson_interval

    return wilson_interval(sum(correctness), len(correctness), CONFIDENCE)


def _measured(answered: tuple[Row, Sequence[Choice]]) -> Row:
    from capcurr_plugin.reward import extract_boxed

    row, choices = answered
    row.predictions = [extract_boxed(choice.text) for choice in choices]
    row.correctness = _correctness(row, choices)
    row.pass_rate = sum(row.correctness) / len(row.correctness)
    low, high = _interval(row.correctness)
    row.extra |= {"pass_rate_low": round(low, 4), "pass_rate_high": round(high, 4)}
    return row
