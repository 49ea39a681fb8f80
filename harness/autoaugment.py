"""AutoAugment with the CIFAR-10 policy (Cubuk et al., CVPR 2019), a policy drawn for each image, in batches on uint8.

Each operation is that of PIL to the last bit, which the policy was searched with and torchvision applies to PIL images:
brightness, contrast, solarize and the like change a pixel by its value alone, so they are lookups in a table of 256
entries; shear, translation and rotation without interpolation take each pixel from one place, so they are lookups in
a map of places, drawn up once by PIL itself. Integers and single float32 operations leave nothing to the order of a
sum: an image's augmentation is the same alone, in any batch and on any device.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import BenchError
from harness.randomness import SampleRandom

BINS = 10
MOVES = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
FIXED = ("Brightness", "Posterize", "Solarize", "Invert")
"""Operations whose table is one for all images."""
SIGNED = (*MOVES, "Brightness", "Color", "Contrast", "Sharpness")


@dataclass(frozen=True)
class Tables:
    """The policy as tensors for images of one size. A *step* is an operation with its magnitude and sign; 0 is none.

    probability (25, 2): of each sub-policy's two operations. step (25, 2, 2): by sub-policy, operation and sign.
    steps: name and signed magnitude of each. family (S,): place in ``FAMILIES`` from 1, 0 for none. factor (S,): what
    is blended by. place (S, H * W): where a pixel comes from, H * W being the black beyond the edge. value (S, 256):
    what a level becomes.
    """

    probability: Tensor
    step: Tensor
    steps: tuple[tuple[str, float], ...]
    family: Tensor
    factor: Tensor
    place: Tensor
    value: Tensor


def autoaugment(images: Tensor, random: SampleRandom) -> Tensor:
    """Augmented images, uint8 (N, C, H, W) -> the same. Raises BenchError unless they are grey or RGB."""
    if images.shape[1] not in (1, 3):
        raise BenchError(f"training.augment: autoaugment takes images of 1 or 3 channels, got {images.shape[1]}")
    tables = tables_for(images.shape[2], images.shape[3], images.device)
    for step in drawn(tables, random).unbind(1):
        images = applied(images, step, tables)
    return images


def drawn(tables: Tables, random: SampleRandom) -> Tensor:
    """The two steps of each sample's sub-policy, 0 where chance leaves one out: (N, 2), int64."""
    uniform = random.uniform(0, 1, (5,))  # (N, 5), all at once: a draw costs the same for few as for many
    policy, chance, side = uniform[:, :1], uniform[:, 1:3], uniform[:, 3:]
    policy = (policy * len(tables.probability)).long()  # (N, 1)
    step = tables.step[policy, torch.arange(2, device=policy.device), (side < 0.5).long()]
    return step.masked_fill(chance >= tables.probability[policy[:, 0]], 0)


def applied(images: Tensor, step: Tensor, tables: Tables) -> Tensor:
    """One step for each image: uint8 (N, C, H, W) and (N,) -> uint8 (N, C, H, W).

    Images of one family of operations stand side by side meanwhile, each with factor, map or table of its own.
    """
    family, order = tables.family[step].sort()
    images, step = images.index_select(0, order), step[order]
    sizes = torch.bincount(family, minlength=1 + len(FAMILIES)).tolist()
    together = torch.split(images, sizes), torch.split(step, sizes)
    parts = zip((_same, *FAMILIES.values()), *together, strict=True)
    changed = torch.cat([operation(part, which, tables) for operation, part, which in parts if len(which)])
    return changed.index_select(0, order.argsort())


def _same(images: Tensor, step: Tensor, tables: Tables) -> Tensor:
    return images


def _move(images: Tensor, step: Tensor, tables: Tables) -> Tensor:
    beyond = torch.nn.functional.pad(images.flatten(2), (0, 1))  # (n, C, H * W + 1)
    place = tables.place[step][:, None, :].expand(-1, images.shape[1], -1)
    return beyond.gather(2, place).view_as(images)


