"""The table as a figure: every model under every attack, before and after hardening."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.figures.class_accuracy import HATCHES
from harness.figures.intervals import marks, whiskers
from harness.figures.style import COLOURS, PAGE, SMALL, canvas, drawn, grid, named, percent, shortened, titled
from harness.types import Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAR, MARGIN = 11.0, 40.0
"""Points: a bar wide enough for the number above it, and what a panel needs beside its bars."""


DIAMOND = 0.03
"""Half the height of a diamond, as a share of the axis."""


class Entry(NamedTuple):
    """Accuracy of a model under an attack, before and after hardening, and the published fractions; None: not known.

    attack: its name, and on a second line its budget.
    """

    model: str
    attack: str
    before: Score | None = None
    after: Score | None = None
    published_before: float | None = None
    published_after: float | None = None


@drawn
def overview(entries: Sequence[Entry], *, labels: Sequence[str] = ("before", "after"), title: str = "") -> Figure:
    """A panel a model, a pair of bars an attack with intervals; published values are diamonds on the bars.

    labels: of the bars; with a single one only what was ``before`` is drawn.

    Models and attacks keep the order in which they first come. A number that there is none of leaves its place empty.
    """
    models = list(dict.fromkeys(entry.model for entry in entries))
    attacks = list(dict.fromkeys(entry.attack for entry in entries))
    wide = (2.5 * BAR * len(attacks) + MARGIN) / 72
    across = max(1, min(len(models), int(PAGE / wide)))
    down = math.ceil(len(models) / across)
    figure, axes = canvas(max(across * wide, 3.6), (2.1 if down < 4 else 1.8) * down + 0.7, down, across, sharey=True)
    for place, model in enumerate(models):
        panel = axes[place // across, place % across]
        mine = {entry.attack: entry for entry in entries if entry.model == model}
        _panel(panel, [mine.get(attack, Entry(model, attack)) for attack in attacks], labels)
        panel.set_title(shortened(model, 24))
        slanted = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
        panel.set_xticks(range(len(attacks)), [_lines(attack) for attack in attacks], **slanted)
        if place % across == 0:
            panel.set_ylabel("accuracy")
    for place in range(len(models), across * down):
        axes[place // across, place % across].remove()
    found = {
        label: handle for panel in figure.axes for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    shown = [label for label in (*labels, "published") if label in found]
    figure.legend([found[label] for label in shown], shown, loc="outside lower center", ncols=3)
    titled(figure, title)
    return figure


def _lines(attack: str) -> str:
    """An attack's name and its budget, which is not cut off, for it is what attacks may differ in."""
    return "\n".join(named(attack.splitlines(), 20))


def _panel(axes: Any, entries: Sequence[Entry], labels: Sequence[str]) -> None:
    series = [
        ([entry.before for entry in entries], [entry.published_before for entry in entries]),
        ([entry.after for entry in entries], [entry.published_after for entry in entries]),
    ][: len(labels)]
    thick = 0.8 / len(series)
    for number, (scores, published) in enumerate(series):
        places = [place + (number - (len(series) - 1) / 2) * thick for place in range(len(entries))]
        looks = {"color": COLOURS[number], "hatch": HATCHES[number], "edgecolor": "white", "linewidth": 0.3}
        found = marks(scores)
        axes.bar(places, found.values, thick, label=labels[number], **looks)
        whiskers(axes, places, scores)
        _values(axes, places, scores, published)
        known = [(place, value) for place, value in zip(places, published, strict=True) if value is not None]
        if known:
            diamond = {"color": "white", "markeredgecolor": "black", "linestyle": "", "zorder": 4, "clip_on": False}
            axes.plot(*zip(*known, strict=True), marker="D", label="published", **diamond)
    axes.set(ylim=(0, 1.05), xlim=(-0.6, len(entries) - 0.4))
    axes.tick_params(axis="x", length=0)
    percent(axes)
    grid(axes, "y")


def _values(
    axes: Any, places: Sequence[float], scores: Sequence[Score | None], published: Sequence[float | None]
) -> None:
    """The numbers above the marks, for a bar of nothing would be taken for a missing one; a missing one has a dash."""
    for place, score, reference in zip(places, scores, published, strict=True):
        text, top = "–", 0.0
        if score is not None and not math.isnan(score.value):
            text, top = f"{100 * score.value:.0f}", score.value if score.high is None else score.high
        if reference is not None:
            top = max(top, reference + DIAMOND)
        axes.annotate(text, (place, top), (0, 1.5), textcoords="offset points", ha="center", fontsize=SMALL)
