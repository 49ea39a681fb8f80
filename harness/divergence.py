"""When a training is beyond help: a loss that is no number, or that stays far above what guessing would cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.errors import BenchError

EXPLODED = 10.0
"""Times the loss of guessing or the loss at the start, whichever is larger: no usual training stays above that."""
SUSTAINED, FEWEST = 100, 10
"""Batches in a row; of a short training half of its batches, but never fewer than ``FEWEST``."""


class Diverged(BenchError):
    """A training came to nothing; ``history`` is the telemetry of the epochs before that."""

    def __init__(self, reason: str, history: list[dict[str, float]]) -> None:
        super().__init__(reason)
        self.history = history


class Unstable(Exception):
    """What a training must end for, as text."""


@dataclass
class Watch:
    """Losses batch by batch. Checkpoints are written where ``over`` is 0 and keep ``start``: a stop changes nothing.

    ``start``: the loss of the first batch, by weights that no step has touched, so objectives of any scale fit.
    ``over``: for how many batches in a row the loss has been too large. ``steps``: batches of the whole training.
    """

    steps: int
    start: float | None = None
    over: int = 0

    def see(self, loss: float, classes: int) -> None:
        """Raises Unstable for a loss that is not finite, and for one that has been too large for too long."""
        check_finite(loss)
        self.start = loss if self.start is None else self.start
        limit = EXPLODED * max(math.log(classes), self.start)
        self.over = self.over + 1 if loss > limit else 0
        if self.over >= max(FEWEST, min(SUSTAINED, self.steps // 2)):
            text = f"the loss is {loss:.4g} and was above {limit:.4g}, {EXPLODED:g} times that of guessing or of the "
            raise Unstable(f"{text}start, for {self.over} batches in a row")


def check_finite(loss: float) -> None:
    """Raises Unstable."""
    if not math.isfinite(loss):
        raise Unstable(f"the loss is {loss}")
