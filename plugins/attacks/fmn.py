"""The fast minimum-norm attack."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.hookspecs import hookimpl
from harness.types import Batch, Evaluation, State, Threat
from plugins.margins import margin
from plugins.projections import onto_ball

if TYPE_CHECKING:
    from torch import Tensor

PIXELS = 3 * 32 * 32
DUAL = {"Linf": 1.0, "L2": 2.0, "L1": math.inf}


@dataclass(frozen=True)
class FMN:
    """Looks for the smallest perturbation: steps along the gradient of the margin inside a ball that follows it.

    The ball grows while the sample stands and shrinks while it is fooled; until it is fooled first, its radius is the
    distance to the boundary of the model made linear, and gamma more, for the boundary itself is not beyond it. steps:
    iterations. alpha, alpha_final: L2 length of the first and the last step in pixel units, by a cosine between; None
    takes the paper's 1 (Linf: 10) for 3 x 32 x 32 pixels, with the root of their number for others, and at last a
    hundredth of it. gamma, gamma_final: shares by which the radius changes at first and at last. restarts: the first
    runs from the label, the others to the second likeliest other class and so on; the smallest of all counts. The paper
    has one, with which DeepFool finds smaller perturbations here and there.
    Pintor, Roli, Brendel and Biggio, "Fast minimum-norm adversarial attacks through adaptive norm constraints",
    NeurIPS 2021.
    """

    steps: int = 100
    alpha: float | None = None
    alpha_final: float | None = None
    gamma: float = 0.05
    gamma_final: float = 0.001
    restarts: int = 4

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")
    minimum_norm: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise ValueError(f"steps and restarts: got {self.steps} and {self.restarts}; 1 or more is needed")
        for name, alpha in (("alpha", self.alpha), ("alpha_final", self.alpha_final)):
            if alpha is not None and alpha <= 0:
                raise ValueError(f"{name}: got {alpha}; more than 0, in pixel units, is needed")
        if not 0 < self.gamma_final <= self.gamma < 1:
            raise ValueError(
                f"gamma and gamma_final: got {self.gamma} and {self.gamma_final}; more than 0, less than 1, the last "
                "change not the larger one, is needed"
            )

    @hookimpl
    def rounds(self, classes: int) -> int:
        return min(self.restarts, classes - 1)

    @hookimpl
    def start(self, batch: Batch, clean: Tensor, restart: Tensor) -> State:
        unbounded = batch.x.new_full((len(batch.y),), math.inf)
        others = clean.scatter(1, batch.y[:, None], -math.inf).argsort(dim=1, descending=True)
        aim = others.gather(1, restart[:, None]).squeeze(1)
        return {"x_adv": batch.x, "radius": unbounded, "best": unbounded, "aim": aim.where(restart > 0, -1)}

    @hookimpl
    def loss(self, logits: Tensor, batch: Batch, state: State) -> Tensor:
        aim = state["aim"]
        towards = logits.gather(1, aim.clamp(min=0)[:, None]) - logits.gather(1, batch.y[:, None])
        return towards.squeeze(1).where(aim >= 0, margin(logits, batch.y))

    @hookimpl
    def step(self, state: State, found: Evaluation, batch: Batch, threat: Threat, iteration: Tensor) -> State:
        gradient, x = found.gradient, batch.x
        assert gradient is not None
        delta = state["x_adv"] - x
        size, flat = threat.size(delta), gradient.flatten(1)
        best = size.minimum(state["best"]).where(found.fooled, state["best"])
        fall = (1 + (iteration * (math.pi / self.steps)).cos()) / 2  # from 1 to 0
        gamma = self.gamma_final + (self.gamma - self.gamma_final) * fall
        boundary = size + found.loss.abs() / flat.norm(p=DUAL[threat.norm], dim=1).clamp(min=1e-12)
        outside = (1 + gamma) * state["radius"].where(best.isfinite(), boundary)
        radius = best.minimum(state["radius"] * (1 - gamma)).where(found.fooled, outside)
        radius = radius.minimum(threat.size(x.maximum(1 - x)))  # farther than that the box does not reach
        first, last = self._lengths(x, threat.norm)
        alpha = (last + (first - last) * fall) / flat.norm(dim=1).clamp(min=1e-12)
        delta = onto_ball(delta + alpha.view(-1, 1, 1, 1) * gradient, threat.norm, radius)
        return {**state, "x_adv": (x + delta).clamp(0.0, 1.0), "radius": radius, "best": best}

    def _lengths(self, x: Tensor, norm: str) -> tuple[float, float]:
        """Of the first and the last step."""
        usual = (10.0 if norm == "Linf" else 1.0) * math.sqrt(x[0].numel() / PIXELS)
        first = usual if self.alpha is None else self.alpha
        return first, first / 100 if self.alpha_final is None else self.alpha_final
