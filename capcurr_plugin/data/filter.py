"""`capcurr data filter`: keeps the questions that need eyes, wrong from the image and right from the caption."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

from capcurr_plugin.answers import Answers
from capcurr_plugin.arguments import positive
from capcurr_plugin.atomic import replacing
from capcurr_plugin.chat import Question, Sampling
from capcurr_plugin.data.asking import (
    Job,
    Servers,
    Table,
    add_client_arguments,
    add_sampling_arguments,
    print_summary,
    sampling_of,
    servers_of,
)
from capcurr_plugin.data.mcq import about_caption, letter_of, options_of, reordered
from capcurr_plugin.data.row_requests import Asking
from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.ray_jobs import SCORES_AT_ONCE, Mapped, add_ray_arguments, here, mapped_by
from capcurr_plugin.row_files import BadRows, check_output
from capcurr_plugin.rows import OPTION_LETTERS, ImageRoot, Row, RowError

Modality = Literal["image", "caption"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
Letters = Mapping[Modality, Sequence[str | None]]  # a model's, one for each order that the options were in

Answered = tuple[Row, dict[str, list[str]]]  # a row with each model's answers; none when one was refused

PUBLISHED = Sampling(temperature=0.0, max_tokens=8)
SECOND_SHIFT = 2  # letters that options move by in the second order
OUTCOMES = ("right", "wrong", "unsettled", "unparsed")
CAPTION_FIELDS = ("caption", "description")

DESCRIPTION = """\
Ask each model every multiple-choice row with its image alone, and with its caption alone. A row is kept when every
model is wrong from the image and right from the caption: it can be answered, but not by what these models see. An
answer from the image that names no letter drops the row. OUT.table.jsonl says what each model answered to each row,
OUT.report.json how often, and how far the models agree. Answers are kept as they come: run the same command again after
a stop."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("input", type=Path, metavar="IN", help="multiple-choice rows with captions")
    parser.add_argument("output", type=Path, metavar="OUT", help="the rows that are kept, as they are")
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="NAME=URL[,URL...]",
        help="a model, by a name of your choice, and the servers that run it, or with --engine what it loads; may be "
        "repeated",
    )
    parser.add_argument("--caption-field", metavar="NAME", help=f"default: {' or '.join(CAPTION_FIELDS)}")
    parser.add_argument("--image-root", type=Path, metavar="FOLDER", help="default: the folder of IN")
    parser.add_argument("--max-pixels", type=positive, metavar="N", help="larger images are made smaller")
    rule = parser.add_argument_group("what is kept")
    rule.add_argument("--wrong-from-image", type=positive, metavar="N", help="by so many models (default: all)")
    rule.add_argument("--right-from-caption", type=positive, metavar="N", help="by so many models (default: all)")
    rule.add_argument(
        "--second-order",
        action="store_true",
        help="ask with the options in another order, too; right and wrong then mean in both, whatever letter is liked",
    )
    add_client_arguments(parser)
    add_sampling_arguments(parser, PUBLISHED)
    add_ray_arguments(parser, "read and resize images and find the letters in answers")
    BadRows.add_argument(parser, beside="OUT")


def run(args: argparse.Namespace) -> int:
    check_output(args.output, args.input, args.on_bad_row)
    models = _models(args.model)
    rule = Rule(_of_models("wrong-from-image", args, models), _of_models("right-from-caption", args, models))
    views = Views(args.caption_field, args.second_order, Asking("none", max_pixels=args.max_pixels))
    images = ImageRoot(args.image_root or args.input.parent)
    table = Table(args.input, args.output, images, args.on_bad_row, views.check)
    total = sum(1 for _ in table.rows())
    sampling = sampling_of(args)
    servers = {
        name: _servers(args, sampling, name, where) for name, where in models.items()
    }  # all, before one is asked
    report, tallies = Report(list(models)), []
    with mapped_by(args) as cluster:
        jobs = {name: Job.start(args, found, name, cluster) for name, found in servers.items()}
        for name, job in jobs.items():

            def questions(job: Job = job) -> Iterator[Question]:
                return (asked for row in table.rows() for asked in views.questions(row, images, job.answers))

            tallies += job.ask_missing(servers[name], questions, f"{args.output.name}, {name}")
        kept = _judge(table, views, rule, jobs, report, cluster or here)
    with replacing(args.output.with_name(f"{args.output.name}.report.json")) as file:
        file.write(json.dumps(report.record(), indent=1).encode() + b"\n")
    print(report.text())
    if not any(kept):
        raise JobError(f"{args.output}: no row is kept, so it is not written; {args.output}.report.json says why")
    chosen = iter(kept)
    count = table.write(row for row in table.rows() if next(chosen))
    print_summary(tallies, rows=total, kept=count, file=str(args.output))
    return 0


