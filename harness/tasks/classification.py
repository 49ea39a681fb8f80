"""What loss, prediction and correctness mean for image classification."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each sample: (N, K), (N,) -> (N,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def predict(logits: Tensor) -> Tensor:
    """The class of each sample: (N, K) -> (N,)."""
    return logits.argmax(1)
