"""The share of samples that a targeted attack turns into what it wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.statistics import rate
from harness.types import Outcome, Score


@dataclass(frozen=True)
class TargetedSuccessRate:
    """Samples predicted as their target over those that were right without the attack; of targeted attacks only.

    Samples that were wrong before are not attacked, so they have no target.
    """

    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = None

    @hookimpl
    def measure(self, outcome: Outcome) -> Score | None:
        aimed = outcome.clean_correct
        if outcome.target is None or not aimed.any():
            return None
        return rate(int((aimed & (outcome.prediction == outcome.target)).sum()), int(aimed.sum()))
