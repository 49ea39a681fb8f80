"""Figures made of images: what they show, and that it can be read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawings import assert_legible, names, words
from networks import digits, small

from harness.analysis.saliency import grad_cam
from harness.figures.gallery import RIGHT, WRONG, Answers, gallery, whole_factor
from harness.figures.saliency import Panel, saliency_panels


def samples(n: int, channels: int = 3, eps: float = 8 / 255) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    clean = random.random((n, channels, 16, 16)).astype(np.float32)
    return clean, (clean + random.choice([-eps, eps], clean.shape)).clip(0, 1).astype(np.float32)


def said(predictions: list[int], confidence: float) -> Answers:
    return Answers(np.array(predictions), np.full(len(predictions), confidence))


@pytest.mark.parametrize("n", [1, 5, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_gallery_can_be_read(n: int, channels: int) -> None:
    label, classes = np.arange(n), names(102)
    answers = said([*range(n)], 0.98), said([k + 1 for k in range(n)], 1.0)
    figure = gallery(*samples(n, channels), label, *answers, classes, title="resnet_original under pgd, Linf 8/255")
    assert_legible(figure)
    assert sum(bool(axes.images) for axes in figure.axes) == 3 * n


def test_right_and_wrong_differ_in_sign_and_colour() -> None:
    figure = gallery(*samples(1), np.array([2]), said([2], 0.9), said([0], 0.75), ["cat", "dog", "owl"])
    found = {text.get_text(): text.get_color() for axes in figure.axes for text in axes.texts}
    assert found == {"✓ owl 90 %": RIGHT, "✗ cat 75 %": WRONG, "owl": "black"}


def test_the_perturbation_is_amplified_around_grey_by_the_factor_stated() -> None:
    clean = np.full((1, 3, 4, 4), 0.5, dtype=np.float32)
    adversarial = clean + np.float32(8 / 255)
    adversarial[:, :, 0] = 0.5
    figure = gallery(clean, adversarial, np.array([0]), said([0], 1.0), said([0], 1.0), ["a"])
    assert "perturbation × 15" in words(figure)
    shown = figure.axes[2].images[0].get_array()
    np.testing.assert_allclose(shown[0], 0.5)
    np.testing.assert_allclose(shown[1:], 0.5 + 15 * 8 / 255, atol=1e-5)
    given = gallery(clean, adversarial, np.array([0]), said([0], 1.0), said([0], 1.0), ["a"], factor=4)
    assert "perturbation × 4" in words(given)


@pytest.mark.parametrize(("largest", "factor"), [(8 / 255, 15), (0.5, 1), (0.9, 1), (0.1, 5), (0.0, 1)])
def test_the_factor_cuts_nothing_off(largest: float, factor: float) -> None:
    assert whole_factor(np.array([0.0, -largest], dtype=np.float32)) == factor


def test_saliency_panels_can_be_read() -> None:
    clean, adversarial = samples(2)
    heat = np.random.default_rng(0).random((2, 16, 16)).astype(np.float32)
    rows = [
        [Panel(clean[r], None, "true class"), Panel(clean[r], heat[r], "hard-leaved pocket orchid 98 %", True)]
        for r in (0, 1)
    ]
    rows[1][1] = Panel(adversarial[1], heat[1], "rose 100 %", False)
    table = [[*row, None] for row in rows]
    figure = saliency_panels(
        table, ["before", "after adversarial training"], ["clean", "Grad-CAM", "none"], title="ResNet"
    )
    assert_legible(figure)
    assert {"before", "after adversarial training", "clean", "Grad-CAM", "✗ rose 100 %"} <= set(words(figure))
    heated = figure.axes[1]
    np.testing.assert_array_equal(heated.images[1].get_array(), heat[0])
    assert heated.images[1].get_clim() == (0, 1)
    np.testing.assert_allclose(
        heated.images[0].get_array(), np.tensordot([0.299, 0.587, 0.114], clean[0], 1), atol=1e-6
    )
    assert figure.axes[-1].get_ylabel() == "relative saliency"


def test_without_heat_there_is_no_colour_bar() -> None:
    figure = saliency_panels([[Panel(samples(1)[0][0])]], ["row"], ["column"])
    assert len(figure.axes) == 1


def test_what_a_model_makes_of_digits_can_be_drawn() -> None:
    batch = digits().splits["test"].take(torch.arange(3))
    found = grad_cam(small(channels=1, classes=10), batch.x)
    line = [Panel(x.numpy(), heat, str(k)) for x, heat, k in zip(batch.x, found.maps, found.classes, strict=True)]
    assert_legible(saliency_panels([line], ["Grad-CAM"], [str(y) for y in batch.y.tolist()]))
