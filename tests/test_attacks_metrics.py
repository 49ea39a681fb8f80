"""Metrics of minimum-norm attacks, targeted attacks and rounded images: on outcomes made by hand, and judged."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from harness.types import Outcome
from plugins.metrics.median_distance import MedianDistance
from plugins.metrics.quantised_accuracy import QuantisedAccuracy
from plugins.metrics.targeted_success_rate import TargetedSuccessRate


def ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def outcome(label: Any, clean: Any, attacked: Any) -> Outcome:
    zeros = np.zeros(len(label))
    return Outcome(np.arange(len(label)), label, clean, attacked, *([zeros] * 5))


FOUND = outcome(ints(0, 1, 2, 3, 4), clean=ints(0, 1, 2, 3, 0), attacked=ints(1, 1, 0, 0, 0))


def test_where_nothing_was_measured_there_is_no_number() -> None:
    for metric in (MedianDistance(), QuantisedAccuracy(), TargetedSuccessRate()):
        assert metric.measure(FOUND) is None


def test_the_median_distance_is_over_samples_that_were_right() -> None:
    sizes = np.array([0.1, 0.3, np.inf, 0.2, 0.0])
    found = dataclasses.replace(FOUND, proposal_size=sizes, proposal_prediction=ints(1, 0, 2, 0, 0))
    score = MedianDistance().measure(found)
    assert score is not None
    assert (score.value, score.n) == (pytest.approx(0.25), 4)
    assert (score.low, score.high) == (None, None)  # four values give no interval
    lost = dataclasses.replace(found, proposal_size=np.array([0.1, np.inf, np.inf, np.inf, 0.0]))
    assert MedianDistance().measure(lost) is None
    assert MedianDistance().measure(dataclasses.replace(found, clean_prediction=ints(1, 0, 0, 0, 0))) is None


def test_the_median_distance_has_an_interval_where_both_ends_are_finite() -> None:
    n = 101
    sizes, same = np.linspace(0, 1, n), np.zeros(n, dtype=np.int64)
    found = dataclasses.replace(outcome(same, same, same + 1), proposal_size=sizes, proposal_prediction=same + 1)
    score = MedianDistance().measure(found)
    assert score is not None
    assert score.low is not None
    assert score.high is not None
    assert 0.35 < score.low < score.value == 0.5 < score.high < 0.65
    far = dataclasses.replace(found, proposal_size=np.where(sizes > 0.52, np.inf, sizes))
    score = MedianDistance().measure(far)
    assert score is not None
    assert (score.value, score.low, score.high) == (0.5, None, None)


def test_quantised_accuracy_counts_every_sample() -> None:
    score = QuantisedAccuracy().measure(dataclasses.replace(FOUND, quantised_prediction=ints(0, 1, 0, 0, 0)))
    assert score is not None
    assert (score.value, score.n) == (2 / 5, 5)


def test_targeted_success_counts_what_was_right_before_and_is_now_the_target() -> None:
    # The fifth was wrong before: it was not attacked, and 0 only stands where its target would.
    score = TargetedSuccessRate().measure(dataclasses.replace(FOUND, target=ints(1, 0, 1, 0, 0)))
    assert score is not None
    assert (score.value, score.n) == (2 / 4, 4)
    never = dataclasses.replace(FOUND, clean_prediction=ints(1, 0, 0, 0, 0), target=ints(1, 0, 1, 0, 0))
    assert TargetedSuccessRate().measure(never) is None
