"""The share of samples whose class is among the likeliest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.analysis import confusion
from harness.hookspecs import hookimpl
from harness.types import Outcome, Score


@dataclass(frozen=True)
class TopKAccuracy:
    """Samples whose true class is among the ``k`` largest logits; nothing for outcomes stored without ranks.

    k: how many.
    """

    k: int = 5

    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = True

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k: got {self.k}; 1 or more is needed")

    @hookimpl
    def measure(self, outcome: Outcome) -> Score | None:
        return None if outcome.label_rank is None else confusion.top_k(outcome.label_rank, self.k)
