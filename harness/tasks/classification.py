"""What loss, prediction and correctness mean for image classification."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each sample: (N, K), (N,) -> (N,). ``smoothing``: share of a target spread over all classes."""
    return F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)


def confidence(logits: Tensor) -> Tensor:
    """The probability of the predicted class: (N, K) -> (N,)."""
    return logits.softmax(1).amax(1)


def label_rank(logits: Tensor, labels: Tensor) -> Tensor:
    """The place of the true class among the logits, from 1; equal logits count against it: (N, K), (N,) -> (N,)."""
    return (logits >= logits.gather(1, labels[:, None])).sum(1)


def predict(logits: Tensor) -> Tensor:
    """The class of each sample: (N, K) -> (N,)."""
    return logits.argmax(1)