def _fixed(images: Tensor, step: Tensor, tables: Tables) -> Tensor:
    return _looked_up(images, tables.value[step][:, None, :].expand(-1, images.shape[1], -1))


def _contrast(images: Tensor, step: Tensor, tables: Tables) -> Tensor:
    """Blended with the mean grey of the image, which PIL rounds to a whole level."""
    grey = _grey(images).flatten(1)
    mean = (grey.sum(1, dtype=torch.float64) / grey.shape[1] + 0.5).floor()
    values = torch.arange(256, device=images.device)[None, None, :]
    table = _blended(mean[:, None, None], values, tables.factor[step][:, None, None])
    return _looked_up(images, table.expand(-1, images.shape[1], -1))


def _autocontrast(images: Tensor, step: Tensor, tables: Tables) -> Tensor:
    """Each channel stretched to the full range; one of a single level is left as it is."""
    flat = images.flatten(2)
    low, high = flat.amin(2, keepdim=True).double(), flat.amax(2, keepdim=True).double()
    values = torch.arange(256, device=images.device, dtype=torch.float64)
    scale = values[255] / (high - low).clamp(min=1)  # a plain 255 would be multiplied by the reciprocal
    stretched = (values * scale + -low * scale).clamp(0, 255)
    return _looked_up(images, torch.where(high > low, stretched, values).to(torch.uint8))


def _equalize(images: Tensor, step: Tensor, tables: Tables) -> Tensor:
    """Each channel's levels spread so that their counts become even, as PIL counts them."""
    flat = images.flatten(0, 1).flatten(1).long()  # (n * C, H * W)
    rows = 256 * torch.arange(len(flat), device=images.device)
    counts = torch.bincount((flat + rows[:, None]).flatten(), minlength=256 * len(flat)).view(-1, 256)
    last = counts.gather(1, flat.amax(1, keepdim=True))
    width = ((flat.shape[1] - last) // 255).double()
    below = (counts.cumsum(1) - counts).double()
    spread = ((below + (width / 2).floor()) / width.clamp(min=1)).floor().clamp(max=255)
    table = torch.where(width > 0, spread, torch.arange(256, device=images.device))
    return table.to(torch.uint8).gather(1, flat).view_as(images)


def _color(images: Tensor, step: Tensor, tables: Tables) -> Tensor:
    return _blended(_grey(images), images, tables.factor[step][:, None, None, None])


def _sharpness(images: Tensor, step: Tensor, tables: Tables) -> Tensor:
    """Blended with the image smoothed by a kernel of ones with a five in its middle; PIL leaves the border alone."""
    if min(images.shape[2:]) < 3:
        return images
    whole = images.float()
    rows = whole[:, :, :-2] + whole[:, :, 1:-1] + whole[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * whole[:, :, 1:-1, 1:-1]
    smooth = whole.clone()
    smooth[:, :, 1:-1, 1:-1] = (total / 13).round()  # whole numbers, and a thirteenth is never half way
    return _blended(smooth, whole, tables.factor[step][:, None, None, None])


FAMILIES: dict[tuple[str, ...], Callable[[Tensor, Tensor, Tables], Tensor]] = {
    MOVES: _move,
    FIXED: _fixed,
    ("Contrast",): _contrast,
    ("AutoContrast",): _autocontrast,
    ("Equalize",): _equalize,
    ("Color",): _color,
    ("Sharpness",): _sharpness,
}


def _looked_up(images: Tensor, table: Tensor) -> Tensor:
    """Each pixel's entry in the table of its image and channel: uint8 (n, C, 256) -> uint8 (n, C, H, W)."""
    return table.gather(2, images.flatten(2).long()).view_as(images)


def _grey(images: Tensor) -> Tensor:
    """Luma (ITU-R 601) in PIL's fixed point, whole numbers below 2^24: uint8 (n, C, H, W) -> float32 (n, 1, H, W)."""
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = torch.split(images.float(), 1, dim=1)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) / 65536).floor()


