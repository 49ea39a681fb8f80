"""Handwritten digits of 8 x 8 pixels that come with scikit-learn: real data that needs no download."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from harness import splitting
from harness.errors import BenchError
from harness.hookspecs import ADDED_LATER, hookimpl
from harness.types import Facts, Split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Images of each class in scikit-learn's load_digits, 1,797 in all.
_COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)


@dataclass(frozen=True)
class Digits:
    """scikit-learn's ``load_digits``: grey images (1, 8, 8), values 0 to 16 scaled to 0 to 255 and rounded.

    classes: the digits kept, renumbered from 0 in this order; empty for all ten. train: at most so many training
    images, taken from the classes in turn. validation, test: shares of all images. stratified: of each class.
    split_seed: seed of the splits. Ids are row numbers in ``load_digits``.
    """

    classes: tuple[int, ...] = ()
    train: int | None = None
    validation: float = 0.1
    test: float = 0.25
    split_seed: int = 0
    stratified: bool = field(default=True, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        if len(set(self._digits)) != len(self._digits) or not set(self._digits) <= set(range(10)):
            raise BenchError(f"digits: classes={self.classes!r}; different digits from 0 to 9 are needed")
        if len(self._digits) < 2:
            raise BenchError(f"digits: classes={self.classes!r}; at least two are needed")
        splitting.check_seed("digits", self.split_seed)
        splitting.check_share("digits", "validation", self.validation)
        splitting.check_share("digits", "test", self.test)
        for split, size in self._sizes.items():
            if size < len(self._digits):
                raise BenchError(f"digits: {split} would hold {size} images for {len(self._digits)} classes")

    @hookimpl
    def facts(self) -> Facts:
        return Facts(
            shape=(1, 8, 8),
            classes=tuple(map(str, self._digits)),
            sizes=self._sizes,
            licence="CC BY 4.0",
            citation="E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits. "
            "UCI Machine Learning Repository, 1998. doi:10.24432/C50P49",
            source="scikit-learn, sklearn.datasets.load_digits",
        )

    @hookimpl
    def locate(self) -> Sequence[Path] | None:
        # find_spec, because importing scikit-learn takes seconds and only a path is wanted.
        spec = find_spec("sklearn")
        folders = spec.submodule_search_locations if spec else None
        files = [Path(folder, "datasets", "data", "digits.csv.gz") for folder in folders or ()]
        return [file for file in files if file.is_file()][:1] or None

    @hookimpl
    def download(self) -> None:
        raise BenchError("digits: digits.csv.gz is missing from the installed scikit-learn; install scikit-learn again")

    @hookimpl
    def load(self, files: Sequence[Path]) -> Mapping[str, Split]:
        import numpy as np

        rows = _read(files[0])
        ids = np.flatnonzero(np.isin(rows[:, 64], self._digits))
        images = np.rint(rows[ids, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        number = np.full(10, -1)
        number[list(self._digits)] = np.arange(len(self._digits))
        everything = Split(images, number[rows[ids, 64]], ids)

        sizes = self._sizes
        hold_out = partial(splitting.held_out, seed=self.split_seed, stratified=self.stratified)
        rest, test = hold_out(everything.labels, sizes["test"])
        kept, held = hold_out(everything.labels[rest], sizes["validation"])
        train = rest[kept]
        capped = splitting.first_of_each_class(everything.labels[train], sizes["train"], self.split_seed)
        chosen = {"train": train[capped], "validation": rest[held], "test": test}
        return {name: splitting.take(everything, index) for name, index in chosen.items()}

    @property
    def _digits(self) -> tuple[int, ...]:
        return self.classes or tuple(range(10))

    @property
    def _sizes(self) -> dict[str, int]:
        total = sum(_COUNTS[digit] for digit in self._digits)
        validation = splitting.share_of(total, self.validation)
        test = splitting.share_of(total, self.test)
        left = total - validation - test
        return {"train": left if self.train is None else min(self.train, left), "validation": validation, "test": test}


def _read(file: Path) -> NDArray[np.int64]:
    """Rows of 64 values from 0 to 16 and a label: (1797, 65). Raises BenchError for a damaged file."""
    import numpy as np

    try:
        with gzip.open(file, "rt") as text:
            rows = np.loadtxt(text, delimiter=",", dtype=np.int64)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BenchError(f"digits: {file} is damaged ({error}); install scikit-learn again") from error
    if rows.shape != (sum(_COUNTS), 65) or tuple(np.bincount(rows[:, 64], minlength=10)) != _COUNTS:
        raise BenchError(f"digits: {file} is not scikit-learn's file of 1,797 digits; install scikit-learn again")
    return rows
