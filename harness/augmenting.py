"""Training images changed at random, in batches on the device, each by the numbers of its own sample and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from harness.autoaugment import autoaugment
from harness.data import Samples, pixels
from harness.errors import BenchError
from harness.randomness import SampleRandom, derive
from harness.recipe import Recipe
from harness.types import Batch

AT_ONCE = 2**22
"""Pixel values that are augmented at once, where batches are smaller: a call costs the same for few as for many."""


def augmented(
    samples: Samples, batches: Sequence[Tensor], recipe: Recipe, seed: int, epoch: int, at_once: int = AT_ONCE
) -> Iterator[Batch]:
    """Training batches of the samples at these places, in the recipe's memory layout.

    Several batches are augmented at once: each sample has numbers of its own, so that changes nothing.
    """
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    together = max(1, at_once // (recipe.batch_size * samples.images[0].numel()))
    for start in range(0, len(batches), together):
        part = batches[start : start + together]
        index = torch.cat(list(part))
        ids = samples.ids[index]
        x = augment(samples.images.index_select(0, index), ids, recipe, seed, epoch)
        sizes = [len(batch) for batch in part]
        for rows in zip(*(torch.split(whole, sizes) for whole in (x, samples.labels[index], ids)), strict=True):
            batch = Batch(*rows)
            yield batch._replace(x=batch.x.contiguous(memory_format=layout))


def augment(images: Tensor, ids: Tensor, recipe: Recipe, seed: int, epoch: int) -> Tensor:
    """Training images as pixels in [0, 1]: uint8 (N, C, H, W) and ids (N,) -> float32 (N, C, H, W).

    Bytes stay bytes until noise is added: crop, flip and AutoAugment take or map whole levels.
    """
    random = SampleRandom(derive(seed, "augment"), ids).at(step=epoch)
    padding = recipe.crop_padding if "crop" in recipe.augment else 0
    corner = random.integers(0, 2 * padding + 1, (2,)) if "crop" in recipe.augment else None
    flipped = random.uniform(0, 1, (1,)) < 0.5 if "flip" in recipe.augment else None
    if corner is not None or flipped is not None:
        images = _window(images, padding, corner, flipped)
    if "autoaugment" in recipe.augment:
        if images.is_floating_point():
            raise BenchError("training: autoaugment maps 8-bit levels, these images are none; give them as uint8")
        images = autoaugment(images, SampleRandom(derive(seed, "autoaugment"), ids).at(step=epoch))
    x = pixels(images)
    if recipe.noise_variance:
        x = (x + recipe.noise_variance**0.5 * random.normal(x.shape[1:])).clamp(0, 1)
    return x


def _window(images: Tensor, padding: int, corner: Tensor | None, flipped: Tensor | None) -> Tensor:
    """A window of the image's own size out of the zero-padded image, mirrored or not: another for each sample.

    corner: row and column of its upper left (N, 2), None for the middle. flipped: (N, 1), None for no image. Both at
    once, because what costs time is moving the pixels.
    """
    height, width = images.shape[2:]
    padded = torch.nn.functional.pad(images, [padding] * 4).flatten(2)
    if corner is None:
        corner = torch.full((len(images), 2), padding, device=images.device)
    rows = corner[:, :1] + torch.arange(height, device=images.device)  # (N, H)
    columns = corner[:, 1:] + torch.arange(width, device=images.device)  # (N, W)
    if flipped is not None:
        columns = torch.where(flipped, columns.flip(1), columns)
    place = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]  # (N, H, W)
    return padded.gather(2, place.flatten(1)[:, None].expand(-1, images.shape[1], -1)).view_as(images)
