"""The study's directions on real data: profile ``small`` with fewer samples and epochs, two processes at a time.

Minutes: four networks are trained, hardened and attacked, one of them also as the study did it, and a pretrained
network is held against the same one from scratch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SHORTER = (
    "models.resnet_original.training.samples_per_epoch=12000",
    "models.resnet_original.training.epochs=3",
    "models.resnet_original.hardening.samples_per_epoch=5000",
    "models.resnet_original.hardening.validation_samples=300",
    "models.vit_scratch.training.epochs=12",
    "models.vit_scratch.hardening.epochs=5",
    "models.vit_scratch.hardening.validation_samples=200",
    "models.vit_source.training.samples_per_epoch=10000",
    "models.vit_ft.training.epochs=6",
)
MODELS = ("resnet_original", "resnet_noisy", "vit_ft", "vit_scratch")
ATTACKS = ("clean", "fgsm", "pgd")
Rows = dict[tuple[str, str, str], dict[str, Any]]


def bench(folder: Path, data: list[Path], *arguments: str, settings: tuple[str, ...] = SHORTER) -> None:
    """A run in a process of its own, on one thread."""
    places = [part for place in data for part in ("--data", str(place))]
    changes = [part for setting in (*settings, "run.threads=1") for part in ("--set", setting)]
    command = [sys.executable, "-m", "cli", "run", "--profile", "small", "--quiet", *arguments, *places, *changes]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def rows(folder: Path, store: str) -> Rows:
    command = [sys.executable, "-m", "cli", "table", "--store", store, "--profile", "small", "--format", "json"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    found = [row for row in json.loads(ended.stdout) if row["metric"] == "accuracy"]
    return {(row["model"], row["defense"], row["attack"]): row for row in found}


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, cifar_root: Path, flowers_root: Path, shared_data: Path
) -> dict[str, Rows]:
    """Accuracies in pixels, after normalisation, and of a pretrained network beside the same one from scratch."""
    folder, data = tmp_path_factory.mktemp("study"), [cifar_root, flowers_root]
    weights = shared_data / "weights" / "tf_efficientnet_lite0_imagenet1k.safetensors"
    network = "tf_efficientnet_lite0"
    same = [f"models.{model}.architecture={network}" for model in ("vit_ft", "vit_scratch")]
    same += [
        f"models.{model}.training.{what}" for model in ("vit_ft", "vit_scratch") for what in ("epochs=5", "lr=1e-3")
    ]

    def resnets() -> None:
        bench(folder, data, "--models", "resnet_original,resnet_noisy", "--store", "resnets.db")
        bench(folder, data, "--models", "resnet_original", "--domain", "normalised", "--store", "normalised.db")
        only = ("--models", "vit_ft,vit_scratch", "--defenses", "none", "--attacks", "clean", "--store", "start.db")
        bench(folder, data, *only, settings=(*same, f"models.vit_ft.weights={weights}"))

    def vits() -> None:
        bench(folder, data, "--models", "vit_ft,vit_scratch", "--limit", "1500", "--store", "vits.db")

    with ThreadPoolExecutor(2) as pool:
        for running in [pool.submit(resnets), pool.submit(vits)]:
            running.result()
    pixels = rows(folder, "resnets.db") | rows(folder, "vits.db")
    return {"pixels": pixels, "normalised": rows(folder, "normalised.db"), "start": rows(folder, "start.db")}


def test_adversarial_training_raises_pgd_accuracy_of_each_model(runs: dict[str, Rows]) -> None:
    found = runs["pixels"]
    assert len(found) == len(MODELS) * 2 * len(ATTACKS)
    for model in MODELS:
        assert found[model, "none", "pgd"]["high"] < found[model, "pgd_at", "pgd"]["low"]


def test_in_pixels_every_stronger_attack_leaves_no_more(runs: dict[str, Rows]) -> None:
    found = runs["pixels"]
    for model in MODELS:
        for defense in ("none", "pgd_at"):
            clean, fgsm, pgd = (found[model, defense, attack]["value"] for attack in ATTACKS)
            assert clean >= fgsm >= pgd
        assert found[model, "none", "fgsm"]["high"] < found[model, "none", "clean"]["low"]
        assert found[model, "none", "pgd"]["value"] < 0.06


def test_pretrained_weights_beat_a_start_from_scratch_on_flowers(runs: dict[str, Rows]) -> None:
    found = runs["start"]
    assert found["vit_scratch", "none", "clean"]["high"] < found["vit_ft", "none", "clean"]["low"]


def test_after_normalisation_the_hardened_model_is_right_on_attacked_images_only(runs: dict[str, Rows]) -> None:
    """The study's paradox, made again: clean below adversarial accuracy."""
    found = runs["normalised"]
    clean, fgsm, pgd = (found["resnet_original", "pgd_at", attack] for attack in ATTACKS)
    assert clean["high"] < pgd["low"]
    assert clean["high"] < fgsm["low"]
    assert all(row["verdict"] == "invalid" for row in (clean, fgsm, pgd))
    assert (
        found["resnet_original", "none", "clean"]["value"]
        == runs["pixels"]["resnet_original", "none", "clean"]["value"]
    )
