"""The share of rightly classified samples that an attack turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.statistics import rate
from harness.types import Outcome, Score


@dataclass(frozen=True)
class AttackSuccessRate:
    """Fooled samples over those that were right without the attack; nothing where none was right."""

    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = None

    @hookimpl
    def measure(self, outcome: Outcome) -> Score | None:
        standing = outcome.clean_correct
        if not standing.any():
            return None
        return rate(int((standing & ~outcome.correct).sum()), int(standing.sum()))
