"""The loss around a model's weights: along a direction, and its largest curvature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.figures.class_accuracy import HATCHES
from harness.figures.style import COLOURS, OVER, PAGE, SMALL, canvas, drawn, grid, named, percent, stroke, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harness.analysis.sharpness import LossCurve

DECADES = 30
"""Ratio of the largest to the smallest value from which on an axis is logarithmic."""


@drawn
def loss_along_direction(curves: Mapping[str, Sequence[LossCurve]], *, title: str = "") -> Figure:
    """Loss and accuracy along filter-normalised directions, for several models: label -> curves of the same positions.

    Several curves of a model are several random directions: their mean, and a band from the lowest to the highest.
    """
    import numpy as np

    rows = -(-len(curves) // 3)
    figure, axes = canvas(PAGE, 2.7 + 0.16 * rows, 1, 2)
    loss, accuracy = axes[0]
    for place, (name, walks) in enumerate(curves.items()):
        looks = stroke(place)
        looks["markevery"] = max(1, len(walks[0].positions) // 8)
        for panel, what in ((loss, "losses"), (accuracy, "accuracies")):
            values = np.stack([getattr(walk, what) for walk in walks])
            panel.plot(walks[0].positions, values.mean(0), label=name if panel is loss else None, **OVER, **looks)
            if len(walks) > 1:
                panel.fill_between(
                    walks[0].positions, values.min(0), values.max(0), color=looks["color"], alpha=0.2, linewidth=0
                )
    if _spans_decades([float(loss) for walks in curves.values() for walk in walks for loss in walk.losses]):
        loss.set_yscale("log")
    for panel, label in ((loss, "loss"), (accuracy, "accuracy")):
        panel.set(xlabel="position along the direction (lengths of the filters)", ylabel=label)
        panel.axvline(0, color="black", linestyle=":", linewidth=0.8)
        grid(panel)
    accuracy.set_ylim(0, 1)
    percent(accuracy)
    figure.legend(loc="outside lower center", ncols=3)
    titled(figure, title)
    return figure


@drawn
def eigenvalue_bars(values: Mapping[str, Mapping[str, Sequence[float]]], *, title: str = "") -> Figure:
    """The largest Hessian eigenvalue of each model, before and after hardening: model -> label -> values.

    Several values (of other samples) give a bar of their mean, a line from the smallest to the largest, and a dot each.
    Where the largest is ``DECADES`` times the smallest, the axis is logarithmic and the bars, whose length would then
    say nothing, are left out.
    """
    known = {m: {w: [v for v in found if math.isfinite(v)] for w, found in s.items()} for m, s in values.items()}
    labels = list(dict.fromkeys(label for series in known.values() for label in series))
    logarithmic = _spans_decades([v for series in known.values() for found in series.values() for v in found])
    thick = 0.8 / len(labels)
    figure, axes = canvas(5.0, len(known) * max(0.26, 0.19 * len(labels) + 0.1) + 0.9)
    panel = axes[0, 0]
    for row, series in enumerate(known.values()):
        for number, label in enumerate(labels):
            if series.get(label):
                place = row + (number - (len(labels) - 1) / 2) * thick
                _bar(panel, place, 0 if logarithmic else thick, series[label], number, label)
    panel.set_yticks(range(len(known)), named(list(known), 30))
    panel.set(ylim=(len(known) - 0.4, -0.6), xlabel="largest eigenvalue of the Hessian")
    titled(figure, title)
    panel.tick_params(axis="y", length=0)
    if logarithmic:
        panel.set_xscale("log")
    panel.margins(x=0.18)
    grid(panel, "x")
    if len(labels) > 1:
        handles, names = panel.get_legend_handles_labels()
        once = dict(zip(names, handles, strict=True))
        figure.legend(once.values(), once.keys(), loc="outside lower center", ncols=len(labels))
    return figure


def _spans_decades(values: Sequence[float]) -> bool:
    """Whether values are all positive and too far apart for a linear axis; of a diverged loss nothing is shown."""
    known = [value for value in values if math.isfinite(value)]
    return bool(known) and min(known) > 0 and max(known) > DECADES * min(known)


def _bar(axes: Any, place: float, thick: float, found: Sequence[float], number: int, label: str) -> None:
    """Mean, range and values; of no thickness the mean is a diamond."""
    colour, mean = COLOURS[number % len(COLOURS)], sum(found) / len(found)
    if thick:
        hatch = HATCHES[number % len(HATCHES)]
        axes.barh(place, mean, thick * 0.9, color=colour, hatch=hatch, edgecolor="white", linewidth=0.3, label=label)
    else:
        axes.plot(mean, place, "D", color=colour, label=label)
    axes.hlines(place, min(found), max(found), color="#333333", linewidth=1.0)
    axes.plot(found, [place] * len(found), "o", color="black", markersize=2.0, linestyle="")
    text, end = f"{mean:.3g}", max(found)
    axes.annotate(text, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=SMALL + 0.5)
