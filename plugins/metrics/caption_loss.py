"""The test loss of a captioner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.types import CAPTIONING, CaptionOutcome, Score


@dataclass(frozen=True)
class CaptionLoss:
    """Mean teacher-forced cross-entropy of the references, nats a word with the end of the sentence.

    On the attacked image where there is an attack. Bootstrap interval over images. None of a captioner without a
    likelihood, which repeats captions.
    """

    task: ClassVar[str] = CAPTIONING
    unit: ClassVar[str] = "nats"
    higher_is_better: ClassVar[bool | None] = False

    @hookimpl
    def measure(self, outcome: CaptionOutcome) -> Score | None:
        import numpy as np

        from harness.captioning.scores import averaged, mean_of, scored

        if np.isnan(outcome.loss).all():
            return None
        return scored(averaged(outcome.loss), mean_of)
