"""`capcurr data synthesize`: one multiple-choice question from each caption, about what only the picture shows."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from capcurr_plugin import chat
from capcurr_plugin.atomic import replacing
from capcurr_plugin.chat import Question, Sampling, Settings, Tally
from capcurr_plugin.data.asking import (
    Job,
    add_sampling_arguments,
    add_server_arguments,
    print_summary,
    sampling_of,
    servers_of,
)
from capcurr_plugin.data.caption_fields import CaptionFields
from capcurr_plugin.data.drafts import (
    RESPONSE_FORMAT,
    TARGETS,
    VERSION,
    Draft,
    Rejected,
    lettered,
    prompt_for,
    read_draft,
    target_of,
)
from capcurr_plugin.data.mcq import REQUEST, question_text
from capcurr_plugin.data.split import part_of
from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.row_files import BadRows, OnBadRow, RecordReader, check_output, write_rows
from capcurr_plugin.rows import CHOICE_SOURCE, MAX_INDEX_LENGTH, ImageRoot, Row, RowError

PUBLISHED = Sampling(temperature=0.0, max_tokens=512)
SEED = 42
RETRIES, RETRY_TEMPERATURE = 2, 0.7  # a draft that is rejected would come again at temperature 0
MAX_CAPTION_CHARACTERS = 20_000

DESCRIPTION = """\
Have a served model write one multiple-choice question from each caption, about a spatial relation or a fine detail. A
draft counts when it has a question, four distinct options of like length and a right one among them, and does not speak
of a text; others are asked for again, and at last left out and counted by reason (OUT.rejected.jsonl). Letters are
dealt by seed. Answers are kept in OUT.answers.jsonl as they come: run the same command again after a stop."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("input", type=Path, metavar="IN", help="captions, such as DOCCI's docci_descriptions.jsonlines")
    parser.add_argument("output", type=Path, metavar="OUT", help="rows with options, answers and captions")
    CaptionFields.add_arguments(parser)
    parser.add_argument("--image-root", type=Path, metavar="FOLDER", help="default: the folder of IN")
    parser.add_argument("--about", choices=[*TARGETS, "both"], default="both", help="what is asked about (%(default)s)")
    parser.add_argument("--retries", type=int, default=RETRIES, metavar="N", help="of a rejected draft (%(default)s)")
    add_server_arguments(parser)
    add_sampling_arguments(parser, PUBLISHED)
    parser.add_argument("--seed", type=int, default=SEED, metavar="N", help="of letters and subjects (%(default)s)")
    BadRows.add_argument(parser, beside="OUT")


def run(args: argparse.Namespace) -> int:
    check_output(args.output, args.input, args.on_bad_row)
    if not 0 <= args.retries <= 20:
        raise InputError(f"--retries is {args.retries}; use a number from 0 to 20")
    images = ImageRoot(args.image_root or args.input.parent)
    captions = Captions(args.input, args.output, images, CaptionFields.of(args), args.on_bad_row)
    writer = Writer(args.seed, args.about)
    total = sum(1 for _ in captions)
    servers = servers_of(args, sampling_of(args), args.api_base, args.model)
    job = Job.start(args, servers, about=args.about, prompt_version=VERSION)
    with contextlib.ExitStack() as stack:
        tallies = _ask(job, captions, writer, args.retries, lambda: stack.enter_context(servers.up()))
    rejected: Counter[str] = Counter()
    count = write_rows(args.output, _rows(captions, writer, job, rejected, servers.model))
    print_summary(tallies, captions=total, rows=count, rejected=dict(rejected.most_common()), file=str(args.output))
    return 0


@dataclass(frozen=True)
class Caption:
    id: str
    image: str
    text: str


@dataclass
class Captions:
    """Read anew each time, since they may be more than memory holds."""

    input: Path
    output: Path
    images: ImageRoot
    fields: CaptionFields
    on_bad_row: OnBadRow

    def __iter__(self) -> Iterator[Caption]:
        seen: set[bytes] = set()

        def caption(record: dict[str, Any]) -> Caption:
            image, text = self.fields.text(record, "image"), self.fields.text(record, "caption")
            self.images.find(image)
            if len(text) > MAX_CAPTION_CHARACTERS:
                raise RowError(f"the caption has {len(text):,} characters, over the {MAX_CAPTION_CHARACTERS:,} taken")
            name = self.fields.id(record) or image
            if not name.strip() or len(name) > MAX_INDEX_LENGTH:
                raise RowError(f"its id is empty or over {MAX_INDEX_LENGTH} characters long; name another --id-field")
            digest = hashlib.blake2b(name.encode("utf-8", "backslashreplace"), digest_size=16).digest()
            if digest in seen:
                raise RowError(f"id {name!r} was already used")
            seen.add(digest)
            return Caption(name, image, text)

        with BadRows(self.on_bad_row, self.output) as bad:
            yield from RecordReader(self.input, bad).read(caption)


