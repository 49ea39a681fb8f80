"""What the tests of the study share: profile ``small`` with fewer samples and epochs, and what its tables say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from commands import in_process

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
ATTACKS = ("clean", "fgsm", "pgd")
Rows = dict[tuple[str, str, str], dict[str, Any]]


def study(folder: Path, data: list[Path], store: str, *arguments: str, settings: tuple[str, ...] = SHORTER) -> Rows:
    """Accuracies by model, defense and attack, of a run in a process of its own, on one thread."""
    places = [part for place in data for part in ("--data", str(place))]
    changes = [part for setting in (*settings, "run.threads=1") for part in ("--set", setting)]
    command = [sys.executable, "-m", "cli", "run", "--profile", "small", "--quiet", "--store", store, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*command, *places, *changes], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    table = in_process(folder, "table", "--store", store, "--profile", "small", "--format", "json")
    assert table.returncode == 0, table.stderr
    found = [row for row in json.loads(table.stdout) if row["metric"] == "accuracy"]
    return {(row["model"], row["defense"], row["attack"]): row for row in found}


def assert_hardening_raises_pgd_accuracy(found: Rows, model: str) -> None:
    """Visibly: the intervals before and after do not meet."""
    assert {key for key in found if key[0] == model} == {(model, d, a) for d in ("none", "pgd_at") for a in ATTACKS}
    assert found[model, "none", "pgd"]["high"] < found[model, "pgd_at", "pgd"]["low"]


def assert_every_stronger_attack_leaves_no_more(found: Rows, model: str) -> None:
    for defense in ("none", "pgd_at"):
        clean, fgsm, pgd = (found[model, defense, attack]["value"] for attack in ATTACKS)
        assert clean >= fgsm >= pgd
    assert found[model, "none", "fgsm"]["high"] < found[model, "none", "clean"]["low"]
    assert found[model, "none", "pgd"]["value"] < 0.06
