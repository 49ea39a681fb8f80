"""What several tests need: small networks, random images, the digits as samples, one trial's attack."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from harness.data import Data, Samples, on_device
from harness.registry import bind
from harness.types import Batch
from plugins.datasets.digits import Digits

CPU = torch.device("cpu")
CLASSES = 5


class Small(nn.Module):
    """Two convolutions with batch norm, dropout and a linear head: (N, C, H, W) -> (N, K)."""

    def __init__(self, channels: int = 3, classes: int = CLASSES, dropout: float = 0.3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


class Linear(nn.Module):
    """Logits (0, w.x + b): class 1 wherever w.x + b > 0. Its loss has a closed form under attack."""

    def __init__(self, weight: Tensor, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)  # (C, H, W)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weight).flatten(1).sum(1) + self.bias
        return torch.stack([torch.zeros_like(score), score], dim=1)


def small(seed: int = 0, channels: int = 3, classes: int = CLASSES, dropout: float = 0.3) -> Small:
    """A network in evaluation mode whose running statistics are not those of a fresh batch norm."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = Small(channels, classes, dropout)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_(0, 0.2)
                part.running_var.uniform_(0.1, 1.0)
    return module.eval()


def images(n: int, seed: int = 0, shape: tuple[int, int, int] = (3, 8, 8), classes: int = CLASSES) -> Samples:
    """Random samples with ids that are not their places."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (n, *shape), generator=generator).to(torch.uint8)
    labels = torch.randint(0, classes, (n,), generator=generator)
    return Samples(pixels, labels, torch.arange(n) * 7 + 3)


def batch_of(samples: Samples) -> Batch:
    return samples.take(torch.arange(len(samples)))


@functools.cache
def digits() -> Data:
    plugin = Digits()
    hooks = bind("datasets", plugin)
    return on_device(plugin.facts(), hooks.load(files=hooks.locate(roots=[])), CPU, "digits")


def first(samples: Samples, n: int) -> Samples:
    return Samples(samples.images[:n], samples.labels[:n], samples.ids[:n])
