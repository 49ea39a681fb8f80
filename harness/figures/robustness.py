"""Accuracy against the size of the perturbation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.figures.intervals import marks
from harness.figures.style import PAGE, canvas, drawn, grid, percent, stroke, titled
from harness.types import SEVERITY, Score, eps_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TICKS = 20
"""At most so many labels fit below the axis."""


@drawn
def accuracy_against_eps(
    curves: Mapping[str, Sequence[tuple[float, Score]]],
    norm: str,
    *,
    chance: float | None = None,
    title: str = "",
) -> Figure:
    """Accuracy with its interval as a band, for each model, attack or both: label -> (eps, score) of each budget.

    norm: ``Linf``, ``L2``, ``L1`` or ``severity``; a score at eps 0 is the clean accuracy. chance: the accuracy of a
    guess, as a dotted line.
    """
    rows = -(-len(curves) // 2)
    figure, axes = canvas(PAGE * 0.8, 3.0 + 0.16 * rows)
    panel = axes[0, 0]
    faint = min(0.2, 0.8 / max(1, len(curves)))  # many bands above each other would hide the lines
    for place, (name, points) in enumerate(curves.items()):
        points = sorted(points)
        eps, found, looks = [e for e, _ in points], marks([score for _, score in points]), stroke(place)
        panel.fill_between(eps, found.low, found.high, color=looks["color"], alpha=faint, linewidth=0)
        panel.plot(eps, found.values, label=name, **looks)
    if chance is not None:
        panel.axhline(chance, color="black", linestyle=":", linewidth=0.8, label="chance")
    _budgets(panel, sorted({e for points in curves.values() for e, _ in points}), norm)
    panel.set(ylim=(0, 1), ylabel="accuracy")
    titled(figure, title)
    percent(panel)
    grid(panel)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _budgets(axes: Any, all_eps: Sequence[float], norm: str) -> None:
    """Ticks at the budgets measured, without those that would run into the next larger one."""
    room = (all_eps[-1] - all_eps[0]) / TICKS if all_eps else 0.0
    kept: list[float] = []
    for eps in reversed(all_eps):
        if not kept or kept[-1] - eps >= room:
            kept.append(eps)
    levels = norm == "Linf"  # in L2 and L1 a step of the grey scale is no unit that anyone counts in
    axes.set_xticks(kept, [f"{eps * 255:.3g}" if levels else eps_text(eps) for eps in kept])
    unit = "severity" if norm == SEVERITY else f"eps ({norm})"
    axes.set_xlabel(f"{unit} in 1/255" if levels else unit)
