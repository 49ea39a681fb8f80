"""The finished cells of a plan, with what the store and the artifacts know of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.artifacts import Artifacts
from harness.report.layout import Reference
from harness.statistics import rate
from harness.steps import CellStep, HardenStep, Plan, TrainingStep
from harness.store.store import Store
from harness.types import Facts, Outcome, Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Page(NamedTuple):
    """A figure and the name of its files."""

    name: str
    figure: Figure


Cells = Mapping[str, CellStep]
"""Cells that differ in nothing but the defense, by its name."""


@dataclass
class Book:
    """Cells that are finished, in the order of the plan; their outcomes are read when they are asked for.

    notes: what could not be drawn and why, one line each.
    """

    plan: Plan
    cells: Sequence[CellStep]
    store: Store
    artifacts: Artifacts
    references: Reference
    notes: list[str] = field(default_factory=list)
    _outcomes: dict[str, Outcome] = field(default_factory=dict)

    def outcome(self, cell: CellStep) -> Outcome:
        if cell.key not in self._outcomes:
            self._outcomes[cell.key] = self.store.outcome(cell.key)
        return self._outcomes[cell.key]

    def accuracy(self, cell: CellStep) -> Score:
        found = self.outcome(cell)
        return rate(int(found.correct.sum()), len(found.label))

    def history(self, step: TrainingStep) -> list[dict[str, Any]] | None:
        """The telemetry of a training, an entry an epoch; None where it is not at hand."""
        record = self.artifacts.record(step.kind, step.key)
        return None if record is None else list(record.get("history", []))

    def of(self, task: str) -> Book:
        """Of the cells of one task alone; notes go to the same list."""
        return replace(self, cells=[cell for cell in self.cells if facts_of(cell).task == task])

    def models(self) -> dict[tuple[str, int], list[CellStep]]:
        """Cells by model and seed."""
        found: dict[tuple[str, int], list[CellStep]] = {}
        for cell in self.cells:
            found.setdefault((cell.hardened.model.name, cell.seed), []).append(cell)
        return found

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def name(self, kind: str, *parts: object) -> str:
        """Of a file. Figures of another domain never take the place of the right ones."""
        return "-".join([kind, *(str(part) for part in (*parts, self._domain) if part not in ("", None))])

    def title(self, text: str = "") -> str:
        return ", ".join(part for part in (text, self._domain and f"{self._domain} domain") if part)

    @property
    def _domain(self) -> str:
        domain = self.plan.request.run.domain
        return "" if domain == "pixels" else domain


def facts_of(cell: CellStep) -> Facts:
    found = cell.hardened.data.facts
    assert found is not None  # a cell without facts has a fault and is never finished
    return found


def model_title(text: str, seed: int) -> str:
    """What is told of a model, and the seed where it is not 0."""
    return text + (f" seed {seed}" if seed else "")


def attack_name(cell: CellStep) -> str:
    """The attack with its budget, as the names of files and axes have it."""
    return f"{cell.attack.name} {cell.threat}" if cell.threat else cell.attack.name


def seed_name(seed: int) -> str:
    return f"seed{seed}" if seed else ""


def hardenings(cells: Sequence[CellStep]) -> list[HardenStep]:
    """The defenses of these cells, each once, those that train nothing first."""
    steps = list({cell.hardened.key: cell.hardened for cell in cells}.values())
    return sorted(steps, key=lambda step: step.trains)


def defenses(cells: Sequence[CellStep]) -> list[str]:
    """Names of the defenses of these cells, those that train nothing first."""
    return list(dict.fromkeys(step.defense.name for step in hardenings(cells)))


def compared(cells: Sequence[CellStep]) -> Iterator[Cells]:
    """Cells of one model and seed under the same attack and budget."""
    found: dict[str, dict[str, CellStep]] = {}
    for cell in cells:
        found.setdefault(attack_name(cell), {})[cell.hardened.defense.name] = cell
    yield from found.values()
