"""Metrics on outcomes made by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from harness.types import Facts, Outcome
from plugins.metrics.accuracy import Accuracy
from plugins.metrics.attack_success_rate import AttackSuccessRate
from plugins.metrics.calibration_error import CalibrationError
from plugins.metrics.passes import Passes
from plugins.metrics.perturbation import Perturbation
from plugins.metrics.seconds import Seconds
from plugins.metrics.superclass_accuracy import SuperclassAccuracy
from plugins.metrics.top_k_accuracy import TopKAccuracy


def outcome(label: list[int], clean: list[int], attacked: list[int]) -> Outcome:
    n = len(label)
    whole = [np.asarray(column, dtype=np.int64) for column in (label, clean, attacked)]
    linf, l2 = np.linspace(0.1, 0.3, n), np.linspace(1, 2, n)
    return Outcome(np.arange(n), *whole, linf, l2, np.arange(n) + 4.0, np.full(n, 3.0), linf, seconds=1.5)


FOUND = outcome([0, 1, 2, 3, 4], clean=[0, 1, 2, 3, 0], attacked=[0, 0, 0, 3, 4])


def test_accuracy_counts_every_sample() -> None:
    score = Accuracy().measure(FOUND)
    assert (score.value, score.n) == (3 / 5, 5)
    assert score.low is not None
    assert score.high is not None
    assert score.low < 3 / 5 < score.high


def test_attack_success_counts_only_what_was_right_before() -> None:
    score = AttackSuccessRate().measure(FOUND)
    assert score is not None
    assert (score.value, score.n) == (2 / 4, 4)  # the fifth was wrong before and right after


def test_attack_success_is_nothing_where_nothing_was_right() -> None:
    assert AttackSuccessRate().measure(outcome([0, 1], clean=[1, 0], attacked=[0, 0])) is None


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (Perturbation(), 0.2),
        (Perturbation(statistic="max"), 0.3),
        (Perturbation(norm="L2"), 1.5),
        (Perturbation(norm="L2", statistic="max"), 2.0),
        (Passes(), 6.0),
        (Passes(direction="backward"), 3.0),
        (Seconds(), 1.5),
    ],
)
def test_sizes_costs_and_time(metric: Perturbation | Passes | Seconds, value: float) -> None:
    score = metric.measure(FOUND)
    assert score.value == pytest.approx(value)
    assert score.n == 5


def test_only_a_mean_of_different_values_has_an_interval() -> None:
    assert Perturbation().measure(FOUND).low is not None
    assert Perturbation(statistic="max").measure(FOUND).low is None
    assert Passes(direction="backward").measure(FOUND).low is None


def test_top_k_counts_ranks_and_superclasses_count_near_misses() -> None:
    ranked = dataclasses.replace(FOUND, label_rank=np.array([1, 2, 5, 6, 1]))
    assert [TopKAccuracy(k).measure(ranked).value for k in (1, 2, 5, 6)] == [2 / 5, 3 / 5, 4 / 5, 1]  # type: ignore[union-attr]
    assert TopKAccuracy().measure(FOUND) is None
    # Predicted 0 0 0 3 4 where 0 1 2 3 4 is right; 0 and 1 are animals, the others plants.
    score = SuperclassAccuracy().measure(FOUND, grouped("animal", "animal", "plant", "plant", "plant"))
    assert score is not None
    assert (score.value, score.n) == (4 / 5, 5)
    assert SuperclassAccuracy().measure(FOUND, grouped()) is None


def grouped(*groups: str) -> Facts:
    return Facts((1, 8, 8), tuple("abcde"), {"train": 1, "validation": 1, "test": 5}, "", "", "", groups)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    # All in one bin: 0.9 sure on average, 3 of 5 right.
    sure = dataclasses.replace(FOUND, confidence=np.array([0.88, 0.89, 0.9, 0.91, 0.92]))
    score = CalibrationError(bins=4).measure(sure)
    assert score is not None
    assert score.value == pytest.approx(0.3)
    assert CalibrationError().measure(FOUND) is None


@pytest.mark.parametrize(("kind", "name"), [(TopKAccuracy, "k"), (CalibrationError, "bins")])
def test_senseless_metrics_are_refused(kind: type, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        kind(**{name: 0})
