"""Auto-PGD on the difference of logits ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.hookspecs import hookimpl
from harness.types import Batch, State, Threat
from plugins.apgd import AutoPGD
from plugins.margins import dlr

if TYPE_CHECKING:
    from torch import Tensor

    from harness.randomness import SampleRandom


@dataclass(frozen=True)
class APGDDLR(AutoPGD):
    """PGD with momentum and a step size that adapts itself, on a loss that no scale of the logits can hide.

    steps, restarts, rho: as in the attack ``apgd_ce``. With two classes, where the ratio is constant, the difference of
    the logits is raised. Croce and Hein, "Reliable evaluation of adversarial robustness", ICML 2020.
    """

    @hookimpl
    def start(self, batch: Batch, threat: Threat, random: SampleRandom) -> State:
        return self.begin(batch, threat, random)

    @hookimpl
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return dlr(logits, batch.y)
