"""Wall time of a cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.types import Outcome, Score


@dataclass(frozen=True)
class Seconds:
    """Seconds for attacking and judging all samples on the run's device."""

    task: ClassVar[str] = ""
    unit: ClassVar[str] = "s"
    higher_is_better: ClassVar[bool | None] = None

    @hookimpl
    def measure(self, outcome: Outcome) -> Score:
        return Score(outcome.seconds, None, None, len(outcome.ids))
