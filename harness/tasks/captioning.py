"""What loss, prediction and correctness mean for captions. tokens (N, T + 1): <start>, words, <end>, <pad>."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from harness.captioning.vocabulary import PAD
from harness.types import AIM_CAPTION


def loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Teacher-forced cross-entropy, nats a word with <end> and without <pad>: (N, T, V), (N, T + 1) -> (N,)."""
    targets = tokens[:, 1:]
    nats = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=PAD, reduction="none")
    return nats.sum(1) / (targets != PAD).sum(1).clamp(min=1)


def right(logits: Tensor, tokens: Tensor) -> Tensor:
    """The share of words, <end> among them, that are predicted rightly after the true ones before: (N,)."""
    targets = tokens[:, 1:]
    words = targets != PAD
    return ((logits.argmax(-1) == targets) & words).sum(1) / words.sum(1).clamp(min=1)


def reached(aim: str, caption: str, target: str) -> bool:
    """Whether a caption is what an attack wanted: the target word for word, or with the keyword in it."""
    return caption == target if aim == AIM_CAPTION else target in caption.split()
