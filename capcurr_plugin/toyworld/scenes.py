"""Coloured shapes in the four corners of a picture: what there is, how it is drawn, and how it is told in words."""

from __future__ import annotations

import functools
import hashlib
import random
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from capcurr_plugin.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

COLORS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 230), "yellow": (235, 210, 40)}
SHAPES = ("circle", "square", "triangle", "cross")
PLACES = {"northwest": (0, 0), "northeast": (0, 1), "southwest": (1, 0), "southeast": (1, 1)}  # rows and columns
BACKGROUND, FRAME = (245, 245, 245), (90, 90, 90)
CELL = 56  # pixels
SIDE = 2 * CELL  # over 100: VLMEvalKit enlarges smaller pictures
FRAME_WIDTH = 6  # by the frame each corner shows where it is
MARGIN = 9  # between a shape and the edges of its cell
MOST_OFF = 20.0  # of 255, on average, of a cell: JPEG puts it off by up to 14, and other pictures by more

# How many shapes a scene has; more of them are harder to tell apart.
DIFFICULTIES = {1: (1, 2), 2: (2, 3), 3: (3, 4)}

MOST_IN_VAIN = 1_000  # draws in a row that bring nothing new

T = TypeVar("T", bound=Hashable)
Part = Literal["train", "validation", "test"]
_PARTS: tuple[tuple[Part, int], ...] = (("train", 65), ("validation", 80), ("test", 100))  # of 100, up to


def part_of(content: str) -> Part:
    """Decided by the content itself, so that no two parts can share any."""
    place = int.from_bytes(hashlib.blake2b(content.encode(), digest_size=6).digest(), "big") % 100
    return next(part for part, end in _PARTS if place < end)


@dataclass(frozen=True)
class Thing:
    color: str
    shape: str
    place: str

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class Scene:
    things: tuple[Thing, ...]  # in the order of PLACES

    @property
    def caption(self) -> str:
        """All of it, in words."""
        return ", ".join(f"{thing.place}: {thing.name}" for thing in self.things) + "."

    @property
    def id(self) -> str:
        return hashlib.blake2b(self.caption.encode(), digest_size=6).hexdigest()

    @property
    def part(self) -> Part:
        return part_of(self.caption)

    def at(self, place: str) -> Thing:
        return next(thing for thing in self.things if thing.place == place)

    def of_color(self, color: str) -> list[Thing]:
        return [thing for thing in self.things if thing.color == color]


def scenes(part: Part, seed: int, count: int, difficulty: int | None = None) -> list[Scene]:
    """So many different ones; of all difficulties unless one is named."""
    dice = random.Random(f"scenes {part} {seed}")
    return different(count, lambda: any_scene(dice, part, difficulty), f"scenes to {part}")


def different(count: int, draw_one: Callable[[], T], what: str) -> list[T]:
    """So many, in the order in which they first came; an error where there are not so many."""
    found, in_vain = dict[T, None](), 0
    while len(found) < count:
        before = len(found)
        found[draw_one()] = None
        in_vain = 0 if len(found) > before else in_vain + 1
        if in_vain > MOST_IN_VAIN:
            raise InputError(f"{count:,} {what}: there are hardly more than {len(found):,} different ones")
    return list(found)


def any_scene(dice: random.Random, part: Part, difficulty: int | None = None) -> Scene:
    """It may come again."""
    if difficulty is not None and difficulty not in DIFFICULTIES:
        raise InputError(f"difficulty {difficulty}: there are {', '.join(map(str, DIFFICULTIES))}")
    while True:
        fewest, most = DIFFICULTIES[difficulty or dice.choice(list(DIFFICULTIES))]
        chosen = dice.sample(list(PLACES), dice.randint(fewest, most))
        colors, shapes = dice.sample(list(COLORS), 2), dice.sample(SHAPES, 2)  # few, so that there is much to count
        places = [place for place in PLACES if place in chosen]
        scene = Scene(tuple(Thing(dice.choice(colors), dice.choice(shapes), place) for place in places))
        if scene.part == part:
            return scene


_THING = re.compile(rf"({'|'.join(PLACES)}): ({'|'.join(COLORS)}) ({'|'.join(SHAPES)})")


def read_caption(caption: str) -> Scene:
    """The scene that a caption tells of, exactly."""
    scene = Scene(tuple(Thing(color, shape, place) for place, color, shape in _THING.findall(caption)))
    if not scene.things or scene.caption != caption.strip():
        raise InputError(f"{caption[:80]!r} is no caption of a scene")
    return scene


def draw(scene: Scene) -> Image:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (SIDE, SIDE), BACKGROUND)
    pen = ImageDraw.Draw(image)
    pen.rectangle([0, 0, SIDE - 1, SIDE - 1], outline=FRAME, width=FRAME_WIDTH)
    for thing in scene.things:
        down, right = PLACES[thing.place]
        _draw_thing(pen, thing, right * CELL + MARGIN, down * CELL + MARGIN, CELL - 2 * MARGIN - 1)
    return image


def _draw_thing(pen: ImageDraw, thing: Thing, left: int, top: int, size: int) -> None:
    color, end_x, end_y, third = COLORS[thing.color], left + size, top + size, size // 3
    match thing.shape:
        case "circle":
            pen.ellipse([left, top, end_x, end_y], fill=color)
        case "square":
            pen.rectangle([left, top, end_x, end_y], fill=color)
        case "triangle":
            pen.polygon([(left + size // 2, top), (left, end_y), (end_x, end_y)], fill=color)
        case _:
            pen.rectangle([left + third, top, end_x - third, end_y], fill=color)
            pen.rectangle([left, top + third, end_x, end_y - third], fill=color)


def read_picture(image: Image) -> Scene | None:
    """The scene that a drawing shows, also after a lossy encoding; None for any other picture."""
    if image.size != (SIDE, SIDE):
        return None
    found = [_cell_shows(image, place) for place in PLACES]
    things = tuple(thing for thing in found if isinstance(thing, Thing))
    return Scene(things) if None not in found and things else None


def _cell_shows(image: Image, place: str) -> Thing | Literal["nothing"] | None:
    from PIL import ImageChops, ImageStat

    cell = _cell(image.convert("RGB"), place)

    def off_by(drawn: Image) -> float:
        return sum(ImageStat.Stat(ImageChops.difference(cell, drawn)).mean) / 3

    shown, drawn = min(_drawings(place).items(), key=lambda drawing: off_by(drawing[1]))
    return shown if off_by(drawn) < MOST_OFF else None


def _cell(image: Image, place: str) -> Image:
    down, right = PLACES[place]
    return image.crop((right * CELL, down * CELL, right * CELL + CELL, down * CELL + CELL))


@functools.cache
def _drawings(place: str) -> dict[Thing | Literal["nothing"], Image]:
    """What a cell of a picture can look like."""
    things = [Thing(color, shape, place) for color in COLORS for shape in SHAPES]
    drawn: dict[Thing | Literal["nothing"], Image] = {thing: _cell(draw(Scene((thing,))), place) for thing in things}
    drawn["nothing"] = _cell(draw(Scene(())), place)
    return drawn
