"""Fashion-MNIST: 70,000 grey pictures of clothes of 28 x 28 pixels in 10 classes."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from harness import locating, splitting
from harness.errors import BenchError
from harness.hookspecs import hookimpl
from harness.types import Facts, Split
from plugins.datasets import official

if TYPE_CHECKING:
    from torchvision.datasets import FashionMNIST as Official

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

# md5 of the unpacked files. Of the packed ones there are several: with and without the name and time that gzip notes.
_SUMS = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
_FOLDER = "FashionMNIST"
_RAW = Path(_FOLDER, "raw")
# Where Debian's package dataset-fashion-mnist puts the files; looked at last.
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_URL = "https://github.com/zalandoresearch/fashion-mnist"
_TRAIN, _TEST = 60_000, 10_000


@dataclass(frozen=True)
class FashionMNIST:
    """Fashion-MNIST as torchvision reads it, images (1, 28, 28), the official test split.

    The four files may be packed (.gz) or not, in ``FashionMNIST/raw`` as torchvision keeps them, in a folder
    ``fashion-mnist``, or where Debian's package dataset-fashion-mnist puts them.

    validation: share of the training images held out at random (0.1: 54,000 / 6,000). stratified: the same
    number of each class. split_seed: its seed. Ids are positions in the official training file for train and
    validation, and in the official test file for test: each of the two counts from 0.
    """

    validation: float = 0.1
    split_seed: int = 0
    stratified: bool = False

    def __post_init__(self) -> None:
        splitting.check_seed("fashion_mnist", self.split_seed)
        splitting.check_share("fashion_mnist", "validation", self.validation)

    @hookimpl
    def facts(self) -> Facts:
        return Facts(
            shape=(1, 28, 28),
            classes=CLASSES,
            sizes=official.sizes(_TRAIN, _TEST, self.validation),
            licence="MIT",
            citation="H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine "
            "Learning Algorithms. arXiv:1708.07747, 2017.",
            source=_URL,
        )

    @hookimpl
    def locate(self, roots: Sequence[Path]) -> Sequence[Path] | None:
        kept = [folder / "raw" for folder in locating.candidates(roots, _FOLDER)]
        for folder in (*kept, *locating.candidates(roots, DEBIAN.name), DEBIAN):
            found = [_packed_or_not(folder / name) for name in _SUMS]
            files = [file for file in found if file]
            if len(files) == len(_SUMS):
                return files
        return None

    @hookimpl
    def download(self, root: Path) -> None:
        def get(scratch: Path) -> None:
            from torchvision import datasets

            datasets.FashionMNIST(scratch, download=True)
            # torchvision unpacks them; both would only double the space.
            for packed in Path(scratch, _RAW).glob("*.gz"):
                packed.unlink()

        locating.fetch("fashion_mnist", root, _FOLDER, url=_URL, size="31 MB", get=get)

    @hookimpl
    def load(self, files: Sequence[Path]) -> Mapping[str, Split]:
        import numpy as np
        from torchvision import datasets

        # torchvision reads unpacked files in folders of its own naming, and checks no md5 of those.
        with TemporaryDirectory() as scratch:
            raw = Path(scratch, _RAW)
            raw.mkdir(parents=True)
            for file in files:
                Path(raw, file.name.removesuffix(".gz")).write_bytes(_content(file))
            parts: list[Official] = [datasets.FashionMNIST(scratch, train=train) for train in (True, False)]
        train, test = (
            Split(
                part.data.numpy()[:, None],  # (N, 1, 28, 28)
                part.targets.numpy().astype(np.int64),
                np.arange(len(part), dtype=np.int64),
            )
            for part in parts
        )
        strata = train.labels if self.stratified else None
        return official.split(train, test, self.validation, self.split_seed, strata)


def _packed_or_not(file: Path) -> Path | None:
    return next((place for place in (file, file.with_name(f"{file.name}.gz")) if place.is_file()), None)


def _content(file: Path) -> bytes:
    """The unpacked bytes of a file. Raises BenchError unless they are the official ones."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        reason = "wrong md5"
    except (OSError, EOFError, zlib.error) as error:
        content, reason = b"", str(error)
    name = file.name.removesuffix(".gz")
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != _SUMS[name]:
        raise BenchError(
            f"fashion_mnist: {file} is damaged ({reason}); delete it and run again to download it, "
            f"or put {name}.gz of {_URL} in its place"
        )
    return content
