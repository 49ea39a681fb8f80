"""ROUGE-L: the longest common subsequence of a caption and its references."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.types import CAPTIONING, CaptionOutcome, Score


@dataclass(frozen=True)
class RougeL:
    """Mean ROUGE-L over images as COCO takes it (beta 1.2; Lin, ACL workshop 2004). Bootstrap interval over images."""

    task: ClassVar[str] = CAPTIONING
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = True

    @hookimpl
    def measure(self, outcome: CaptionOutcome) -> Score | None:
        from harness.captioning.scores import averaged, mean_of, rouge_l, scored

        return scored(averaged(rouge_l(outcome.caption, outcome.references)), mean_of)
