"""Stored cells for tests: labelled, with samples that are classified rightly or not as the test says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.store.records import CellLabel, CellRecord, RunRecord, ScoreRecord
from harness.store.store import Store
from harness.types import CaptionOutcome, Outcome, Reason, Status

LINF8 = ("Linf", 8 / 255)


def key(number: int) -> str:
    """A content key that begins with the number in six hexadecimal places."""
    return f"{number:06x}".ljust(64, "e")


def outcome(right: Sequence[bool], **changes: Any) -> Outcome:
    """Samples of class 0, classified as 0 where ``right`` and as 1 elsewhere; rightly without the attack."""
    n = len(right)
    zeros, real = np.zeros(n, np.int64), np.zeros(n)
    wrong = (~np.array(right, bool)).astype(np.int64)
    made = Outcome(np.arange(n), zeros, zeros, wrong, real, real, real + 10, real + 5, real, seconds=2.0)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


class Filler:
    """Fills a store with cells of one run; each is the next in its order."""

    def __init__(self, store: Store, run: str = "r1", **facts: Any) -> None:
        self.store, self.run, self.count = store, run, 0
        store.begin_run(RunRecord(run, "bench run --models m", "tiny", "cpu", **facts))

    def cell(
        self,
        number: int,
        right: Sequence[bool] | None,
        model: str = "m",
        attack: str = "pgd",
        *,
        defense: str = "none",
        norm: str | None = "Linf",
        eps: float | None = 8 / 255,
        seed: int = 0,
        profile: str = "tiny",
        dataset: str = "digits",
        reasons: Sequence[Reason] = (),
        changes: dict[str, Any] | None = None,
        captions: CaptionOutcome | None = None,
        **record: Any,
    ) -> str:
        """Labels and saves a cell, a failed one where ``right`` is None; its key. captions: saved in its place."""
        names = (self.count, key(number), profile, dataset, model, defense, attack, norm, eps, seed)
        self.count += 1
        self.store.label_cells(self.run, [CellLabel(*names)])
        status = Status.FAILED if right is None else Status.OK
        facts: dict[str, Any] = {"reason": "out of memory"} if right is None else {"n": len(right), "passes": 4.0}
        cell = CellRecord(key(number), self.run, status, "cpu", "s", attack, norm, eps, **facts, **record)
        made = captions if captions or right is None else outcome(right, **(changes or {}))
        measured = [] if right is None else [sum(right) / len(right)]
        scores = [ScoreRecord("accuracy", "k", value, 0.0, 1.0, len(right or ()), "fraction") for value in measured]
        self.store.save_cell(cell, made, scores, reasons)
        return key(number)
