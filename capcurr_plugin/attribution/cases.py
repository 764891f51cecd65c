"""The wrong answers in VLMEvalKit's results, with all that it takes to judge them: question, pictures, truth, response.

They are gathered from what lies apart: which rows are wrong, in the judged file; what the model said in full, in the
side-car of its predictions; the pictures, in the benchmark's table. Only one benchmark's texts are held at a time.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from capcurr_plugin.attribution.records import WrongAnswer
from capcurr_plugin.attribution.verdicts import shortened
from capcurr_plugin.data.benchmark_tables import find_table, listed, read_pictures
from capcurr_plugin.evaluation.benchmark_results import Result
from capcurr_plugin.evaluation.responses import Response, read_responses
from capcurr_plugin.evaluation.results import Model
from capcurr_plugin.evaluation.score_files import API_FAILED
from capcurr_plugin.evaluation.table_files import Row, canonical, read_rows
from capcurr_plugin.images import image_kind, open_image, read_image
from capcurr_plugin.rows import RowError

MAX_RESPONSE = 400_000  # characters that are kept; of a longer one the middle is left out
MAX_QUESTION, MAX_TRUTH, MAX_LABEL = 40_000, 10_000, 200
OPTIONS = tuple("ABCDEFGHIJ")
FINALS = ("res", "extracted", "extraction", "extract")  # where evaluators write what they made out
CATEGORIES = ("category", "task", "subject", "split", "question_type")
COLUMNS = (
    *("index", "question", "question_for_eval", "hint", "choices", "answer", "answer_option", "prediction"),
    *OPTIONS,
    *FINALS,
    *CATEGORIES,
)
KEPT_AS_THEY_ARE = {"PNG": ".png", "JPEG": ".jpg", "GIF": ".gif", "WEBP": ".webp"}  # judges and browsers read these


@dataclass(frozen=True)
class Sampled:
    """How many wrong answers of a model are taken: the same questions for each model, as far as they are wrong."""

    at_most: int | None
    seed: int

    def rank(self, benchmark: str, index: str) -> bytes:
        return hashlib.blake2b(json.dumps([self.seed, benchmark, index]).encode(), digest_size=8).digest()


@dataclass
class Gathered:
    """What was found, and what was left out."""

    rows: dict[str, dict[str, Counter[str]]] = field(default_factory=dict)  # by model, benchmark and category
    wrong: dict[str, int] = field(default_factory=dict)  # by model, before any sampling
    unanswered: dict[str, int] = field(default_factory=dict)  # by model: its server failed
    notes: list[str] = field(default_factory=list)


def gather(models: Mapping[str, Model], tables: Path, sampled: Sampled, images: Path, out: IO[bytes]) -> Gathered:
    """Write each wrong answer as a line, and its pictures into the folder."""
    gathered = Gathered()
    wanted = _chosen(models, sampled, gathered)
    for benchmark in dict.fromkeys(name for by_benchmark in wanted.values() for name in by_benchmark):
        of_models = {model: indexes[benchmark] for model, indexes in wanted.items() if benchmark in indexes}
        every = {index for indexes in of_models.values() for index in indexes}
        pictures = _write_pictures(find_table(tables, benchmark), every, images)
        for model, indexes in of_models.items():
            for answer in _answers(model, models[model].results[benchmark], set(indexes), pictures, gathered):
                out.write(json.dumps(answer, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
    return gathered


def read_gathered(path: Path) -> Iterator[tuple[WrongAnswer, str]]:
    """Each wrong answer, and why it cannot be judged, "" where it can."""
    with path.open("rb") as file:
        for line in file:
            told = json.loads(line)
            told["images"] = tuple(told["images"])
            why = told.pop("unusable")
            yield WrongAnswer(**told), why


def _chosen(models: Mapping[str, Model], sampled: Sampled, gathered: Gathered) -> dict[str, dict[str, list[str]]]:
    chosen: dict[str, dict[str, list[str]]] = {}
    for name, model in models.items():
        wrong = {
            b: [sample.index for sample in result.judged.samples if sample.wrong]
            for b, result in model.results.items()
            if result.judged
        }
        gathered.wrong[name] = sum(map(len, wrong.values()))
        gathered.rows[name] = {benchmark: Counter() for benchmark in wrong}
        gathered.notes += [f"{name}, {b}: left out: {why}" for b, why in model.missing.items() if why != "not run"]
        gathered.notes += [
            f"{name}, {b}: left out: its rows are not known" for b, result in model.results.items() if not result.judged
        ]
        ranked = sorted((sampled.rank(b, index), b, index) for b, indexes in wrong.items() for index in indexes)
        kept = ranked[: sampled.at_most]
        if len(kept) < len(ranked):
            gathered.notes.append(f"{name}: {len(kept):,} of its {len(ranked):,} wrong answers, drawn at random")
        for _, benchmark, index in kept:
            chosen.setdefault(name, {}).setdefault(benchmark, []).append(index)
    return chosen


# What was asked and said


def _answers(
    model: str,
    result: Result,
    wanted: set[str],
    pictures: Mapping[str, tuple[tuple[str, ...], str]],
    gathered: Gathered,
) -> Iterator[dict[str, object]]:
    assert result.judged is not None and result.judged_path is not None
    units = {sample.index: sample.unit for sample in result.judged.samples}
    asked: dict[str, Row] = {}
    for row in read_rows(result.judged_path, COLUMNS):
        index = canonical(row["index"])
        if API_FAILED in row["prediction"]:
            gathered.unanswered[model] = gathered.unanswered.get(model, 0) + (index in wanted)
            continue
        gathered.rows[model][result.benchmark.name][_category(row)] += 1
        if index in wanted and index not in asked:
            asked[index] = row
    for index, said in _said(result, asked):
        row = asked.pop(index)
        names, why = pictures.get(index, ((), f"its row in {result.benchmark.name}'s table was not found"))
        question, truth = _question(row), _truth(row)
        if len(question) > MAX_QUESTION or len(truth) > MAX_TRUTH:
            why = f"its question has over {MAX_QUESTION:,} characters, or its answer over {MAX_TRUTH:,}"
        answer = WrongAnswer(
            model=model,
            benchmark=result.benchmark.name,
            index=index,
            unit=units[index],
            category=_category(row),
            question=question[:MAX_QUESTION],
            truth=truth[:MAX_TRUTH],
            response=shortened(_whole(said) if said else row["prediction"], MAX_RESPONSE),
            final=_final(row, said),
            whole=said is not None,
            images=names,
        )
        yield {**asdict(answer), "unusable": why}


def _said(result: Result, asked: Mapping[str, Row]) -> Iterator[tuple[str, Response | None]]:
    """In the order of the side-car, then what it does not hold."""
    left = set(asked)
    if result.candidate.responses is not None:
        for response in read_responses(result.candidate.responses):
            index = canonical(response.index)
            if index in left and response.response is not None:
                left.discard(index)
                yield index, response
    for index in [index for index in asked if index in left]:
        yield index, None


def _whole(said: Response) -> str:
    """All that the model said; its server may have handed the thinking over apart."""
    response = said.response or ""
    apart = said.thinking and said.thinking not in response
    return f"<think>\n{said.thinking}\n</think>\n{response}" if apart else response


def _final(row: Row, said: Response | None) -> str | None:
    if said is not None:
        return (said.answer or "")[:MAX_TRUTH]
    return next((row[column][:MAX_TRUTH] for column in FINALS if row.get(column)), None)


def _category(row: Row) -> str:
    return next((row[column][:MAX_LABEL] for column in CATEGORIES if row.get(column)), "")


def _question(row: Row) -> str:
    """With its options, where they stand in columns of their own."""
    parts = [row.get("hint", ""), row.get("question", "")]
    in_words = row.get("question_for_eval", "")
    if in_words and in_words not in parts[1]:
        parts.append(f"(In words: {in_words})")
    choices = _choices(row)
    if choices and not all(choice in parts[1] for choice in choices):
        parts.append("Choices: " + "; ".join(choices))
    parts += [f"{letter}. {row[letter]}" for letter in OPTIONS if row.get(letter)]
    return "\n".join(part for part in parts if part.strip())


def _truth(row: Row) -> str:
    answer = row.get("answer", "")
    option = row.get(answer.strip(), "") if answer.strip() in OPTIONS else ""
    choices, letter = _choices(row), answer.strip()
    if not option and len(letter) == 1 and 0 <= (place := ord(letter) - ord("A")) < len(choices):
        option = choices[place] if choices[place] != letter else ""
    named = row.get("answer_option", "")
    return f"{answer}. {option}" if option else f"{answer} (option {named})" if named and named != answer else answer


def _choices(row: Row) -> Sequence[str]:
    cell = row.get("choices", "").strip()
    return listed(cell) if cell.startswith("[") and len(cell) <= MAX_QUESTION else ()


# Pictures


def _write_pictures(table: Path, indexes: set[str], folder: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    """The names of each row's pictures in the folder, or why they cannot be had."""
    from capcurr_plugin.progress import progress_bar

    found: dict[str, tuple[tuple[str, ...], str]] = {}
    with progress_bar() as tell:
        for index, pictures in read_pictures(table, indexes, tell):
            try:
                if isinstance(pictures, RowError):
                    raise pictures
                found[index] = tuple(_kept(source, name, folder) for source, name in pictures), ""
            except RowError as error:
                found[index] = (), str(error)
    return found


def _kept(source: Path | bytes, name: str, folder: Path) -> str:
    """The name of a file with the picture, which is there whole."""
    content = read_image(source, name)
    kind = image_kind(content, name)
    if kind not in KEPT_AS_THEY_ARE:
        out = io.BytesIO()
        open_image(content, name).save(out, "PNG")
        content, kind = out.getvalue(), "PNG"
    file = f"{hashlib.blake2b(content, digest_size=12).hexdigest()}{KEPT_AS_THEY_ARE[kind]}"
    path = folder / file
    if not path.exists():
        part = folder / f".{file}.part"
        part.write_bytes(content)
        part.replace(path)
    return file
