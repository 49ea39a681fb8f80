"""Intervals against their closed formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.statistics import mean, rate

Z = 1.959963984540054  # the normal distribution's 97.5 % point


@given(n=st.integers(1, 100_000), share=st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_a_rate_has_its_wilson_interval(n: int, share: float) -> None:
    hits = round(share * n)
    score = rate(hits, n)
    p = hits / n
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * (p * (1 - p) / n + Z**2 / (4 * n**2)) ** 0.5
    assert (score.value, score.n) == (p, n)
    assert score.low is not None
    assert score.high is not None
    assert score.low == pytest.approx(max(0, centre - half), abs=1e-9)
    assert score.high == pytest.approx(min(1, centre + half), abs=1e-9)
    assert 0 <= score.low <= p <= score.high <= 1


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    hits = np.random.default_rng(0).binomial(200, 0.3, size=400)
    scores = [rate(int(hit), 200) for hit in hits]
    covered = np.mean([(s.low or 0) <= 0.3 <= (s.high or 0) for s in scores])
    assert 0.92 < covered < 0.98


@given(
    st.lists(st.floats(-1e3, 1e3).map(lambda x: round(x, 6)), min_size=2, max_size=50).filter(lambda v: len({*v}) > 1)
)
@settings(max_examples=100, deadline=None)
def test_a_mean_has_its_student_interval(values: list[float]) -> None:
    score = mean(values)
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    assert score.n == len(values)
    assert score.value == pytest.approx(np.mean(values), abs=1e-9)
    assert score.low == pytest.approx(np.mean(values) - half, rel=1e-9, abs=1e-9)
    assert score.high == pytest.approx(np.mean(values) + half, rel=1e-9, abs=1e-9)


@given(value=st.floats(-1e3, 1e3), n=st.integers(1, 400))
@settings(max_examples=100, deadline=None)
def test_values_all_alike_have_no_interval(value: float, n: int) -> None:
    score = mean([value] * n)
    assert score.value == pytest.approx(value)
    assert (score.low, score.high, score.n) == (None, None, n)
