"""How trainings went, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.figures.style import COLOURS, OVER, PAGE, canvas, drawn, grid, marker, percent, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, float]]
"""What training keeps of each epoch: ``epoch``, ``loss``, ``accuracy``, ``validation_loss``, ``validation_accuracy``,
``lr``; of captioners also ``validation_bleu4``, and their accuracy is that of words after the true ones before."""


@drawn
def training_curves(trainings: Mapping[str, History], *, title: str = "") -> Figure:
    """Loss, accuracy and learning rate of one or several trainings: validation solid, train dashed, best epoch ringed.

    The best epoch is the earliest of highest validation accuracy, whose weights are kept; of captioners of highest
    validation BLEU-4, which has a panel of its own beside the loss.
    """
    captions = any("validation_bleu4" in epoch for history in trainings.values() for epoch in history)
    legend_rows = len(trainings) + 3
    columns = 3 if captions else 2
    figure, axes = canvas(PAGE, 3.4 + 0.13 * max(0, legend_rows - 6), 2, columns, height_ratios=[2.6, 1])
    loss, accuracy, rate, key = axes[0, 0], axes[0, -1], axes[1, 0], axes[1, -1]
    bleu = axes[0, 1] if captions else None
    for place, (name, history) in enumerate(trainings.items()):
        colour = COLOURS[place % len(COLOURS)]
        mark = marker(place)
        _pair(loss, history, "loss", colour, mark, name)
        _pair(accuracy, history, "accuracy", colour, mark, name)
        if bleu is not None:
            _solid(bleu, history, "validation_bleu4", colour, mark, name)
        if history:
            best = _best(history)
            ring = {"markersize": 9, "fillstyle": "none", "color": colour, "gid": "best", **OVER}
            shown = [(loss, "validation_loss"), (accuracy, "validation_accuracy"), (bleu, "validation_bleu4")]
            for panel, what in shown:
                if panel is not None and what in best:
                    panel.plot(best["epoch"], best[what], "o", **ring)
        rate.plot(
            _of(history, "epoch"),
            _of(history, "lr"),
            color=colour,
            linewidth=1.2,
            marker="." if len(history) == 1 else None,
        )
    _dress(loss, accuracy, rate, bleu, trainings)
    handles, labels = loss.get_legend_handles_labels()
    more = _meanings()
    for panel in axes[1, 1:]:
        panel.axis("off")
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
    axes.plot(_of(history, "epoch"), _of(history, what), color=colour, linestyle="--", linewidth=0.9, alpha=0.8)
    _solid(axes, history, f"validation_{what}", colour, mark, name)


def _solid(axes: Any, history: History, what: str, colour: str, mark: str, name: str) -> None:
    measured = [epoch for epoch in history if what in epoch]
    every = max(1, len(measured) // 8)  # markers tell lines apart without colour; one at each epoch would hide them
    axes.plot(
        _of(measured, "epoch"),
        _of(measured, what),
        color=colour,
        marker=mark,
        markevery=every,
        label=name,
        **OVER,
    )


def _dress(loss: Any, accuracy: Any, rate: Any, bleu: Any, trainings: Mapping[str, History]) -> None:
    longest = max((len(history) for history in trainings.values()), default=0)
    rates = [value for history in trainings.values() for value in _of(history, "lr") if value > 0]
    of_words = "accuracy" if bleu is None else "accuracy of words"
    panels = [(loss, "loss"), (accuracy, of_words), (rate, "learning rate"), (bleu, "BLEU-4")]
    for axes, label in panels:
        if axes is None:
            continue
        axes.set(ylabel=label, xlim=(0.5, max(longest, 1) + 0.5))
        axes.xaxis.get_major_locator().set_params(integer=True)
        grid(axes)
        if axes is accuracy or axes is bleu:
            axes.set_ylim(0, 1)
            percent(axes)
            axes.set_xlabel("epoch")
    if rates and max(rates) > 20 * min(rates):
        rate.set_yscale("log", nonpositive="mask")  # schedules may end at 0: a line to it would be a cliff
    rate.set_xlabel("epoch")


def _meanings() -> list[Any]:
    from harness.figures.library import library

    line = library("matplotlib.lines").Line2D
    return [
        line([], [], color="black", label="validation"),
        line([], [], color="black", linestyle="--", linewidth=0.9, label="train"),
        line([], [], color="black", linestyle="", marker="o", markersize=8, fillstyle="none", label="best epoch"),
    ]


def _best(history: History) -> Mapping[str, float]:
    return max(history, key=lambda epoch: epoch.get("validation_bleu4", epoch["validation_accuracy"]))


def _of(history: History, what: str) -> list[float]:
    return [epoch[what] for epoch in history]
