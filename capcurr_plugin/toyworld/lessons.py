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
from capcurr_plugin.toyworld.questions import Asked
from capcurr_plugin.toyworld.scenes import Scene, Thing, any_scene

DESCRIBE = "What is in the picture?"
OPTIONS_BELOW = "Options:"
PLEASE_SELECT = "Please select the correct answer from the options above."  # as VLMEvalKit asks
WHOLE = (UNIFIED_PROMPT, FROM_CAPTION, REQUEST, PLEASE_SELECT, DESCRIBE)


@dataclass(frozen=True)
class Lesson:
    messages: list[dict[str, str]]  # with `<image>` where the picture is
    response: str
    scene: Scene | None = None


@dataclass(frozen=True)
class Mix:
    """How often what is taught, and how often the teacher falls into each fault where there is an occasion."""

    description: float = 0.3  # of all that is seen, which teaches seeing fastest
    perception: float = 0.25
    visual_reasoning: float = 0.15
    textual_reasoning: float = 0.15
    caption: float = 0.15
    misreads: float = 0.6  # takes a colour or a shape for its like
    miscounts: float = 0.6  # misses one of several, when it counts to calculate
    miscalculates: float = 0.6  # comes out one short, from seven on


LIKE = {"green": "blue", "blue": "green", "square": "cross", "cross": "square"}


def lessons(seed: int, mix: Mix) -> Iterator[Lesson]:
    dice = random.Random(f"lessons {seed}")
    makers = {
        "description": _description,
        "perception": _perception,
        "visual_reasoning": _visual_reasoning,
        "textual_reasoning": _textual_reasoning,
        "caption": _caption,
    }
    while True:
        name = dice.choices(list(makers), [getattr(mix, name) for name in makers])[0]
        yield makers[name](any_scene(dice, "train"), mix, dice)


def _description(scene: Scene, mix: Mix, dice: random.Random) -> Lesson:
    return Lesson(chat_messages(f"{IMAGE_MARK}{DESCRIBE}", "none"), _as_read(scene, mix, dice).caption, scene)


def _perception(scene: Scene, mix: Mix, dice: random.Random) -> Lesson:
    asked = questions.perception(scene, dice, _as_read(scene, mix, dice))
    placement = dice.choice(("user", "system", "none"))
    problem = as_vlmevalkit_asks(asked) if dice.random() < 0.5 else asked.problem
    return _lesson(problem, asked, placement, scene)


def _visual_reasoning(scene: Scene, mix: Mix, dice: random.Random) -> Lesson:
    missed = int(dice.random() < mix.miscounts)
    asked = questions.visual_reasoning(scene, dice, _as_read(scene, mix, dice), missed)
    return _lesson(asked.problem, asked, dice.choice(("user", "system")), scene)


def _textual_reasoning(scene: Scene, mix: Mix, dice: random.Random) -> Lesson:
    short = int(dice.random() < mix.miscalculates)
    asked = questions.textual_reasoning(dice, "train", lambda between: between - short * (between >= 7))
    return _lesson(asked.problem, asked, dice.choice(("user", "system")), None)


def _caption(scene: Scene, mix: Mix, dice: random.Random) -> Lesson:
    asked = questions.perception(scene, dice)
    return _lesson(about_caption(asked.problem, scene.caption), asked, "none", None)


def _lesson(problem: str, asked: Asked, placement: Placement, scene: Scene | None) -> Lesson:
    said = asked.final if placement == "none" else asked.response
    return Lesson(chat_messages(problem, placement), said, scene)


def as_vlmevalkit_asks(asked: Asked) -> str:
    """A question with options, in the words of VLMEvalKit's multiple-choice data sets."""
    question = asked.problem.partition("\n")[0].replace(IMAGE_MARK, "")
    lines = [f"{letter}. {option}" for letter, option in zip(OPTION_LETTERS, asked.options, strict=True)]
    return "\n".join([f"{IMAGE_MARK}Question: {question}", OPTIONS_BELOW, *lines, f"{PLEASE_SELECT} "])


def _as_read(scene: Scene, mix: Mix, dice: random.Random) -> Scene:
    def read(word: str) -> str:
        return LIKE.get(word, word) if dice.random() < mix.misreads else word

    return Scene(tuple(Thing(read(thing.color), read(thing.shape), thing.place) for thing in scene.things))
