"""Images in memory and batches of them on a device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.errors import BenchError
from harness.randomness import SampleRandom, derive, generators_kept
from harness.recipe import Recipe
from harness.types import Batch, Facts, Split


@dataclass(frozen=True)
class Samples:
    """One split on a device: images uint8 (N, C, H, W), labels and ids int64 (N,)."""

    images: Tensor
    labels: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> Batch:
        """The samples at these places as pixels in [0, 1]."""
        return Batch(self.images[index].float() / 255, self.labels[index], self.ids[index])

    def batches(self, size: int) -> Iterator[Batch]:
        for index in torch.arange(len(self), device=self.labels.device).split(size):  # type: ignore[no-untyped-call]
            yield self.take(index)

    def limited(self, limit: int | None) -> Samples:
        """A fixed random subset, the same for every model, attack and seed; ordered as the whole."""
        if limit is None or limit >= len(self):
            return self
        index = torch.from_numpy(np.random.default_rng(0).permutation(len(self))[:limit]).sort().values
        index = index.to(self.labels.device)
        return Samples(self.images[index], self.labels[index], self.ids[index])


@dataclass(frozen=True)
class Data:
    """A data set in memory, with mean and standard deviation per channel of its training split."""

    facts: Facts
    splits: Mapping[str, Samples]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def on_device(facts: Facts, splits: Mapping[str, Split], device: torch.device, name: str) -> Data:
    """Splits as the plugin gave them, checked and moved. Raises BenchError for shapes or labels that do not fit."""
    for split in ("train", "validation", "test"):
        if split not in splits:
            raise BenchError(f"dataset {name}: no split {split}; train, validation and test are needed")
    for split, part in splits.items():
        _check(name, split, part, facts)
    train = splits["train"].images
    mean = train.mean((0, 2, 3), dtype=np.float64) / 255
    std = train.std((0, 2, 3), dtype=np.float64) / 255
    moved = {
        split: Samples(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in part))
        for split, part in splits.items()
    }
    return Data(facts, moved, tuple(mean.tolist()), tuple(np.maximum(std, 1e-6).tolist()))


def augment(batch: Batch, recipe: Recipe, seed: int, epoch: int) -> Tensor:
    """Training images (N, C, H, W) in [0, 1], each changed by random numbers of its own id and epoch."""
    random = SampleRandom(derive(seed, "augment"), batch.ids).at(step=epoch)
    x = batch.x
    if "crop" in recipe.augment:
        x = _crop(x, recipe.crop_padding, random)
    if "flip" in recipe.augment:
        flipped = random.uniform(0, 1, (1, 1, 1)) < 0.5
        x = torch.where(flipped, x.flip(3), x)
    if "autoaugment" in recipe.augment:
        x = _autoaugment(x, batch.ids, derive(seed, "autoaugment", epoch))
    if recipe.noise_variance:
        x = (x + recipe.noise_variance**0.5 * random.normal(x.shape[1:])).clamp(0, 1)
    return x


def _crop(x: Tensor, padding: int, random: SampleRandom) -> Tensor:
    """A window of the image's own size out of the zero-padded image, another for each sample."""
    n, _, height, width = x.shape
    padded = torch.nn.functional.pad(x, [padding] * 4)
    corner = random.integers(0, 2 * padding + 1, (2,))
    rows = corner[:, :1] + torch.arange(height, device=x.device)  # (N, H)
    columns = corner[:, 1:] + torch.arange(width, device=x.device)  # (N, W)
    sample = torch.arange(n, device=x.device)
    picked = padded.permute(0, 2, 3, 1)[sample[:, None, None], rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _autoaugment(x: Tensor, ids: Tensor, seed: int) -> Tensor:
    """torchvision's AutoAugment with the CIFAR-10 policy (Cubuk et al., CVPR 2019), one policy drawn per image."""
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    policy = AutoAugment(AutoAugmentPolicy.CIFAR10)
    images = (x * 255).round().to(torch.uint8)
    with generators_kept():
        changed = []
        for image, sample in zip(images, ids.tolist(), strict=True):
            torch.manual_seed(derive(seed, sample))
            changed.append(policy(image))
    return torch.stack(changed).float() / 255


def _check(name: str, split: str, part: Split, facts: Facts) -> None:
    where = f"dataset {name}, split {split}"
    if part.images.shape[1:] != facts.shape or part.images.dtype != np.uint8:
        got = f"{part.images.dtype} {part.images.shape}"
        raise BenchError(f"{where}: images are {got}; uint8 (N, {', '.join(map(str, facts.shape))}) is needed")
    if not len(part.images) == len(part.labels) == len(part.ids) > 0:
        counts = f"{len(part.images)} images, {len(part.labels)} labels, {len(part.ids)} ids"
        raise BenchError(f"{where}: {counts}; the same number of each, at least one, is needed")
    for column in ("labels", "ids"):
        if (dtype := getattr(part, column).dtype) != np.int64:
            raise BenchError(f"{where}: {column} are {dtype}; int64 is needed")
    if part.labels.min() < 0 or part.labels.max() >= len(facts.classes):
        span = f"{part.labels.min()} to {part.labels.max()}"
        raise BenchError(f"{where}: labels run from {span}; 0 to {len(facts.classes) - 1} is needed")
    if len(np.unique(part.ids)) != len(part.ids):
        raise BenchError(f"{where}: sample ids are not unique")
