"""How many of the words it knows a captioner says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.types import CAPTIONING, CaptionOutcome, Score


@dataclass(frozen=True)
class VocabularyUsed:
    """The share of the known words that stand in at least one generated caption.

    It grows with the number of images, so it has no interval, and compares on the same images only.
    """

    task: ClassVar[str] = CAPTIONING
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = None

    @hookimpl
    def measure(self, outcome: CaptionOutcome) -> Score | None:
        known = outcome.corpus.vocabulary
        said = {word for text in outcome.caption for word in text.split()} & known
        return Score(len(said) / len(known), None, None, len(outcome.caption)) if known else None
