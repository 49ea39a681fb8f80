"""How trainings went, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.figures.style import COLOURS, OVER, PAGE, canvas, drawn, grid, marker, percent, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, float]]
"""What training keeps of each epoch: ``epoch``, ``loss``, ``accuracy``, ``validation_loss``, ``validation_accuracy``,
``lr``."""


@drawn
def training_curves(trainings: Mapping[str, History], *, title: str = "") -> Figure:
    """Loss, accuracy and learning rate of one or several trainings: validation solid, train dashed, best epoch ringed.

    The best epoch is the earliest of highest validation accuracy, whose weights are kept.
    """
    legend_rows = len(trainings) + 3
    figure, axes = canvas(PAGE, 3.4 + 0.13 * max(0, legend_rows - 6), 2, 2, height_ratios=[2.6, 1])
    loss, accuracy, rate, key = axes.flat
    for place, (name, history) in enumerate(trainings.items()):
        colour = COLOURS[place % len(COLOURS)]
        mark = marker(place)
        _pair(loss, history, "loss", colour, mark, name)
        _pair(accuracy, history, "accuracy", colour, mark, name)
        if history:
            best = _best(history)
            ring = {"markersize": 9, "fillstyle": "none", "color": colour, "gid": "best", **OVER}
            for panel, what in ((loss, "validation_loss"), (accuracy, "validation_accuracy")):
                panel.plot(best["epoch"], best[what], "o", **ring)
        rate.plot(
            _of(history, "epoch"),
            _of(history, "lr"),
            color=colour,
            linewidth=1.2,
            marker="." if len(history) == 1 else None,
        )
    _dress(loss, accuracy, rate, trainings)
    handles, labels = loss.get_legend_handles_labels()
    more = _meanings()
    key.axis("off")
    key.legend(
        [*handles, *more],
        [*labels, *(line.get_label() for line in more)],
        loc="center",
        ncols=2 if legend_rows > 5 else 1,
    )
    figure.align_ylabels([loss, rate])
    titled(figure, title)
    return figure


def _pair(axes: Any, history: History, what: str, colour: str, mark: str, name: str) -> None:
    epochs = _of(history, "epoch")
    every = max(1, len(epochs) // 8)  # markers tell lines apart without colour; one at each epoch would hide them
    axes.plot(epochs, _of(history, what), color=colour, linestyle="--", linewidth=0.9, alpha=0.8)
    axes.plot(
        epochs,
        _of(history, f"validation_{what}"),
        color=colour,
        marker=mark,
        markevery=every,
        label=name,
        **OVER,
    )


def _dress(loss: Any, accuracy: Any, rate: Any, trainings: Mapping[str, History]) -> None:
    longest = max((len(history) for history in trainings.values()), default=0)
    rates = [value for history in trainings.values() for value in _of(history, "lr") if value > 0]
    for axes, label in ((loss, "loss"), (accuracy, "accuracy"), (rate, "learning rate")):
        axes.set(ylabel=label, xlim=(0.5, max(longest, 1) + 0.5))
        axes.xaxis.get_major_locator().set_params(integer=True)
        grid(axes)
    accuracy.set_ylim(0, 1)
    percent(accuracy)
    if rates and max(rates) > 20 * min(rates):
        rate.set_yscale("log", nonpositive="mask")  # schedules may end at 0: a line to it would be a cliff
    rate.set_xlabel("epoch")
    accuracy.set_xlabel("epoch")


def _meanings() -> list[Any]:
    from harness.figures.library import library

    line = library("matplotlib.lines").Line2D
    return [
        line([], [], color="black", label="validation"),
        line([], [], color="black", linestyle="--", linewidth=0.9, label="train"),
        line([], [], color="black", linestyle="", marker="o", markersize=8, fillstyle="none", label="best epoch"),
    ]


def _best(history: History) -> Mapping[str, float]:
    return max(history, key=lambda epoch: epoch["validation_accuracy"])


def _of(history: History, what: str) -> list[float]:
    return [epoch[what] for epoch in history]
