"""Who is likely fooled already: they are looked at without a gradient first, which costs half and may spare the rest.

A forecast decides which look comes first and nothing else: no result depends on it.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from harness.standing import Standing
from harness.types import Evaluation

REMEMBERED = 1024
"""Looks that the forecast is made from, the newest ones."""

ENOUGH = 32
"""Looks without which there is none."""

SPARED = 1.0
"""What a backward costs, in forwards: spared for each that is fooled; each that is not pays a forward in vain."""


class Forecast:
    """Learns from which expected loss on samples are fooled.

    The loss expected after a step is that before it plus gradient times displacement. A sample is looked at without a
    gradient first where its expected loss is above the threshold that would have saved most so far.
    """

    def __init__(self, *, active: bool) -> None:
        self._active = active
        self._seen: deque[tuple[float, bool]] = deque(maxlen=REMEMBERED)
        self._threshold: float | None = None

    def loss(self, found: Evaluation, displacement: Tensor) -> Tensor:
        """The loss of each sample to first order after a displacement (N, C, H, W): (N,). NaN where nobody asks."""
        if not self._active or found.gradient is None:
            return torch.full_like(found.loss, float("nan"))
        return found.loss + (found.gradient * displacement).flatten(1).sum(1)

    def learn(self, expected: Tensor, fooled: Tensor) -> None:
        """Takes note of what was expected of samples (N,), and what was found."""
        if self._active:
            known = [pair for pair in zip(expected.tolist(), fooled.tolist(), strict=True) if pair[0] == pair[0]]
            self._seen.extend(known)
            self._threshold = self._best() if known else self._threshold

    def split(self, group: Standing) -> tuple[Standing | None, Standing | None]:
        """Those who are likely fooled, and the others."""
        if self._threshold is None:
            return None, group
        return group.split(group.expected > self._threshold)

    def _best(self) -> float | None:
        if len(self._seen) < ENOUGH:
            return None
        expected, won = torch.tensor(self._seen, dtype=torch.float64).unbind(1)
        order = expected.argsort(descending=True)
        gain = torch.where(won[order] > 0, SPARED, -1.0).cumsum(0)
        best = int(gain.argmax())
        if gain[best] <= 0:
            return None
        below = expected[order[best + 1]] if best + 1 < len(order) else expected[order[best]] - 1
        return float((expected[order[best]] + below) / 2)
