"""Reliability diagrams: whether a model is right as often as it is confident."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.figures.intervals import interval_text
from harness.figures.style import COLOURS, canvas, drawn, grid, named, percent, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harness.analysis.calibration import Calibration

ACROSS = 3


@drawn
def reliability(models: Mapping[str, Calibration], *, title: str = "") -> Figure:
    """Accuracy against confidence, bin by bin, above a histogram of the confidences; one panel a model.

    The gap to the diagonal is hatched: where it lies above the bar the model is more confident than right. The panel's
    title gives the expected calibration error with its interval.
    """
    across = 2 if len(models) in (2, 4) else min(ACROSS, len(models))
    down = math.ceil(len(models) / across)
    figure, axes = canvas(
        2.35 * across + (0.6 if across == 1 else 0), 3.1 * down + 0.3, 2 * down, across, height_ratios=[3, 1] * down
    )
    for place, (name, found) in enumerate(models.items()):
        above, below = axes[2 * (place // across), place % across], axes[2 * (place // across) + 1, place % across]
        _diagram(above, found)
        lines = named(name.splitlines(), 30)
        above.set_title("\n".join([*lines, f"ECE {interval_text(found.error)}"]))
        _histogram(below, found)
        if place % across == 0:
            above.set_ylabel("accuracy")
            below.set_ylabel("samples")
    for place in range(len(models), across * down):
        axes[2 * (place // across), place % across].remove()
        axes[2 * (place // across) + 1, place % across].remove()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3 if across > 1 else 1)
    titled(figure, title)
    return figure


def _diagram(axes: Any, found: Calibration) -> None:
    import numpy as np

    bins = found.bins
    middles, width = (bins.edges[:-1] + bins.edges[1:]) / 2, np.diff(bins.edges)
    known = bins.samples > 0
    gap = (bins.confidence - bins.accuracy)[known]
    axes.bar(
        middles[known],
        bins.accuracy[known],
        width[known],
        color=COLOURS[0],
        edgecolor="white",
        linewidth=0.5,
        label="accuracy",
    )
    axes.bar(
        middles[known], gap, width[known], bins.accuracy[known],
        facecolor="none", edgecolor=COLOURS[1], hatch="////", linewidth=0.5, label="gap to the confidence",
    )  # fmt: skip
    axes.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=0.8, label="calibrated")
    axes.set(xlim=(0, 1), ylim=(0, 1), xticklabels=[])
    percent(axes)
    grid(axes)


def _histogram(axes: Any, found: Calibration) -> None:
    bins = found.bins
    axes.stairs(bins.samples, bins.edges, fill=True, color="#888888")
    axes.set(xlim=(0, 1), xlabel="confidence")
    axes.locator_params(axis="y", nbins=3)
    percent(axes, "x")
