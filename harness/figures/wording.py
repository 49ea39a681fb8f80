"""What captions are made of: their most frequent words, and how long they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.figures.distribution import class_distribution
from harness.figures.style import COLOURS, NORMAL, canvas, drawn, grid, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 5.0, 3.2


def frequent_words(frequent: Sequence[tuple[str, int]], *, title: str = "") -> Figure:
    """Words as bars with how often they stand, the most frequent one on top. Persian ones are joined and ordered."""
    counts, words = [count for _, count in frequent], [shown(word) for word, _ in frequent]
    return class_distribution(counts, words, title=title, unit="times in the captions")


@drawn
def caption_lengths(lengths: Mapping[int, int], *, title: str = "") -> Figure:
    """How many captions have so many words: a bar for each length, and their mean as a dotted line."""
    figure, axes = canvas(WIDTH, HEIGHT)
    panel = axes[0, 0]
    panel.bar(list(lengths), list(lengths.values()), 0.82, color=COLOURS[0], linewidth=0)
    mean = sum(length * count for length, count in lengths.items()) / max(1, sum(lengths.values()))
    panel.axvline(mean, color=COLOURS[1], linestyle=":", linewidth=1.2, label=f"mean {mean:.1f}")
    panel.set(xlabel="words of a caption", ylabel="captions", ylim=(0, 1.05 * max(1, *lengths.values(), 1)))
    panel.locator_params(axis="both", integer=True)
    grid(panel, "y")
    figure.legend(loc="outside lower center")
    figure.suptitle(title, fontsize=NORMAL)
    return figure
