"""Oxford Flowers-102: photographs of 102 kinds of flowers common in the United Kingdom."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness import locating
from harness.errors import BenchError
from harness.hookspecs import hookimpl
from harness.types import Facts, Split
from plugins.datasets.squares import square

if TYPE_CHECKING:
    from PIL import Image

# As torchvision.datasets.Flowers102.classes has them, number 0 first; here so that planning need not import it.
_NAMES = """
pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily, moon orchid,
bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king protea, spear thistle, yellow iris,
globe-flower, purple coneflower, peruvian lily, balloon flower, giant white arum lily, fire lily, pincushion flower,
fritillary, red ginger, grape hyacinth, corn poppy, prince of wales feathers, stemless gentian, artichoke, sweet
william, carnation, garden phlox, love in the mist, mexican aster, alpine sea holly, ruby-lipped cattleya, cape
flower, great masterwort, siam tulip, lenten rose, barbeton daisy, daffodil, sword lily, poinsettia, bolero deep
blue, wallflower, marigold, buttercup, oxeye daisy, common dandelion, petunia, wild pansy, primula, sunflower,
pelargonium, bishop of llandaff, gaura, geranium, orange dahlia, pink-yellow dahlia?, cautleya spicata, japanese
anemone, black-eyed susan, silverbush, californian poppy, osteospermum, spring crocus, bearded iris, windflower,
tree poppy, gazania, azalea, water lily, rose, thorn apple, morning glory, passion flower, lotus, toad lily,
anthurium, frangipani, clematis, hibiscus, columbine, desert-rose, tree mallow, magnolia, cyclamen, watercress,
canna lily, hippeastrum, bee balm, ball moss, foxglove, bougainvillea, camellia, mallow, mexican petunia, bromelia,
blanket flower, trumpet creeper, blackberry lily
"""
CLASSES = tuple(" ".join(name.split()) for name in _NAMES.split(","))

_FOLDER = "flowers-102"
_IMAGES = 8_189
_SIZES = {"train": 1_020, "validation": 1_020, "test": 6_149}
# Our split -> torchvision's name of it, and the name of the list of image numbers in setid.mat.
_SPLITS = {"train": ("train", "trnid"), "validation": ("val", "valid"), "test": ("test", "tstid")}
_URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"


@dataclass(frozen=True)
class Flowers102:
    """Flowers-102 in its official splits, 1,020 / 1,020 / 6,149, as square images (3, size, size).

    size: the short side is resized to it (Pillow's bicubic filter, antialiased) and the middle cut out, the same
    pixels as torchvision's Resize and CenterCrop give on Pillow images. Ids are the image numbers, 1 to 8,189. The
    official training split has ten images of each class and the test split 20 to 238, so no split is drawn here.
    """

    size: int = 64

    def __post_init__(self) -> None:
        if self.size < 1:
            raise BenchError(f"flowers102: size={self.size!r}; at least 1 pixel is needed")

    @hookimpl
    def facts(self) -> Facts:
        return Facts(
            shape=(3, self.size, self.size),
            classes=CLASSES,
            sizes=_SIZES,
            licence="none stated by the authors; research use",
            citation="M.-E. Nilsback, A. Zisserman: Automated flower classification over a large number of classes. "
            "Indian Conference on Computer Vision, Graphics and Image Processing, 2008.",
            source=_URL,
        )

    @hookimpl
    def locate(self, roots: Sequence[Path]) -> Sequence[Path] | None:
        names = [f"image_{number:05d}.jpg" for number in range(1, _IMAGES + 1)]
        for folder in locating.candidates(roots, _FOLDER):
            labels = [folder / "imagelabels.mat", folder / "setid.mat"]
            images = folder / "jpg"
            if all(file.is_file() for file in labels) and images.is_dir():
                present = set(os.listdir(images))
                if present.issuperset(names):
                    return [*labels, *(images / name for name in names)]
        return None

    @hookimpl
    def download(self, root: Path) -> None:
        def get(scratch: Path) -> None:
            from torchvision import datasets

            datasets.Flowers102(scratch, download=True)
            # The unpacked images are all that is needed; the archive would only double the space.
            Path(scratch, _FOLDER, "102flowers.tgz").unlink(missing_ok=True)

        locating.fetch("flowers102", root, _FOLDER, url=_URL, size="345 MB", get=get)

    @hookimpl
    def load(self, files: Sequence[Path]) -> Mapping[str, Split]:
        import numpy as np
        from scipy.io import loadmat
        from torchvision import datasets

        folder, transform = files[0].parent, partial(square, size=self.size)
        splits = {}
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            for name, (official, key) in _SPLITS.items():
                try:
                    source = datasets.Flowers102(folder.parent, official, transform=transform, loader=_open)
                except RuntimeError as error:
                    raise _damaged(folder) from error
                # Pillow decodes and resizes without holding the interpreter's lock.
                images, labels = zip(*pool.map(source.__getitem__, range(len(source))), strict=True)
                ids = loadmat(folder / "setid.mat", squeeze_me=True)[key]
                splits[name] = Split(np.stack(images), np.asarray(labels, dtype=np.int64), ids.astype(np.int64))
        return splits


def _open(path: str | Path) -> Image.Image:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as error:
        raise BenchError(
            f"flowers102: {path} is damaged ({error}); delete the folder {Path(path).parents[1]} and run again to "
            f"download it, or unpack {_URL} in its place"
        ) from error


def _damaged(folder: Path) -> BenchError:
    return BenchError(
        f"flowers102: imagelabels.mat or setid.mat in {folder} is damaged (wrong md5); delete the folder and run again "
        f"to download it, or unpack {_URL} in its place"
    )
