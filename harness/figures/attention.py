"""Where a captioner looked for each word that it said, as heat over the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.figures.gallery import COLOUR, SIGN, show
from harness.figures.library import library
from harness.figures.style import FAINT, MAGNITUDES, SMALL, WRONG, drawn, shortened, shown, titled

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from harness.types import Box

SIDE, GAP = 0.66, 0.05
"""Inches of a panel, and between two of them."""
LINE, NAMES, EDGE = 0.135, 1.2, 0.1
"""Inches of a line of text, of the column that says what a line is, and of the paper's edge."""
LEAST, MOST = 8, 15
"""Panels in a line: sentences need the room of the former; what is longer than the latter goes on below."""
REFERENCES = 5
"""Shown of an image, which may have more."""
OPACITY = 0.6


class Sentence(NamedTuple):
    """What was said of an image (C, H, W) in [0, 1], and where each word looked: weights (T, rows, columns).

    name: what was done to the image ("clean"). score: sentence BLEU-4, in [0, 1]. wanted: the caption or the word that
    an attack wanted of the image, empty where it wanted none; reached: whether it got that.
    """

    name: str
    image: NDArray[np.float32]
    words: Sequence[str]
    attention: NDArray[np.float32]
    score: float
    wanted: str = ""
    reached: bool = False


class Example(NamedTuple):
    """An image's references, what was said of its versions, and boxes of what stands in it, if that is known."""

    references: Sequence[str]
    sentences: Sequence[Sentence]
    boxes: Sequence[Box] = ()


@drawn
def attention_panels(examples: Sequence[Example], *, from_right: bool = False, title: str = "") -> Figure:
    """Images one below the other: references, and of each sentence the image with a panel for each of its words.

    from_right: panels and texts run from right to left, as the language is read. Heat is from 0 to the largest weight
    of the word, which a cross marks; between locations it is interpolated. A box is what the word names.
    """
    longest = max((len(s.words) for example in examples for s in example.sentences), default=0)
    across = min(MOST, max(LEAST, longest + 1))
    width = 2 * EDGE + NAMES + across * (SIDE + GAP)
    figure = library("matplotlib.figure").Figure(figsize=(width, 1))
    titled(figure, title)
    above = 0.18 + 0.16 * figure.get_suptitle().count("\n") + 0.15
    height = sum(_height(example, across) for example in examples) + above + 0.2
    figure.set_figheight(height)
    figure.suptitle(figure.get_suptitle(), y=1 - 0.06 / height, va="top")
    page = _Page(figure, across, from_right, down=above)
    for example in examples:
        page.example(example)
    boxes = "; box: what the word names" if any(example.boxes for example in examples) else ""
    note = f"heat: from 0 (dark) to the largest weight of the word (bright), which a cross marks{boxes}"
    figure.text(0.5, 0.05 / height, note, ha="center", va="bottom", fontsize=SMALL)
    return figure


def _lines(sentence: Sentence, across: int) -> int:
    """Of panels; the first place of the first is the image's, and stays empty below it."""
    return max(1, math.ceil(len(sentence.words) / (across - 1)))


def _height(example: Example, across: int) -> float:
    texts = min(REFERENCES, len(example.references)) + 2 * len(example.sentences)
    texts += sum(bool(sentence.wanted) for sentence in example.sentences)
    panels = sum(_lines(sentence, across) for sentence in example.sentences)
    return texts * LINE + panels * (SIDE + LINE) + 2 * GAP


