"""How far the nearest adversarial images are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.statistics import median
from harness.types import Outcome, Score


@dataclass(frozen=True)
class MedianDistance:
    """Median size of the smallest perturbation that fools, over the samples that were right without it.

    Of minimum-norm attacks only. A sample for which none was found is infinitely far; nothing where that is the median.
    The interval is that of order statistics, and is left out where one of its ends is not finite.
    """

    unit: ClassVar[str] = "pixel"
    higher_is_better: ClassVar[bool | None] = True

    @hookimpl
    def measure(self, outcome: Outcome) -> Score | None:
        sizes = outcome.proposal_size[outcome.clean_correct]
        if outcome.proposal_prediction is None or not len(sizes):
            return None
        value, low, high, n = median(sizes.tolist())
        if value == float("inf"):
            return None
        return Score(value, low, high, n) if low is not None and high is not None else Score(value, None, None, n)
