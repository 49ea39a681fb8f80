"""CIFAR-10: 60,000 colour images of 32 x 32 pixels in 10 classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import locating, splitting
from harness.hookspecs import hookimpl
from harness.types import Facts, Split
from plugins.datasets import official

# Numbered in alphabetical order, in the file `batches.meta` as here.
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_FOLDER = "cifar-10-batches-py"
_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
_TRAIN, _TEST = 50_000, 10_000


@dataclass(frozen=True)
class CIFAR10:
    """CIFAR-10 as torchvision reads it, images (3, 32, 32), the official test split.

    validation: share of the training images held out at random (0.1: 45,000 / 5,000). stratified: the same
    number of each class. split_seed: its seed. Ids are positions in the five official training files, one after
    another, for train and validation, and in the official test file for test: each of the two counts from 0.
    """

    validation: float = 0.1
    split_seed: int = 0
    stratified: bool = False

    def __post_init__(self) -> None:
        splitting.check_seed("cifar10", self.split_seed)
        splitting.check_share("cifar10", "validation", self.validation)

    @hookimpl
    def facts(self) -> Facts:
        return Facts(
            shape=(3, 32, 32),
            classes=CLASSES,
            sizes=official.sizes(_TRAIN, _TEST, self.validation),
            licence="none stated by the authors; research use",
            citation="A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images. "
            "Technical report, University of Toronto, 2009.",
            source=_URL,
        )

    @hookimpl
    def locate(self, roots: Sequence[Path]) -> Sequence[Path] | None:
        return official.find(roots, _FOLDER, _FILES)

    @hookimpl
    def download(self, root: Path) -> None:
        def get(scratch: Path) -> None:
            from torchvision import datasets

            datasets.CIFAR10(scratch, download=True)

        locating.fetch("cifar10", root, _FOLDER, url=_URL, size="171 MB", get=get)

    @hookimpl
    def load(self, files: Sequence[Path]) -> Mapping[str, Split]:
        from torchvision import datasets

        train, test = official.read_cifar("cifar10", datasets.CIFAR10, files[0].parent, _FILES)
        strata = train.labels if self.stratified else None
        return official.split(train, test, self.validation, self.split_seed, strata)
