"""What the splits of a data set are made of, measured once and kept under the content key of the data step.

Kept are the sample ids of each split, its class counts (of captions: how many each image has), and mean and deviation
of the training images. The ids are
held against those of every later load, so that splits which change under an unchanged key are noticed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.artifacts import Artifacts
from harness.errors import BenchError
from harness.types import CaptionedSplit, Facts, Split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Splits = Mapping[str, Split] | Mapping[str, CaptionedSplit]

KIND = "data"
SPLITS = ("train", "validation", "test")
SMALLEST_STD = 1e-6
"""Of a channel that is constant, so that nobody divides by zero."""
_AT_ONCE = 64


@dataclass(frozen=True)
class Composition:
    """ids (N,) and counts of each split, int64; mean and std of each channel of the training pixels in [0, 1].

    counts: samples of each class (K,), or captions of each image (N,).
    """

    ids: Mapping[str, NDArray[np.int64]]
    counts: Mapping[str, NDArray[np.int64]]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def check(name: str, facts: Facts, splits: Splits) -> None:
    """Raises BenchError for a missing split, and for shapes, types, labels or ids that do not fit."""
    for split in SPLITS:
        if split not in splits:
            raise BenchError(f"dataset {name}: no split {split}; train, validation and test are needed")
    for split, part in splits.items():
        _check_part(name, split, part, facts)


def measured(facts: Facts, splits: Splits) -> Composition:
    """The composition of splits in memory, which must be sound (see ``check``)."""
    mean, std = _statistics(splits["train"].images)
    ids = {name: split.ids for name, split in splits.items()}
    return Composition(ids, _counts(facts, splits), mean, std)


def settled(
    artifacts: Artifacts, key: str, name: str, facts: Facts, splits: Splits, *, fresh: bool = False
) -> Composition:
    """What is kept of these splits, else measured now and kept; what is damaged is measured again.

    Raises BenchError where what is kept under this key is whole and tells of other splits.
    """
    with artifacts.alone(key):
        found = None if fresh else kept(artifacts, key)
        if found is None:
            found = measured(facts, splits)
            keep(artifacts, key, name, found)
        elif not _same(found, facts, splits):
            raise BenchError(
                f"dataset {name}: its splits are not those kept in {artifacts.folder(KIND, key)} under the same "
                "content key, so what draws them has changed and earlier results are of other samples; go back to the "
                "version that made them, or use --fresh to do everything again"
            )
    return found


def kept(artifacts: Artifacts, key: str) -> Composition | None:
    """What an earlier run has kept, or None where there is none or its bytes are not what was written."""
    found = artifacts.load_arrays(KIND, key)
    if found is None:
        return None
    arrays, _ = found
    try:
        if bytes(arrays["key"]).decode() != key:  # a folder that was copied or renamed
            return None
        ids, counts = ({s: arrays[f"{what}.{s}"] for s in _splits(arrays)} for what in ("ids", "counts"))
        return Composition(ids, counts, tuple(arrays["mean"].tolist()), tuple(arrays["std"].tolist()))
    except (KeyError, ValueError):
        return None


def keep(artifacts: Artifacts, key: str, name: str, composition: Composition) -> None:
    """Keeps a composition where ``kept`` finds it, in one move."""
    import numpy as np

    arrays: dict[str, NDArray[Any]] = {
        "key": np.frombuffer(key.encode(), dtype=np.uint8),
        "mean": np.array(composition.mean, dtype=np.float64),
        "std": np.array(composition.std, dtype=np.float64),
    }
    arrays |= {f"ids.{split}": np.ascontiguousarray(ids) for split, ids in composition.ids.items()}
    arrays |= {f"counts.{split}": counts for split, counts in composition.counts.items()}
    artifacts.save_arrays(KIND, key, arrays, {"kind": KIND, "key": key, "name": name})


def imbalance(counts: NDArray[np.int64]) -> float:
    """How many times as many samples the largest class has as the smallest: 1 is balanced, inf: one has none."""
    smallest = int(counts.min())
    return int(counts.max()) / smallest if smallest else math.inf


def _check_part(name: str, split: str, part: Split | CaptionedSplit, facts: Facts) -> None:
    import numpy as np

    where = f"dataset {name}, split {split}"
    answers, what = (part.labels, "labels") if isinstance(part, Split) else (part.captions, "lists of captions")
    if part.images.shape[1:] != facts.shape or part.images.dtype != np.dtype(facts.pixels):
        got, shape = f"{part.images.dtype} {part.images.shape}", ", ".join(map(str, facts.shape))
        raise BenchError(f"{where}: images are {got}; {facts.pixels} (N, {shape}) is needed")
    if not len(part.images) == len(answers) == len(part.ids) > 0:
        counts = f"{len(part.images)} images, {len(answers)} {what}, {len(part.ids)} ids"
        raise BenchError(f"{where}: {counts}; the same number of each, at least one, is needed")
    for column in ("labels", "ids") if isinstance(part, Split) else ("ids",):
        if (dtype := getattr(part, column).dtype) != np.int64:
            raise BenchError(f"{where}: {column} are {dtype}; int64 is needed")
    if len(np.unique(part.ids)) != len(part.ids):
        raise BenchError(f"{where}: sample ids are not unique")
    if isinstance(part, CaptionedSplit):
        without = [int(number) for number, texts in zip(part.ids, part.captions, strict=True) if not texts]
        if without:
            raise BenchError(f"{where}: {len(without)} images have no caption, the first with id {without[0]}")
        if part.objects and len(part.objects) != len(part.ids):
            raise BenchError(f"{where}: {len(part.objects)} lists of boxes for {len(part.ids)} images")
    elif part.labels.min() < 0 or part.labels.max() >= len(facts.classes):
        span = f"{part.labels.min()} to {part.labels.max()}"
        raise BenchError(f"{where}: labels run from {span}; 0 to {len(facts.classes) - 1} is needed")


def _counts(facts: Facts, splits: Splits) -> dict[str, NDArray[np.int64]]:
    import numpy as np

    def counted(split: Split | CaptionedSplit) -> NDArray[np.int64]:
        if isinstance(split, CaptionedSplit):
            return np.array([len(texts) for texts in split.captions], np.int64)
        return np.bincount(split.labels, minlength=len(facts.classes)).astype(np.int64)

    return {name: counted(split) for name, split in splits.items()}


def _same(found: Composition, facts: Facts, splits: Splits) -> bool:
    import numpy as np

    counts = _counts(facts, splits)
    return found.ids.keys() == splits.keys() and all(
        np.array_equal(found.ids[name], split.ids) and np.array_equal(found.counts[name], counts[name])
        for name, split in splits.items()
    )


def _splits(arrays: Mapping[str, Any]) -> Iterator[str]:
    names = [name.removeprefix("ids.") for name in arrays if name.startswith("ids.")]
    yield from sorted(names, key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name))


def _statistics(images: NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of pixels in [0, 1]: (N, C, H, W) -> (C,), (C,).

    Sums of whole numbers, so they are exact, and a few images at a time, for as floats they would take eight times
    their room.
    """
    import numpy as np

    if images.dtype.kind == "f":
        centre, spread = (moment((0, 2, 3), dtype=np.float64).tolist() for moment in (images.mean, images.std))
        return tuple(centre), tuple(max(value, SMALLEST_STD) for value in spread)
    total = np.zeros(images.shape[1], dtype=np.int64)
    squares = np.zeros(images.shape[1], dtype=np.int64)
    for start in range(0, len(images), _AT_ONCE):
        part = images[start : start + _AT_ONCE]
        total += part.sum((0, 2, 3), dtype=np.int64)
        squares += np.square(part, dtype=np.uint16).sum((0, 2, 3), dtype=np.int64)
    n = math.prod(images.shape) // images.shape[1]  # images that are read from files know no size
    mean = [int(t) / n / 255 for t in total]
    std = [math.sqrt(n * int(s) - int(t) ** 2) / n / 255 for t, s in zip(total, squares, strict=True)]
    return tuple(mean), tuple(max(value, SMALLEST_STD) for value in std)
