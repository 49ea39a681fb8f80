"""NI-FGSM in one file: bench run --plugin ni_fgsm.py --attacks clean,mi_fgsm,ni_fgsm"""

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl


@dataclass(frozen=True)
class NIFGSM:
    """MI-FGSM that looks where the momentum leads. alpha: step size in pixel units. Lin et al., ICLR 2020."""

    steps: int = 10
    alpha: float = 2 / 255
    decay: float = 1.0

    name: ClassVar[str] = "ni_fgsm"
    norms: ClassVar[tuple[str, ...]] = ("Linf",)

    @hookimpl
    def perturb(self, problem, batch, threat):
        x_adv, momentum = batch.x, 0 * batch.x
        for _ in range(self.steps):
            ahead = x_adv + self.decay * self.alpha * momentum
            slope = problem.evaluate(ahead, batch, gradient=True).gradient
            momentum = self.decay * momentum + slope / slope.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-30)
            x_adv = threat.project(x_adv + self.alpha * momentum.sign(), batch.x)
        return x_adv
