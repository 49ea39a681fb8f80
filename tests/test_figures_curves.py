"""Curves and bars: what they show, and that it can be read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from drawings import assert_legible, score, words

from harness.analysis.calibration import Calibration, calibration
from harness.analysis.sharpness import LossCurve
from harness.figures.landscape import eigenvalue_bars, loss_along_direction
from harness.figures.overview import Entry, overview
from harness.figures.reliability import reliability
from harness.figures.robustness import accuracy_against_eps
from harness.figures.training import training_curves
from harness.types import Score

# --- training


def history(epochs: int, best: int, seed: int = 0) -> list[dict[str, float]]:
    random = np.random.default_rng(seed)
    return [
        {
            "epoch": epoch,
            "loss": 4 / epoch + random.random() / 10,
            "accuracy": 0.8 - 0.8 / epoch,
            "validation_loss": 4.4 / epoch,
            "validation_accuracy": 0.7 - abs(epoch - best) / 50,
            "lr": 1e-3 * 0.7**epoch,
            "images_per_second": 100.0,
        }
        for epoch in range(1, epochs + 1)
    ]


@pytest.mark.parametrize("trainings", [1, 4, 9])
def test_trainings_can_be_read(trainings: int) -> None:
    found = {f"resnet_original, seed {t}": history(20, 10 + t, t) for t in range(trainings)}
    figure = training_curves(found, title="CIFAR-100")
    assert_legible(figure)
    assert {*found, "validation", "train", "best epoch"} <= set(words(figure))


def test_the_best_epoch_is_the_one_whose_weights_are_kept() -> None:
    epochs = history(10, 7)
    epochs[8]["validation_accuracy"] = epochs[6]["validation_accuracy"]  # as good, but later
    axes = training_curves({"model": epochs}).axes[1]
    rings = [line for line in axes.lines if line.get_gid() == "best"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in rings] == [(7, pytest.approx(0.7))]


def test_curves_are_those_of_the_telemetry() -> None:
    epochs = history(5, 3)
    loss, accuracy, rate, _ = training_curves({"model": epochs}).axes
    for axes, wanted in ((loss, "loss"), (accuracy, "accuracy")):
        assert list(axes.lines[0].get_ydata()) == [epoch[wanted] for epoch in epochs]
        assert list(axes.lines[1].get_ydata()) == [epoch[f"validation_{wanted}"] for epoch in epochs]
    assert list(rate.lines[0].get_ydata()) == [epoch["lr"] for epoch in epochs]


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_training_of_hardly_anything_can_be_drawn(epochs: int) -> None:
    assert_legible(training_curves({"model": history(epochs, 1)}))


# --- robustness

EPS = [0.0, 0.5 / 255, 1 / 255, 2 / 255, 4 / 255, 8 / 255, 16 / 255]


def curve(scale: float, eps: list[float] = EPS) -> list[tuple[float, Score]]:
    return [(e, score(0.8 * math.exp(-e * scale))) for e in eps]


def test_accuracy_against_eps_can_be_read() -> None:
    curves = {f"resnet_original, hardened {n}, pgd": curve(10 * n) for n in range(8)}
    figure = accuracy_against_eps(curves, "Linf", chance=0.01, title="CIFAR-100, 1,000 test images")
    assert_legible(figure)
    assert {*curves, "chance", "eps (Linf) in 1/255"} <= set(words(figure))


def test_lines_are_values_and_bands_are_intervals() -> None:
    points = curve(20.0)
    axes = accuracy_against_eps({"model": points[::-1]}, "Linf").axes[0]
    assert list(axes.lines[0].get_xdata()) == EPS
    assert list(axes.lines[0].get_ydata()) == [found.value for _, found in points]
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    for _, found in points:
        assert found.low in heights
        assert found.high in heights


@pytest.mark.parametrize(("norm", "label"), [("L2", "eps (L2)"), ("severity", "severity")])
def test_other_budgets_have_other_labels(norm: str, label: str) -> None:
    figure = accuracy_against_eps({"model": curve(0.5, [1.0, 2.0, 3.0])}, norm)
    assert {label, "1", "2", "3"} <= set(words(figure))
    assert_legible(figure)


# --- reliability


def calibrated(gap: float, seed: int = 0) -> Calibration:
    random = np.random.default_rng(seed)
    confidence = random.beta(3, 1.2, 500)
    return calibration(confidence, random.random(500) < confidence - gap)


@pytest.mark.parametrize("models", [1, 2, 4, 7])
def test_reliability_diagrams_can_be_read(models: int) -> None:
    found = {f"resnet_original, hardened {m}": calibrated(0.05 * m, m) for m in range(models)}
    figure = reliability(found, title="Clean test images")
    assert_legible(figure)
    assert len(figure.axes) == 2 * models


def test_the_diagram_shows_bins_and_error() -> None:
    found = calibrated(0.2)
    figure = reliability({"model": found})
    above, below = figure.axes
    assert f"ECE {100 * found.error.value:.1f} % [" in above.get_title()
    filled = found.bins.samples > 0
    bars = [bar for bar in above.patches if bar.get_label() != "calibrated"]
    np.testing.assert_allclose([b.get_height() for b in bars[: filled.sum()]], found.bins.accuracy[filled])
    reach = [b.get_y() + b.get_height() for b in bars[filled.sum() :]]
    np.testing.assert_allclose(reach, found.bins.confidence[filled])
    assert below.patches[0].get_data().values.tolist() == found.bins.samples.tolist()


# --- landscape


def walk(scale: float, seed: int = 0) -> LossCurve:
    positions = np.linspace(-1, 1, 21)
    noise = np.random.default_rng(seed).random(21) / 20
    return LossCurve(positions, 0.5 + scale * positions**2 + noise, np.clip(0.8 - scale * np.abs(positions), 0, 1))


def test_losses_along_a_direction_can_be_read() -> None:
    walks = {f"resnet_original, seed {m}": [walk(m, s) for s in range(3)] for m in range(6)}
    figure = loss_along_direction(walks, title="Filter-normalised directions")
    assert_legible(figure)
    loss = figure.axes[0]
    np.testing.assert_allclose(
        loss.lines[1].get_ydata(), np.mean([w.losses for w in walks["resnet_original, seed 1"]], 0)
    )
    assert loss.get_yscale() == "linear"
    assert loss_along_direction({"a": [walk(100.0)]}).axes[0].get_yscale() == "log"


def test_a_loss_that_diverges_leaves_the_rest_to_be_seen() -> None:
    curve = walk(1.0)
    curve.losses[[0, -1]] = math.inf, math.nan
    figure = loss_along_direction({"model": [curve]})
    assert_legible(figure)
    assert figure.axes[0].get_ylim()[1] < 2


def test_eigenvalues_can_be_read() -> None:
    values = {
        "resnet_original": {"before": [40.0, 44.0, 39.0], "after": [12.0, 11.0]},
        "vit_ft": {"before": [20.0, math.nan], "after": []},
    }
    figure = eigenvalue_bars(values, title="1,000 training images")
    assert_legible(figure)
    assert sorted(bar.get_width() for bar in figure.axes[0].patches) == [11.5, 20.0, 41.0]
    assert {"before", "after", "41", "11.5", "20"} <= set(words(figure))


def test_eigenvalues_of_many_sizes_have_no_bars_whose_length_says_nothing() -> None:
    figure = eigenvalue_bars({"a": {"before": [400.0]}, "b": {"before": [1.0, 2.0]}})
    assert figure.axes[0].get_xscale() == "log"
    assert not figure.axes[0].patches
    assert_legible(figure)
    negative = eigenvalue_bars({"a": {"before": [-0.3, 0.2]}, "b": {"before": [30.0]}})
    assert negative.axes[0].get_xscale() == "linear"
    assert_legible(negative)


# --- overview


def entries(models: int, attacks: list[str]) -> list[Entry]:
    return [
        Entry(f"resnet_{m}", attack, score(0.8 / (n + 1)), score(0.5 / (n + 1)), 0.7 / (n + 1), 0.0)
        for m in range(models)
        for n, attack in enumerate(attacks)
    ]


@pytest.mark.parametrize(("models", "attacks"), [(1, 1), (4, 3), (5, 9), pytest.param(8, 5, marks=pytest.mark.slow)])
def test_the_overview_can_be_read(models: int, attacks: int) -> None:
    figure = overview(entries(models, [f"attack_{n}" for n in range(attacks)]), title="CIFAR-100 and Flowers-102")
    assert_legible(figure)
    assert len(figure.axes) == models


def test_the_overview_shows_values_intervals_and_published_numbers() -> None:
    figure = overview(entries(1, ["clean", "noise"]))
    axes = figure.axes[0]
    assert [bar.get_height() for bar in axes.patches] == [0.8, 0.4, 0.5, 0.25]
    diamonds: list[Any] = [list(line.get_ydata()) for line in axes.lines]
    assert diamonds == [[0.7, 0.35], [0.0, 0.0]]
    whisker = axes.collections[0].get_segments()[0][:, 1].tolist()
    assert whisker == [score(0.8).low, score(0.8).high]
    assert {"published", "before", "after", "80", "40", "50", "25"} <= set(words(figure))


def test_a_missing_number_is_a_dash_and_no_bar() -> None:
    figure = overview([Entry("a", "clean", score(0.5)), Entry("b", "noise", Score(math.nan, None, None, 0))])
    assert words(figure).count("–") == 7
    assert_legible(figure)
