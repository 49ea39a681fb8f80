"""Samples on their way through the engine: fresh, under attack, waiting, finished."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from harness.types import Batch, State

Found = tuple[Tensor, Tensor, Tensor]
"""The smallest fooling images so far (N, C, H, W), their sizes (N,), infinite where there is none, logits (N, K)."""


class Fresh(NamedTuple):
    """Samples to be attacked: their place among all samples (N,), and clean logits (N, K) where they are known."""

    batch: Batch
    place: Tensor
    clean: Tensor | None


class Finished(NamedTuple):
    """Samples that the engine is done with, by their place among all samples (N,).

    x_adv: the proposal, unclipped of an attack with its own loop. logits: of x_adv, by the engine, (N, K); None where
    it has not looked. cost: forwards, backwards and zero gradients, (N, 3).
    """

    place: Tensor
    x_adv: Tensor
    logits: Tensor | None
    cost: Tensor
    target: Tensor | None


@dataclass(frozen=True)
class Standing:
    """Samples under attack, a row for each round of each.

    expected: the loss that the last gradient promises where they stand now, (N,). best: the smallest fooling image so
    far, its size and logits (minimum-norm attacks only).
    """

    batch: Batch
    place: Tensor
    state: State
    clean: Tensor | None
    restart: Tensor
    iteration: Tensor
    expected: Tensor
    best: Found | None

    def __len__(self) -> int:
        return len(self.place)

    def select(self, index: Tensor | slice) -> Standing:
        return Standing(
            Batch(*(t[index] for t in self.batch)),
            self.place[index],
            {name: value[index] for name, value in self.state.items()},
            None if self.clean is None else self.clean[index],
            self.restart[index],
            self.iteration[index],
            self.expected[index],
            self.best and (self.best[0][index], self.best[1][index], self.best[2][index]),
        )

    def having(self, best: Found) -> Standing:
        """With another smallest perturbation."""
        return replace(self, best=best)

    def split(self, first: Tensor) -> tuple[Standing | None, Standing | None]:
        """Those where ``first`` (N,) is true, and the others; None where there are none."""
        if bool(first.all()):
            return self, None
        if not bool(first.any()):
            return None, self
        return self.select(first.nonzero().squeeze(1)), self.select((~first).nonzero().squeeze(1))


def joined(parts: list[Standing]) -> Standing:
    """Samples of several groups as one."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return Standing(
        Batch(*(torch.cat(tensors) for tensors in zip(*(p.batch for p in parts), strict=True))),
        torch.cat([p.place for p in parts]),
        {name: torch.cat([p.state[name] for p in parts]) for name in first.state},
        None if first.clean is None else torch.cat([p.clean for p in parts if p.clean is not None]),
        torch.cat([p.restart for p in parts]),
        torch.cat([p.iteration for p in parts]),
        torch.cat([p.expected for p in parts]),
        _joined_best(parts),
    )


def _joined_best(parts: list[Standing]) -> Found | None:
    found = [p.best for p in parts if p.best is not None]
    if not found:
        return None
    images, sizes, logits = zip(*found, strict=True)
    return torch.cat(images), torch.cat(sizes), torch.cat(logits)


def smaller(a: Found, b: Found) -> Found:
    """Of two finds for each sample the smaller one, the first where they are equal."""
    better = b[1] < a[1]
    image = b[0].where(better.view(-1, 1, 1, 1), a[0])
    return image, b[1].where(better, a[1]), b[2].where(better[:, None], a[2])


class Pool:
    """Samples waiting for their next look, first in first out."""

    def __init__(self) -> None:
        self._groups: deque[Standing] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, group: Standing | None) -> None:
        if group is not None:
            self._groups.append(group)
            self._count += len(group)

    def take(self, count: int) -> Standing:
        taken: list[Standing] = []
        while count and self._groups:
            group = self._groups.popleft()
            if len(group) > count:
                self._groups.appendleft(group.select(slice(count, None)))
                group = group.select(slice(count))
            taken.append(group)
            count -= len(group)
            self._count -= len(group)
        return joined(taken)


def refilled(source: Iterable[Fresh], size: int) -> Iterator[Fresh]:
    """The same samples in full batches."""
    waiting: list[Fresh] = []
    for fresh in source:
        waiting.append(fresh)
        while sum(len(f.place) for f in waiting) >= size:
            whole = _one(waiting)
            yield _rows(whole, slice(size))
            waiting = [_rows(whole, slice(size, None))]
    if sum(len(f.place) for f in waiting):
        yield _one(waiting)


def _one(parts: list[Fresh]) -> Fresh:
    clean = [p.clean for p in parts if p.clean is not None]
    return Fresh(
        Batch(*(torch.cat(tensors) for tensors in zip(*(p.batch for p in parts), strict=True))),
        torch.cat([p.place for p in parts]),
        torch.cat(clean) if clean else None,
    )


def _rows(fresh: Fresh, rows: slice) -> Fresh:
    clean = None if fresh.clean is None else fresh.clean[rows]
    return Fresh(Batch(*(t[rows] for t in fresh.batch)), fresh.place[rows], clean)
