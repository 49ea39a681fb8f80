"""Questions about one cell, or about two side by side; in the SQL of ``queries.py``."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.store.reading import Reader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Paired(NamedTuple):
    """Two cells on the samples that both attack: how many, and by whom each is classified rightly.

    ``relabelled`` samples have the same number and another label, so are not the same.
    """

    shared: int
    relabelled: int
    both: int
    a_only: int
    b_only: int

    @property
    def neither(self) -> int:
        return self.shared - self.both - self.a_only - self.b_only


PAIRED = """
SELECT COUNT(*),
    COALESCE(SUM(CASE WHEN a.label <> b.label THEN 1 ELSE 0 END), 0),
    COALESCE(SUM(CASE WHEN a.prediction = a.label AND b.prediction = b.label THEN 1 ELSE 0 END), 0),
    COALESCE(SUM(CASE WHEN a.prediction = a.label AND b.prediction <> b.label THEN 1 ELSE 0 END), 0),
    COALESCE(SUM(CASE WHEN a.prediction <> a.label AND b.prediction = b.label THEN 1 ELSE 0 END), 0)
FROM outcomes a JOIN outcomes b ON b.sample_id = a.sample_id AND b.cell_key = :b
WHERE a.cell_key = :a
"""


def paired(reader: Reader, a: str, b: str) -> Paired:
    """The samples of two cells side by side, counted."""
    (counts,) = reader.tuples(PAIRED, a=a, b=b)
    return Paired._make(map(int, counts))


COUNTS = """
SELECT a.bleu_counts, b.bleu_counts
FROM captions a JOIN captions b ON b.sample_id = a.sample_id AND b.cell_key = :b
WHERE a.cell_key = :a AND a.bleu_counts IS NOT NULL AND b.bleu_counts IS NOT NULL ORDER BY a.sample_id
"""


def paired_counts(reader: Reader, a: str, b: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The n-gram counts of two captioners on the images that both attack, in one order: (N, 10) each.

    As far as they were stored. Columns are those of ``harness.captioning.scores.bleu_counts``.
    """
    import numpy as np

    rows = list(reader.tuples(COUNTS, a=a, b=b))
    found = [np.array([row[k].split() for row in rows], np.float64).reshape(len(rows), 10) for k in (0, 1)]
    return found[0], found[1]


STEP = "key, kind, label, status, seconds, run_id, created, document"
CELL = """
SELECT c.*, r.command, r.git_revision, r.versions, r.hardware, r.started
FROM cells c JOIN runs r ON r.id = c.run_id WHERE c.key = :key
"""


def cell_details(reader: Reader, key: str) -> dict[str, Any] | None:
    """The whole row of a cell with the run that measured it; None where it was never reached."""
    return next(iter(reader.rows(CELL, key=key)), None)


def step_details(reader: Reader, key: str) -> dict[str, Any] | None:
    """The row of a fit or hardening without its history; None where it is not stored."""
    return next(iter(reader.rows(f"SELECT {STEP} FROM steps WHERE key = :key", key=key)), None)


def fits_by_label(reader: Reader, label: str) -> list[dict[str, Any]]:
    """The finished fits that a profile's model has in the store, oldest first; their label is PROFILE/MODEL."""
    where = "WHERE kind = 'fit' AND status = 'ok' AND label = :label ORDER BY created, key"
    return reader.rows(f"SELECT {STEP} FROM steps {where}", label=label)


def passes_by_sample(reader: Reader, key: str) -> tuple[list[float], list[float]]:
    """Forward and backward passes of each sample of a cell, as far as they are numbers."""
    found: list[Any] = []
    for table in ("outcomes", "captions"):  # a cell is in one of them
        found += reader.tuples(f"SELECT forwards, backwards FROM {table} WHERE cell_key = :key", key=key)
    forwards, backwards = ([row[i] for row in found if row[i] is not None and not isnan(row[i])] for i in (0, 1))
    return forwards, backwards
