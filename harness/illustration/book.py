"""The finished cells of a plan, with what the store and the artifacts know of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.artifacts import Artifacts
from harness.plan import CellStep, HardenStep, Plan, TrainingStep
from harness.report.layout import Reference
from harness.statistics import rate
from harness.store.store import Store
from harness.types import Facts, Outcome, Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Page(NamedTuple):
    """A figure and the name of its files."""

    name: str
    figure: Figure


Draw = Callable[["Book"], Iterator[Page]]


@dataclass
class Book:
    """Cells that are finished, in the order of the plan, each content once; outcomes are read when they are asked for.

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

    def history(self, step: TrainingStep) -> list[dict[str, Any]]:
        """The telemetry of a training, an entry an epoch; empty where it is not at hand."""
        record = self.artifacts.record(step.kind, step.key) or {}
        return list(record.get("history", []))

    def models(self) -> dict[tuple[str, int], list[CellStep]]:
        """Cells by model and seed."""
        found: dict[tuple[str, int], list[CellStep]] = {}
        for cell in self.cells:
            found.setdefault((cell.hardened.model.name, cell.seed), []).append(cell)
        return found

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def facts_of(cell: CellStep) -> Facts:
    found = cell.hardened.data.facts
    assert found is not None  # a cell without facts has a fault and is never finished
    return found


def title_of(cell: CellStep) -> str:
    """Model, defense, attack and budget, and the seed where it is not 0."""
    return cell.label


def name_of(kind: str, *parts: object) -> str:
    return "-".join([kind, *(str(part) for part in parts if part not in ("", None))])


def attack_name(cell: CellStep) -> str:
    """The attack with its budget, as the names of files and axes have it."""
    return f"{cell.attack.name} {cell.threat}" if cell.threat else cell.attack.name


def seed_name(seed: int) -> str:
    return f"seed{seed}" if seed else ""


def hardenings(cells: Sequence[CellStep]) -> list[HardenStep]:
    """The defenses of these cells, each once, those that train nothing first."""
    steps = list({cell.hardened.key: cell.hardened for cell in cells}.values())
    return sorted(steps, key=lambda step: step.trains)


def paired(cells: Sequence[CellStep]) -> Iterator[tuple[CellStep, CellStep | None]]:
    """Undefended cells, each with the one of the first defense under the same attack and budget, if there is one."""
    for cell in cells:
        if cell.hardened.trains:
            continue
        others = (other for other in cells if other.hardened.trains)
        alike = (o for o in others if (o.attack.name, o.threat) == (cell.attack.name, cell.threat))
        yield cell, next(alike, None)
