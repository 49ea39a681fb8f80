"""Whether a model is right as often as it is confident."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness import statistics
from harness.types import Score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

BINS = 15


class Bins(NamedTuple):
    """A reliability diagram of B bins: edges (B + 1,) from 0 to 1; mean confidence, accuracy and samples (B,) of each.

    The mean and the accuracy of an empty bin are NaN.
    """

    edges: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    samples: NDArray[np.int64]


class Calibration(NamedTuple):
    """The bins of a reliability diagram, and the expected calibration error with its 95 % interval."""

    bins: Bins
    error: Score


def calibration(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS, *, interval: bool = True) -> Calibration:
    """Reliability diagram and expected calibration error of N predictions.

    confidence: (N,) in [0, 1], the probability given to the predicted class. correct: (N,) of bool. The interval is a
    bootstrap over samples, BCa because a resample's error is larger on average than the sample's, as that is than the
    true one: of a calibrated model the interval lies below the value. 10 000 samples take two seconds. Raises
    ValueError for no samples, unequal lengths and confidences outside [0, 1].
    Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    import numpy as np

    sure, right = _checked(confidence, correct)
    residual, place = right - sure, _places(sure, bins)
    diagram = reliability_bins(sure, right, bins)
    if not interval:
        return Calibration(diagram, Score(_error(residual, place, bins), None, None, len(sure)))

    def of_resample(drawn: NDArray[np.float64]) -> float:
        chosen = drawn.astype(np.intp)
        return _error(residual[chosen], place[chosen], bins)

    return Calibration(diagram, statistics.bootstrap(range(len(sure)), of_resample))


def reliability_bins(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> Bins:
    """Mean confidence, accuracy and count of ``bins`` bins of equal width; bin m holds ((m - 1) / B, m / B]."""
    import numpy as np

    sure, right = _checked(confidence, correct)
    place = _places(sure, bins)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place, weights=values, minlength=bins) / count for values in (sure, right)]
    return Bins(np.linspace(0.0, 1.0, bins + 1), means[0], means[1], count)


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> float:
    """The gap between confidence and accuracy, averaged over bins by their share of the samples."""
    sure, right = _checked(confidence, correct)
    return _error(right - sure, _places(sure, bins), bins)


def _error(residual: NDArray[np.float64], place: NDArray[np.int64], bins: int) -> float:
    """Sum over bins of |sum of correct - confidence| / N: the counts of the mean and of the weight cancel."""
    import numpy as np

    return float(np.abs(np.bincount(place, weights=residual, minlength=bins)).sum() / len(residual))


def _places(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    import numpy as np

    edges = np.linspace(0.0, 1.0, bins + 1)
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)


def _checked(confidence: ArrayLike, correct: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import numpy as np

    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=bool).astype(np.float64)
    if sure.ndim != 1 or sure.shape != right.shape or not len(sure):
        raise ValueError(f"confidences of shape {sure.shape} and answers of shape {right.shape} are no samples")
    if not ((sure >= 0) & (sure <= 1 + 1e-6)).all():  # softmax in float32 exceeds 1 by its rounding
        raise ValueError("confidences lie outside [0, 1]")
    return sure.clip(0, 1), right
