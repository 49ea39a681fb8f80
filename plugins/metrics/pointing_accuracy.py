"""Whether attention looks at what a word names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.hookspecs import hookimpl
from harness.types import CAPTIONING, CaptionOutcome, Score


@dataclass(frozen=True)
class PointingAccuracy:
    """Of the words that name something in the image, the share whose attention peaks inside a box of such a thing.

    statistic: "chance" is what a peak anywhere would have, the mean share of the image under these boxes;
    "times_chance" the share over that, 1 where attention tells nothing. The pointing game: Zhang et al., "Top-down
    neural attention by excitation backprop", ECCV 2016. Bootstrap interval over images whose caption names something;
    None where no boxes are known or nothing is named, and of the ratio where chance is 0.
    """

    statistic: Literal["accuracy", "chance", "times_chance"] = "accuracy"

    task: ClassVar[str] = CAPTIONING
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = True

    @hookimpl
    def measure(self, outcome: CaptionOutcome) -> Score | None:
        import numpy as np

        from harness.captioning.scores import mean_of, scored

        named, pointed, covered = outcome.named, outcome.pointed, outcome.covered
        if named is None or pointed is None or covered is None or not named.any():
            return None
        expected = np.where(named > 0, covered * named, 0.0)  # NaN is covered where nothing is named
        hits, of = {
            "accuracy": (pointed, named),
            "chance": (expected, named),
            "times_chance": (pointed, expected),
        }[self.statistic]
        if not of.any():
            return None
        return scored(np.stack([hits, of], axis=1).astype(np.float64)[named > 0], mean_of)
