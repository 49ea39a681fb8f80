"""Auto-PGD on the cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.hookspecs import hookimpl
from harness.types import Batch, State, Threat
from plugins.apgd import AutoPGD

if TYPE_CHECKING:
    from harness.randomness import SampleRandom


@dataclass(frozen=True)
class APGDCE(AutoPGD):
    """PGD with momentum and a step size that adapts itself, on the cross-entropy; the first attack of AutoAttack.

    steps: iterations. restarts: tries, each on the samples that still stand. rho: the share of steps since the last
    check that must have raised the loss, or the step size is halved and the best point so far is taken up again.
    In L1 it begins at eps, without the larger radii that AutoAttack begins with there.
    Croce and Hein, "Reliable evaluation of adversarial robustness", ICML 2020; L1: "Mind the box", ICML 2021.
    """

    @hookimpl
    def start(self, batch: Batch, threat: Threat, random: SampleRandom) -> State:
        return self.begin(batch, threat, random)
