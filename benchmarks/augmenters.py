"""AutoAugment's CIFAR-10 policy by other means: torchvision v2 and kornia in groups, torchvision image by image, PIL.

All but PIL's take uint8 (N, C, H, W) and the two steps of each image as ``harness.autoaugment.drawn`` gives them, so
that all do the same work and differ in how.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from harness.autoaugment import MOVES, Tables
from harness.data import Samples


def by_torchvision(images: Tensor, steps: Tensor, tables: Tables) -> Tensor:
    """Images of one operation, magnitude and sign together through torchvision.transforms.v2.functional."""
    for step in steps.unbind(1):
        changed = images.clone()
        for number in step.unique().tolist():
            index = (step == number).nonzero()[:, 0]
            changed[index] = _torchvision(images.index_select(0, index), *tables.steps[number])
        images = changed
    return images


def one_by_one(images: Tensor, steps: Tensor, tables: Tables) -> Tensor:
    """The same functions called for each image, which is what torchvision's AutoAugment on tensors does."""
    made = []
    for image, pair in zip(images, steps.tolist(), strict=True):
        for number in pair:
            image = _torchvision(image, *tables.steps[number])
        made.append(image)
    return torch.stack(made)


def by_kornia(images: Tensor, steps: Tensor, tables: Tables) -> Tensor:
    """Images of one operation together through kornia, each with its magnitude, as float32."""
    sizes = torch.tensor([size for _, size in tables.steps])
    names = sorted({name for name, _ in tables.steps} - {""})
    operation = torch.tensor([names.index(name) if name else -1 for name, _ in tables.steps])
    x = images.float() / 255
    for step in steps.unbind(1):
        changed = x.clone()
        for number, name in enumerate(names):
            index = (operation[step] == number).nonzero()[:, 0]
            if len(index):
                changed[index] = _kornia(x.index_select(0, index), name, sizes[step[index]])
        x = changed
    return (x * 255).round().to(torch.uint8)


def _torchvision(images: Tensor, name: str, size: float) -> Tensor:
    F = v2.functional
    affine: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    if name in MOVES:
        how = {
            "ShearY": {"shear": [0.0, math.degrees(math.atan(size))], "center": [0, 0]},
            "TranslateX": {"translate": [int(size), 0]},
            "TranslateY": {"translate": [0, int(size)]},
        }
        return F.rotate(images, size) if name == "Rotate" else F.affine(images, **{**affine, **how[name]})
    calls: dict[str, Callable[[], Tensor]] = {
        "Brightness": lambda: F.adjust_brightness(images, 1 + size),
        "Color": lambda: F.adjust_saturation(images, 1 + size),
        "Contrast": lambda: F.adjust_contrast(images, 1 + size),
        "Sharpness": lambda: F.adjust_sharpness(images, 1 + size),
        "Posterize": lambda: F.posterize(images, int(size)),
        "Solarize": lambda: F.solarize(images, size),
        "AutoContrast": lambda: F.autocontrast(images),
        "Equalize": lambda: F.equalize(images),
        "Invert": lambda: F.invert(images),
    }
    return calls[name]() if name else images


def _kornia(x: Tensor, name: str, size: Tensor) -> Tensor:
    from kornia import enhance, geometry

    nothing = torch.zeros_like(size)
    calls: dict[str, Callable[[], Tensor]] = {
        "ShearY": lambda: geometry.shear(x, torch.stack([nothing, size], 1), mode="nearest"),
        "TranslateX": lambda: geometry.translate(x, torch.stack([size.trunc(), nothing], 1), mode="nearest"),
        "TranslateY": lambda: geometry.translate(x, torch.stack([nothing, size.trunc()], 1), mode="nearest"),
        "Rotate": lambda: geometry.rotate(x, size, mode="nearest"),
        "Brightness": lambda: enhance.adjust_brightness_accumulative(x, 1 + size),
        "Color": lambda: enhance.adjust_saturation_with_gray_subtraction(x, 1 + size),
        "Contrast": lambda: enhance.adjust_contrast_with_mean_subtraction(x, 1 + size),
        "Sharpness": lambda: enhance.sharpness(x, 1 + size),
        "Posterize": lambda: enhance.posterize(x, size.int()),
        "Solarize": lambda: enhance.solarize(x, size / 255),
        "AutoContrast": lambda: enhance.normalize_min_max(x),
        "Equalize": lambda: enhance.equalize(x),
        "Invert": lambda: enhance.invert(x),
    }
    return calls[name]()


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images as PIL sees them, through a torchvision v1 pipeline."""

    def __init__(self, samples: Samples, transform: Callable[[Any], Tensor]) -> None:
        from PIL import Image

        self.pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in samples.images]
        self.labels, self.transform = samples.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[place]), self.labels[place]


def by_pil(samples: Samples, batch_size: int, workers: int) -> DataLoader[tuple[Tensor, int]]:
    """RandomCrop(32, padding 4), flip, AutoAugment, ToTensor of torchvision v1 on PIL images, in worker processes."""
    from torchvision import transforms as v1

    steps = [
        v1.RandomCrop(samples.images.shape[-1], padding=4),
        v1.RandomHorizontalFlip(),
        v1.AutoAugment(v1.AutoAugmentPolicy.CIFAR10),
        v1.ToTensor(),
    ]
    pictures = Pictures(samples, v1.Compose(steps))
    return DataLoader(pictures, batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
