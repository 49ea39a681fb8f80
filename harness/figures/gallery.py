"""Samples beside what an attack made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.figures.style import RIGHT, SMALL, WRONG, canvas, drawn, shortened, titled

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

BLOCK = 5
"""Rows of samples before a second block of columns begins beside the first."""
SIDE = 1.05
"""Inches of an image."""
SIGN = {True: "✓", False: "✗"}
COLOUR = {True: RIGHT, False: WRONG}


class Answers(NamedTuple):
    """What a model says of N images: predicted class (N,) and the probability it gives to it (N,)."""

    prediction: NDArray[np.int64]
    confidence: NDArray[np.float64]


@drawn
def gallery(
    clean: NDArray[np.float32],
    adversarial: NDArray[np.float32],
    label: NDArray[np.int64],
    of_clean: Answers,
    of_adversarial: Answers,
    classes: Sequence[str],
    *,
    factor: float | None = None,
    title: str = "",
) -> Figure:
    """Each sample as it is, attacked, and the perturbation around grey, with what the model says of the first two.

    clean, adversarial: (N, C, H, W) in [0, 1], one or three channels. label: (N,). factor: how much the perturbation is
    amplified; left out, the largest whole number that cuts nothing off. The same for all samples, or they would not
    compare. Right answers have a tick, wrong ones a cross, and colours of their own.
    """
    import math

    count = len(clean)
    blocks = 1 if count <= BLOCK else 2
    rows = max(1, math.ceil(count / blocks))
    factor = whole_factor(adversarial - clean) if factor is None else factor
    figure, axes = canvas(3 * blocks * SIDE + 0.35 * blocks, rows * (SIDE + 0.26) + 0.55, rows, 3 * blocks)
    for panel in axes.flat:
        panel.axis("off")
    for n in range(count):
        first, second, third = axes[n % rows, 3 * (n // rows) : 3 * (n // rows) + 3]
        show(first, clean[n])
        show(second, adversarial[n])
        show(third, 0.5 + factor * (adversarial[n] - clean[n]))
        _say(first, of_clean, n, int(label[n]), classes)
        _say(second, of_adversarial, n, int(label[n]), classes)
        name = shortened(classes[int(label[n])], 20)
        first.text(-0.06, 0.5, name, rotation=90, ha="right", va="center", fontsize=SMALL, transform=first.transAxes)
    for block in range(blocks):
        heads = ("clean", "adversarial", f"perturbation × {factor:g}")
        for panel, head in zip(axes[0, 3 * block : 3 * block + 3], heads, strict=True):
            panel.set_title(head, fontsize=SMALL + 1)
    titled(figure, title)
    return figure


def whole_factor(perturbation: NDArray[np.float32]) -> float:
    """The largest whole number that amplifies the largest change of a pixel to at most half the grey scale."""
    import numpy as np

    largest = float(np.abs(perturbation).max(initial=0.0))
    return float(max(1, int(0.5 / largest + 1e-6))) if largest else 1.0


def show(axes: Any, image: NDArray[np.float32]) -> None:
    """An image (C, H, W) in [0, 1] of one or three channels; pixel edges are left as they are."""
    if image.shape[0] == 1:
        axes.imshow(image[0].clip(0, 1), cmap="gray", vmin=0, vmax=1)
    else:
        axes.imshow(image.transpose(1, 2, 0).clip(0, 1))


def verdict(axes: Any, text: str, right: bool, size: float = SMALL) -> None:
    """A line below an image: what the model says, with the sign and in the colour of right or wrong."""
    axes.text(
        0.5, -0.04, f"{SIGN[right]} {text}", ha="center", va="top", fontsize=size, color=COLOUR[right],
        transform=axes.transAxes,
    )  # fmt: skip


def _say(axes: Any, answers: Answers, n: int, label: int, classes: Sequence[str]) -> None:
    guess = int(answers.prediction[n])
    verdict(axes, f"{shortened(classes[guess], 16)} {100 * answers.confidence[n]:.0f} %", guess == label)
