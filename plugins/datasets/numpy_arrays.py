"""Images and labels that lie in NumPy's files."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

from harness.errors import BenchError
from harness.hookspecs import hookimpl
from harness.types import Facts, Split
from plugins.datasets.sharing import SPLITS, OwnImages, check_shares

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHANNELS = (1, 3)
CALLED = {"x": ("x", "images", "image", "data"), "y": ("y", "labels", "label", "targets")}
"""How images and labels are called: x_train, train_x, images_train, train_images (MedMNIST), or alone."""
MOST = 22_000
"""Classes of the largest data sets (ImageNet-21k); labels beyond it that no image has are no classes' numbers."""
SPELT = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
WANTED = "x_train, y_train, x_test, y_test (and x_validation, y_validation), or x and y alone"


class Kept(NamedTuple):
    """An array in its file: the name there, its shape and its type."""

    name: str
    shape: tuple[int, ...]
    dtype: Any


@dataclass(frozen=True)
class NumpyArrays(OwnImages):
    """Arrays of images and labels: one .npz file, or a folder of .npy files, called x_train, y_train, x_test, y_test.

    They may be called images and labels too, and the split may come first (train_images). Where there is no
    x_validation (or x_val), validation is held out of train; where there is nothing but x and y, test too. Images are
    uint8, or floating point in [0, 1], which is rounded to 8 bits; (N, C, H, W), (N, H, W, C) or (N, H, W). Labels are
    whole numbers from 0 (N,), one-hot rows (N, K), or names.

    path: the file or folder. layout: "auto" takes the axis that is 1 or 3 long for the channels. classes: names in the
    order of the numbers. validation, test: shares that are held out. stratified: of each class. split_seed:
    seed of that. licence, citation: what `bench info` says of them.
    """

    layout: Literal["auto", "NCHW", "NHWC"] = "auto"
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_shares("numpy", self.shares)

    @hookimpl
    def facts(self) -> Facts:
        kept = self._kept()
        images = kept["x_train"]
        layout = self._layout(images.shape)
        labels = {split: self._labels(kept, split) for split in SPLITS if f"y_{split}" in kept}
        sizes = self.shares.sizes({split: len(found) for split, found in labels.items()})
        return Facts(
            shape=_chw(images.shape, layout),
            classes=self._classes(labels),
            sizes=sizes,
            licence=self.licence,
            citation=self.citation,
            source=f"{self._path}: {'grey' if len(images.shape) == 3 else layout}, {images.dtype}",
        )

    @hookimpl
    def locate(self) -> Sequence[Path] | None:
        kept = self._kept()
        if self._path.is_file():
            return [self._path]
        return [self._path / f"{array.name}.npy" for array in kept.values()]

    @hookimpl
    def download(self) -> None:
        raise BenchError(f"numpy: {self.path} cannot be downloaded; set path to the file or folder of your arrays")

    @hookimpl
    def load(self, files: Sequence[Path]) -> Mapping[str, Split]:
        import numpy as np

        kept = self._kept()
        names = self._classes({s: self._labels(kept, s) for s in SPLITS if f"y_{s}" in kept})
        parts: dict[str, Split] = {}
        first = 0
        for split in SPLITS:
            if f"x_{split}" not in kept:
                continue
            labels = self._numbers(self._labels(kept, split), names, split)
            ids = np.arange(first, first + len(labels), dtype=np.int64)
            parts[split] = Split(self._images(kept, split), labels, ids)
            first += len(labels)
        return self.shares.held_out(parts)

    # --- what lies where

    @property
    def _path(self) -> Path:
        return Path(self.path).expanduser()

    def _kept(self) -> dict[str, Kept]:
        """The arrays by split: x_train, y_train and so on. Raises BenchError where they do not fit together."""
        if not self.path:
            raise BenchError("numpy: no path is set; name the .npz file or the folder: numpy:PATH")
        if not self._path.exists():
            raise BenchError(f"numpy: {self.path}: no such file or folder; a .npz file or a folder of .npy is needed")
        found = {array.name.lower(): array for array in self._headers()}
        kept: dict[str, Kept] = {}
        for split, spelt in SPELT.items():
            for part in "xy":
                both = [(called, name) for called in CALLED[part] for name in spelt]
                names = [form for called, name in both for form in (f"{called}_{name}", f"{name}_{called}")]
                names += CALLED[part] if split == "train" else ()
                if present := [name for name in names if name in found]:
                    kept[f"{part}_{split}"] = found[present[0]]
        for split in SPLITS:
            x, y = kept.get(f"x_{split}"), kept.get(f"y_{split}")
            if (x is None) != (y is None) or (split == "train" and x is None):
                has = ", ".join(sorted(found)) or "nothing"
                raise BenchError(f"numpy: {self.path} has {has}; {WANTED} are needed")
            if x and not all(x.shape):
                raise BenchError(f"numpy: {self.path}: {x.name} is empty, of shape {x.shape}; leave it out or fill it")
            if x and y and x.shape[:1] != y.shape[:1]:
                counts = f"{(x.shape or (0,))[0]} images and {(y.shape or (0,))[0]} labels"
                raise BenchError(f"numpy: {self.path}: {counts} in {split}; as many of each are needed")
            if x and x.shape[1:] != kept["x_train"].shape[1:]:
                raise BenchError(
                    f"numpy: {self.path}: images of {x.shape[1:]} in {split}, {kept['x_train'].shape[1:]} in train"
                )
        if "x_validation" in kept and "x_test" not in kept:
            raise BenchError(f"numpy: {self.path} has a validation split and no test split; add x_test and y_test")
        return kept

    def _headers(self) -> Iterator[Kept]:
        """What is in the file or folder, by its headers alone."""
        try:
            if self._path.is_file():
                with zipfile.ZipFile(self._path) as packed:
                    for name in packed.namelist():
                        with packed.open(name) as file:
                            yield _header(name.removesuffix(".npy"), file)  # type: ignore[arg-type]
            else:
                for place in sorted(self._path.glob("*.npy")):
                    with place.open("rb") as file:
                        yield _header(place.stem, file)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise BenchError(
                f"numpy: {self.path} cannot be read ({error}); numpy.savez or numpy.save writes it"
            ) from error

    def _read(self, array: Kept) -> NDArray[Any]:
        import numpy as np

        try:
            if self._path.is_file():
                with np.load(self._path, allow_pickle=False) as packed:
                    found: NDArray[Any] = packed[array.name]
                    return found
            return np.load(self._path / f"{array.name}.npy", allow_pickle=False)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise BenchError(f"numpy: {array.name} of {self.path} cannot be read ({error}); save it again") from error

    # --- images

    def _layout(self, shape: tuple[int, ...]) -> str:
        if len(shape) == 3:
            return "NHW"
        if len(shape) != 4:
            raise BenchError(f"numpy: images of shape {shape}; (N, C, H, W), (N, H, W, C) or (N, H, W) is needed")
        if self.layout != "auto":
            return self.layout
        first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
        if first == last:
            why = "both could be channels" if first else "neither end has 1 or 3"
            raise BenchError(f"numpy: images of shape {shape}: {why}; set layout to NCHW or NHWC")
        return "NCHW" if first else "NHWC"

    def _images(self, kept: Mapping[str, Kept], split: str) -> NDArray[np.uint8]:
        import numpy as np

        array = kept[f"x_{split}"]
        x = self._read(array)
        layout = self._layout(x.shape)
        if x.dtype != np.uint8:
            x = self._in_levels(x, array.name)
        x = x[:, None] if layout == "NHW" else x.transpose(0, 3, 1, 2) if layout == "NHWC" else x
        return np.ascontiguousarray(x)

    def _in_levels(self, x: NDArray[Any], name: str) -> NDArray[np.uint8]:
        import numpy as np

        low, high = (float(x.min()), float(x.max())) if x.size else (0.0, 0.0)
        if not np.issubdtype(x.dtype, np.floating):
            raise BenchError(
                f"numpy: {name} of {self.path} is {x.dtype}; uint8, or floating point in [0, 1], is needed"
            )
        if not (low >= 0 and high <= 1):  # nan is neither
            advice = "undo their normalisation" if low < 0 else "divide them by 255, or save them as uint8"
            advice = advice if high > 1 or low < 0 else "leave out what is not a number"
            raise BenchError(
                f"numpy: {name} of {self.path} runs from {low:.4g} to {high:.4g}; [0, 1] is needed: {advice}"
            )
        return np.rint(x * 255).astype(np.uint8)

    # --- labels

    def _labels(self, kept: Mapping[str, Kept], split: str) -> NDArray[Any]:
        """Labels (N,): numbers, or names."""
        import numpy as np

        y = self._read(kept[f"y_{split}"])
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim == 2 and bool(((y == 0) | (y == 1)).all()) and bool((y.sum(1) == 1).all()):
            y = y.argmax(1)
        whole = y.dtype.kind in "iuU" or (y.dtype.kind == "f" and bool((y == np.rint(y)).all()))
        if y.ndim != 1 or not whole:
            raise BenchError(
                f"numpy: labels of {split} are {y.dtype} of shape {y.shape}; whole numbers or names (N,), or one-hot "
                "rows (N, K), are needed"
            )
        return y if y.dtype.kind == "U" else y.astype(np.int64)

    def _classes(self, labels: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
        import numpy as np

        every = np.concatenate([found.astype(str) if found.dtype.kind == "U" else found for found in labels.values()])
        if every.dtype.kind == "U":
            return self.classes or tuple(np.unique(every).tolist())
        low, high = int(every.min()), int(every.max())
        if high >= max(len(every), MOST):
            raise BenchError(
                f"numpy: labels run to {high}, of {len(every)} images; number the classes from 0 without gaps, or give "
                "labels as names"
            )
        if low < 0 or (self.classes and high >= len(self.classes)):
            named = f" of {len(self.classes)} classes" if self.classes else ""
            raise BenchError(f"numpy: labels run from {low} to {high}; numbers from 0{named} are needed")
        return self.classes or tuple(str(number) for number in range(high + 1))

    def _numbers(self, labels: NDArray[Any], names: tuple[str, ...], split: str) -> NDArray[np.int64]:
        import numpy as np

        if labels.dtype.kind != "U":
            return labels.astype(np.int64)
        number = {name: place for place, name in enumerate(names)}
        if strange := sorted(set(labels.tolist()) - number.keys()):
            raise BenchError(f"numpy: label {strange[0]!r} of {split} is not one of classes; name it there")
        return np.array([number[name] for name in labels.tolist()], dtype=np.int64)


def _header(name: str, file: BinaryIO) -> Kept:
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    return Kept(name, tuple(shape), dtype)


def _chw(shape: tuple[int, ...], layout: str) -> tuple[int, int, int]:
    if layout == "NHW":
        return 1, shape[1], shape[2]
    return (shape[1], shape[2], shape[3]) if layout == "NCHW" else (shape[3], shape[1], shape[2])
