"""Auto-PGD towards one class after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.hookspecs import hookimpl
from harness.types import Batch, State, Threat
from plugins.apgd import AutoPGD
from plugins.margins import dlr_towards, likeliest_others

if TYPE_CHECKING:
    from torch import Tensor

    from harness.randomness import SampleRandom


@dataclass(frozen=True)
class APGDT(AutoPGD):
    """Auto-PGD that aims at the likeliest other classes in turn; any mistake counts. The second attack of AutoAttack.

    n_target_classes: how many classes are aimed at, never more than there are. restarts: tries for each of them.
    steps, rho: as in the attack ``apgd_ce``. The loss is the targeted difference of logits ratio, which needs four
    classes; with three it is divided by the distance of the first logit to the third, with two by nothing.
    Croce and Hein, "Reliable evaluation of adversarial robustness", ICML 2020.
    """

    n_target_classes: int = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_target_classes < 1:
            raise ValueError(f"n_target_classes: got {self.n_target_classes}; 1 or more is needed")

    @hookimpl
    def rounds(self, classes: int) -> int:
        return min(self.n_target_classes, classes - 1) * self.restarts

    @hookimpl
    def start(self, batch: Batch, threat: Threat, random: SampleRandom, clean: Tensor, restart: Tensor) -> State:
        others = likeliest_others(clean, batch.y)
        turn = restart % min(self.n_target_classes, clean.shape[1] - 1)
        # Not under the name target, for that would say that nothing but the class aimed at counts.
        return {**self.begin(batch, threat, random), "aim": others.gather(1, turn[:, None]).squeeze(1)}

    @hookimpl
    def loss(self, logits: Tensor, batch: Batch, state: State) -> Tensor:
        return dlr_towards(logits, batch.y, state["aim"])
