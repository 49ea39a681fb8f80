"""The fast gradient sign methods with variance tuning, as published and with Nesterov's look ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.hookspecs import hookimpl
from harness.types import Batch, Problem, Threat

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class VMIFGSM:
    """MI-FGSM whose gradient is corrected by how it varies around the last point; made to transfer well.

    steps: iterations. alpha: step size in pixel units; None takes eps / steps. decay: what is kept of the momentum
    (mu). samples: points around an image that the variance is taken from (N). beta: how far they lie from it at most,
    as a share of eps. nesterov: the gradient is taken where the momentum leads (VNI-FGSM). Wang and He, "Enhancing
    the transferability of adversarial attacks through variance tuning", CVPR 2021.
    """

    steps: int = 10
    alpha: float | None = None
    decay: float = 1.0
    samples: int = 20
    beta: float = 1.5
    nesterov: bool = False

    norms: ClassVar[tuple[str, ...]] = ("Linf",)
    only_asks: ClassVar[bool] = True
    boundary: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("samples", 1), ("decay", 0), ("beta", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: got {getattr(self, name)}; {least} or more is needed")
        if self.alpha is not None and self.alpha <= 0:
            raise ValueError(f"alpha: got {self.alpha}; more than 0, in pixel units such as 2/255, is needed")

    @hookimpl
    def perturb(self, problem: Problem, batch: Batch, threat: Threat, random) -> Tensor:
        alpha, radius = self.alpha or threat.eps / self.steps, self.beta * threat.eps
        x_adv, momentum, variance = batch.x, 0 * batch.x, 0 * batch.x
        for _ in range(self.steps):
            ahead = x_adv + self.decay * alpha * momentum if self.nesterov else x_adv
            slope = _slope(problem, ahead, batch)
            tuned = slope + variance
            # Below 1e-30 only where all is zero.
            momentum = self.decay * momentum + tuned / tuned.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-30)
            around = 0 * batch.x
            for _ in range(self.samples):
                around = around + _slope(problem, x_adv + random.uniform(-radius, radius, batch.x.shape[1:]), batch)
            variance = around / self.samples - slope
            x_adv = threat.project(x_adv + alpha * momentum.sign(), batch.x)
        return x_adv


def _slope(problem: Problem, x: Tensor, batch: Batch) -> Tensor:
    """The gradient of each sample's cross-entropy at ``x``: (N, C, H, W)."""
    gradient = problem.evaluate(x, batch, gradient=True).gradient
    assert gradient is not None
    return gradient
