"""What the built-in models are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn, tensor
from torchvision.models.resnet import BasicBlock


class Normalised(nn.Module):
    """Pixels in [0, 1] -> resized, normalised by channel -> the network's logits (N, K).

    size: (H, W) that the network takes; None leaves the images as they are. Enlarging is bilinear, so gradients reach
    the pixels through it.
    """

    mean: Tensor  # (1, C, 1, 1)
    std: Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float], std: Sequence[float], size: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.size = size
        self.register_buffer("mean", tensor(mean).float().view(1, -1, 1, 1))
        self.register_buffer("std", tensor(std).float().view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.size is not None and tuple(x.shape[-2:]) != self.size:
            x = F.interpolate(x, size=self.size, mode="bilinear", antialias=True)
        logits: Tensor = self.network((x - self.mean) / self.std)
        return logits


def resnet18(channels: int, classes: int, width: int) -> nn.Module:
    """ResNet-18 with the CIFAR stem; ``width`` channels in its first stage, doubled in each of the next three."""
    stages: list[nn.Module] = []
    into = width
    for stage in range(4):
        out = width * 2**stage
        for stride in (1 if stage == 0 else 2, 1):
            stages.append(_block(into, out, stride))
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


def _block(into: int, out: int, stride: int) -> nn.Module:
    shortcut = None
    if stride != 1 or into != out:
        shortcut = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    return BasicBlock(into, out, stride, shortcut)
