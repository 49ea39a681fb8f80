"""A model as ART wants it asked."""

from __future__ import annotations

from torch import Tensor, nn


class Single(nn.Module):
    """Casts images to float32. ART's arithmetic in numpy 2 makes float64 of them on the way, which no model takes.

    probabilities: gives the softmax of the logits, for the attack that refuses logits.
    """

    def __init__(self, module: nn.Module, *, probabilities: bool = False) -> None:
        super().__init__()
        self.module = module
        self.training = module.training
        self.probabilities = probabilities

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.module(x.float())
        return logits.softmax(1) if self.probabilities else logits
