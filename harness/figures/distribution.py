"""How many samples of each class a split holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.figures.style import COLOURS, NORMAL, PAGE, SMALL, canvas, drawn, grid, named, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 52
"""Classes that stand below each other before a new column begins."""
NAMED = 3 * ROWS
"""Of more classes than this the names are not readable on a page, and only the course of the counts is drawn."""


@drawn
def class_distribution(
    counts: Sequence[int], classes: Sequence[str], *, title: str = "", unit: str = "images"
) -> Figure:
    """Samples of each class as bars with their number, from the most frequent class to the rarest.

    counts: one for each of ``classes``; equal ones stay in the order of the classes. All columns have the same scale,
    which begins at 0. More than ``NAMED`` classes become one curve without names, with their mean as a dotted line.
    unit: what is counted.
    """
    order = sorted(range(len(classes)), key=lambda k: -counts[k])
    if len(classes) > NAMED:
        return _curve([counts[k] for k in order], [classes[k] for k in order], title, unit)
    columns = max(1, math.ceil(len(classes) / ROWS))
    rows = math.ceil(len(classes) / columns)
    height = 0.2 if rows <= 20 else 0.122
    figure, axes = canvas(PAGE if columns > 1 else 5.0, rows * height + 1.0, 1, columns, sharex=True)
    for column in range(columns):
        shown = order[column * rows : (column + 1) * rows]
        _column(axes[0, column], [counts[k] for k in shown], [classes[k] for k in shown], rows, unit)
    axes[0, 0].set_xlim(0, 1.18 * max(1, *counts))  # room for the numbers
    figure.suptitle(title, fontsize=NORMAL)
    return figure


def _column(axes: Any, counts: Sequence[int], names: Sequence[str], rows: int, unit: str) -> None:
    few = rows <= 20
    bars = axes.barh(range(len(names)), counts, 0.72, color=COLOURS[0], linewidth=0)
    labels = [f"{count:,}" for count in counts]
    axes.bar_label(bars, labels, padding=1.5, fontsize=7.0 if few else SMALL - 0.5)
    axes.set_yticks(range(len(names)), named(names, 28), fontsize=7.0 if few else SMALL)
    axes.set(ylim=(rows - 0.4, -0.6), xlabel=unit)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=5, integer=True)
    grid(axes, "x")


def _curve(counts: Sequence[int], names: Sequence[str], title: str, unit: str) -> Figure:
    """Counts in falling order against their rank, the first and the last class named."""
    figure, axes = canvas(PAGE, 3.4)
    panel = axes[0, 0]
    panel.stairs(counts, range(1, len(counts) + 2), fill=True, color=COLOURS[0])
    mean = sum(counts) / len(counts)
    panel.axhline(mean, color=COLOURS[1], linestyle=":", linewidth=1.2, label=f"mean {mean:,.1f}")
    first, last = (f"{shortened(names[k], 30)} ({counts[k]:,})" for k in (0, -1))
    panel.set(
        xlim=(1, len(counts) + 1),
        ylim=(0, 1.05 * max(1, *counts)),
        xlabel=f"{len(counts):,} classes by frequency, from {first} to {last}",
        ylabel=unit,
    )
    grid(panel, "y")
    figure.legend(loc="outside lower center")
    figure.suptitle(title, fontsize=NORMAL)
    return figure
