"""Scores with their intervals, as marks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.types import Score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WHISKER = {"color": "#333333", "linewidth": 0.8}


class Marks(NamedTuple):
    """Values and bounds (n,) of scores; a bound that there is none of is NaN, and so is a score that is None."""

    values: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def marks(scores: Sequence[Score | None]) -> Marks:
    """Scores as arrays."""
    import numpy as np

    missing = Score(math.nan, None, None, 0)
    rows = [(s.value, s.low, s.high) for s in (score or missing for score in scores)]
    table = np.array([[math.nan if bound is None else bound for bound in row] for row in rows], dtype=np.float64)
    return Marks(*table.reshape(-1, 3).T)


def whiskers(axes: Any, places: Any, scores: Sequence[Score | None], *, upright: bool = True, **more: Any) -> None:
    """Thin lines from low to high at the places, upright or lying; none where there is no interval."""
    found = marks(scores)
    draw = axes.vlines if upright else axes.hlines
    draw(places, found.low, found.high, **(WHISKER | more))


def interval_text(score: Score) -> str:
    """A share with its interval in percent: ``4.2 % [3.1, 5.4]``."""
    value = f"{100 * score.value:.1f} %"
    return (
        value if score.low is None or score.high is None else f"{value} [{100 * score.low:.1f}, {100 * score.high:.1f}]"
    )