def _blended(other: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """``other`` at factor 0, the image at 1, cut to the range of a byte: uint8. In float32, as PIL computes it."""
    other = other.float()
    change = (images.float() - other) * factor  # rounded apart from the sum: a fused one would round once
    return (change + other).clamp_(0, 255).to(torch.uint8)


@functools.cache
def tables_for(height: int, width: int, device: torch.device) -> Tables:
    """The policy of torchvision for images of this size."""
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    policies = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    spaces = magnitudes(height, width)
    steps: dict[tuple[str, float], int] = {("", 0.0): 0}
    number = torch.zeros(len(policies), 2, 2, dtype=torch.int64)
    for p, policy in enumerate(policies):
        for o, (name, _, bin_) in enumerate(policy):
            size = spaces[name][bin_] if bin_ is not None else 0.0
            for sign in range(2):
                signed = -size if name in SIGNED and sign == 0 else size
                number[p, o, sign] = steps.setdefault((name, signed), len(steps))
    found = Tables(
        probability=torch.tensor([[chance for _, chance, _ in policy] for policy in policies]),
        step=number,
        steps=tuple(steps),
        family=torch.tensor([_family(name) for name, _ in steps]),
        factor=torch.tensor([1.0 + size for _, size in steps]),
        place=torch.stack([_places(name, size, height, width) for name, size in steps]),
        value=torch.stack([_values(name, size) for name, size in steps]),
    )
    return Tables(**{name: _moved(part, device) for name, part in vars(found).items()})


def magnitudes(height: int, width: int) -> dict[str, list[float]]:
    """The ten magnitudes of each operation that has them: a share, pixels, degrees, bits or a threshold."""
    tenths = {
        "ShearX": 0.3,
        "ShearY": 0.3,
        "TranslateX": 150 / 331 * width,
        "TranslateY": 150 / 331 * height,
        "Rotate": 30.0,
        **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), 0.9),
    }
    found = {name: torch.linspace(0, most, BINS).tolist() for name, most in tenths.items()}
    found["Posterize"] = [8.0 - round(bin_ / ((BINS - 1) / 4)) for bin_ in range(BINS)]
    found["Solarize"] = torch.linspace(255, 0, BINS).tolist()
    return found


def _family(name: str) -> int:
    return next((number for number, names in enumerate(FAMILIES, 1) if name in names), 0)


def _values(name: str, size: float) -> Tensor:
    """What each level becomes: (256,) uint8."""
    levels = torch.arange(256)
    if name == "Brightness":
        return _blended(torch.zeros(256), levels, torch.tensor(1.0 + size))
    if name == "Posterize":
        return (levels - levels % 2 ** (8 - int(size))).to(torch.uint8)
    if name == "Solarize":
        return torch.where(levels < size, levels, 255 - levels).to(torch.uint8)
    return (255 - levels if name == "Invert" else levels).to(torch.uint8)


def _places(name: str, size: float, height: int, width: int) -> Tensor:
    """Where PIL takes each pixel from: (H * W,) int64. Read off an image whose pixels are their own places plus one."""
    places = torch.arange(1, height * width + 1)
    if name in MOVES:
        from PIL import Image
        from torchvision.transforms import functional as F

        numbered = Image.fromarray(places.to(torch.int32).view(height, width).numpy(), mode="I")
        slant = math.degrees(math.atan(size))
        affine: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
        how: dict[str, dict[str, Any]] = {
            "ShearX": {"shear": [slant, 0.0], "center": [0, 0]},
            "ShearY": {"shear": [0.0, slant], "center": [0, 0]},
            "TranslateX": {"translate": [int(size), 0]},
            "TranslateY": {"translate": [0, int(size)]},
        }
        moved = F.rotate(numbered, size) if name == "Rotate" else F.affine(numbered, **{**affine, **how[name]})
        places = torch.from_numpy(np.array(moved)).flatten().long()
    return torch.where(places > 0, places - 1, height * width)


def _moved(part: Any, device: torch.device) -> Any:
    return part.to(device) if isinstance(part, Tensor) else part
