"""How often training shows the true word before: scheduled sampling.

Bengio et al., "Scheduled sampling for sequence prediction with recurrent neural networks", NeurIPS 2015.
"""

from __future__ import annotations

import math
from typing import NamedTuple

STEEPNESS = 10.0


class Schedule(NamedTuple):
    """The probability of the true word, from 1 at the beginning of training to ``end`` at its end.

    kind: "none" (always 1), "linear", "exponential" (end ** progress), "inverse_sigmoid" (a sigmoid falling around
    half of the training, moved so that it has 1 and ``end`` at the ends).
    """

    kind: str = "none"
    end: float = 0.75

    def teacher(self, progress: float) -> float:
        """At this share of the training, in [0, 1]."""
        progress = min(max(progress, 0.0), 1.0)
        if self.kind == "none":
            return 1.0
        if self.kind == "exponential":
            return float(self.end**progress)
        kept = 1 - progress if self.kind == "linear" else _sigmoid_kept(progress)
        return self.end + (1 - self.end) * kept


def _sigmoid_kept(progress: float) -> float:
    high, low = _falling(0.0), _falling(1.0)
    return (_falling(progress) - low) / (high - low)


def _falling(progress: float) -> float:
    return 1 / (1 + math.exp(STEEPNESS * (progress - 0.5)))
