"""Intervals for the numbers in the table, and what tells two numbers apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.types import Score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Statistic = Callable[[NDArray[np.float64]], Any]

Z = 1.959963984540054
"""The normal distribution's 97.5 % point."""
RESAMPLES = 2000
SEED = 0
EXACT_BELOW = 25
"""Discordant samples from which on chi-squared is near enough to the binomial distribution (McNemar's test)."""


class Discordance(NamedTuple):
    """McNemar's test: samples that only a, and only b, gets right; ``exact``: by the binomial distribution."""

    a_only: int
    b_only: int
    p_value: float
    exact: bool


def rate(hits: int, n: int) -> Score:
    """A share of ``n`` with its 95 % Wilson interval (Newcombe, Statistics in Medicine 17 (1998), method 3).

    To the last digit that of scipy, whose import takes longer than all the rates of a run.
    """
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"{hits} of {n} is no share")
    p, denominator = hits / n, 2 * (n + Z**2)
    centre = (2 * n * p + Z**2) / denominator
    half = Z / denominator * sqrt(4 * n * p * (1 - p) + Z**2)
    return Score(p, centre - half if hits else 0.0, centre + half if hits < n else 1.0, n)


def mean(values: Sequence[float]) -> Score:
    """A mean with its 95 % Student interval; no interval for fewer than two values or for values all alike."""
    import numpy as np
    from scipy.special import stdtrit  # scipy.stats, whose t calls this, takes a second to import

    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    if n < 2 or array.min() == array.max():  # not by the deviation, which rounding keeps from being 0
        return Score(float(array.mean()), None, None, n)
    half = float(stdtrit(n - 1, 0.975) * (array.std(ddof=1) / n**0.5))
    centre = float(array.mean())
    return Score(centre, centre - half, centre + half, n)


def median(values: Sequence[float]) -> Score:
    """A median with its 95 % interval by order statistics (scipy), which assumes nothing about the values.

    Infinite values are values like others. A bound that is infinite, or that too few values leave open, is None.
    Raises ValueError for no values.
    """
    import numpy as np
    from scipy.stats import quantile_test

    array = np.sort(np.asarray(values, dtype=np.float64))
    if not len(array):
        raise ValueError("no values, no median")
    interval = quantile_test(array, p=0.5).confidence_interval(0.95)
    low, high = (float(bound) if np.isfinite(bound) else None for bound in interval)
    lower, upper = array[(len(array) - 1) // 2], array[len(array) // 2]
    return Score(float(lower if lower == upper else (lower + upper) / 2), low, high, len(array))


def bootstrap(values: Sequence[float], statistic: Statistic) -> Score:
    """A statistic of independent values with its 95 % bootstrap interval; the same values give the same interval.

    BCa (Efron, JASA 1987; scipy); by percentiles where the values leave that undefined, as when no resample changes
    the statistic. No interval for fewer than two values.
    """
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    value, n = float(statistic(array)), len(array)
    for method in ("BCa", "percentile") if n > 1 else ():
        low, high = _resampled(array, statistic, method)
        if np.isfinite([low, high]).all():
            return Score(value, low, high, n)
    return Score(value, None, None, n)


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Score:
    """The mean of a - b, sample by sample, with its 95 % bootstrap interval. Raises ValueError for unequal lengths."""
    import numpy as np

    _check_pairs(a, b)
    return bootstrap(np.subtract(a, b, dtype=np.float64).tolist(), np.mean)


def mcnemar(a_correct: Sequence[bool], b_correct: Sequence[bool]) -> Discordance:
    """Whether two classifiers are right equally often on the same samples (McNemar, 1947; statsmodels).

    Exact where fewer than ``EXACT_BELOW`` samples tell them apart, else chi-squared with continuity correction. Raises
    ValueError for unequal lengths.
    """
    _check_pairs(a_correct, b_correct)
    pairs = [(bool(a), bool(b)) for a, b in zip(a_correct, b_correct, strict=True)]
    return mcnemar_of_counts(pairs.count((True, False)), pairs.count((False, True)))


def mcnemar_of_counts(a_only: int, b_only: int) -> Discordance:
    """``mcnemar`` from the numbers of samples that only a, and only b, gets right."""
    from statsmodels.stats import contingency_tables

    exact = a_only + b_only < EXACT_BELOW
    found = contingency_tables.mcnemar([[0, a_only], [b_only, 0]], exact=exact, correction=True)
    return Discordance(a_only, b_only, float(found.pvalue), exact)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that the whole family errs at most as often as one test alone (Holm, 1979; statsmodels)."""
    if not p_values:
        return []
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]]


def samples_needed(a_only_rate: float, b_only_rate: float, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """Samples with which McNemar's test finds a difference as often as ``power`` says; None where there is none.

    The rates are the shares of samples that only a, and only b, gets right. Connor, Biometrics 43 (1987) 207-211.
    Raises ValueError for rates that are none.
    """
    from scipy.special import ndtri

    discordant, difference = a_only_rate + b_only_rate, abs(a_only_rate - b_only_rate)
    if min(a_only_rate, b_only_rate) < 0 or discordant > 1 + 1e-9:
        raise ValueError(f"{a_only_rate} and {b_only_rate} are not shares of the same samples")
    if difference == 0:
        return None
    spread = max(0.0, discordant - difference**2) ** 0.5
    root = -ndtri(alpha / 2) * discordant**0.5 - ndtri(1 - power) * spread
    return ceil((root / difference) ** 2)


def _resampled(array: NDArray[np.float64], statistic: Statistic, method: str) -> tuple[float, float]:
    import warnings

    import numpy as np
    from scipy import stats

    random = np.random.default_rng(SEED)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # whether the method is defined for these values is what the caller asks
        found = stats.bootstrap(
            (array,),
            statistic,
            n_resamples=RESAMPLES,
            batch=100,  # all resamples of 10 000 values at once would take gigabytes
            vectorized=False,
            method=method,
            rng=random,
        )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _check_pairs(a: Sequence[Any], b: Sequence[Any]) -> None:
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} samples cannot be paired")
