"""The fast gradient sign method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl
from harness.types import ANY_TASK, Batch, Evaluation, State, Threat


@dataclass(frozen=True)
class FGSM:
    """One step of the whole budget along the gradient: its sign (Linf), its direction (L2), its largest pixels (L1).

    Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015.
    """

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")
    tasks: ClassVar[tuple[str, ...]] = ANY_TASK
    steps: ClassVar[int] = 1
    restarts: ClassVar[int] = 1

    @hookimpl
    def start(self, batch: Batch) -> State:
        return {"x_adv": batch.x}

    @hookimpl
    def step(self, found: Evaluation, batch: Batch, threat: Threat) -> State:
        assert found.gradient is not None
        return {"x_adv": threat.project(batch.x + threat.eps * threat.steepest(found.gradient), batch.x)}
