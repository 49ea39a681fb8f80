"""The encoder: pixels to the features of the locations, row by row."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from harness.errors import BenchError
from plugins.networks import Normalised, one_line

SMALLEST = 8  # the small network halves the sides while they are longer than this
WIDTHS = (32, 64, 128, 256)
HEADS = ("classifier", "fc", "head", "heads")
ADVICE = "choose another architecture, for example a residual network of timm, or image_size"


class PixelEncoder(nn.Module):
    """Pixels (N, C, H, W) in [0, 1] -> features, differentiable in them; resizing and normalisation inside ``pixels``.

    frozen: its weights are not trained, and it is in evaluation mode always: batch norm keeps its statistics, nothing
    is dropped.
    """

    def __init__(self, pixels: nn.Module, *, frozen: bool) -> None:
        super().__init__()
        self.pixels = pixels.eval()
        self.frozen = frozen
        if frozen:
            pixels.requires_grad_(requires_grad=False)

    def train(self, mode: bool = True) -> Self:
        return super().train(mode and not self.frozen)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.pixels(x)
        return features


class Encoder(PixelEncoder):
    """Pixels (N, C, H, W) -> features (N, L, D).

    pixels: a network that gives a map (N, D, rows, columns). shape: of the images, (C, H, W).
    Raises BenchError for a network that gives no map of such images.
    """

    def __init__(self, pixels: nn.Module, shape: tuple[int, int, int], name: str, *, frozen: bool) -> None:
        super().__init__(pixels, frozen=frozen)
        try:
            with torch.no_grad():
                found: Any = pixels(torch.full((1, *shape), 0.5))
        except Exception as error:  # foreign code, which has errors of every type
            raise BenchError(f"encoder {name}: gives no map of features ({one_line(error)}); {ADVICE}") from error
        if not isinstance(found, Tensor) or found.ndim != 4:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise BenchError(f"encoder {name}: answers one image with {got}, no map (1, D, rows, columns); {ADVICE}")
        self.width = found.shape[1]
        self.grid = (found.shape[2], found.shape[3])

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(2).transpose(1, 2)


def small(channels: int, side: int, width: float = 1.0) -> nn.Module:
    """Stages of two convolutions, 3 x 3 and 2 x 2, which halve images of ``side`` pixels to 8 or less, two at least.

    256 features times ``width`` where there are four stages or more: 7 x 7 locations of 224 pixels, 8 x 8 of 32.
    """
    halvings = max(0, math.ceil(math.log2(side / SMALLEST)))
    stages: list[nn.Module] = []
    into = channels
    for stage in range(max(2, halvings)):
        out = max(1, round(width * WIDTHS[min(stage, len(WIDTHS) - 1)]))
        stages += [*_convolution(into, out, 1), *_convolution(out, out, 2 if stage < halvings else 1)]
        into = out
    return nn.Sequential(*stages)


def _convolution(into: int, out: int, stride: int) -> list[nn.Module]:
    # What halves sees each pixel once: a location then sees no more around it than it must.
    kernel, padding = (2, 0) if stride == 2 else (3, 1)
    return [nn.Conv2d(into, out, kernel, stride, padding=padding, bias=False), nn.BatchNorm2d(out), nn.ReLU()]


def without_head(module: Normalised, name: str) -> Normalised:
    """A classifier of timm or torchvision, which ``name`` is there, without its pooling and its head.

    Raises BenchError for networks of torchvision whose parts are not simply in a row.
    """
    network: Any = module.network
    if hasattr(network, "forward_features"):
        network.reset_classifier(0, "")
        module.network = TimmMap(network)
        return module
    if getattr(network, "transform_input", False):
        raise BenchError(f"encoder {name}: brings its input to a scale of its own; {ADVICE}")
    parts: list[nn.Module] = []
    for called, part in network.named_children():
        if called in HEADS or isinstance(part, nn.AdaptiveAvgPool2d):
            break
        parts.append(part)
    if name.startswith("densenet"):
        parts.append(nn.ReLU())  # which its forward has between features and pooling
    module.network = nn.Sequential(*parts)
    return module


class TimmMap(nn.Module):
    """The last features of timm's networks as a map (N, D, rows, columns), whatever order of axes they use.

    Of vision transformers: the patches, without the class token and its like.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.network.forward_features(x)
        if found.ndim == 3:
            patches = found[:, getattr(self.network, "num_prefix_tokens", 0) :]
            rows, columns = self.network.patch_embed.grid_size
            return patches.transpose(1, 2).reshape(len(x), -1, rows, columns)
        return found.permute(0, 3, 1, 2) if str(getattr(self.network, "output_fmt", "")) == "NHWC" else found
