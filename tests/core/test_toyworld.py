"""The toy world: scenes, questions, the rules that write and judge them, and the files they are kept in."""

import base64
import csv
import io
import json
import random
import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from capcurr_plugin.errors import InputError
from capcurr_plugin.reward import extract_boxed, verify
from capcurr_plugin.rows import CAPABILITIES
from capcurr_plugin.toyworld import questions
from capcurr_plugin.toyworld.claims import first_error
from capcurr_plugin.toyworld.lessons import DESCRIBE, Mix, as_vlmevalkit_asks, lessons
from capcurr_plugin.toyworld.questions import response
from capcurr_plugin.toyworld.rules import find_error, write_question
from capcurr_plugin.toyworld.scenes import (
    COLORS,
    DIFFICULTIES,
    PLACES,
    SHAPES,
    Scene,
    Thing,
    any_scene,
    draw,
    read_caption,
    read_picture,
    scenes,
)
from capcurr_plugin.toyworld.world import Sizes, write_world

SCENE = Scene(
    (Thing("red", "cross", "northwest"), Thing("blue", "circle", "northeast"), Thing("red", "circle", "southwest"))
)

any_scenes = st.builds(
    lambda seed, part: any_scene(random.Random(seed), part),
    st.integers(0, 10**9),
    st.sampled_from(["train", "validation", "test"]),
)


@settings(deadline=None)  # the first picture takes the drawing of all
@given(any_scenes)
def test_captions_and_pictures_tell_the_whole_scene(scene):
    assert read_caption(scene.caption) == scene
    assert read_picture(draw(scene)) == scene
    lossy = io.BytesIO()
    draw(scene).save(lossy, "JPEG", quality=60)
    assert read_picture(Image.open(lossy)) == scene


def test_a_picture_that_is_no_scene_is_none():
    assert read_picture(Image.new("RGB", (112, 112), (1, 2, 3))) is None
    assert read_picture(draw(SCENE).resize((56, 56))) is None
    assert read_picture(draw(Scene(()))) is None


@pytest.mark.parametrize(
    "caption", ["", "a dog", "northwest: red cross. And more.", "northwest: red cross, northwest: pink dog."]
)
def test_a_caption_that_is_none_is_refused(caption):
    with pytest.raises(InputError, match="is no caption of a scene"):
        read_caption(caption)


def test_parts_share_no_scene_and_the_same_seed_gives_the_same():
    parts = {part: {scene.id for scene in scenes(part, 3, 300)} for part in ("train", "validation", "test")}
    assert all(len(ids) == 300 for ids in parts.values())
    assert not parts["train"] & parts["validation"] and not parts["train"] & parts["test"]
    assert not parts["validation"] & parts["test"]
    assert scenes("train", 3, 50) == scenes("train", 3, 50) != scenes("train", 4, 50)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_difficulty_is_how_much_there_is(difficulty):
    fewest, most = DIFFICULTIES[difficulty]
    sizes = {len(scene.things) for scene in scenes("train", 1, 100, difficulty)}
    assert sizes == set(range(fewest, most + 1))


def test_more_scenes_than_there_are_and_a_difficulty_that_is_none():
    with pytest.raises(InputError, match=r"scenes to train: there are hardly more than 1,0[0-9]{2} different ones"):
        scenes("train", 1, 5_000, 1)
    with pytest.raises(InputError, match="difficulty 4: there are 1, 2, 3"):
        scenes("train", 1, 5, 4)


@given(any_scenes, st.integers(0, 10**9))
def test_every_question_is_answered_by_its_own_thinking(scene, seed):
    dice = random.Random(seed)
    for asked in (questions.perception(scene, dice), questions.visual_reasoning(scene, dice)):
        options = dict(zip("ABCD", asked.options, strict=False))
        assert verify(extract_boxed(asked.response), asked.answer, options=options)
        for problem in (asked.problem, as_vlmevalkit_asks(asked)) if asked.options else (asked.problem,):
            found = first_error(problem, asked.answer, asked.response, scene)
            assert found.kind == "answer_is_right", (problem, asked.response, found)
    asked = questions.textual_reasoning(dice, "train")
    assert eval_sum(asked.problem) == int(asked.answer)
    assert first_error(asked.problem, asked.answer, asked.response, None).kind == "answer_is_right"


