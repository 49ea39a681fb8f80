"""How often a targeted attack gets from a captioner what it wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.hookspecs import hookimpl
from harness.types import CAPTIONING, CaptionOutcome, Score


@dataclass(frozen=True)
class TargetReached:
    """Of the images of an attack with this ``aim``, the share whose caption is what was wanted. Wilson interval.

    aim: "caption", the wanted sentence, word for word, or "keyword", any with the wanted word in it. None for other
    attacks.
    """

    aim: Literal["caption", "keyword"] = "caption"

    task: ClassVar[str] = CAPTIONING
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = False

    @hookimpl
    def measure(self, outcome: CaptionOutcome) -> Score | None:
        from harness.statistics import rate
        from harness.tasks.captioning import reached

        if outcome.aim != self.aim or outcome.target is None:
            return None
        hits = sum(reached(self.aim, text, goal) for text, goal in zip(outcome.caption, outcome.target, strict=True))
        return rate(hits, len(outcome.caption))
