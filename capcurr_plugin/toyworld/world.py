"""A world's files: captions with pictures, rows to train on and to validate with, and tables for VLMEvalKit."""

from __future__ import annotations

import base64
import csv
import io
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from capcurr_plugin.atomic import replacing
from capcurr_plugin.rows import IMAGE_MARK, OPTION_LETTERS
from capcurr_plugin.toyworld.questions import Asked, perception, textual_reasoning, visual_reasoning
from capcurr_plugin.toyworld.scenes import Part, Scene, different, draw, scenes

SOURCE = "toyworld"
CAPTIONS, IMAGES, TABLES = "captions.jsonl", "images", "LMUData"
PERCEPTION_TABLE, REASONING_TABLE = "ToyWorld_Perception", "ToyWorld_Reasoning"


@dataclass(frozen=True)
class Sizes:
    captions: int = 1300  # of which questions of perception are made
    textual_reasoning: int = 300
    visual_reasoning: int = 300
    validation: int = 320  # of each capability that sees
    validation_sums: int = 120  # there are few
    test: int = 300  # of each table
    difficulty: int | None = None  # of all scenes; None: all difficulties

    @property
    def rows(self) -> int:
        """To train on, before any filter."""
        return self.captions + self.textual_reasoning + self.visual_reasoning

    @property
    def validated(self) -> int:
        return 2 * self.validation + self.validation_sums


def write_world(folder: Path, seed: int, sizes: Sizes) -> None:
    """Train, validation and test share no scene, and no sum."""
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    (folder / TABLES).mkdir(exist_ok=True)
    wanted = sizes.captions + sizes.visual_reasoning
    seen = scenes("train", seed, wanted, sizes.difficulty)
    _write_lines(folder / CAPTIONS, (_caption(folder, scene) for scene in seen[: sizes.captions]))
    rows = _visual_rows(folder, seen[sizes.captions :], seed)
    _write_lines(folder / "visual_reasoning_questions.jsonl", rows)
    _write_lines(folder / "textual_reasoning_questions.jsonl", _textual_rows("train", sizes.textual_reasoning, seed))
    _write_lines(folder / "validation.jsonl", _validation(folder, sizes, seed))
    tested = scenes("test", seed, 2 * sizes.test, sizes.difficulty)
    _write_table(folder / TABLES / f"{PERCEPTION_TABLE}.tsv", _choices(tested[: sizes.test], seed))
    _write_table(folder / TABLES / f"{REASONING_TABLE}.tsv", _free_forms(tested[sizes.test :], seed))
    _write_lines(folder / "world.json", [{"seed": seed, **asdict(sizes)}])


def _caption(folder: Path, scene: Scene) -> dict[str, Any]:
    return {"id": scene.id, "image": _picture(folder, scene), "caption": scene.caption}


def _picture(folder: Path, scene: Scene) -> str:
    name = f"{IMAGES}/{scene.id}.png"
    if not (folder / name).exists():
        with replacing(folder / name) as file:
            draw(scene).save(file, "PNG")
    return name


# Rows


def _row(capability: str, name: str, asked: Asked, images: Sequence[str]) -> dict[str, Any]:
    options = {f"option_{letter}": text for letter, text in zip(OPTION_LETTERS, asked.options, strict=False)}
    return {
        "index": f"{capability} {name}",
        "problem": asked.problem,
        "answer": asked.answer,
        "images": list(images),
        "source": SOURCE,
        "capability": capability,
        **options,
    }


def _visual_rows(folder: Path, seen: Iterable[Scene], seed: int) -> Iterator[dict[str, Any]]:
    for scene in seen:
        asked = visual_reasoning(scene, random.Random(f"visual {seed} {scene.id}"))
        yield _row("visual_reasoning", scene.id, asked, [_picture(folder, scene)])


def _textual_rows(part: Part, count: int, seed: int) -> Iterator[dict[str, Any]]:
    dice = random.Random(f"sums {part} {seed}")
    found = different(count, lambda: textual_reasoning(dice, part), f"sums to {part}")
    for number, asked in enumerate(found, 1):
        yield _row("textual_reasoning", str(number), asked, [])


def _validation(folder: Path, sizes: Sizes, seed: int) -> Iterator[dict[str, Any]]:
    seen = scenes("validation", seed, 2 * sizes.validation, sizes.difficulty)
    for scene in seen[: sizes.validation]:
        asked = perception(scene, random.Random(f"perception {seed} {scene.id}"))
        yield _row("perception", scene.id, asked, [_picture(folder, scene)])
    yield from _textual_rows("validation", sizes.validation_sums, seed)
    yield from _visual_rows(folder, seen[sizes.validation :], seed)


# Tables, in the shape of MMStar and of MathVista


def _choices(seen: Iterable[Scene], seed: int) -> Iterator[dict[str, Any]]:
    for number, scene in enumerate(seen):
        asked = perception(scene, random.Random(f"test {seed} {scene.id}"))
        question = asked.problem.partition("\n")[0].replace(IMAGE_MARK, "")
        options = dict(zip(OPTION_LETTERS, asked.options, strict=True))
        category = question.partition(" ")[0].lower()
        yield _tested(number, scene, question, asked.answer) | options | {"category": category}


def _free_forms(seen: Iterable[Scene], seed: int) -> Iterator[dict[str, Any]]:
    for number, scene in enumerate(seen):
        asked = visual_reasoning(scene, random.Random(f"test {seed} {scene.id}"))
        yield _tested(number, scene, asked.problem.replace(IMAGE_MARK, ""), asked.answer) | {
            "question_type": "free_form",
            "answer_type": "integer",
            "unit": "",
            "precision": "",
            "choices": "[]",
            "answer_option": "",
            "task": "counting and computing",
            "skills": "['arithmetic reasoning']",
            "category": "toyworld",
            "split": "test",
        }


def _tested(number: int, scene: Scene, question: str, answer: str) -> dict[str, Any]:
    content = io.BytesIO()
    draw(scene).save(content, "PNG")
    picture = base64.b64encode(content.getvalue()).decode()
    return {"index": number, "question": question, "answer": answer, "caption": scene.caption, "image": picture}


def _write_table(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    listed = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(listed[0]), delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def _write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    with replacing(path) as file:
        for record in records:
            file.write(json.dumps(record).encode() + b"\n")
