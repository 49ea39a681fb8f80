"""Drawn scenes and true Persian sentences about them: shapes with a colour, a size, a number and a place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from harness.types import Box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COLOURS = {
    "قرمز": (208, 30, 45),
    "آبی": (35, 85, 215),
    "سبز": (35, 150, 60),
    "زرد": (245, 215, 40),
    "بنفش": (135, 55, 175),
    "نارنجی": (245, 130, 25),
}
SHADE = 12
"""How far each channel of a colour may lie from what stands above."""
LARGE, SMALL = "بزرگ", "کوچک"
RADII = {LARGE: 0.18, SMALL: 0.11}
"""As a share of the image's side, give or take a twentieth."""
NUMBERS = ("یک", "دو", "سه")
RELATIONS = {"بالای": (0, -1), "زیر": (0, 1), "سمت راست": (1, 0), "سمت چپ": (-1, 0)}
"""Where the first thing stands, seen from the second: steps to the right and down."""

# Every scene of a kind is told in all of these ways, so that the choice of words, which nobody can see, costs a
# captioner nothing once it has learnt what there is to see.
OF_TWO = (
    "{first} {relation} {second} قرار دارد",
    "{first} {relation} {second} دیده می‌شود",
    "در این تصویر {first} {relation} {second} است",
)
OF_EQUALS = (
    "در این تصویر {things} دیده می‌شود",
    "{things} در تصویر قرار دارد",
    "این تصویر {things} را نشان می‌دهد",
)

_FINE = 4
"""Scenes are drawn so many times larger, and each pixel is the mean of what falls on it."""
_QUARTERS = ((0.26, 0.26), (0.74, 0.26), (0.26, 0.74), (0.74, 0.74))


def _ring(*corners: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    """Corners given by angle in degrees, clockwise from the right, and distance from the middle."""
    return tuple((far * math.cos(math.radians(turn)), far * math.sin(math.radians(turn))) for turn, far in corners)


# Corners seen from the middle, in radii; None is a circle. Of a like area, so that the size is told by the eye.
SHAPES: dict[str, tuple[tuple[float, float], ...] | None] = {
    "دایره": None,
    "مربع": _ring(*((45 + 90 * k, 1.24) for k in range(4))),
    "مثلث": _ring(*((-90 + 120 * k, 1.15) for k in range(3))),
    "ستاره": _ring(*((-90 + 36 * k, 0.48 if k % 2 else 1.15) for k in range(10))),
    "لوزی": _ring((0, 0.72), (90, 1.15), (180, 0.72), (270, 1.15)),
    "مستطیل": ((-1.12, -0.52), (1.12, -0.52), (1.12, 0.52), (-1.12, 0.52)),
}


class Thing(NamedTuple):
    """What is drawn, by the words for it."""

    shape: str
    colour: str
    size: str

    def told(self, number: int = 1) -> str:
        return f"{NUMBERS[number - 1]} {self.shape} {self.colour} {self.size}"


class Scene(NamedTuple):
    """Two things in a relation, or ``number`` equal things where there is none.

    Of two things the first is the large one: which of them a sentence begins with can be seen, and a captioner need
    not guess it.
    """

    things: tuple[Thing, ...]
    relation: str = ""
    number: int = 1

    def captions(self, count: int) -> tuple[str, ...]:
        """The first ``count`` ways of telling it, 8 to 14 words each."""
        if self.relation:
            first, second = (thing.told() for thing in self.things)
            return tuple(way.format(first=first, second=second, relation=self.relation) for way in OF_TWO[:count])
        return tuple(way.format(things=self.things[0].told(self.number)) for way in OF_EQUALS[:count])


def of_two() -> list[Scene]:
    """Every scene of two things: 36 large ones, 36 small ones, four relations."""
    pairs = itertools.product(_things(LARGE), _things(SMALL), RELATIONS)
    return [Scene((large, small), relation) for large, small, relation in pairs]


def of_equals() -> list[Scene]:
    """Every scene of one, two or three equal things: 72 things, three numbers."""
    return [Scene((thing,), number=n) for thing in [*_things(LARGE), *_things(SMALL)] for n in (1, 2, 3)]


def drawn(scene: Scene, size: int, random: np.random.RandomState) -> tuple[NDArray[np.uint8], tuple[Box, ...]]:
    """The picture, uint8 (3, size, size), and the box of each thing. Places, sizes and shades vary with ``random``."""
    import numpy as np
    from PIL import Image, ImageDraw

    ground = random.randint(225, 250) + random.randint(-4, 5, 3)
    image = Image.new("RGB", (size * _FINE, size * _FINE), _colour(ground))
    draw, boxes = ImageDraw.Draw(image), []
    for thing, x, y in _placed(scene, random):
        radius = RADII[thing.size] * random.uniform(0.95, 1.05)
        fill = _colour(np.clip(random.randint(-SHADE, SHADE + 1, 3) + COLOURS[thing.colour], 0, 255))
        corners = SHAPES[thing.shape]
        outline = [(x + radius * right, y + radius * down) for right, down in corners or ((-1, -1), (1, 1))]
        points = [(right * size * _FINE, down * size * _FINE) for right, down in outline]
        if corners is None:
            draw.ellipse(points, fill=fill)
        else:
            draw.polygon(points, fill=fill)
        across, along = zip(*outline, strict=True)
        boxes.append(Box(thing.shape, min(across), min(along), max(across), max(along)))
    pixels = np.asarray(image.reduce(_FINE), np.uint8)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), tuple(boxes)


def _things(size: str) -> Iterator[Thing]:
    return (Thing(shape, colour, size) for shape in SHAPES for colour in COLOURS)


def _placed(scene: Scene, random: np.random.RandomState) -> list[tuple[Thing, float, float]]:
    """Each thing with its middle, as shares of the side. Between two of them there is room, and none is cut off."""
    if not scene.relation:
        jitter = random.uniform(-0.02, 0.02, (scene.number, 2)).tolist()
        quarters = [_QUARTERS[k] for k in random.permutation(4)[: scene.number]]
        return [(scene.things[0], x + dx, y + dy) for (x, y), (dx, dy) in zip(quarters, jitter, strict=True)]
    across, down = RELATIONS[scene.relation]
    half = random.uniform(0.2, 0.23)
    x, y = random.uniform(0.48, 0.52, 2).tolist()
    placed = []
    for thing, side, slip in zip(scene.things, (1, -1), random.uniform(-0.08, 0.08, 2).tolist(), strict=True):
        right, below = (slip, side * half * down) if down else (side * half * across, slip)
        placed.append((thing, x + right, y + below))
    return placed


def _colour(levels: NDArray[np.int64]) -> tuple[int, int, int]:
    red, green, blue = levels.tolist()
    return red, green, blue
