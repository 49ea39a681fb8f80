"""Seeded splits that stay the same for good: only numpy's RandomState draws, whose stream is frozen (NEP 19).

scikit-learn's ``train_test_split`` does the same and costs seconds to import at the start of every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.errors import BenchError
from harness.types import Split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Halves(NamedTuple):
    """Positions kept and positions held out, int64, each in rising order; together they are all of them."""

    kept: NDArray[np.int64]
    held: NDArray[np.int64]


def take(split: Split, index: NDArray[np.int64]) -> Split:
    """Some samples of a split, in the order of ``index``."""
    return Split(split.images[index], split.labels[index], split.ids[index])


def share_of(count: int, share: float) -> int:
    """How many of ``count`` samples a share is, rounded to the nearest."""
    return round(count * share)


def hold_out(count: int, held: int, seed: int) -> Halves:
    """Hold ``held`` of ``count`` samples out at random."""
    import numpy as np

    order = np.random.RandomState(seed).permutation(count)
    return Halves(np.sort(order[held:]), np.sort(order[:held]))


def hold_out_stratified(labels: NDArray[np.int64], held: int, seed: int) -> Halves:
    """Hold ``held`` samples out at random, each class in proportion to its size. labels: (N,)."""
    import numpy as np

    _, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    wanted = sizes * held / len(labels)
    quota = np.floor(wanted).astype(np.int64)
    quota[np.argsort(quota - wanted, kind="stable")[: held - quota.sum()]] += 1
    order = np.random.RandomState(seed).permutation(len(labels))
    is_held = np.empty(len(labels), dtype=bool)
    is_held[order] = rank_in_class(labels[order]) < quota[place[order]]
    return Halves(np.flatnonzero(~is_held), np.flatnonzero(is_held))


def first_of_each_class(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Positions of ``count`` samples, taken from the classes in turn, at random within a class; rising order.

    A larger count contains every smaller one, so that curves over the amount of data are nested.
    """
    import numpy as np

    order = np.random.RandomState(seed).permutation(len(labels))
    turns = np.lexsort((labels[order], rank_in_class(labels[order])))
    return np.sort(order[turns[:count]])


def rank_in_class(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many samples of the same class come before each sample: (N,) -> (N,)."""
    import numpy as np

    order = np.argsort(labels, kind="stable")
    _, first, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(first, sizes)
    return rank


def check_share(component: str, field: str, share: float) -> None:
    """Raises BenchError unless 0 < share < 1."""
    if not 0 < share < 1:
        raise BenchError(f"{component}: {field}={share!r}; a share between 0 and 1, both excluded, is needed")


def check_seed(component: str, seed: int) -> None:
    """Raises BenchError unless numpy's generator takes the seed."""
    if not 0 <= seed < 2**32:
        raise BenchError(f"{component}: split_seed={seed!r}; a whole number from 0 to 2**32 - 1 is needed")
