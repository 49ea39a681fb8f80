"""The input pipeline alone: RandomCrop(32, padding 4), flip, AutoAugment (CIFAR-10 policy), to float. Images a second.

Run: python -m benchmarks.pipeline [--n 8192] [--repeats 7] [--threads 1].
Ours is what a training does (``harness.augmenting.augmented``), against a ``DataLoader`` whose two worker processes do
the same with torchvision v1 on PIL images, and against other ways of doing AutoAugment in our pipeline: torchvision v2
and kornia in groups, torchvision image by image. The loader's workers are started before; ours has ``--threads``
threads in one process. Real images: the first ``n`` of CIFAR-100's training split, batch 128.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks import augmenters
from benchmarks.subjects import cifar100_coarse
from benchmarks.timing import interleaved, machine, ratio
from harness import augmenting
from harness.autoaugment import Tables, drawn, tables_for
from harness.data import Samples
from harness.randomness import SampleRandom
from harness.recipe import Recipe

BATCH, WORKERS = 128, 2
RECIPE = Recipe(batch_size=BATCH, augment=("crop", "flip", "autoaugment"), channels_last=False)
PIL = f"DataLoader, PIL, {WORKERS} workers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="ours and the DataLoader alone")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    whole = cifar100_coarse().splits["train"]
    samples = Samples(whole.images[: asked.n], whole.labels[: asked.n], whole.ids[: asked.n])
    loader = augmenters.by_pil(samples, BATCH, WORKERS)
    contenders: dict[str, Callable[[], int]] = {"ours": lambda: ours(samples), PIL: lambda: seen(loader)}
    if not asked.quick:
        contenders |= variants(samples)
    interleaved(contenders, 1)
    runs = interleaved(contenders, asked.repeats)
    print(f"crop, flip, AutoAugment, to float; n = {len(samples)}, batch {BATCH}, {asked.threads} threads")
    for name, found in runs.items():
        speed = len(samples) / found.median
        print(f"  {name:28}{found}  {speed:8.0f} images/s, {ratio(found, runs['ours']):.2f} x the time of ours")
    print(f"medians [extremes] of {asked.repeats} interleaved repetitions, one before them")
    print(machine(("torch", "torchvision", "pillow", *(["kornia"] if find_spec("kornia") else ()))))


def ours(samples: Samples, at_once: int = augmenting.AT_ONCE) -> int:
    """Images of one epoch."""
    order = torch.randperm(len(samples))
    batches = list(order.split(BATCH))  # type: ignore[no-untyped-call]
    return sum(len(batch.y) for batch in augmenting.augmented(samples, batches, RECIPE, 0, 0, at_once))


def seen(loader: augmenters.DataLoader[tuple[Tensor, int]]) -> int:
    return sum(len(labels) for _, labels in loader)


def variants(samples: Samples) -> dict[str, Callable[[], int]]:
    """Ours with each batch for itself, and with AutoAugment done otherwise."""
    hows = {
        "torchvision v2, grouped": augmenters.by_torchvision,
        "torchvision v2, one by one": augmenters.one_by_one,
    }
    if find_spec("kornia"):
        hows["kornia, grouped"] = augmenters.by_kornia
    return {
        "ours, batch by batch": lambda: ours(samples, at_once=0),
        **{name: lambda how=how: with_(how, samples) for name, how in hows.items()},  # type: ignore[misc]
    }


def with_(how: Callable[[Tensor, Tensor, Tables], Tensor], samples: Samples) -> int:
    """Our pipeline, its draws and its batches, with another AutoAugment in it."""

    def autoaugment(images: Tensor, random: SampleRandom) -> Tensor:
        tables = tables_for(images.shape[2], images.shape[3], images.device)
        return how(images, drawn(tables, random), tables)

    with patch.object(augmenting, "autoaugment", autoaugment):
        return ours(samples)


if __name__ == "__main__":
    main()
