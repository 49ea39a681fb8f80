"""Accuracy on adversarial images as a file would keep them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.statistics import rate
from harness.types import Outcome, Score


@dataclass(frozen=True)
class QuantisedAccuracy:
    """Correct predictions over all samples, the adversarial images rounded to 8 bits; nothing where nobody looked."""

    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = True

    @hookimpl
    def measure(self, outcome: Outcome) -> Score | None:
        if outcome.quantised_prediction is None:
            return None
        return rate(int((outcome.quantised_prediction == outcome.label).sum()), len(outcome.label))
