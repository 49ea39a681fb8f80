"""``bench table --against BASE``: every model beside a base model, sample by sample. Imports nothing heavy at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.errors import BenchError, unknown
from harness.store.details import paired
from harness.store.queries import Row
from harness.store.reading import Reader

LEVEL = 0.05

Coordinate = tuple[Any, ...]
"""The fields of a ``Row`` up to its seed."""


class Contrast(NamedTuple):
    """Accuracy minus that of the base (a fraction), and McNemar's p, Holm-adjusted over the whole table."""

    difference: float
    p: float

    @property
    def significant(self) -> bool:
        return self.p < LEVEL


class Against(NamedTuple):
    """The base model, and the cells that attack the samples of its cell in the same column."""

    base: str
    contrasts: Mapping[Coordinate, Contrast]


def coordinate(row: Row) -> Coordinate:
    """What a cell is in the table: profile, dataset, model, defense, attack, norm, eps, seed."""
    return row[:8]


def compare_with(reader: Reader, rows: Sequence[Row], base: str) -> Against:
    """Tests each cell against the base's cell of the same column and seed. Raises BenchError for an unknown model."""
    from harness.statistics import holm, mcnemar_of_counts

    if base not in {row.model for row in rows}:
        raise unknown("--against", base, {row.model for row in rows})
    ok = {coordinate(row): row for row in rows if row.status == "ok"}
    found: dict[Coordinate, tuple[float, float]] = {}
    for place, row in ok.items():
        other = ok.get((*place[:2], base, *place[3:]))
        if other is None or other is row:
            continue
        counts = paired(reader, row.key, other.key)
        if counts.shared and counts.shared == row.n == other.n and not counts.relabelled:
            test = mcnemar_of_counts(counts.a_only, counts.b_only)
            found[place] = (counts.a_only - counts.b_only) / counts.shared, test.p_value
    adjusted = holm([p for _, p in found.values()])
    contrasts = {place: Contrast(found[place][0], p) for place, p in zip(found, adjusted, strict=True)}
    return Against(base, contrasts)


def check_metric(metric: str | None) -> None:
    """Raises BenchError for a metric that ``--against`` does not compare."""
    if metric not in (None, "accuracy"):
        raise BenchError(f"--against compares accuracies, not {metric}; leave --metric out")
