"""CIFAR-100: 60,000 colour images of 32 x 32 pixels in 100 classes and 20 super-classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness import locating, splitting
from harness.errors import BenchError
from harness.hookspecs import ADDED_LATER, hookimpl
from harness.types import Facts, Split
from plugins.datasets import official

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Both levels are numbered in alphabetical order, in the file `meta` as here.
_MEMBERS = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
_GROUP_OF = {name: group for group, members in _MEMBERS.items() for name in members}
FINE = tuple(sorted(_GROUP_OF))
COARSE = tuple(sorted(_MEMBERS))
GROUPS = tuple(_GROUP_OF[name] for name in FINE)

_FOLDER = "cifar-100-python"
_FILES = ("train", "test", "meta")
_URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
_TRAIN, _TEST = 50_000, 10_000


@dataclass(frozen=True)
class CIFAR100:
    """CIFAR-100 as torchvision reads it, images (3, 32, 32), the official test split.

    validation: share of the training images held out at random (0.1: 45,000 / 5,000). stratified: the same
    number of each of the 100 classes. split_seed: its seed. labels: the 100 classes ("fine") or the 20 super-classes
    ("coarse"). Ids are positions in the official training file for train and validation, and in the official test
    file for test: each of the two counts from 0.
    """

    validation: float = 0.1
    split_seed: int = 0
    labels: Literal["fine", "coarse"] = "fine"
    stratified: bool = field(default=False, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        if self.labels not in ("fine", "coarse"):
            raise BenchError(f"cifar100: labels={self.labels!r}; 'fine' (100 classes) or 'coarse' (20) is needed")
        splitting.check_seed("cifar100", self.split_seed)
        splitting.check_share("cifar100", "validation", self.validation)

    @hookimpl
    def facts(self) -> Facts:
        return Facts(
            shape=(3, 32, 32),
            classes=FINE if self.labels == "fine" else COARSE,
            sizes=official.sizes(_TRAIN, _TEST, self.validation),
            licence="none stated by the authors; research use",
            citation="A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images. "
            "Technical report, University of Toronto, 2009.",
            source=_URL,
            groups=GROUPS if self.labels == "fine" else (),
        )

    @hookimpl
    def locate(self, roots: Sequence[Path]) -> Sequence[Path] | None:
        return official.find(roots, _FOLDER, _FILES)

    @hookimpl
    def download(self, root: Path) -> None:
        def get(scratch: Path) -> None:
            from torchvision import datasets

            datasets.CIFAR100(scratch, download=True)

        locating.fetch("cifar100", root, _FOLDER, url=_URL, size="169 MB", get=get)

    @hookimpl
    def load(self, files: Sequence[Path]) -> Mapping[str, Split]:
        from torchvision import datasets

        train, test = official.read_cifar("cifar100", datasets.CIFAR100, files[0].parent, _FILES)
        strata = train.labels if self.stratified else None  # the 100 classes, so that both labels have the same splits
        train, test = (part._replace(labels=self._number(part.labels)) for part in (train, test))
        return official.split(train, test, self.validation, self.split_seed, strata)

    def _number(self, fine: NDArray[np.int64]) -> NDArray[np.int64]:
        import numpy as np

        if self.labels == "fine":
            return fine
        return np.asarray([COARSE.index(group) for group in GROUPS], dtype=np.int64)[fine]