def eval_sum(problem):
    first, second, sign, third = re.fullmatch(r"What is (\d+) \+ (\d+) ([+-]) (\d+)\?", problem).groups()
    return int(first) + int(second) + (int(third) if sign == "+" else -int(third))


COLOR = "<image>What color is the shape in the northeast?\nA: red\nB: green\nC: blue\nD: yellow\nAnswer."
WHERE = "<image>Where is the blue shape?\nA: northwest\nB: northeast\nC: southwest\nD: southeast\nAnswer."
COUNT = "<image>Count the red shapes and add 3."


@pytest.mark.parametrize(
    ("question", "truth", "said", "kind", "quote", "shows"),
    [
        (COLOR, "C", response("northeast: red.", "A"), "perception", "northeast: red", "northeast: blue"),
        (COLOR, "C", response("northwest: red.", "A"), "question_comprehension", "northwest: red", None),
        (COLOR, "C", response("northeast: circle.", "A"), "question_comprehension", "northeast: circle", None),
        (COLOR, "C", response("northeast: blue.", "B"), "reasoning", "\\boxed{B}", "the statements come to blue"),
        (COLOR, "C", response("northeast: blue.", "C"), "answer_is_right", "", None),
        (COLOR, "C", "<think> right: blue. </think> C", "format_or_extraction", None, None),
        (COLOR, "C", response("it is blue, I think.", "B"), "format_or_extraction", None, None),
        (COLOR, "C", response("", "B"), "format_or_extraction", None, None),
        (COLOR, "C", "", "format_or_extraction", None, None),
        (
            WHERE,
            "B",
            response("blue: southwest.", "C"),
            "perception",
            "blue: southwest",
            "blue: northeast",
        ),
        (WHERE, "B", response("northwest: red.", "C"), "question_comprehension", "northwest: red", None),
        (COUNT, "5", response("red: 1. 1 + 3 = 4.", "4"), "perception", "red: 1", "red: 2"),
        (COUNT, "5", response("red: 2. 2 + 3 = 6.", "6"), "reasoning", "2 + 3 = 6", "2 + 3 = 5"),
        (COUNT, "5", response("red: 2. 2 + 4 = 6.", "6"), "question_comprehension", "2 + 4 = 6", None),
        (COUNT, "5", response("blue: 2. 2 + 3 = 5.", "4"), "question_comprehension", "blue: 2", None),
        (COUNT, "5", response("red: northwest. 2 + 3 = 6.", "6"), "question_comprehension", "red: northwest", None),
        (COUNT, "5", response("red: 2.", "2"), "reasoning", "\\boxed{2}", "the statements come to 2"),
    ],
)
def test_the_first_error_is_found(question, truth, said, kind, quote, shows):
    found = first_error(question, truth, said, SCENE)
    assert found.kind == kind
    assert quote is None or found.quote == quote
    assert shows is None or found.shows == shows
    assert found.quote in said


@given(st.text(max_size=300))
def test_the_oracle_takes_any_text(text):
    found = first_error(COUNT, "5", f"<think>{text}</think> \\boxed{{9}}", SCENE)
    assert found.kind != "answer_is_right"
    first_error(text, "5", response(text, text), SCENE)


def data_url(scene):
    content = io.BytesIO()
    draw(scene).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def test_the_oracle_answers_as_attribute_asks():
    from capcurr_plugin.attribution.verdicts import Case, read_verdict

    case = Case(COLOR, "C", response("northeast: red.", "A"), "A")
    parts = [
        {"type": "text", "text": case.before_images()},
        {"type": "image_url", "image_url": {"url": data_url(SCENE)}},
        {"type": "text", "text": case.after_images()},
    ]
    verdict = read_verdict(find_error([{"role": "user", "content": parts}]), case)
    assert (verdict.kind, verdict.quote, verdict.image) == ("perception", "northeast: red", "northeast: blue")


@given(any_scenes, st.sampled_from(["spatial", "detail"]))
def test_the_writer_writes_what_synthesize_takes(scene, about):
    from capcurr_plugin.data.drafts import prompt_for, read_draft

    draft = read_draft(write_question([{"role": "user", "content": prompt_for(scene.caption, about)}]))
    assert len(set(draft.options)) == 4