@dataclass
class _Page:
    """A figure filled from above. ``down``: inches used so far. Columns count from where reading begins."""

    figure: Figure
    across: int
    from_right: bool
    down: float

    def example(self, example: Example) -> None:
        self._rule()
        for place, text in enumerate(example.references[:REFERENCES]):
            name = ("reference", "references")[len(example.references) > 1]
            self._text(name if not place else "", text)
        for sentence in example.sentences:
            self._sentence(sentence, example.boxes)
        self.down += 2 * GAP

    def _sentence(self, sentence: Sentence, boxes: Sequence[Box]) -> None:
        self._text(f"{sentence.name}, BLEU-4 {100 * sentence.score:.1f} %", " ".join(sentence.words) or "–", bold=True)
        if sentence.wanted:
            reached = "reached" if sentence.reached else "missed"
            self._text(f"{SIGN[sentence.reached]} {reached}: wanted", sentence.wanted, COLOUR[sentence.reached])
        self.down += LINE
        show(self._axes(0), sentence.image)
        columns = self.across - 1
        for place, word in enumerate(sentence.words):
            if place and place % columns == 0:
                self.down += SIDE + LINE
            axes = self._axes(1 + place % columns)
            size = min(SMALL + 1, 11 * (SMALL + 1) / len(word))
            axes.set_title(shown(shortened(word, 16)), fontsize=max(4.5, size), pad=2)
            if word == sentence.wanted:
                axes.title.set_color(COLOUR[sentence.reached])
            _look(axes, sentence.image, sentence.attention[place])
            for box in boxes:
                if box.word == word:
                    _frame(axes, box, sentence.image.shape)
        self.down += SIDE + LINE

    def _axes(self, column: int) -> Any:
        """A panel whose upper edge is where the page has come to."""
        width, height = self.figure.get_size_inches()
        left = EDGE + NAMES + column * (SIDE + GAP)
        left = width - left - SIDE if self.from_right else left
        axes = self.figure.add_axes((left / width, 1 - (self.down + SIDE) / height, SIDE / width, SIDE / height))
        axes.set_axis_off()
        return axes

    def _text(self, name: str, text: str, colour: str = "black", *, bold: bool = False) -> None:
        """A line, and in the first column what it is."""
        width, height = self.figure.get_size_inches()
        letters = int(self.across * (SIDE + GAP) * 72 / (0.7 * (SMALL + 1)))
        side: dict[str, Any] = {"ha": "right" if self.from_right else "left", "va": "top"}
        line = (EDGE + NAMES, shown(shortened(text, letters)), SMALL + 1, "bold" if bold else "normal")
        for start, what, size, weight in ((EDGE, name, SMALL, "normal"), line):
            x = width - start if self.from_right else start
            place = (x / width, 1 - self.down / height)
            self.figure.text(*place, what, fontsize=size, fontweight=weight, color=colour, **side)
        self.down += LINE

    def _rule(self) -> None:
        """A faint line that parts an image from the one above."""
        width, height = self.figure.get_size_inches()
        y = 1 - (self.down - GAP) / height
        line = library("matplotlib.lines").Line2D([EDGE / width, 1 - EDGE / width], [y, y], color=FAINT, linewidth=0.5)
        self.figure.add_artist(line)


def _look(axes: Any, image: NDArray[np.float32], weights: NDArray[np.float32]) -> None:
    """weights (rows, columns): row 0 is the image's upper edge, column 0 its left one."""
    import numpy as np

    height, width = image.shape[1:]
    rows, columns = weights.shape
    show(axes, image.mean(0, keepdims=True))
    axes.imshow(
        weights, cmap=MAGNITUDES, vmin=0, vmax=max(float(weights.max()), 1e-12), alpha=OPACITY,
        interpolation="bilinear", extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )  # fmt: skip
    row, column = np.unravel_index(int(weights.argmax()), weights.shape)
    x, y = (column + 0.5) / columns * width - 0.5, (row + 0.5) / rows * height - 0.5
    axes.plot(x, y, "+", color="black", markersize=4, markeredgewidth=0.7, gid="peak")


def _frame(axes: Any, box: Box, shape: tuple[int, ...]) -> None:
    _, height, width = shape
    patch = library("matplotlib.patches").Rectangle(
        (box.left * width - 0.5, box.top * height - 0.5),
        (box.right - box.left) * width,
        (box.bottom - box.top) * height,
        fill=False,
        edgecolor=WRONG,
        linewidth=0.9,
        gid="box",
    )
    axes.add_patch(patch)
