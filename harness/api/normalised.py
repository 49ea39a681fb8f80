"""A module that wants normalised images, as one that takes pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalised(nn.Module):
    """Pixels in [0, 1] -> (x - mean) / std -> the module's logits, in the very operations of the models by name.

    mean, std: (1, C, 1, 1), no part of its state, which is the module's under ``module.``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.module = module
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).float().view(1, -1, 1, 1), persistent=False)
        self.training = module.training  # of this one alone: parts of a model may be kept in another mode

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.module((x - self.mean.to(x)) / self.std.to(x))
        return logits
