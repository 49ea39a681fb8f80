"""How many captions were not learnt by heart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.types import CAPTIONING, CaptionOutcome, Score


@dataclass(frozen=True)
class NovelCaptions:
    """The share of generated captions that do not stand among the training captions. Wilson interval."""

    task: ClassVar[str] = CAPTIONING
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = None

    @hookimpl
    def measure(self, outcome: CaptionOutcome) -> Score | None:
        from harness.statistics import rate

        return rate(sum(text not in outcome.corpus.training for text in outcome.caption), len(outcome.caption))
