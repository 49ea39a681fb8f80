"""The study's directions on real data, of vision transformers: profile ``small`` with fewer samples and epochs.

Minutes: two networks are trained, hardened and attacked, and a pretrained network is held against the same one from
scratch. The residual networks have a file of their own, so that two processes share the work.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from studying import Rows, assert_every_stronger_attack_leaves_no_more, assert_hardening_raises_pgd_accuracy, study

pytestmark = pytest.mark.slow

MODELS = ("vit_ft", "vit_scratch")
BOTH = ("--models", ",".join(MODELS))


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory, cifar_root: Path, flowers_root: Path) -> Rows:
    folder = tmp_path_factory.mktemp("study")
    return study(folder, [cifar_root, flowers_root], "pixels.db", *BOTH, "--limit", "1500")


@pytest.mark.parametrize("model", MODELS)
def test_adversarial_training_raises_pgd_accuracy(pixels: Rows, model: str) -> None:
    assert_hardening_raises_pgd_accuracy(pixels, model)


@pytest.mark.parametrize("model", MODELS)
def test_in_pixels_every_stronger_attack_leaves_no_more(pixels: Rows, model: str) -> None:
    assert_every_stronger_attack_leaves_no_more(pixels, model)


def test_pretrained_weights_beat_a_start_from_scratch_on_flowers(
    tmp_path: Path, cifar_root: Path, flowers_root: Path, shared_data: Path
) -> None:
    weights = shared_data / "weights" / "tf_efficientnet_lite0_imagenet1k.safetensors"
    settings = [f"models.vit_ft.weights={weights}"]
    for model in MODELS:
        settings.append(f"models.{model}.architecture=tf_efficientnet_lite0")
        settings += [f"models.{model}.training.{what}" for what in ("epochs=5", "lr=1e-3")]
    undefended = (*BOTH, "--defenses", "none", "--attacks", "clean")
    found = study(tmp_path, [cifar_root, flowers_root], "start.db", *undefended, settings=tuple(settings))
    assert found["vit_scratch", "none", "clean"]["high"] < found["vit_ft", "none", "clean"]["low"]
