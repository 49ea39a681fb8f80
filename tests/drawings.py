"""What several tests of figures need: whether everything written in one can be read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from harness.figures.style import look
from harness.statistics import rate
from harness.types import Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SLACK = 1.0
"""Pixels that letters may reach over their own box."""
LEAST = 4.5
"""Points: the smallest text on paper."""


def assert_legible(figure: Figure) -> None:
    """All text lies inside the figure and is large enough, and no tick label lies on its neighbour."""
    with look():
        figure.draw_without_rendering()
        paper = figure.bbox
        for text in texts(figure):
            box = text.get_window_extent()
            inside = box.x0 >= -SLACK and box.y0 >= -SLACK and box.x1 <= paper.x1 + SLACK and box.y1 <= paper.y1 + SLACK
            assert inside, f"{text.get_text()!r} at {box} leaves {paper}"
            assert text.get_fontsize() >= LEAST, f"{text.get_text()!r} has {text.get_fontsize()} points"
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                _assert_apart([label for label in axis.get_ticklabels() if _shown(label)])


def _assert_apart(labels: Sequence[Text]) -> None:
    boxes = [label.get_window_extent() for label in labels]
    if any(label.get_rotation() % 90 for label in labels):
        return  # the boxes of slanted texts overlap where the texts do not
    for n, (one, other) in enumerate(itertools.pairwise(boxes)):
        both = Bbox.intersection(one, other)
        apart = both is None or min(both.width, both.height) <= SLACK
        assert apart, f"{labels[n].get_text()!r} lies on {labels[n + 1].get_text()!r}"


def texts(figure: Figure) -> Iterator[Text]:
    """All texts that are seen."""
    hidden = {id(text) for axes in figure.axes if not axes.axison for text in _ticks(axes)}
    out_of_range = {id(text) for axes in figure.axes for text in _beyond(axes)}
    for text in figure.findobj(Text):
        if _shown(text) and id(text) not in hidden | out_of_range:
            yield text


def _shown(text: Text) -> bool:
    return bool(text.get_visible() and text.get_text().strip())


def _ticks(axes: Any) -> list[Text]:
    return [
        *axes.get_xticklabels(which="both"),
        *axes.get_yticklabels(which="both"),
        axes.xaxis.label,
        axes.yaxis.label,
    ]


def _beyond(axes: Any) -> Iterator[Text]:
    """Labels of ticks outside the range of an axis, which matplotlib keeps and does not draw."""
    for axis in (axes.xaxis, axes.yaxis):
        drawn = {id(tick) for tick in axis._update_ticks()}
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if id(tick) not in drawn:
                yield from (tick.label1, tick.label2)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


def names(count: int) -> list[str]:
    """Class names as long as those of flowers."""
    kinds = ("bluebell", "giant white arum lily", "rose", "hard-leaved pocket orchid", "colt's foot", "گل آفتابگردان")
    return [f"{kinds[k % len(kinds)]} {k}" for k in range(count)]


def answers(classes: int, n: int = 3000, accuracy: float = 0.6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions (N,) of a model that knows some classes better than others."""
    random = np.random.default_rng(seed)
    label = random.integers(0, classes, n)
    known = random.random(n) < np.clip(random.normal(accuracy, 0.2, classes), 0, 1)[label]
    return label, np.where(known, label, random.integers(0, classes, n))


def score(value: float, n: int = 1000) -> Score:
    return rate(round(value * n), n)
