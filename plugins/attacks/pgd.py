"""Projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.hookspecs import hookimpl
from harness.types import ANY_TASK, Batch, Evaluation, State, Threat

if TYPE_CHECKING:
    from harness.randomness import SampleRandom


@dataclass(frozen=True)
class PGD:
    """Steps along the gradient, each projected into the budget.

    Along its sign for Linf, its direction for L2, its largest pixels for L1. steps: iterations. alpha: step size in
    pixel units; None takes 2.5 eps / steps. random_start: begin at a random point of the ball instead of at the image.
    restarts: tries, each on the samples that still stand.
    Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018; in L1 Tramer and Boneh,
    "Adversarial training and robustness for multiple perturbations", NeurIPS 2019.
    """

    steps: int = 10
    alpha: float | None = None
    random_start: bool = True
    restarts: int = 1

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")
    tasks: ClassVar[tuple[str, ...]] = ANY_TASK
    stronger_than: ClassVar[tuple[str, ...]] = ("fgsm",)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise ValueError(f"steps and restarts: got {self.steps} and {self.restarts}; 1 or more is needed")
        if self.alpha is not None and self.alpha <= 0:
            raise ValueError(f"alpha: got {self.alpha}; more than 0, in pixel units such as 2/255, is needed")

    @hookimpl
    def start(self, batch: Batch, threat: Threat, random: SampleRandom) -> State:
        return {"x_adv": threat.uniform(batch.x, random) if self.random_start else batch.x}

    @hookimpl
    def step(self, state: State, found: Evaluation, batch: Batch, threat: Threat) -> State:
        gradient, x_adv = found.gradient, state["x_adv"]
        assert gradient is not None
        alpha = 2.5 * threat.eps / self.steps if self.alpha is None else self.alpha
        if threat.norm == "L1":  # the few pixels that move should not be those that the box holds
            held = ((x_adv <= 0) & (gradient < 0)) | ((x_adv >= 1) & (gradient > 0))
            gradient = gradient.masked_fill(held, 0.0)
        return {**state, "x_adv": threat.project(x_adv + alpha * threat.steepest(gradient), batch.x)}
