"""Which classes are taken for which, and how well each class and super-class is recognised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.statistics import rate
from harness.types import Score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


class Grouping(NamedTuple):
    """Super-classes: their names (G,) in alphabetical order, and the number of the super-class of each class (K,)."""

    names: tuple[str, ...]
    of_class: NDArray[np.int64]


def confusion_matrix(label: ArrayLike, prediction: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Counts (K, K): row the true class, column the predicted one. Raises ValueError for a class outside 0..K-1."""
    import numpy as np

    truth, guess = _checked(label, prediction, classes)
    return np.bincount(truth * classes + guess, minlength=classes**2).reshape(classes, classes)


def by_row(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Shares of the true class (K, K); rows sum to 1, the row of a class without samples is 0."""
    import numpy as np

    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def per_class(label: ArrayLike, prediction: ArrayLike, classes: int) -> list[Score]:
    """Accuracy of each class (its recall) with its 95 % Wilson interval; of one without samples NaN and no interval."""
    counts = confusion_matrix(label, prediction, classes)
    return [_rate(int(counts[k, k]), int(counts[k].sum())) for k in range(classes)]


def grouping(groups: Sequence[str]) -> Grouping:
    """Super-classes from the name of the super-class of each class (``Facts.groups``)."""
    import numpy as np

    names = tuple(sorted(set(groups)))
    place = {name: number for number, name in enumerate(names)}
    return Grouping(names, np.array([place[name] for name in groups], dtype=np.int64))


def group_confusion(label: ArrayLike, prediction: ArrayLike, groups: Sequence[str]) -> NDArray[np.int64]:
    """Counts (G, G) between super-classes, in the order of ``grouping``."""
    truth, guess = _checked(label, prediction, len(groups))
    names, of_class = grouping(groups)
    return confusion_matrix(of_class[truth], of_class[guess], len(names))


def group_accuracy(label: ArrayLike, prediction: ArrayLike, groups: Sequence[str]) -> Score:
    """Share of samples whose predicted class is of the right super-class, with its 95 % Wilson interval."""
    counts = group_confusion(label, prediction, groups)
    return _rate(int(counts.trace()), int(counts.sum()))


def per_group(label: ArrayLike, prediction: ArrayLike, groups: Sequence[str]) -> dict[str, Score]:
    """Super-class accuracy of the samples of each super-class, by its name."""
    counts = group_confusion(label, prediction, groups)
    names = grouping(groups).names
    return {name: _rate(int(counts[g, g]), int(counts[g].sum())) for g, name in enumerate(names)}


def ranks(scores: ArrayLike, label: ArrayLike) -> NDArray[np.int64]:
    """Place of the true class among the logits (N, K), from 1: (N,). Equal logits count against it, NaN are last."""
    import numpy as np

    logits, truth = np.asarray(scores), np.asarray(label, dtype=np.int64)
    own = np.take_along_axis(logits, truth[:, None], axis=1)
    return (~(logits < own)).sum(1)


def top_k(rank: ArrayLike, k: int) -> Score:
    """Share of samples whose true class is among the ``k`` first, with its 95 % Wilson interval; ranks (N,) from 1."""
    import numpy as np

    places = np.asarray(rank)
    if k < 1 or (places < 1).any():
        raise ValueError("ranks and k count from 1")
    return _rate(int((places <= k).sum()), len(places))


def _rate(hits: int, n: int) -> Score:
    return rate(hits, n) if n else Score(float("nan"), None, None, 0)


def _checked(label: ArrayLike, prediction: ArrayLike, classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    import numpy as np

    truth, guess = np.asarray(label, dtype=np.int64), np.asarray(prediction, dtype=np.int64)
    if truth.ndim != 1 or truth.shape != guess.shape:
        raise ValueError(f"labels of shape {truth.shape} and predictions of shape {guess.shape} cannot be paired")
    both = np.concatenate([truth, guess])
    if len(both) and not (both.min() >= 0 and both.max() < classes):
        raise ValueError(f"classes from {both.min()} to {both.max()} are not among {classes}")
    return truth, guess