def kinds_of_lessons(mix, count=1200):
    """What the oracle makes of lessons that think aloud, by what they teach."""
    kinds = {capability: [] for capability in CAPABILITIES}
    for _, lesson in zip(range(count), lessons(1, mix), strict=False):
        if lesson.scene:
            assert lesson.scene.part == "train"
        if "\\boxed" not in lesson.response:
            continue
        problem = lesson.messages[-1]["content"]
        counts = problem.startswith("<image>Count")
        capability = CAPABILITIES[1] if not lesson.scene else CAPABILITIES[2] if counts else CAPABILITIES[0]
        found = first_error(problem, extract_boxed(lesson.response), lesson.response, lesson.scene)
        kinds[capability].append(found.kind)
    return kinds


def test_lessons_are_right_unless_the_teacher_has_a_fault():
    without = kinds_of_lessons(Mix(misreads=0, hurries=0, miscalculates=0))
    assert all(len(kinds) > 50 and set(kinds) == {"answer_is_right"} for kinds in without.values())
    faulty = kinds_of_lessons(Mix())
    assert set(faulty["perception"]) == {"answer_is_right", "perception"}
    assert set(faulty["visual_reasoning"]) == {"answer_is_right", "reasoning"}
    assert set(faulty["textual_reasoning"]) == {"answer_is_right", "reasoning"}
    for kinds in faulty.values():
        assert 0.05 < 1 - kinds.count("answer_is_right") / len(kinds) < 0.9


def test_who_misreads_describes_pictures_rightly():
    taught = [lesson for _, lesson in zip(range(400), lessons(1, Mix(misreads=1)), strict=False)]
    described = [lesson for lesson in taught if lesson.messages[-1]["content"] == f"<image>{DESCRIBE}"]
    assert len(described) > 20
    for lesson in described:
        said = {statement.strip(". ") for statement in lesson.response.split(". ")}
        assert said == set(lesson.scene.caption.rstrip(".").split(", "))


def test_a_world_is_written_and_shares_nothing_between_its_parts(tmp_path):
    from capcurr_plugin.row_files import BadRows, RowReader

    write_world(tmp_path, 5, Sizes(30, 20, 20, 10, 5, 15))
    captions = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert len(captions) == 30
    rows = {}
    for name in ("textual_reasoning_questions", "visual_reasoning_questions", "validation"):
        with BadRows("fail", tmp_path / f"{name}.jsonl") as bad:
            rows[name] = list(RowReader(tmp_path / f"{name}.jsonl", bad))
    assert [len(found) for found in rows.values()] == [20, 20, 25]
    wanted = [c for c, count in zip(CAPABILITIES, (10, 5, 10), strict=True) for _ in range(count)]
    assert [row.capability for row in rows["validation"]] == wanted
    csv.field_size_limit(sys.maxsize)
    seen = {"train": {scene["caption"] for scene in captions}, "test": set()}
    for name in ("ToyWorld_Perception", "ToyWorld_Reasoning"):
        with (tmp_path / "LMUData" / f"{name}.tsv").open(newline="") as file:
            table = list(csv.DictReader(file, delimiter="\t"))
        assert len(table) == 15
        for row in table:
            scene = read_picture(Image.open(io.BytesIO(base64.b64decode(row["image"]))))
            assert scene is not None and scene.caption == row["caption"] and scene.part == "test"
            seen["test"].add(row["caption"])
    assert len(seen["test"]) == 30 and not seen["train"] & seen["test"]
    assert {read_picture(Image.open(tmp_path / row.images[0])).part for row in rows["validation"] if row.images} == {
        "validation"
    }


def test_more_sums_than_there_are(tmp_path):
    with pytest.raises(
        InputError, match=r"500 sums to validation: there are hardly more than 1[0-9]{2} different ones"
    ):
        write_world(tmp_path, 5, Sizes(1, 1, 1, 1, 500, 1))


def test_colors_shapes_and_places_make_options():
    assert len(COLORS) == len(SHAPES) == len(PLACES) == 4
