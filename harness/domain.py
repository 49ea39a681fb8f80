"""What an attack is handed: pixels, or, as in a widespread mistake, the images after their normalisation.

An attack library clamps to [0, 1] and takes eps in the units of its input. Handed normalised images it cuts off every
value outside [0, 1], more than half of them, and eps is a fraction of a standard deviation and no longer of the pixel
range. ``domain = "normalised"`` does exactly that, so that results obtained that way can be made again and explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Normalised:
    """Images shifted and scaled by channel. mean, std: (C,), of the training pixels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def enter(self, x: Tensor) -> Tensor:
        """Pixels in [0, 1] -> normalised: (N, C, H, W)."""
        return (x - _channels(self.mean, x)) / _channels(self.std, x)

    def through(self, module: nn.Module) -> nn.Module:
        """The same model, fed with normalised images."""
        return _Denormalising(module, self.mean, self.std)

    def cut_off(self, x: Tensor) -> float:
        """The share of the values of images that lie outside [0, 1] once they are normalised."""
        inside = self.enter(x)
        return float(((inside < 0) | (inside > 1)).float().mean())


class _Around(nn.Module):
    """A module with the figures of a normalisation: (1, C, 1, 1), no part of its state, which is the module's own under
    ``module.``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.module = module
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).float().view(1, -1, 1, 1), persistent=False)
        self.training = module.training  # of this one alone: parts of a model may be kept in another mode


class _Denormalising(_Around):
    """Normalised images -> pixels -> logits."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.module(x * self.std.to(x) + self.mean.to(x))
        return logits


class Normalising(_Around):
    """Pixels in [0, 1] -> (x - mean) / std -> logits, in the very operations of the models by name."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.module((x - self.mean.to(x)) / self.std.to(x))
        return logits


def inner(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of the model inside from the state of ``Normalised.through``."""
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _channels(values: Sequence[float], like: Tensor) -> Tensor:
    return like.new_tensor(values).view(1, -1, 1, 1)
