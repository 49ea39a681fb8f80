"""How many captions are one of the references, word for word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.types import CAPTIONING, CaptionOutcome, Score


@dataclass(frozen=True)
class CaptionMatch:
    """The share of generated captions that equal one of their references. Wilson interval."""

    task: ClassVar[str] = CAPTIONING
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = True

    @hookimpl
    def measure(self, outcome: CaptionOutcome) -> Score | None:
        from harness.statistics import rate

        same = sum(text in truths for text, truths in zip(outcome.caption, outcome.references, strict=True))
        return rate(same, len(outcome.caption))
