"""How large the perturbations are, after clipping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.hookspecs import hookimpl
from harness.statistics import mean
from harness.types import Outcome, Score


@dataclass(frozen=True)
class Perturbation:
    """Mean or largest perturbation over the samples, in pixel units of the norm.

    norm: what it is measured in. statistic: "mean", with Student's interval, or "max", without one.
    """

    norm: Literal["Linf", "L2"] = "Linf"
    statistic: Literal["mean", "max"] = "mean"

    task: ClassVar[str] = ""
    unit: ClassVar[str] = "pixel"
    higher_is_better: ClassVar[bool | None] = None

    @hookimpl
    def measure(self, outcome: Outcome) -> Score:
        sizes = outcome.linf if self.norm == "Linf" else outcome.l2
        if self.statistic == "mean":
            return mean(sizes.tolist())
        return Score(float(sizes.max()), None, None, len(sizes))
