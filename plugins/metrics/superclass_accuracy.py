"""The share of samples put into the right super-class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.analysis import confusion
from harness.hookspecs import hookimpl
from harness.types import Facts, Outcome, Score


@dataclass(frozen=True)
class SuperclassAccuracy:
    """Samples whose predicted class is of the true class's super-class; nothing for data without super-classes."""

    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = True

    @hookimpl
    def measure(self, outcome: Outcome, facts: Facts) -> Score | None:
        if not facts.groups:
            return None
        return confusion.group_accuracy(outcome.label, outcome.prediction, facts.groups)
