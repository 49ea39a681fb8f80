"""The study's directions on real data, of residual networks: profile ``small`` with fewer samples and epochs.

Minutes: two networks are trained, hardened and attacked, one of them also as the study did it, after normalisation. The
transformers have a file of their own, so that two processes share the work.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from studying import (
    ATTACKS,
    Rows,
    assert_every_stronger_attack_leaves_no_more,
    assert_hardening_raises_pgd_accuracy,
    study,
)

pytestmark = pytest.mark.slow

MODELS = ("resnet_original", "resnet_noisy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both runs' own, for the network that they share is trained once."""
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def pixels(folder: Path, cifar_root: Path, flowers_root: Path) -> Rows:
    return study(folder, [cifar_root, flowers_root], "pixels.db", "--models", ",".join(MODELS))


@pytest.fixture(scope="module")
def normalised(folder: Path, pixels: Rows, cifar_root: Path, flowers_root: Path) -> Rows:
    only = ("--models", "resnet_original", "--domain", "normalised")
    return study(folder, [cifar_root, flowers_root], "normalised.db", *only)


@pytest.mark.parametrize("model", MODELS)
def test_adversarial_training_raises_pgd_accuracy(pixels: Rows, model: str) -> None:
    assert_hardening_raises_pgd_accuracy(pixels, model)


@pytest.mark.parametrize("model", MODELS)
def test_in_pixels_every_stronger_attack_leaves_no_more(pixels: Rows, model: str) -> None:
    assert_every_stronger_attack_leaves_no_more(pixels, model)


def test_after_normalisation_the_hardened_model_is_right_on_attacked_images_only(
    pixels: Rows, normalised: Rows
) -> None:
    """The study's paradox, made again: clean below adversarial accuracy."""
    clean, fgsm, pgd = (normalised["resnet_original", "pgd_at", attack] for attack in ATTACKS)
    assert clean["high"] < pgd["low"]
    assert clean["high"] < fgsm["low"]
    assert all(row["verdict"] == "invalid" for row in (clean, fgsm, pgd))
    undefended = ("resnet_original", "none", "clean")
    assert normalised[undefended]["value"] == pixels[undefended]["value"]
