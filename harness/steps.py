"""The steps of a run: data, fit, harden, and the cells; each with the key of all that decides what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.recipe import Recipe
from harness.request import AttackConfig, Configured, DefenseConfig, ModelConfig, Request
from harness.types import Facts, Threat


@dataclass(frozen=True)
class DataStep:
    """One data set: where its bytes are and what is known of it. ``facts`` is None when the plugin is broken."""

    key: str
    document: Mapping[str, Any]
    config: Configured
    files: tuple[Path, ...] = ()
    facts: Facts | None = None
    fault: str = ""


@dataclass(frozen=True)
class FitStep:
    """One model trained (or loaded) on one data set. ``passes``: forward-and-backward passes of samples."""

    key: str
    document: Mapping[str, Any]
    model: ModelConfig
    data: DataStep
    start: FitStep | None
    seed: int
    passes: float
    fault: str = ""

    kind = "fit"

    @property
    def before(self) -> FitStep | None:
        """The step whose weights this one begins with."""
        return self.start

    @property
    def chain(self) -> list[FitStep]:
        """The fits that this one begins from, the first one first, and itself."""
        return [*(self.start.chain if self.start else ()), self]

    @property
    def label(self) -> str:
        return f"fit {self.model.label}" + (f" seed {self.seed}" if self.seed else "")


@dataclass(frozen=True)
class HardenStep:
    """One fitted model under one defense; ``trains`` when the defense has an objective."""

    key: str
    document: Mapping[str, Any]
    fit: FitStep
    defense: DefenseConfig
    recipe: Recipe
    seed: int
    passes: float
    trains: bool
    fault: str = ""

    kind = "harden"

    @property
    def before(self) -> FitStep:
        """The step whose weights this one begins with."""
        return self.fit

    @property
    def model(self) -> ModelConfig:
        return self.fit.model

    @property
    def data(self) -> DataStep:
        return self.fit.data

    @property
    def label(self) -> str:
        return f"harden {self.fit.model.label} by {self.defense.name}" + (f" seed {self.seed}" if self.seed else "")


TrainingStep = FitStep | HardenStep
"""A step that makes weights."""


@dataclass(frozen=True)
class CellStep:
    """One cell of the matrix: attack, judge, measure. ``n`` test samples; ``metrics`` maps a metric's name to its key.

    ``family``: shared by cells that differ in eps alone. ``before``: the cell of the next smaller eps, whose fooled
    samples are not attacked again. ``surrogate``: the model that the images are made on, if it is another one.
    ``fault``: a plugin it needs is broken; ``skip``: the attack does not apply here.
    """

    key: str
    document: Mapping[str, Any]
    subject: str
    hardened: HardenStep
    attack: AttackConfig
    threat: Threat | None
    seed: int
    n: int
    passes: float
    metrics: Mapping[str, str]
    family: str = ""
    before: CellStep | None = None
    surrogate: FitStep | None = None
    fault: str = ""
    skip: str = ""

    @property
    def fits(self) -> list[FitStep]:
        """The fits it needs: its model's, and its surrogate's."""
        return [self.hardened.fit, *([self.surrogate] if self.surrogate else ())]

    @property
    def label(self) -> str:
        parts = [self.hardened.fit.model.label, self.hardened.defense.name, self.attack.name]
        parts[-1] += f" {self.threat}" if self.threat else ""
        return " / ".join(parts) + (f" seed {self.seed}" if self.seed else "")


@dataclass(frozen=True)
class Plan:
    """The cells of a request in the order they are run: those of one model together."""

    request: Request
    cells: tuple[CellStep, ...]
    notes: tuple[str, ...] = ()

    @property
    def hardenings(self) -> tuple[HardenStep, ...]:
        """The defenses that train, each step once."""
        steps = [cell.hardened for cell in self.cells if cell.hardened.trains]
        return tuple({step.key: step for step in steps}.values())

    @property
    def data(self) -> tuple[DataStep, ...]:
        steps = [fit.data for fit in self.fits]
        return tuple({step.key: step for step in steps}.values())

    @property
    def fits(self) -> tuple[FitStep, ...]:
        found: dict[str, FitStep] = {}
        for cell in self.cells:
            for fit in cell.fits:
                found |= {step.key: step for step in fit.chain}
        return tuple(found.values())
