"""How far confidence and accuracy lie apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.analysis import calibration
from harness.hookspecs import hookimpl
from harness.types import Outcome, Score


@dataclass(frozen=True)
class CalibrationError:
    """Expected calibration error over ``bins`` bins of equal width; nothing for outcomes stored without confidences.

    Guo et al., "On calibration of modern neural networks", ICML 2017. Without an interval: of a well calibrated model a
    resample's error is larger than the true one, so that a bootstrap would lie above it. bins: their number.
    """

    bins: int = calibration.BINS

    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = False

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise ValueError(f"bins: got {self.bins}; 1 or more is needed")

    @hookimpl
    def measure(self, outcome: Outcome) -> Score | None:
        if outcome.confidence is None:
            return None
        return calibration.calibration(outcome.confidence, outcome.correct, self.bins, interval=False).error
