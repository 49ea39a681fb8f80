"""What an attack costs in passes through the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.hookspecs import hookimpl
from harness.statistics import mean
from harness.types import Outcome, Score


@dataclass(frozen=True)
class Passes:
    """Mean forward or backward passes a sample, the judge's own not counted. direction: which."""

    direction: Literal["forward", "backward"] = "forward"

    task: ClassVar[str] = ""
    unit: ClassVar[str] = "passes"
    higher_is_better: ClassVar[bool | None] = None

    @hookimpl
    def measure(self, outcome: Outcome) -> Score:
        return mean((outcome.forwards if self.direction == "forward" else outcome.backwards).tolist())
