"""About how long a plan takes: passes through each model times the seconds a pass took before, or was said to take."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from harness.request import ModelConfig
from harness.steps import CellStep, FitStep, HardenStep, TrainingStep

Rates = Mapping[tuple[str, str, str], float]
"""(kind of step, PROFILE/MODEL, device) -> seconds per forward-and-backward pass of one sample."""

CELL_SECONDS = 0.1
"""What a cell costs beside its passes."""


@dataclass(frozen=True)
class Estimate:
    """Seconds expected of each step; None where nothing is known of its model."""

    rates: Rates
    profile: str
    device: str

    def step(self, step: TrainingStep | CellStep) -> float | None:
        model = step.hardened.model if isinstance(step, CellStep) else step.model
        kind = "attack" if isinstance(step, CellStep) else step.kind
        rate = self._rate(kind, model)
        if step.passes == 0:
            return 0.0
        return None if rate is None else rate * step.passes + CELL_SECONDS

    def total(self, steps: Iterable[TrainingStep | CellStep]) -> float | None:
        seconds = [self.step(step) for step in steps]
        known = [value for value in seconds if value is not None]
        return sum(known) if len(known) == len(seconds) else None

    def _rate(self, kind: str, model: ModelConfig) -> float | None:
        label = f"{self.profile}/{model.name}"
        for other in (kind, "fit", "harden", "attack"):
            if (rate := self.rates.get((other, label, self.device))) is not None:
                return rate
        return model.pass_ms / 1000 if model.pass_ms is not None else None


def needed(
    cells: Iterable[CellStep], finished: Collection[str]
) -> tuple[list[FitStep], list[HardenStep], list[CellStep]]:
    """The steps that cells still need, each once, what others depend on first. ``finished``: keys of steps done."""
    fits: dict[str, FitStep] = {}
    hardenings: dict[str, HardenStep] = {}
    todo = [cell for cell in cells if not cell.skip and not cell.fault]
    for cell in todo:
        hardened = cell.hardened
        if cell.surrogate:
            fits |= {step.key: step for step in _missing(cell.surrogate, finished)}
        if hardened.trains and hardened.key in finished:
            continue
        if hardened.trains:
            hardenings[hardened.key] = hardened
        fits |= {step.key: step for step in _missing(hardened.fit, finished)}
    return list(fits.values()), list(hardenings.values()), todo


def _missing(fit: FitStep, finished: Collection[str]) -> list[FitStep]:
    """The fits that have to be made for this one: the chain behind the last finished one."""
    missing: list[FitStep] = []
    for step in fit.chain:
        missing = [] if step.key in finished else [*missing, step]
    return missing
