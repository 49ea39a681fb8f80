"""The iterative fast gradient sign method with momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.types import ANY_TASK, Batch, Evaluation, State, Threat


@dataclass(frozen=True)
class MIFGSM:
    """Steps along a running sum of gradients, each divided by its mean absolute value; made to transfer well.

    steps: iterations. alpha: step size in pixel units; None takes eps / steps. decay: what is kept of the sum (mu).
    Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018.
    """

    steps: int = 10
    alpha: float | None = None
    decay: float = 1.0

    restarts: ClassVar[int] = 1  # it starts at the image, so another try would be the same
    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2")
    tasks: ClassVar[tuple[str, ...]] = ANY_TASK
    stronger_than: ClassVar[tuple[str, ...]] = ("fgsm",)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: got {self.steps}; 1 or more is needed")
        if self.alpha is not None and self.alpha <= 0:
            raise ValueError(f"alpha: got {self.alpha}; more than 0, in pixel units such as 2/255, is needed")
        if self.decay < 0:
            raise ValueError(f"decay: got {self.decay}; 0 or more is needed")

    @hookimpl
    def start(self, batch: Batch) -> State:
        return {"x_adv": batch.x, "momentum": batch.x.new_zeros(batch.x.shape)}

    @hookimpl
    def step(self, state: State, found: Evaluation, batch: Batch, threat: Threat) -> State:
        assert found.gradient is not None
        alpha = threat.eps / self.steps if self.alpha is None else self.alpha
        size = found.gradient.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-30)  # below: only where all is zero
        momentum = self.decay * state["momentum"] + found.gradient / size
        x_adv = threat.project(state["x_adv"] + alpha * threat.steepest(momentum), batch.x)
        return {"x_adv": x_adv, "momentum": momentum}
