"""Adversarial training with PGD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.hookspecs import hookimpl
from harness.types import Batch, Problem, Threat
from plugins.attacks.pgd import PGD

if TYPE_CHECKING:
    from torch import Tensor

    from harness.randomness import SampleRandom


@dataclass(frozen=True)
class PGDAdversarialTraining:
    """Trains further on adversarial images only, each crafted by PGD against the weights of the moment.

    norm, eps: the threat trained against, eps in pixel units. steps, alpha, random_start: as in the attack ``pgd``.
    Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.
    """

    norm: Literal["Linf", "L2"] = "Linf"
    eps: float = 8 / 255
    steps: int = 4
    alpha: float | None = None
    random_start: bool = True

    def __post_init__(self) -> None:
        if self.eps <= 0:
            raise ValueError(f"eps: got {self.eps}; more than 0, in pixel units such as 8/255, is needed")

    @hookimpl
    def objective(self, problem: Problem, batch: Batch, random: SampleRandom) -> Tensor:
        attack = PGD(steps=self.steps, alpha=self.alpha, random_start=self.random_start)
        x_adv = problem.perturb(attack, batch, Threat(self.norm, self.eps), random)
        return problem.loss(x_adv, batch)

    @hookimpl
    def passes(self) -> float:
        return self.steps + 1
