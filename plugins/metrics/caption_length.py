"""How long generated captions are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.types import CAPTIONING, CaptionOutcome, Score


@dataclass(frozen=True)
class CaptionLength:
    """Mean number of words of a generated caption. Bootstrap interval over images."""

    task: ClassVar[str] = CAPTIONING
    unit: ClassVar[str] = "words"
    higher_is_better: ClassVar[bool | None] = None

    @hookimpl
    def measure(self, outcome: CaptionOutcome) -> Score | None:
        import numpy as np

        from harness.captioning.scores import averaged, mean_of, scored

        return scored(averaged(np.array([len(text.split()) for text in outcome.caption], np.float64)), mean_of)