def _models(words: Sequence[str]) -> dict[str, str]:
    """Where each runs, or with --engine what is to be run."""
    models: dict[str, str] = {}
    for word in words:
        name, _, where = word.partition("=")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or not where:
            raise InputError(f"--model {word}: write NAME=URL, with a name of letters, digits, '.', '-' and '_'")
        if name in models:
            raise InputError(f"--model {word}: the name {name} is given twice")
        models[name] = where
    return models


def _servers(args: argparse.Namespace, sampling: Sampling, name: str, where: str) -> Servers:
    if args.engine:
        return servers_of(args, sampling, None, where, part=name)
    return servers_of(args, sampling, where.split(","), None)


def _of_models(option: str, args: argparse.Namespace, models: Mapping[str, Any]) -> int:
    number = getattr(args, option.replace("-", "_")) or len(models)
    if number > len(models):
        raise InputError(f"--{option} is {number}, but there are {len(models)} models")
    return number


# What models are asked


@dataclass(frozen=True)
class Views:
    """The forms in which a row is asked: image or caption, in one order of the options or two."""

    caption_field: str | None
    second_order: bool
    asking: Asking

    @property
    def kinds(self) -> list[tuple[Modality, int]]:
        shifts = (0, SECOND_SHIFT) if self.second_order else (0,)
        return [(modality, shift) for modality in MODALITIES for shift in shifts]

    def check(self, row: Row) -> None:
        options_of(row)
        self._caption(row)
        if len(row.images) != 1:
            raise RowError(f"has {len(row.images)} images; a question that needs eyes has one")
        if self.second_order:
            reordered(row, SECOND_SHIFT)

    def questions(self, row: Row, images: ImageRoot, answers: Answers) -> Iterator[Question]:
        for modality, shift in self.kinds:
            key = self.key(row, modality, shift)
            if answers.count(key):
                continue
            asked = reordered(row, shift) if shift else row
            if modality == "caption":
                yield Question(key, [{"role": "user", "content": self._about_caption(asked)}])
            else:
                yield Question(key, partial(self.asking.messages, asked, images))

    def key(self, row: Row, modality: Modality, shift: int) -> str:
        seen = [row.images[0], self.asking.max_pixels] if modality == "image" else self._caption(row)
        digest = hashlib.blake2b(json.dumps([row.problem, seen, shift]).encode(), digest_size=8).hexdigest()
        return f"{row.index} {modality} {digest}"

    def keys(self, row: Row) -> list[str]:
        return [self.key(row, *kind) for kind in self.kinds]

    def letters(self, row: Row, answers: Sequence[str]) -> dict[Modality, list[str | None]]:
        """What a model answered to each key, as letters of the row's own order."""
        found: dict[Modality, list[str | None]] = {modality: [] for modality in MODALITIES}
        for (modality, shift), text in zip(self.kinds, answers, strict=True):
            letter = letter_of(text, options_of(reordered(row, shift) if shift else row))
            found[modality].append(letter and OPTION_LETTERS[OPTION_LETTERS.index(letter) - shift])
        return found

    def _about_caption(self, row: Row) -> str:
        return about_caption(row.problem, self._caption(row))

    def _caption(self, row: Row) -> str:
        names = (self.caption_field,) if self.caption_field else CAPTION_FIELDS
        caption = next((row.extra[name] for name in names if name in row.extra), None)
        if not isinstance(caption, str) or not caption.strip():
            raise RowError(f"column {' or '.join(names)} should be the caption; name it with --caption-field")
        return caption


