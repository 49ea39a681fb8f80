"""Data sets that come as an official training part and an official test part: finding, reading and splitting them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import locating, splitting
from harness.errors import BenchError
from harness.types import Split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def sizes(train: int, test: int, validation: float) -> dict[str, int]:
    """Images of each split where a share of the training part is held out for validation."""
    held = splitting.share_of(train, validation)
    return {"train": train - held, "validation": held, "test": test}


def split(
    train: Split, test: Split, validation: float, seed: int, strata: NDArray[np.int64] | None
) -> Mapping[str, Split]:
    """The three splits: validation is held out of the training part, in proportion within ``strata`` (N,) if given."""
    held = splitting.share_of(len(train.ids), validation)
    labels = train.labels if strata is None else strata
    halves = splitting.held_out(labels, held, seed, stratified=strata is not None)
    return {
        "train": splitting.take(train, halves.kept),
        "validation": splitting.take(train, halves.held),
        "test": test,
    }


def find(roots: Sequence[Path], folder: str, names: Sequence[str]) -> list[Path] | None:
    """The named files of the first folder that has them all."""
    for place in locating.candidates(roots, folder):
        files = [place / name for name in names]
        if all(file.is_file() for file in files):
            return files
    return None


def read_cifar(component: str, kind: Any, folder: Path, names: Sequence[str]) -> tuple[Split, Split]:
    """The training and the test part of one of torchvision's CIFAR classes, numbered by their place in each.

    Images (N, 3, 32, 32). Raises BenchError naming the files whose md5 is wrong, before any of them is unpickled.
    """
    import numpy as np

    try:
        # Both check the md5 of every file before they unpickle one.
        parts = [kind(folder.parent, train=train) for train in (True, False)]
    except RuntimeError as error:
        raise _damaged(component, kind, folder, names) from error
    train, test = (
        Split(
            np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)),
            np.asarray(part.targets, dtype=np.int64),
            np.arange(len(part), dtype=np.int64),
        )
        for part in parts
    )
    return train, test


def _damaged(component: str, kind: Any, folder: Path, names: Sequence[str]) -> BenchError:
    from torchvision.datasets.utils import check_integrity

    sums = dict([*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])])
    bad = [str(folder / name) for name in names if not check_integrity(folder / name, sums[name])]
    return BenchError(
        f"{component}: {', '.join(bad) or folder} is damaged (wrong md5); delete the folder {folder} "
        f"and run again to download it, or unpack {kind.url} in its place"
    )
