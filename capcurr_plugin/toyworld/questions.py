"""Questions about scenes, each with its answer and with the thinking that leads there, by rules alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from capcurr_plugin.data.mcq import REQUEST, question_text
from capcurr_plugin.rows import IMAGE_MARK, OPTION_LETTERS
from capcurr_plugin.toyworld.scenes import COLORS, PLACES, SHAPES, Part, Scene, part_of

COUNTS = ("1", "2", "3", "4")
LARGEST, LARGEST_FIRST = 9, 7  # numbers in sums; of a sum of three, the first two


@dataclass(frozen=True)
class Draft:
    """A question with options, in no order."""

    question: str
    right: str
    options: tuple[str, ...]
    thinking: str


@dataclass(frozen=True)
class Asked:
    problem: str
    answer: str
    thinking: str  # that leads there, one statement to a sentence
    options: Sequence[str] = ()  # as they are lettered

    @property
    def final(self) -> str:
        """As the model says it: an option in words, which is less to learn than to find its letter."""
        return self.options[OPTION_LETTERS.index(self.answer)] if self.options else self.answer

    @property
    def response(self) -> str:
        return response(self.thinking, self.final)


def response(thinking: str, answer: str) -> str:
    """In the unified format."""
    return f"<think> {thinking} </think> \\boxed{{{answer}}}"


# Perception: each is asked about a scene, and answered by one who names what is there as in `seen`


def color_question(scene: Scene, seen: Scene, dice: random.Random) -> Draft:
    place = dice.choice(scene.things).place
    color = seen.at(place).color
    return Draft(f"What color is the shape in the {place}?", color, tuple(COLORS), stated(place, color))


def shape_question(scene: Scene, seen: Scene, dice: random.Random) -> Draft:
    place = dice.choice(scene.things).place
    shape = seen.at(place).shape
    return Draft(f"What shape is in the {place}?", shape, SHAPES, stated(place, shape))


def place_question(scene: Scene, seen: Scene, dice: random.Random) -> Draft:
    """Of a colour that occurs once; where there is none, what shape is in a place."""
    single = [color for color, count in color_counts(scene) if count == 1]
    if not single:
        return shape_question(scene, seen, dice)
    color = dice.choice(single)
    place = scene.of_color(color)[0].place
    return Draft(f"Where is the {color} shape?", place, tuple(PLACES), stated(color, place))


def count_question(scene: Scene, _: Scene, dice: random.Random) -> Draft:
    color = _occurring(scene, dice)
    count = len(scene.of_color(color))
    return Draft(f"How many {color} shapes are there?", str(count), COUNTS, stated(color, count))


Ask = Callable[[Scene, Scene, random.Random], Draft]
# What a thing is, twice as often as how many there are, or where.
DETAILS: tuple[Ask, ...] = (color_question, color_question, shape_question, shape_question, count_question)
SPATIAL: tuple[Ask, ...] = (place_question,)


def lettered(draft: Draft, dice: random.Random) -> Asked:
    options = dice.sample(draft.options, len(draft.options))
    by_letter = dict(zip(OPTION_LETTERS, options, strict=True))
    answer = OPTION_LETTERS[options.index(draft.right)]
    return Asked(question_text(draft.question, by_letter, REQUEST), answer, draft.thinking, options)


def perception(scene: Scene, dice: random.Random, seen: Scene | None = None) -> Asked:
    return lettered(dice.choice(DETAILS + SPATIAL)(scene, seen or scene, dice), dice)


# Textual reasoning


@dataclass(frozen=True)
class Sum:
    first: int
    second: int
    sign: str
    third: int

    @property
    def problem(self) -> str:
        return f"What is {self.first} + {self.second} {self.sign} {self.third}?"


def textual_reasoning(dice: random.Random, part: Part, slip: Callable[[int], int] = lambda between: between) -> Asked:
    """A sum of three numbers, the third of which may be taken away; `slip`: what the first two are taken to come to."""
    while part_of((asked := _sum(dice)).problem) != part:
        pass
    between = slip(asked.first + asked.second)
    result = between + asked.third if asked.sign == "+" else between - asked.third
    steps = f"{asked.first} + {asked.second} = {between}. {between} {asked.sign} {asked.third} = {result}."
    return Asked(asked.problem, str(result), steps)


def _sum(dice: random.Random) -> Sum:
    first, second = dice.randint(1, LARGEST_FIRST), dice.randint(1, LARGEST_FIRST)
    sign = dice.choice("+-")
    return Sum(first, second, sign, dice.randint(1, min(LARGEST, first + second) if sign == "-" else LARGEST))


# Visual reasoning


def visual_reasoning(scene: Scene, dice: random.Random, short: int = 0) -> Asked:
    """Count, then compute; `short`: by how much the sum is too small."""
    color, more = _occurring(scene, dice), dice.randint(1, LARGEST)
    count = len(scene.of_color(color))
    problem = f"{IMAGE_MARK}Count the {color} shapes and add {more}."
    result = count + more - short
    return Asked(problem, str(result), f"{stated(color, count)} {count} + {more} = {result}.")


def color_counts(scene: Scene) -> list[tuple[str, int]]:
    """Of the colours that occur, in their order."""
    return [(color, count) for color in COLORS if (count := len(scene.of_color(color)))]


def _occurring(scene: Scene, dice: random.Random) -> str:
    """A colour, the likelier the more often it occurs."""
    return dice.choice(scene.things).color


def stated(subject: str, what: object) -> str:
    """What there is at a place, where something is, or how often."""
    return f"{subject}: {what}."
