"""PGD as torchattacks does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.hookspecs import hookimpl
from harness.types import Batch, Problem, Threat

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TorchattacksPGD:
    """torchattacks.PGD (Linf) and PGDL2 (L2). Kim, "Torchattacks: a PyTorch repository for adversarial attacks", 2020.

    Its random start draws from torch's global generator, so it belongs to the batch and not to the sample: another
    batch size gives other starts. steps: iterations. random_start: begin at a random point of the ball. alpha: step
    size in pixel units; None takes 2.5 eps / steps.
    """

    steps: int = 10
    alpha: float | None = None
    random_start: bool = True

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2")
    stronger_than: ClassVar[tuple[str, ...]] = ("fgsm", "torchattacks_fgsm")

    @hookimpl
    def perturb(self, problem: Problem, batch: Batch, threat: Threat) -> Tensor:
        import torchattacks

        alpha = 2.5 * threat.eps / self.steps if self.alpha is None else self.alpha
        kind = torchattacks.PGD if threat.norm == "Linf" else torchattacks.PGDL2
        attack = kind(problem.module, eps=threat.eps, alpha=alpha, steps=self.steps, random_start=self.random_start)
        return attack(batch.x, batch.y)