# What is kept


@dataclass(frozen=True)
class Rule:
    wrong_from_image: int  # models
    right_from_caption: int

    def keeps(self, answer: str, models: Sequence[Letters]) -> bool:
        if any(letter is None for letters in models for letter in letters["image"]):
            return False
        wrong = sum(answer not in letters["image"] for letters in models)
        right = sum(set(letters["caption"]) == {answer} for letters in models)
        return wrong >= self.wrong_from_image and right >= self.right_from_caption


def _judge(
    table: Table, views: Views, rule: Rule, jobs: Mapping[str, Job], report: Report, mapped: Mapped
) -> list[bool]:
    """Whether each row is kept, with the table of what was answered to it."""

    def answered() -> Iterator[Answered]:
        for row in table.rows():
            keys = views.keys(row)
            refused = any(key in job.refused for job in jobs.values() for key in keys)
            texts = {name: [job.answers.of(key)[0].text for key in keys] for name, job in jobs.items() if not refused}
            yield row, texts

    kept = []
    with replacing(table.output.with_name(f"{table.output.name}.table.jsonl")) as file:
        for row, letters in mapped(partial(_letters, views), answered(), SCORES_AT_ONCE):
            if not letters:
                kept.append(False)
                continue
            kept.append(rule.keeps(row.answer, list(letters.values())))
            report.add(row.answer, letters, kept[-1])
            record = {"index": row.index, "answer": row.answer, "kept": kept[-1], "models": letters}
            file.write(json.dumps(record).encode() + b"\n")
    return kept


def _letters(views: Views, answered: Answered) -> tuple[Row, dict[str, Letters]]:
    row, texts = answered
    return row, {name: views.letters(row, answers) for name, answers in texts.items()}


@dataclass
class Report:
    """How often each model was right, from image and caption, and how far two agree."""

    models: list[str]
    rows: int = 0
    kept: int = 0
    outcomes: Counter[tuple[str, Modality, str]] = field(default_factory=Counter)
    agreements: Counter[tuple[str, str, Modality]] = field(default_factory=Counter)

    def add(self, answer: str, letters: Mapping[str, Letters], kept: bool) -> None:
        self.rows += 1
        self.kept += kept
        for modality in MODALITIES:
            for name in self.models:
                self.outcomes[name, modality, _outcome(answer, letters[name][modality])] += 1
            for one, other in combinations(self.models, 2):
                self.agreements[one, other, modality] += letters[one][modality] == letters[other][modality]

    def record(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "kept": self.kept,
            "models": {
                name: {m: {outcome: self.outcomes[name, m, outcome] for outcome in OUTCOMES} for m in MODALITIES}
                for name in self.models
            },
            "agreement": [
                {"models": [one, other], **{m: self.agreements[one, other, m] for m in MODALITIES}}
                for one, other in combinations(self.models, 2)
            ],
        }

    def text(self) -> str:
        lines = [f"{self.kept:,} of {self.rows:,} rows kept"]
        for name in self.models:
            for modality in MODALITIES:
                counts = {outcome: self.outcomes[name, modality, outcome] for outcome in OUTCOMES}
                told = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items() if count)
                lines.append(f"  {name} from the {modality}: {told}")
        for one, other in combinations(self.models, 2):
            same = ", ".join(f"{self.agreements[one, other, m]:,} from the {m}" for m in MODALITIES)
            lines.append(f"  {one} and {other} gave the same answer: {same}")
        return "\n".join(lines)


def _outcome(answer: str, letters: Sequence[str | None]) -> str:
    """Unsettled: right in one order of the options only."""
    if None in letters:
        return "unparsed"
    if answer not in letters:
        return "wrong"
    return "right" if set(letters) == {answer} else "unsettled"
