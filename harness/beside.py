"""Rounds of one sample side by side, with the answer that they would give one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from harness.standing import Standing, joined, smaller


class Row(NamedTuple):
    """One row of the engine: the sample as it stands, the image looked at (1, C, H, W) and its logits (1, K)."""

    standing: Standing
    x: Tensor
    logits: Tensor

    @property
    def round(self) -> int:
        return int(self.standing.restart)


@dataclass
class _Rounds:
    """live: rounds under way. begun: how many have begun. won, ended: the first that won, the last that did not."""

    live: set[int]
    begun: int
    won: Row | None = None
    ended: Row | None = None


@dataclass
class Beside:
    """The samples that have several rounds (restarts, classes aimed at) under way, by their place among all samples.

    One after the other, the first round that wins has the answer. So when a round wins those after it are dropped, and
    those before it go on: the answer is the same in any batch. Passes of rounds that are dropped were spent all the
    same.
    """

    rounds: int
    _samples: dict[int, _Rounds] = field(default_factory=dict)
    _closed: set[int] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self._samples or self._closed)

    def __contains__(self, place: int) -> bool:
        return place in self._samples

    def open(self, group: Standing, free: int) -> tuple[list[int], list[int]]:
        """Opens up to ``free`` further rounds of samples with a row in ``group``: that row and the round of each."""
        rows: list[int] = []
        numbers: list[int] = []
        for row, (place, number) in enumerate(zip(group.place.tolist(), group.restart.tolist(), strict=True)):
            if len(rows) == free:
                break
            if place in self._closed or (place not in self._samples and number + 1 >= self.rounds):
                continue
            sample = self._samples.setdefault(place, _Rounds({number}, number + 1))
            while len(rows) < free and sample.begun < self.rounds and sample.won is None:
                sample.live.add(sample.begun)
                rows.append(row)
                numbers.append(sample.begun)
                sample.begun += 1
        return rows, numbers

    def wanted(self, group: Standing) -> Standing | None:
        """Without rows whose samples no longer need them."""
        pairs = zip(group.place.tolist(), group.restart.tolist(), strict=True)
        keep = [
            place not in self._closed and (place not in self._samples or number in self._samples[place].live)
            for place, number in pairs
        ]
        return group.split(torch.tensor(keep, device=group.place.device))[0]

    def win(self, row: Row) -> Row | None:
        """A round has won; the answer of its sample where that is the first round that can."""
        place = int(row.standing.place)
        sample = self._samples.get(place)
        if sample is None or row.round not in sample.live:
            return None
        sample.won = row
        sample.live = {number for number in sample.live if number < row.round}
        return self._answer(place)

    def end(self, row: Row) -> tuple[int | None, Row | None]:
        """A round has ended without winning: the round that goes on in its place, and the answer if it was the last."""
        place = int(row.standing.place)
        sample = self._samples.get(place)
        if sample is None or row.round not in sample.live:
            return None, None
        sample.live.discard(row.round)
        sample.ended = row if sample.ended is None else _later(sample.ended, row)
        if sample.won is None and sample.begun < self.rounds:
            sample.begun += 1
            sample.live.add(sample.begun - 1)
            return sample.begun - 1, None
        return None, self._answer(place)

    def _answer(self, place: int) -> Row | None:
        sample = self._samples[place]
        if sample.live:
            return None
        del self._samples[place]
        self._closed.add(place)
        return sample.won or sample.ended


def _later(a: Row, b: Row) -> Row:
    """The row of the later round, with the smaller perturbation of both."""
    first, second = sorted((a, b), key=lambda row: row.round)
    if first.standing.best is None or second.standing.best is None:
        return second
    best = smaller(first.standing.best, second.standing.best)
    return second._replace(standing=second.standing.having(best))


def together(rows: list[Row]) -> Row:
    """Several rows as one group."""
    return Row(joined([r.standing for r in rows]), torch.cat([r.x for r in rows]), torch.cat([r.logits for r in rows]))
