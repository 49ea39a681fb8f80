"""What the built-in models are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn, tensor

from harness.errors import BenchError

LEVEL = 1 / 255
"""One step of 8-bit pixels, in [0, 1]."""


class Crop(NamedTuple):
    """How a library fits an image to its network: resized, then the middle cut out of it.

    resize: (H, W) whatever the image's shape, or the length of the shorter side, the ratio kept. interpolation:
    "bilinear", "bicubic" or "nearest-exact", as Pillow computes them.
    """

    resize: int | tuple[int, int]
    interpolation: str


class Normalised(nn.Module):
    """Pixels in [0, 1] -> resized, normalised by channel -> the network's logits (N, K).

    size: (H, W) that the network takes; None leaves the images as they are, and images of that size are left too. crop:
    how others are brought to it; None shows the network the whole image, stretched. Resizing is bilinear or bicubic, so
    gradients reach the pixels through it. A network of three channels sees grey images (N, 1, H, W) three times.
    new: names of tensors that the weights which it was filled with did not have, so that they are random.
    """

    mean: Tensor  # (1, C, 1, 1)
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        size: tuple[int, int] | None = None,
        crop: Crop | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.size = size
        self.crop = crop
        self.new: tuple[str, ...] = ()
        self.register_buffer("mean", tensor(mean).float().view(1, -1, 1, 1))
        self.register_buffer("std", tensor(std).float().view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.size is not None and tuple(x.shape[-2:]) != self.size:
            x = fitted(x, self.size, self.crop)
        # Of one grey channel this makes as many as the network has figures for.
        logits: Tensor = self.network((x - self.mean) / self.std)
        return logits


def fitted(x: Tensor, size: tuple[int, int], crop: Crop | None) -> Tensor:
    """Images of the network's size: (N, C, H, W) -> (N, C, *size). The middle is torchvision's."""
    if crop is None:
        return F.interpolate(x, size=size, mode="bilinear", antialias=True)
    x = _resized(x, crop)
    top, left = (round((have - want) / 2) for have, want in zip(x.shape[-2:], size, strict=True))
    return x[..., top : top + size[0], left : left + size[1]]


def _resized(x: Tensor, crop: Crop) -> Tensor:
    height, width = x.shape[-2:]
    short, to = min(height, width), crop.resize
    size = to if isinstance(to, tuple) else (int(to * height / short), int(to * width / short))
    if crop.interpolation == "nearest-exact":
        return F.interpolate(x, size=size, mode=crop.interpolation)
    x = F.interpolate(x, size=size, mode=crop.interpolation, antialias=True)
    # Bicubic overshoots, and the libraries round to 8 bits and cut that off. The half level that rounding would take
    # back is left: cut at 1 exactly, an area of pure white would lose its gradient wherever its sum is 1.0000001.
    return x.clamp(-LEVEL / 2, 1 + LEVEL / 2) if crop.interpolation == "bicubic" else x


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a way past them; (N, into, H, W) -> (N, out, H / stride, W / stride).

    He et al., "Deep residual learning for image recognition", CVPR 2016. Names and numbers are torchvision's, whose
    import takes longer than a small network's evaluation.
    """

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride != 1 or into != out:
            self.downsample = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        past = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += past
        out: Tensor = self.relu(x)
        return out


class Unwrapped(nn.Module):
    """A network that answers with a record (transformers), as one that gives its logits or another entry.

    flipped: it takes the channels in the order blue, green, red. order: which of its numbers stands for each class of
    the data, where they stand in another order. given: what else its forward is told.
    """

    order: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        *,
        flipped: bool = False,
        order: Sequence[int] | None = None,
        answer: str = "logits",
        **given: Any,
    ) -> None:
        super().__init__()
        self.network = network
        self.flipped = flipped
        self.answer = answer
        self.given = given
        self.register_buffer("order", None if order is None else tensor(order), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        named: Any = {self.network.main_input_name: x.flip(1) if self.flipped else x}
        found: Tensor = getattr(self.network(**named, **self.given), self.answer)
        return found if self.order is None else found.index_select(1, self.order)


def of_channels(model: str, figures: Sequence[float], channels: int) -> list[float]:
    """A figure for each channel; a single one holds for all. Raises BenchError for another number of them."""
    if len(figures) not in (1, channels):
        raise BenchError(f"model {model}: mean and std have {len(figures)} figures; {channels} or 1 are needed")
    return list(figures) * channels if len(figures) == 1 else list(figures)


def one_line(error: Exception) -> str:
    """What another library says, short enough for a line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def tried(module: Normalised, name: str, shape: tuple[int, int, int], classes: int, advice: str) -> Normalised:
    """The module in evaluation mode, after one look at a grey image of this shape (C, H, W).

    Raises BenchError where the network does not take images of its size, or answers with anything but (1, K) logits.
    Found here, it costs one forward; found by an attack, it costs the training before it.
    """
    module.eval()
    height, width = module.size or shape[1:]
    try:
        with torch.no_grad():
            logits: Any = module(torch.full((1, *shape), 0.5))
    except Exception as error:  # foreign code, which has errors of every type
        raise too_small(name, (height, width), error, advice) from error
    got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if got != (1, classes):
        raise BenchError(f"model {name}: answers one image with {got}; logits of shape (1, {classes}) are needed")
    return module


def too_small(name: str, size: tuple[int, int], error: Exception, advice: str) -> BenchError:
    """The error for images whose size a network does not take."""
    return BenchError(f"model {name}: does not take images of {size[0]} x {size[1]} ({one_line(error)}); {advice}")


def resnet18(channels: int, classes: int, width: int) -> nn.Module:
    """ResNet-18 with the CIFAR stem; ``width`` channels in its first stage, doubled in each of the next three."""
    stages: list[nn.Module] = []
    into = width
    for stage in range(4):
        out = width * 2**stage
        for stride in (1 if stage == 0 else 2, 1):
            stages.append(BasicBlock(into, out, stride))
            into = out
    network = nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        *stages,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(into, classes),
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
