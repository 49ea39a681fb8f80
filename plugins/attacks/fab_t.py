"""The fast adaptive boundary attack, class after class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.hookspecs import hookimpl
from harness.types import Batch, Evaluation, State, Threat
from plugins.margins import likeliest_others, towards
from plugins.projections import onto_plane_in_box

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FABT:
    """Looks for the smallest perturbation: projects onto the linearised boundary to one class after the other.

    The third attack of AutoAttack. iterations: projections for each class; each costs a forward and a backward where it
    starts and a forward where it leads. n_target_classes: how many of the likeliest other classes are aimed at, never
    more than there are. alpha_max: the largest weight of the way from the image itself. eta: overshoot. beta: how far
    back towards the image it goes from a find.
    Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020. As in
    AutoAttack it starts from the image itself and draws no numbers.
    """

    iterations: int = 100
    n_target_classes: int = 9
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")
    minimum_norm: ClassVar[bool] = True
    restarts: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.n_target_classes < 1:
            got = f"{self.iterations} and {self.n_target_classes}"
            raise ValueError(f"iterations and n_target_classes: got {got}; 1 or more is needed")
        if not 0 <= self.alpha_max <= 1 or self.eta < 1 or not 0 < self.beta <= 1:
            raise ValueError(
                f"alpha_max, eta and beta: got {self.alpha_max}, {self.eta} and {self.beta}; shares for the first and "
                "the last and 1 or more for eta are needed"
            )

    @property
    def steps(self) -> int:
        """A projection and a look at where it led, in turn; the last look is the engine's own."""
        return 2 * self.iterations - 1

    @hookimpl
    def rounds(self, classes: int) -> int:
        return min(self.n_target_classes, classes - 1)

    @hookimpl
    def needs_gradient(self, iteration: Tensor) -> Tensor:
        return iteration % 2 == 0

    @hookimpl
    def start(self, batch: Batch, clean: Tensor, restart: Tensor) -> State:
        # Not under the name target, for that would say that nothing but the class aimed at counts.
        return {"x_adv": batch.x, "aim": likeliest_others(clean, batch.y).gather(1, restart[:, None]).squeeze(1)}

    @hookimpl
    def loss(self, logits: Tensor, batch: Batch, state: State) -> Tensor:
        return towards(logits, batch.y, state["aim"])

    @hookimpl
    def step(self, state: State, found: Evaluation, batch: Batch, threat: Threat) -> State:
        x, x_adv = batch.x, state["x_adv"]
        if found.gradient is not None:
            return state | {"x_adv": self._projected(x_adv, x, found.loss, found.gradient, threat)}
        back = x + self.beta * (x_adv - x)
        return state | {"x_adv": back.where(found.fooled.view(-1, 1, 1, 1), x_adv)}

    def _projected(self, x_adv: Tensor, x: Tensor, loss: Tensor, gradient: Tensor, threat: Threat) -> Tensor:
        """Between the projections of where it stands and of the image itself, a little beyond both: (N, C, H, W)."""
        import torch

        offset = (gradient * x_adv).flatten(1).sum(1) - loss  # the plane on which the linearised loss is zero
        points = torch.cat([x_adv, x])
        way = onto_plane_in_box(points, torch.cat([gradient, gradient]), offset.repeat(2), threat.norm)
        here, image = threat.size(way).clamp(min=1e-8).chunk(2)
        alpha = (here / (here + image)).clamp(max=self.alpha_max).view(-1, 1, 1, 1)
        from_here, from_image = (points + self.eta * way).chunk(2)
        return ((1 - alpha) * from_here + alpha * from_image).clamp(0.0, 1.0)
