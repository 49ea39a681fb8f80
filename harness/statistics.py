"""Intervals for the numbers in the table."""

from __future__ import annotations

from collections.abc import Sequence

from harness.types import Score


def rate(hits: int, n: int) -> Score:
    """A share of ``n`` with its 95 % Wilson interval (scipy)."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return Score(hits / n, float(interval.low), float(interval.high), n)


def mean(values: Sequence[float]) -> Score:
    """A mean with its 95 % Student interval; no interval for fewer than two values or for values all alike."""
    import numpy as np
    from scipy.stats import t

    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    if n < 2 or array.min() == array.max():  # not by the deviation, which rounding keeps from being 0
        return Score(float(array.mean()), None, None, n)
    low, high = t.interval(0.95, n - 1, loc=array.mean(), scale=array.std(ddof=1) / n**0.5)
    return Score(float(array.mean()), float(low), float(high), n)
