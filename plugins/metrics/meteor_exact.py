"""METEOR with exact matches alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.types import CAPTIONING, CaptionOutcome, Score


@dataclass(frozen=True)
class MeteorExact:
    """Mean over images of METEOR with exact matches, as nltk takes it without stems and synonyms.

    Banerjee and Lavie, ACL workshop 2005. Persian has no tables of paraphrases, so it is not METEOR 1.5. Bootstrap
    interval over images.
    """

    task: ClassVar[str] = CAPTIONING
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = True

    @hookimpl
    def measure(self, outcome: CaptionOutcome) -> Score | None:
        from harness.captioning.scores import averaged, mean_of, meteor_exact, scored

        return scored(averaged(meteor_exact(outcome.caption, outcome.references)), mean_of)
