"""What components are tried on: a small network, random images, outcomes. The same bits every time."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.data import Samples
from harness.types import AIMS, SEVERITY, Batch, CaptionOutcome, Corpus, Facts, Outcome, Threat

CPU = torch.device("cpu")
CLASSES = 5
SHAPE = (3, 32, 32)  # corruptions need images of 32 pixels
BUDGETS = {
    "Linf": Threat("Linf", 8 / 255),
    "L2": Threat("L2", 1.5),
    "L1": Threat("L1", 60.0),
    SEVERITY: Threat(SEVERITY, 3),
}
FACTS = Facts((3, 16, 16), tuple("abcd"), {"train": 9, "validation": 9, "test": 9}, "none", "nobody", "nowhere")


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


class Tally(nn.Module):
    """A network that counts the images it is shown, however it is reached."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.images = network, 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        logits: Tensor = self.network(x)
        return logits


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
def right() -> Batch:
    """Twelve images with the classes that the network sees in them: what is wrong from the start is not attacked."""
    batch = batch_of(images(12, shape=SHAPE))
    with torch.no_grad():
        return batch._replace(y=small()(batch.x).argmax(1))


def outcomes() -> list[Outcome]:
    """Of many images, of one, and of a model that is never right."""
    generator = np.random.default_rng(0)
    label = generator.integers(0, CLASSES, 40)
    clean = np.where(generator.random(40) < 0.8, label, (label + 1) % CLASSES)
    attacked = np.where(generator.random(40) < 0.5, clean, (clean + 1) % CLASSES)
    sizes = generator.random(40)
    passes = generator.integers(1, 9, 40).astype(float)
    random = Outcome(np.arange(40), label, clean, attacked, sizes, sizes * 3, passes, passes, sizes, seconds=0.5)
    classes: dict[str, Any] = dict.fromkeys(("quantised_prediction", "proposal_prediction", "target"), attacked)
    ranks = generator.integers(1, CLASSES + 1, 40)
    optional: dict[str, Any] = {"l1": sizes * 9, "zero_gradients": sizes, "confidence": sizes, "label_rank": ranks}
    random = dataclasses.replace(random, **optional, **classes)
    one = Outcome(*(getattr(random, field.name)[:1] for field in dataclasses.fields(random)[:9]))
    never = dataclasses.replace(random, clean_prediction=(label + 1) % CLASSES, prediction=(label + 1) % CLASSES)
    return [random, one, never]


def sentences() -> list[CaptionOutcome]:
    """Random captions, no captions, and one outcome for each thing that an attack may want."""
    generator = np.random.default_rng(0)
    said = [tuple(" ".join(generator.choice(list("abc"), 5)) for _ in range(12)) for _ in range(4)]
    sizes, counts = generator.random(12), generator.integers(1, 3, 12)
    corpus = Corpus(frozenset(said[0][:3]), frozenset("abc"), {("a",): 3, ("a", "b"): 1}, 12)
    references = tuple(zip(said[2], said[3], strict=True))
    common: dict[str, Any] = dict.fromkeys(("loss", "linf", "l2", "forwards", "backwards", "proposal_size"), sizes)
    boxes: dict[str, Any] = {"named": counts, "pointed": counts // 2, "covered": sizes}
    random = CaptionOutcome(np.arange(12), references, said[0], said[1], corpus=corpus, seconds=0.5, **common, **boxes)
    silent = dataclasses.replace(random, caption=("",) * 12, named=None, pointed=None, covered=None)
    aimed = [dataclasses.replace(random, target=said[3], facts={"aim": aim}) for aim in AIMS]
    return [random, silent, *aimed]
