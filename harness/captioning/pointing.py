"""Whether attention looks at what a word names: the peak of its map against the boxes of things that stand there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.types import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

FINE = 128
"""Points a side that the share of an image under boxes is counted on."""


class Pointing(NamedTuple):
    """Of one caption: words that name something in the image, those whose peak lies inside such a thing's box, and the
    mean share of the image under the boxes meant (NaN where nothing is named).
    """

    named: int
    pointed: int
    covered: float


def pointing(
    words: Sequence[str], attention: NDArray[np.float32], grid: tuple[int, int], boxes: Sequence[Box]
) -> Pointing:
    """attention: (T, L), a row a word; grid: rows and columns of the L locations, row by row.

    The peak is the middle of the location with the largest weight. Several things of one name: any of them will do.
    """
    rows, columns = grid
    named = pointed = 0
    covered = []
    for word, weights in zip(words, attention, strict=False):
        meant = [box for box in boxes if box.word == word]
        if not meant:
            continue
        row, column = divmod(int(weights.argmax()), columns)
        x, y = (column + 0.5) / columns, (row + 0.5) / rows
        named += 1
        pointed += any(box.left <= x <= box.right and box.top <= y <= box.bottom for box in meant)
        covered.append(_covered(meant))
    return Pointing(named, pointed, float(np.mean(covered)) if covered else float("nan"))


def _covered(boxes: Sequence[Box]) -> float:
    middle = (np.arange(FINE) + 0.5) / FINE
    inside = np.zeros((FINE, FINE), dtype=bool)
    for box in boxes:
        down = (middle >= box.top) & (middle <= box.bottom)
        across = (middle >= box.left) & (middle <= box.right)
        inside |= down[:, None] & across[None, :]
    return float(inside.mean())
