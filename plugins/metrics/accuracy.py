"""The share of samples classified rightly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.statistics import rate
from harness.types import Outcome, Score


@dataclass(frozen=True)
class Accuracy:
    """Correct predictions over all samples: clean accuracy without an attack, robust accuracy under one."""

    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = True

    @hookimpl
    def measure(self, outcome: Outcome) -> Score:
        return rate(int(outcome.correct.sum()), len(outcome.label))
