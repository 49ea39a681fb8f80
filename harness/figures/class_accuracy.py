"""Accuracy of each class and of each super-class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.figures.intervals import marks, whiskers
from harness.figures.style import COLOURS, FAINT, MARKERS, PAGE, SMALL, canvas, drawn, grid, named, percent, titled
from harness.types import Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 52
"""Classes that stand below each other before a new column begins."""


@drawn
def class_accuracy(
    before: Sequence[Score],
    classes: Sequence[str],
    after: Sequence[Score] | None = None,
    *,
    labels: tuple[str, str] = ("before", "after"),
    title: str = "",
) -> Figure:
    """Accuracy of each class with its interval, from the best class to the worst.

    With ``after`` both are shown on one row and linked, sorted by the first: the link is what hardening cost or gained.
    A dotted line is the mean over classes. Classes without samples come last and have no mark.
    """
    order = sorted(range(len(classes)), key=lambda k: (math.isnan(before[k].value), -_known(before[k].value)))
    series = [before] if after is None else [before, after]
    columns = max(1, math.ceil(len(classes) / ROWS))
    rows = math.ceil(len(classes) / columns)
    height = 0.2 if rows <= 20 else 0.122
    figure, axes = canvas(PAGE if columns > 1 else 5.0, rows * height + 1.0, 1, columns)
    for column in range(columns):
        shown = order[column * rows : (column + 1) * rows]
        _column(axes[0, column], [[scores[k] for k in shown] for scores in series], [classes[k] for k in shown], rows)
        for place, scores in enumerate(series):
            axes[0, column].axvline(_mean(scores), color=COLOURS[place], linestyle=":", linewidth=1.0, zorder=0)
    handles = axes[0, 0].get_legend_handles_labels()[0]
    names = [f"{label}, mean {100 * _mean(scores):.1f} %" for label, scores in zip(labels, series, strict=False)]
    names = names if after is not None else [f"mean {100 * _mean(before):.1f} %"]
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    titled(figure, title)
    return figure


def _column(axes: Any, series: Sequence[Sequence[Score]], names: Sequence[str], rows: int) -> None:
    places = range(len(names))
    if len(series) == 2:
        values = [marks(scores).values for scores in series]
        axes.hlines(places, values[0], values[1], color=FAINT, linewidth=2.0, zorder=1)
    for number, scores in enumerate(series):
        colour = COLOURS[number]
        whiskers(axes, places, scores, upright=False, color=colour, linewidth=0.7, alpha=0.7)
        axes.plot(marks(scores).values, places, MARKERS[number * 3], color=colour, markersize=3.2, label=str(number))
    axes.set_yticks(places, named(names, 24), fontsize=7.0 if rows <= 20 else SMALL)
    axes.set(xlim=(-0.02, 1.02), ylim=(rows - 0.4, -0.6), xlabel="accuracy")
    axes.tick_params(axis="y", length=0)
    percent(axes, "x")
    grid(axes, "both")


@drawn
def group_accuracy(series: Mapping[str, Mapping[str, Score]], *, title: str = "") -> Figure:
    """Accuracy of each super-class as bars, one for each of the series (a model, or before and after hardening).

    series: label -> super-class -> score, sorted by the first. At most four series can be told apart.
    """
    from itertools import chain

    first = next(iter(series.values()))
    names = sorted(dict.fromkeys(chain(*series.values())), key=lambda name: -_known(first.get(name, _NOTHING).value))
    thick = 0.8 / len(series)
    figure, axes = canvas(5.0, len(names) * max(0.2, 0.1 * len(series) + 0.06) + 1.0)
    for number, (label, scores) in enumerate(series.items()):
        found = [scores.get(name) for name in names]
        places = [place + (number - (len(series) - 1) / 2) * thick for place in range(len(names))]
        looks = {"color": COLOURS[number % len(COLOURS)], "hatch": HATCHES[number % len(HATCHES)]}
        axes[0, 0].barh(places, marks(found).values, thick, label=label, edgecolor="white", linewidth=0.3, **looks)
        whiskers(axes[0, 0], places, found, upright=False)
    axes[0, 0].set_yticks(range(len(names)), named(names, 34))
    axes[0, 0].set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), xlabel="super-class accuracy")
    titled(figure, title)
    axes[0, 0].tick_params(axis="y", length=0)
    percent(axes[0, 0], "x")
    grid(axes[0, 0], "x")
    if len(series) > 1:
        figure.legend(loc="outside lower center", ncols=min(4, len(series)))
    return figure


HATCHES = ("", "////", "....", "xxxx")
"""So that bars are told apart without their colour."""
_NOTHING = Score(math.nan, None, None, 0)


def _mean(scores: Sequence[Score]) -> float:
    known = [score.value for score in scores if not math.isnan(score.value)]
    return sum(known) / len(known) if known else math.nan


def _known(value: float) -> float:
    return -1.0 if math.isnan(value) else value
