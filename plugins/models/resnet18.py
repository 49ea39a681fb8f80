"""ResNet-18 for small images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.hookspecs import hookimpl
from harness.types import Preparation

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ResNet18:
    """ResNet-18 with the CIFAR stem: first convolution 3 x 3 with stride 1, no max pooling, trained from scratch.

    width: channels of the first stage over 64 (1.0 has 11.2 million parameters with 100 classes). weights: a local
    safetensors file in this module's own names to start from.
    He et al., "Deep residual learning for image recognition", CVPR 2016; blocks as in torchvision.
    """

    width: float = 1.0
    weights: str = ""

    def __post_init__(self) -> None:
        if self.width * 64 < 1:
            raise ValueError(f"width: got {self.width}; at least 1/64, which leaves one channel, is needed")

    @hookimpl
    def build(self, preparation: Preparation) -> nn.Module:
        from harness.weights import read, transfer
        from plugins.networks import Normalised, resnet18

        facts = preparation.facts
        network = resnet18(facts.shape[0], len(facts.classes), round(64 * self.width))
        module = Normalised(network, preparation.mean, preparation.std)
        if self.weights and not preparation.outline:
            transfer(module, read(self.weights), len(facts.classes), f"weights {self.weights}")
        return module.eval()
