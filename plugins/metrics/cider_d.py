"""CIDEr-D: n-grams that captions share with their references, rare ones counting more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.types import CAPTIONING, CaptionOutcome, Score


@dataclass(frozen=True)
class CiderD:
    """Mean CIDEr-D over images, 0 to 10 (Vedantam et al., CVPR 2015), as pycocoevalcap takes it.

    How rare an n-gram is is counted once, over the references of the whole test split, so that scores on parts of it
    compare. Bootstrap interval over images.
    """

    task: ClassVar[str] = CAPTIONING
    unit: ClassVar[str] = "points"
    higher_is_better: ClassVar[bool | None] = True

    @hookimpl
    def measure(self, outcome: CaptionOutcome) -> Score | None:
        from harness.captioning.scores import averaged, cider_d, mean_of, scored

        corpus = outcome.corpus
        found = cider_d(outcome.caption, outcome.references, corpus.document_frequency, corpus.documents)
        return scored(averaged(found), mean_of)
