"""FGSM as torchattacks does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.hookspecs import hookimpl
from harness.types import Batch, Problem, Threat

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TorchattacksFGSM:
    """torchattacks.FGSM (Linf). Kim, "Torchattacks: a PyTorch repository for adversarial attacks", 2020."""

    norms: ClassVar[tuple[str, ...]] = ("Linf",)

    @hookimpl
    def perturb(self, problem: Problem, batch: Batch, threat: Threat) -> Tensor:
        import torchattacks

        return torchattacks.FGSM(problem.module, eps=threat.eps)(batch.x, batch.y)
