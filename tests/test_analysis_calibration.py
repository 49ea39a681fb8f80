"""Calibration against scikit-learn and against a loop over bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from harness.analysis.calibration import calibration, expected_calibration_error, reliability_bins


def predictions(n: int, seed: int = 0, gap: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences and answers of a model that is right ``gap`` less often than it says."""
    random = np.random.default_rng(seed)
    confidence = random.beta(4, 2, n)
    return confidence, random.random(n) < confidence - gap


def directly(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    """The formula of Guo et al. bin by bin."""
    total = 0.0
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        if m == 0:
            inside |= confidence == 0
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 300), st.integers(0, 1000), st.sampled_from([1, 5, 10, 15]))
def test_the_error_is_the_one_of_the_formula(n: int, seed: int, bins: int) -> None:
    confidence, correct = predictions(n, seed)
    assert expected_calibration_error(confidence, correct, bins) == pytest.approx(directly(confidence, correct, bins))


def test_the_bins_are_those_of_scikit_learn() -> None:
    confidence, correct = predictions(4000)
    bins = reliability_bins(confidence, correct, 15)
    accuracy, mean = calibration_curve(correct, confidence, n_bins=15, strategy="uniform")
    filled = bins.samples > 0
    np.testing.assert_allclose(bins.accuracy[filled], accuracy)
    np.testing.assert_allclose(bins.confidence[filled], mean)
    assert bins.samples.sum() == 4000
    assert len(bins.edges) == 16


def test_the_error_is_the_weighted_gap_of_the_bins() -> None:
    confidence, correct = predictions(500, gap=0.2)
    bins = reliability_bins(confidence, correct)
    gaps = np.nan_to_num(np.abs(bins.accuracy - bins.confidence))
    assert expected_calibration_error(confidence, correct) == pytest.approx((gaps * bins.samples).sum() / 500)


def test_a_bound_belongs_to_the_bin_below() -> None:
    bins = reliability_bins([0.0, 0.5, 0.5000001, 1.0], [True, True, False, True], 2)
    assert bins.samples.tolist() == [2, 2]


def test_empty_bins_say_so() -> None:
    bins = reliability_bins([0.95, 0.99], [True, False], 10)
    assert bins.samples.tolist() == [0] * 9 + [2]
    assert np.isnan(bins.accuracy[:9]).all()
    assert bins.accuracy[9] == 0.5


def test_a_model_always_sure_and_always_wrong() -> None:
    assert expected_calibration_error([1.0] * 8, [False] * 8) == 1.0
    assert expected_calibration_error([1.0] * 8, [True] * 8) == 0.0


def test_the_interval_covers_the_gap_of_an_overconfident_model() -> None:
    confidence, correct = predictions(2000, gap=0.15)
    found = calibration(confidence, correct)
    assert found.error.value == expected_calibration_error(confidence, correct)
    assert found.error.low is not None
    assert found.error.high is not None
    assert 0.10 < found.error.low < found.error.value < found.error.high < 0.20
    assert found.error == calibration(confidence, correct).error


def test_without_interval_no_resample_is_drawn() -> None:
    error = calibration([0.5, 0.7], [True, False], interval=False).error
    assert (error.low, error.high, error.n) == (None, None, 2)


@pytest.mark.parametrize(
    ("confidence", "correct"), [([], []), ([0.5], [True, False]), ([1.5], [True]), ([float("nan")], [True])]
)
def test_what_are_no_predictions_is_refused(confidence: list[float], correct: list[bool]) -> None:
    with pytest.raises(ValueError):
        reliability_bins(confidence, correct)


def test_a_softmax_that_rounds_above_one_is_taken() -> None:
    assert reliability_bins([np.float32(1.0000001)], [True]).samples[-1] == 1
