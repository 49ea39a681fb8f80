"""``bench table --against BASE``: every model beside a base model, sample by sample. Imports nothing heavy at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from harness.errors import BenchError, unknown
from harness.store.details import paired, paired_counts
from harness.store.queries import Row, captioning_datasets
from harness.store.reading import Reader

LEVEL = 0.05
"""Differences whose p is smaller are told apart."""

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
    """The base model, and the cells that attack the samples of its cell in the same column.

    sentences: those of captioners, where the difference is one of BLEU-4 and p that of a paired bootstrap.
    """

    base: str
    contrasts: Mapping[Coordinate, Contrast]
    sentences: Mapping[Coordinate, Contrast] = MappingProxyType({})


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
    said: dict[Coordinate, tuple[float, float]] = {}
    captioned = captioning_datasets(reader)
    for place, row in ok.items():
        other = ok.get((*place[:2], base, *place[3:]))
        if other is None or other is row:
            continue
        if row.dataset in captioned:
            if (contrast := _of_captions(reader, row, other)) is not None:
                said[place] = contrast
            continue
        counts = paired(reader, row.key, other.key)
        if counts.shared and counts.shared == row.n == other.n and not counts.relabelled:
            test = mcnemar_of_counts(counts.a_only, counts.b_only)
            found[place] = (counts.a_only - counts.b_only) / counts.shared, test.p_value

    def adjusted(found: Mapping[Coordinate, tuple[float, float]]) -> dict[Coordinate, Contrast]:
        corrected = holm([p for _, p in found.values()])
        return {place: Contrast(found[place][0], p) for place, p in zip(found, corrected, strict=True)}

    return Against(base, adjusted(found), adjusted(said))


def _of_captions(reader: Reader, row: Row, other: Row) -> tuple[float, float] | None:
    """The difference in BLEU-4 and its p, where both attack the same images."""
    from harness.captioning.scores import bleu_of, paired

    worth = paired_counts(reader, row.key, other.key)
    if not len(worth[0]) == row.n == other.n:
        return None
    found = paired(*worth, bleu_of(4))
    return found.value, found.p_value


def check_metric(metric: str | None) -> None:
    """Raises BenchError for a metric that ``--against`` does not compare."""
    if metric not in (None, "accuracy"):
        raise BenchError(f"--against compares accuracies, not {metric}; leave --metric out")
