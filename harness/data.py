"""Images in memory and batches of them on a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from harness.composition import Composition, check, measured
from harness.domain import Normalised
from harness.types import Batch, Facts, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Samples:
    """One split on a device: images uint8 (N, C, H, W), or float32 in [0, 1]; labels and ids int64 (N,).

    domain: what batches are made of instead of pixels.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    domain: Normalised | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> Batch:
        """The samples at these places as pixels in [0, 1], unless they have another domain."""
        x = pixels(self.images[index])
        return Batch(self.domain.enter(x) if self.domain else x, self.labels[index], self.ids[index])

    def batches(self, size: int) -> Iterator[Batch]:
        for index in torch.arange(len(self), device=self.labels.device).split(size):  # type: ignore[no-untyped-call]
            yield self.take(index)

    def limited(self, limit: int | None) -> Samples:
        """A fixed random subset, the same for every model, attack and seed; ordered as the whole."""
        if limit is None or limit >= len(self):
            return self
        index = torch.from_numpy(chosen(len(self), limit)).to(self.labels.device)
        return replace(self, images=self.images[index], labels=self.labels[index], ids=self.ids[index])


def pixels(images: Tensor) -> Tensor:
    """Images as float32 in [0, 1]: of 8-bit levels, or of such numbers already."""
    return images if images.is_floating_point() else images.float() / 255


def chosen(n: int, limit: int) -> NDArray[np.int64]:
    """The places of the ``limit`` of ``n`` samples that every evaluation with this limit takes, in rising order."""
    return np.sort(np.random.default_rng(0).permutation(n)[:limit])


@dataclass(frozen=True)
class Data:
    """A data set in memory, with mean and standard deviation per channel of its training split."""

    facts: Facts
    splits: Mapping[str, Samples]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def on_device(
    facts: Facts,
    splits: Mapping[str, Split],
    device: torch.device,
    name: str,
    settle: Callable[[Facts, Mapping[str, Split]], Composition] = measured,
) -> Data:
    """Splits as the plugin gave them, checked and moved. Raises BenchError for shapes or labels that do not fit.

    ``settle`` tells mean and deviation of what was checked: from what is kept, or measured now.
    """
    check(name, facts, splits)
    found = settle(facts, splits)
    moved = {split: _moved(part, device) for split, part in splits.items()}
    return Data(facts, moved, found.mean, found.std)


def _moved(part: Split, device: torch.device) -> Samples:
    images, labels, ids = (torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in part)
    return Samples(images, labels, ids)
