"""Seeded splits that stay the same for good: numpy's RandomState draws, whose stream is frozen (NEP 19), or SHA-256.

scikit-learn's ``train_test_split`` does the same and costs seconds to import at the start of every run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
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


def held_out(labels: NDArray[np.int64], held: int, seed: int, *, stratified: bool) -> Halves:
    """Hold ``held`` samples out at random, with ``stratified`` each class in proportion to its size. labels: (N,)."""
    return hold_out_stratified(labels, held, seed) if stratified else hold_out(len(labels), held, seed)


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


def by_name(
    names: Mapping[str, Sequence[str]], shares: Mapping[str, float], seed: int, *, stratified: bool, rest: str
) -> dict[str, str]:
    """The split of each name, drawn so that names which come or go later move few others.

    names: those of each class. shares: split -> its share of all names. Each name has a place of its own, the SHA-256
    of seed and name; the first go to the first split, the next to the second, all others to ``rest``. With
    ``stratified`` that is done within each class, which gets its part to within one name and always keeps one for
    ``rest``. Plain Python, for it is part of planning.
    """
    pools = list(names.values()) if stratified else [[name for pool in names.values() for name in pool]]
    sizes = [len(pool) for pool in pools]
    counts = {}
    room = [max(size - 1, 0) for size in sizes]
    for split, share in shares.items():
        counts[split] = in_proportion(sizes, share_of(sum(sizes), share), room)
        room = [free - taken for free, taken in zip(room, counts[split], strict=True)]
    found: dict[str, str] = {}
    for position, pool in enumerate(pools):
        ordered = sorted(pool, key=lambda name: _place(seed, name))
        for split, taken in counts.items():
            found |= dict.fromkeys(ordered[: taken[position]], split)
            ordered = ordered[taken[position] :]
        found |= dict.fromkeys(ordered, rest)
    return found


def in_proportion(sizes: Sequence[int], total: int, room: Sequence[int]) -> list[int]:
    """``total`` dealt out in proportion to ``sizes`` by largest remainders, to none more than its ``room``.

    Where there is too little room in all, less than ``total`` is dealt out.
    """
    whole = max(sum(sizes), 1)
    found = [min(size * total // whole, free) for size, free in zip(sizes, room, strict=True)]
    nearest = sorted(range(len(sizes)), key=lambda k: (-(sizes[k] * total % whole), k))
    left = min(total, sum(room)) - sum(found)
    while left:
        for k in nearest:
            if left and found[k] < room[k]:
                found[k] += 1
                left -= 1
    return found


def _place(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


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