# Asking


@dataclass(frozen=True)
class Writer:
    seed: int
    about: str

    def target(self, caption: Caption) -> str:
        return target_of(caption.id, self.seed) if self.about == "both" else self.about

    def prompt(self, caption: Caption) -> str:
        return prompt_for(caption.text, self.target(caption))

    def key(self, caption: Caption) -> str:
        digest = hashlib.blake2b(self.prompt(caption).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
        return f"{caption.id} {digest}"


def _ask(job: Job, captions: Captions, writer: Writer, retries: int, servers_up: Callable[[], Settings]) -> list[Tally]:
    """In rounds: the first as published, each next one for what was rejected before."""
    tallies: list[Tally] = []
    settings: Settings | None = None
    for attempt in range(retries + 1):
        count = sum(1 for caption in captions if _question(caption, writer, job, attempt))
        if not count:
            continue
        settings = settings or _with_schema(servers_up())
        sampling = settings.sampling
        if attempt:
            sampling = replace(sampling, temperature=max(sampling.temperature, RETRY_TEMPERATURE))
        questions = (question for caption in captions if (question := _question(caption, writer, job, attempt)))
        title = f"{captions.output.name}, again" if attempt else captions.output.name
        tallies.append(job.ask(replace(settings, sampling=sampling), questions, count, title))
    return tallies


def _with_schema(settings: Settings) -> Settings:
    """With a schema for the answer, where the servers take one."""
    if not chat.takes(settings, RESPONSE_FORMAT):
        return settings
    return replace(settings, sampling=replace(settings.sampling, more=RESPONSE_FORMAT))


def _question(caption: Caption, writer: Writer, job: Job, attempt: int) -> Question | None:
    """None where a draft of an earlier attempt will do, or this attempt was made already."""
    key = writer.key(caption)
    has = job.answers.count(key)
    if has > attempt or key in job.refused or isinstance(_best(job, key), Draft):
        return None
    return Question(key, [{"role": "user", "content": writer.prompt(caption)}], 1, has)


def _best(job: Job, key: str) -> Draft | str:
    """The first draft that will do, or why the last does not."""
    reason = "refused by the server"
    for choice in job.answers.of(key):
        try:
            return read_draft(choice.text)
        except Rejected as rejected:
            reason = f"cut off at --max-tokens, {rejected}" if choice.finish_reason == "length" else str(rejected)
    return reason


# Rows


def _rows(
    captions: Captions, writer: Writer, job: Job, rejected: Counter[str], model: str | None
) -> Iterator[dict[str, Any]]:
    count, output = 0, captions.output
    with replacing(output.with_name(f"{output.name}.rejected.jsonl")) as file:
        for caption in captions:
            draft = _best(job, writer.key(caption))
            if isinstance(draft, Draft):
                count += 1
                yield _row(caption, draft, writer, model).record()
            else:
                rejected[draft] += 1
                file.write(json.dumps({"id": caption.id, "reason": draft}).encode() + b"\n")
    if not count:
        reasons = ", ".join(f"{reason}: {number:,}" for reason, number in rejected.most_common())
        raise JobError(f"{output}: no draft will do, so it is not written ({reasons})")


def _row(caption: Caption, draft: Draft, writer: Writer, model: str | None) -> Row:
    options, answer = lettered(draft, caption.id, writer.seed)
    extra = {f"option_{letter}": text for letter, text in options.items()}
    extra |= {"example_id": caption.id, "split": part_of(caption.id), "capability": "perception"}
    extra |= {"caption": caption.text, "about": writer.target(caption), "generator": model}
    problem = question_text(draft.question, options, REQUEST)
    return Row(caption.id, problem, answer, [caption.image], CHOICE_SOURCE, extra=extra)
