"""Confusion matrices of a few classes with their numbers, of many as a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.figures.library import library
from harness.figures.style import MAGNITUDES, NORMAL, SMALL, canvas, drawn, named, titled

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

NUMBERED = 20
"""Classes up to which the cells have room for their counts."""
LONGEST = 34
LEADING = 1.25
"""Height of a line of text in sizes of its font."""


@drawn
def confusion_matrix(
    counts: NDArray[np.int64], classes: Sequence[str], groups: Sequence[str] = (), *, title: str = ""
) -> Figure:
    """Counts (K, K), row the true class and column the predicted one, coloured by the share of the true class.

    Up to ``NUMBERED`` classes the cells hold the counts. ``groups`` names the super-class of each class: classes are
    then sorted by super-class, with lines between them, and with more than ``NUMBERED`` classes the axes name
    super-classes instead of classes.
    """
    import numpy as np

    order = np.argsort(np.array(groups), kind="stable") if groups else np.arange(len(classes))
    counts, names = counts[np.ix_(order, order)], [classes[k] for k in order]
    sorted_groups = [groups[k] for k in order] if groups else []
    few = len(classes) <= NUMBERED
    side = _side(len(classes), bool(groups))
    labels = sorted(set(groups)) if groups and not few else names
    room = 0.075 * max(len(label) for label in named(labels, LONGEST))
    figure, axes = canvas(side + room + 1.3, side + room + 0.7)
    figure.set_layout_engine("compressed")  # the matrix is square: what it leaves of its place is given back
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axes[0, 0].imshow(shares, cmap=MAGNITUDES, norm=_scale(few), aspect="equal")
    _colour_bar(figure, axes[0, 0], image, few)
    if few:
        _numbers(axes[0, 0], counts, shares)
    if groups:
        _separators(axes[0, 0], sorted_groups)
    if groups and not few:
        _name_groups(axes[0, 0], sorted_groups, side)
    else:
        _name(axes[0, 0], np.arange(len(names)), named(names, LONGEST), side * 72 / len(names))
    axes[0, 0].set(xlabel="predicted", ylabel="true")
    titled(figure, title)
    for spine in axes[0, 0].spines.values():
        spine.set_visible(True)
    return figure


def _side(classes: int, grouped: bool) -> float:
    """Inches of the matrix: room for counts in cells, for a name beside each row, or for super-classes."""
    if classes <= NUMBERED:
        return max(2.4, 0.34 * classes)
    return 5.6 if grouped else max(5.6, 0.082 * classes)


def _scale(few: bool) -> Any:
    """Shares from 0 to 1. Of many classes by their square root, or confusions of one in a hundred would not be seen."""
    return library("matplotlib.colors").PowerNorm(1.0 if few else 0.5, vmin=0.0, vmax=1.0)


def _colour_bar(figure: Figure, axes: Any, image: Any, few: bool) -> None:
    ticks = [0, 0.25, 0.5, 0.75, 1] if few else [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1]
    bar = figure.colorbar(image, ax=axes, fraction=0.035, pad=0.02)
    bar.set_ticks(ticks, labels=[f"{100 * tick:g} %" for tick in ticks])
    bar.set_label("share of the true class" if few else "share of the true class, square-root scale")
    bar.outline.set_linewidth(0.5)


def _numbers(axes: Any, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    """Counts in the cells, black on the map's bright half and white on its dark one; zeros stay empty."""
    for (row, column), count in _cells(counts):
        shade = "black" if shares[row, column] > 0.55 else "white"
        axes.text(column, row, f"{count}", ha="center", va="center", fontsize=SMALL, color=shade)


def _cells(counts: NDArray[np.int64]) -> list[tuple[tuple[int, int], int]]:
    import numpy as np

    return [((int(r), int(c)), int(counts[r, c])) for r, c in zip(*np.nonzero(counts), strict=True)]


def _separators(axes: Any, groups: Sequence[str]) -> None:
    for place in range(1, len(groups)):
        if groups[place] != groups[place - 1]:
            axes.axhline(place - 0.5, color="white", linewidth=0.4)
            axes.axvline(place - 0.5, color="white", linewidth=0.4)


def _name_groups(axes: Any, groups: Sequence[str], side: float) -> None:
    """One label in the middle of each super-class; the lines between them take the place of tick marks."""
    names = sorted(set(groups))
    middles = [groups.index(name) + (groups.count(name) - 1) / 2 for name in names]
    _name(axes, middles, named(names, LONGEST), side * 72 / len(names))
    axes.tick_params(length=0)


def _name(axes: Any, places: Any, names: Sequence[str], pitch: float) -> None:
    """Labels at both axes as large as the pitch (points from one to the next) allows."""
    size = min(NORMAL - 1, pitch / LEADING)
    axes.set_yticks(places, names, fontsize=size)
    upright = max(len(name) for name in names) * size > pitch
    axes.set_xticks(places, names, fontsize=size, rotation=90 if upright else 0)
    if size < SMALL:
        axes.tick_params(length=1.5, pad=1.5)
