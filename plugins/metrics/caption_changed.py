"""How many captions an attack changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.types import CAPTIONING, CaptionOutcome, Score


@dataclass(frozen=True)
class CaptionChanged:
    """The share of images with another caption after the attack. Wilson interval.

    None where nothing is attacked: no image differs and no caption does."""

    task: ClassVar[str] = CAPTIONING
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = False

    @hookimpl
    def measure(self, outcome: CaptionOutcome) -> Score | None:
        from harness.statistics import rate

        changed = sum(a != b for a, b in zip(outcome.clean_caption, outcome.caption, strict=True))
        if not changed and not outcome.linf.any():
            return None
        return rate(changed, len(outcome.caption))
