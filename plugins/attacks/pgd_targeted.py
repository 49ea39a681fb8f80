"""Projected gradient descent towards a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.hookspecs import hookimpl
from harness.types import Batch, Evaluation, State, Threat
from plugins.attacks.pgd import PGD
from plugins.targets import Target, target_of

if TYPE_CHECKING:
    from torch import Tensor

    from harness.randomness import SampleRandom


@dataclass(frozen=True)
class PGDTargeted:
    """PGD that wants one class: it lowers that class's cross-entropy, and a sample is fooled when it is predicted so.

    target: "random" draws one of the other classes for each sample, "least_likely" and "second" take the least likely
    and the likeliest of them on the image as it is; restarts keep it. steps, alpha, random_start, restarts: as in the
    attack ``pgd``. Kurakin, Goodfellow and Bengio, "Adversarial machine learning at scale", ICLR 2017.
    """

    target: Target = "least_likely"
    steps: int = 10
    alpha: float | None = None
    random_start: bool = True
    restarts: int = 1

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")
    targeted: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._towards()  # refuses what PGD refuses

    @hookimpl
    def start(self, batch: Batch, threat: Threat, random: SampleRandom, clean: Tensor) -> State:
        state = self._towards().start(batch, threat, random)
        return {**state, "target": self._target(batch.y, clean, random)}

    @hookimpl
    def step(self, state: State, found: Evaluation, batch: Batch, threat: Threat) -> State:
        return self._towards().step(state, found, batch, threat)

    def _towards(self) -> PGD:
        return PGD(self.steps, self.alpha, self.random_start, self.restarts)

    def _target(self, y: Tensor, clean: Tensor, random: SampleRandom) -> Tensor:
        stream = random.at(step=self.steps + 1)  # that of the first restart, at a step that nothing else draws from
        return target_of(self.target, y, clean, stream)
