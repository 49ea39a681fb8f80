"""What several tests need: small networks, random images, the digits as samples, one trial's attack."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from harness.boundary import bind
from harness.data import Data, Samples, on_device
from harness.material import CLASSES, CPU, Small, batch_of, images, small
from plugins.datasets.digits import Digits

__all__ = ["CLASSES", "CPU", "Linear", "Small", "batch_of", "digits", "first", "images", "small"]


class Linear(nn.Module):
    """Logits (0, w.x + b): class 1 wherever w.x + b > 0. Its loss has a closed form under attack."""

    def __init__(self, weight: Tensor, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)  # (C, H, W)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weight).flatten(1).sum(1) + self.bias
        return torch.stack([torch.zeros_like(score), score], dim=1)


@functools.cache
def digits() -> Data:
    plugin = Digits()
    hooks = bind("datasets", plugin)
    return on_device(plugin.facts(), hooks.load(files=hooks.locate(roots=[])), CPU, "digits")


def first(samples: Samples, n: int) -> Samples:
    return Samples(samples.images[:n], samples.labels[:n], samples.ids[:n])
