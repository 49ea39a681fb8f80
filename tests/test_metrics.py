"""Metrics on outcomes made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from harness.types import Outcome
from plugins.metrics.accuracy import Accuracy
from plugins.metrics.attack_success_rate import AttackSuccessRate
from plugins.metrics.passes import Passes
from plugins.metrics.perturbation import Perturbation
from plugins.metrics.seconds import Seconds


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
