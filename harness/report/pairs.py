"""What every comparison of two cells shows of them, whatever they are compared by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.report.columns import columns
from harness.report.selecting import name
from harness.store.queries import Row

FIELDS = ("profile", "dataset", "model", "defense", "attack", "norm", "eps", "seed", "verdict", "key", "run")


def side_by_side(a: Row, b: Row, measure: str, scores: Sequence[Sequence[str]]) -> str:
    """Both cells with their keys and verdicts, and a score each under the name of its measure."""
    rows: list[tuple[str, ...]] = [("", "cell", "key", "verdict", measure)]
    for letter, row, score in zip("AB", (a, b), scores, strict=True):
        names = name(row) + (f" seed {row.seed}" if a.seed != b.seed else "")
        rows.append((letter, names, row.key[:12], row.verdict, *score))
    return columns(rows)


def only_shared(a: Row, b: Row, shared: int, what: str) -> list[str]:
    """A sentence where not everything of both cells is compared."""
    if (a.n, b.n) == (shared, shared):
        return []
    return [f"Only the {shared} {what} that both attack are compared; A has {a.n}, B has {b.n}."]


def doubted(a: Row, b: Row) -> list[str]:
    """A sentence where a cell cannot be trusted."""
    letters = [letter for letter, row in zip("AB", (a, b), strict=True) if row.verdict != "ok"]
    return [f"But {' and '.join(letters)} cannot be trusted as it stands; see `bench show`."] if letters else []


def coordinates(row: Row) -> dict[str, Any]:
    """Which cell it is, for programs."""
    return {field: getattr(row, field) for field in FIELDS}
