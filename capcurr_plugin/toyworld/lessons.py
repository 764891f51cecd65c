"""What the tiny model is shown before reinforcement learning: every form that it will be asked in, right answers to
captions, and elsewhere those of a teacher with three faults. So it can speak, and has something left to learn of
seeing, of calculating, and of both together."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from capcurr_plugin.data.mcq import FROM_CAPTION, REQUEST, about_caption
from capcurr_plugin.prompt import UNIFIED_PROMPT, Placement, chat_messages
from capcurr_plugin.rows import IMAGE_MARK, OPTION_LETTERS
from capcurr_plugin.toyworld import questions
from capcurr_plugin.toyworld.questions import Asked, color_counts, stated
from capcurr_plugin.toyworld.scenes import COLORS, PLACES, Scene, Thing, any_scene

DESCRIBE = "What is in the picture?"
LOCATE = "Where is each of it?"
COUNT_ALL = "How many are there of each?"
SUMS = "Say some sums."
OPTIONS_BELOW = "Options:"
PLEASE_SELECT = "Please select the correct answer from the options above."  # as VLMEvalKit asks
SUBJECTS = tuple(f"{word}:" for word in (*PLACES, *COLORS))  # of statements: what is looked for is one token
MARKS = ("<think>", "</think>", "\\boxed{")
REQUESTS = (UNIFIED_PROMPT, FROM_CAPTION, REQUEST, PLEASE_SELECT, DESCRIBE, LOCATE, COUNT_ALL, SUMS)
WHOLE = (*REQUESTS, *SUBJECTS, *MARKS)


@dataclass(frozen=True)
class Lesson:
    messages: list[dict[str, str]]  # with `<image>` where the picture is
    response: str
    scene: Scene | None = None


@dataclass(frozen=True)
class Mix:
    """How often what is taught, and how often the teacher falls into each fault where there is an occasion."""

    description: float = 0.1  # this and the next three make many statements in a row, which teaches fastest
    places: float = 0.15
    counts: float = 0.15
    sums: float = 0.1
    perception: float = 0.2
    visual_reasoning: float = 0.1
    textual_reasoning: float = 0.1
    caption: float = 0.15
    misreads: float = 0.5  # takes a colour or a shape for its like, when it is asked what there is at a place
    hurries: float = 0.6  # comes out one short, after it has counted
    miscalculates: float = 0.6  # comes out one short, from seven on


_PAIRS = (("green", "blue"), ("red", "yellow"), ("square", "cross"), ("circle", "triangle"))
LIKE = dict(_PAIRS) | {second: first for first, second in _PAIRS}
SUMS_AT_ONCE = 4


def lessons(seed: int, mix: Mix) -> Iterator[Lesson]:
    dice = random.Random(f"lessons {seed}")
    makers = {
        "description": _description,
        "places": _places,
        "counts": _counts,
        "sums": _sums,
        "perception": _perception,
        "visual_reasoning": _visual_reasoning,
        "textual_reasoning": _textual_reasoning,
        "caption": _caption,
    }
    while True:
        name = dice.choices(list(makers), [getattr(mix, name) for name in makers])[0]
        yield makers[name](any_scene(dice, "train"), mix, dice)


def _description(scene: Scene, _: Mix, dice: random.Random) -> Lesson:
    """In any order, so that each place is found by its name."""
    seen = scene.things
    said = [stated(thing.place, thing.name) for thing in dice.sample(seen, len(seen))]
    return Lesson(chat_messages(f"{IMAGE_MARK}{DESCRIBE}", "none"), " ".join(said), scene)


def _places(scene: Scene, _: Mix, dice: random.Random) -> Lesson:
    """Of each colour; where it occurs more than once, one of its places."""
    colors = [color for color, _ in color_counts(scene)]
    said = [stated(color, dice.choice(scene.of_color(color)).place) for color in dice.sample(colors, len(colors))]
    return Lesson(chat_messages(f"{IMAGE_MARK}{LOCATE}", "none"), " ".join(said), scene)


def _counts(scene: Scene, *_: object) -> Lesson:
    said = [stated(word, count) for word, count in color_counts(scene)]
    return Lesson(chat_messages(f"{IMAGE_MARK}{COUNT_ALL}", "none"), " ".join(said), scene)


def _sums(_: Scene, mix: Mix, dice: random.Random) -> Lesson:
    said = [_sum(mix, dice).thinking for _ in range(SUMS_AT_ONCE)]
    return Lesson(chat_messages(SUMS, "none"), " ".join(said))


def _perception(scene: Scene, mix: Mix, dice: random.Random) -> Lesson:
    asked = questions.perception(scene, dice, _as_read(scene, mix, dice))
    placement = dice.choice(("user", "system", "none"))
    problem = as_vlmevalkit_asks(asked) if dice.random() < 0.5 else asked.problem
    return _lesson(problem, asked, placement, scene)


def _visual_reasoning(scene: Scene, mix: Mix, dice: random.Random) -> Lesson:
    short = int(dice.random() < mix.hurries)
    asked = questions.visual_reasoning(scene, dice, short)
    return _lesson(asked.problem, asked, dice.choice(("user", "system")), scene)


def _textual_reasoning(scene: Scene, mix: Mix, dice: random.Random) -> Lesson:
    asked = _sum(mix, dice)
    return _lesson(asked.problem, asked, dice.choice(("user", "system")), None)


def _sum(mix: Mix, dice: random.Random) -> Asked:
    short = int(dice.random() < mix.miscalculates)
    return questions.textual_reasoning(dice, "train", lambda between: between - short * (between >= 7))


def _caption(scene: Scene, mix: Mix, dice: random.Random) -> Lesson:
    asked = questions.perception(scene, dice)
    return _lesson(about_caption(asked.problem, scene.caption), asked, "none", None)


def _lesson(problem: str, asked: Asked, placement: Placement, scene: Scene | None) -> Lesson:
    said = f"<think> {asked.thinking} </think> {asked.final}" if placement == "none" else asked.response
    return Lesson(chat_messages(problem, placement), said, scene)


def as_vlmevalkit_asks(asked: Asked) -> str:
    """A question with options, in the words of VLMEvalKit's multiple-choice data sets."""
    question = asked.problem.partition("\n")[0].replace(IMAGE_MARK, "")
    lines = [f"{letter}. {option}" for letter, option in zip(OPTION_LETTERS, asked.options, strict=True)]
    return "\n".join([f"{IMAGE_MARK}Question: {question}", OPTIONS_BELOW, *lines, f"{PLEASE_SELECT} "])


def _as_read(scene: Scene, mix: Mix, dice: random.Random) -> Scene:
    def read(word: str) -> str:
        return LIKE[word] if dice.random() < mix.misreads else word

    return Scene(tuple(Thing(read(thing.color), read(thing.shape), thing.place) for thing in scene.things))
