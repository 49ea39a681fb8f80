"""One look for all figures, and files that are whole or not there.

Figures are made as ``matplotlib.figure.Figure``, never through pyplot: no display, no list of open figures. Sizes are
inches on paper and fonts are points on paper, so a figure is meant to be printed at its own size.
"""

from __future__ import annotations

import functools
import os
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from harness.figures.library import library

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")

PAGE = 7.0
"""Width in inches of a figure that fills the text of a page."""
FONTS = ("DejaVu Sans",)
"""Ships with matplotlib, so figures are alike everywhere, and has the Persian letters."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""For categories (Okabe and Ito, "Color universal design", 2008), without yellow, which is too faint on white."""
STROKES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MAGNITUDES = "cividis"
"""Perceptually uniform, and the same to eyes that do not tell red from green (Nunez et al., PLOS ONE 2018)."""
SIGNED = "PuOr"
RIGHT, WRONG = COLOURS[0], COLOURS[1]
FAINT = "#BBBBBB"
OVER: dict[str, Any] = {"clip_on": False, "in_layout": False}
"""Of marks that may lie on the edge of the axes, at an accuracy of 100 %: they are not cut in half."""
SMALL, NORMAL, TITLE = 6.0, 8.0, 9.0
"""Points: of what stands beside marks, of axis labels, and of the title."""
FORMATS = {
    "png": {"dpi": 200, "metadata": {"Software": None}},
    "pdf": {"metadata": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None}},
}
"""Without dates and versions: the same figure is the same bytes."""
LOOK = {
    "font.family": list(FONTS),
    "font.size": NORMAL,
    "axes.titlesize": NORMAL,
    "axes.labelsize": NORMAL,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "figure.titlesize": TITLE,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.0,
    "image.interpolation": "nearest",
    "image.cmap": MAGNITUDES,
    "pdf.fonttype": 42,  # letters stay letters: searchable, and accepted by publishers
}


@contextmanager
def look() -> Iterator[None]:
    """matplotlib's own defaults and ``LOOK`` inside, whatever the user's settings are; afterwards those again."""
    matplotlib = library("matplotlib")
    defaults = {name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")}
    with matplotlib.rc_context({**defaults, **LOOK}):
        yield


def drawn(draw: Callable[P, R]) -> Callable[P, R]:
    """A drawing function that works in the common look. Raises BenchError where matplotlib is not installed."""

    @functools.wraps(draw)
    def within(*args: P.args, **kwargs: P.kwargs) -> R:
        with look():
            return draw(*args, **kwargs)

    return within


@drawn
def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Figure, NDArray[Any]]:
    """A figure of ``width`` x ``height`` inches and its axes, an array (rows, columns); labels take the room they need.

    ``grid`` goes to matplotlib's ``Figure.subplots`` (``sharey``, ``width_ratios``). Raises BenchError where matplotlib
    is not installed.
    """
    figure = library("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **grid)


@drawn
def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes ``NAME.png`` (200 dpi) and ``NAME.pdf`` into the folder, each whole or not at all; their paths.

    The same figure gives the same bytes. What a file name cannot hold is replaced in the name by a hyphen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{file_name(name)}.{ending}" for ending in FORMATS]
    beside = [path.with_name(f".{path.name}.tmp-{os.getpid()}") for path in paths]
    try:
        for path, ending in zip(beside, FORMATS, strict=True):
            figure.savefig(path, format=ending, **FORMATS[ending])  # type: ignore[arg-type]
        for path, final in zip(beside, paths, strict=True):
            os.replace(path, final)
    finally:
        for path in beside:
            path.unlink(missing_ok=True)
    return paths


def file_name(name: str) -> str:
    """A name as a file can have it: letters of any script, digits, ``_``, ``-``, ``.`` and ``=``; never hidden."""
    kept = re.sub(r"[^\w.=-]+", "-", name).strip("-.")
    return kept[:120] or "figure"


def stroke(place: int) -> dict[str, Any]:
    """Colour, dashes and marker of the n-th line: all three change, so that no line is told by its colour alone."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": STROKES[place % len(STROKES)],
        "marker": marker(place),
    }


def marker(place: int) -> str:
    """Marker of the n-th line; when colours begin again the markers are others than the first time."""
    return MARKERS[(place + place // len(COLOURS)) % len(MARKERS)]


def titled(figure: Figure, title: str) -> None:
    """A title above the whole figure, on as many lines as its width asks for."""
    letters = int(figure.get_figwidth() * 72 / (0.7 * TITLE))
    figure.suptitle("\n".join(textwrap.wrap(title, letters)))


def grid(axes: Any, axis: str = "both") -> None:
    """Faint lines behind the marks."""
    axes.grid(True, axis=axis)
    axes.set_axisbelow(True)


def shown(text: str) -> str:
    """A caption or a word of one as a figure is to be given it, on its own, not amid other text.

    matplotlib joins the letters and orders them itself. What has more letters from right to left than others is told to
    run that way, for it would run the other way where it begins with <unk>. A dollar is no formula.
    """
    kinds = [unicodedata.bidirectional(character) for character in text.replace("<unk>", "")]
    rightwards = sum(kind in ("R", "AL") for kind in kinds) > kinds.count("L")
    text = text.replace("$", r"\$")
    return f"\u2067{text}\u2069" if rightwards else text


def shortened(text: str, most: int) -> str:
    """A text of at most ``most`` characters, its end replaced by an ellipsis where it is longer."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def percent(axes: Any, axis: str = "y") -> None:
    """Labels shares in [0, 1] as percent."""
    formatter = library("matplotlib.ticker").PercentFormatter(xmax=1.0, decimals=None, symbol=" %")
    (axes.yaxis if axis == "y" else axes.xaxis).set_major_formatter(formatter)


def named(labels: Sequence[str], most: int = 28) -> list[str]:
    """Labels short enough for an axis."""
    return [shortened(label, most) for label in labels]
