"""Where models look, as heat over the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.figures.gallery import show, verdict
from harness.figures.library import library
from harness.figures.style import MAGNITUDES, SMALL, canvas, drawn, shortened, titled

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

SIDE = 1.3
"""Inches of a panel, its line of text not counted."""
OPACITY = 0.65


class Panel(NamedTuple):
    """An image (C, H, W) in [0, 1]; heat over it (H, W) in [0, 1], or None for the image alone.

    text: what the model says of it. right: whether that is so; None leaves the text without a sign.
    """

    image: NDArray[np.float32]
    heat: NDArray[np.float32] | None = None
    text: str = ""
    right: bool | None = None


@drawn
def saliency_panels(
    panels: Sequence[Sequence[Panel | None]], rows: Sequence[str], columns: Sequence[str], *, title: str = ""
) -> Figure:
    """A table of images with heat: a name for each row (``before``, ``after`` hardening) and column (``clean``).

    The image is grey below the heat, so that no colour of its own is taken for heat. None leaves a place empty.
    """
    down, across = len(rows), len(columns)
    figure, axes = canvas(across * SIDE + 1.0, down * (SIDE + 0.24) + 0.5, down, across)
    for r, line in enumerate(panels):
        for c, panel in enumerate(line):
            axes[r, c].set(xticks=[], yticks=[])
            axes[r, c].spines[:].set_visible(False)
            if panel is not None:
                _panel(axes[r, c], panel)
        axes[r, 0].set_ylabel(shortened(rows[r], 26), fontsize=SMALL + 1)
    for c, name in enumerate(columns):
        axes[0, c].set_title(name, fontsize=SMALL + 1)
    if any(panel and panel.heat is not None for line in panels for panel in line):
        _colour_bar(figure, axes)
    titled(figure, title)
    return figure


def _panel(axes: Any, panel: Panel) -> None:
    if panel.heat is None:
        show(axes, panel.image)
    else:
        show(axes, _grey(panel.image))
        axes.imshow(panel.heat, cmap=MAGNITUDES, vmin=0, vmax=1, alpha=OPACITY)
    if panel.text and panel.right is not None:
        verdict(axes, shortened(panel.text, 26), panel.right)
    elif panel.text:
        axes.set_xlabel(shortened(panel.text, 28), fontsize=SMALL, labelpad=2)


def _grey(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Luminance (ITU-R BT.601): (C, H, W) -> (1, H, W)."""
    import numpy as np

    if image.shape[0] == 1:
        return image
    weights = np.array([0.299, 0.587, 0.114], dtype=image.dtype).reshape(3, 1, 1)
    return (image * weights).sum(0, keepdims=True)


def _colour_bar(figure: Figure, axes: NDArray[Any]) -> None:
    scale = library("matplotlib.cm").ScalarMappable(library("matplotlib.colors").Normalize(0, 1), MAGNITUDES)
    bar = figure.colorbar(scale, ax=axes, shrink=min(1.0, 2.2 / len(axes)), fraction=0.04, ticks=[0, 0.5, 1])
    bar.set_label("relative saliency")
    bar.outline.set_linewidth(0.5)
