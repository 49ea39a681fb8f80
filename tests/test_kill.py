"""Runs killed at random moments and started again end with the numbers of a run left in peace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_killed_runs_end_with_the_same_numbers() -> None:
    # A cut of the tiny matrix that has every kind of step: a fit, a fit begun from another, two hardenings.
    options = ["--models", "resnet_original,vit_ft"]
    for setting in (
        "models.resnet_original.training.epochs=3",
        "models.resnet_original.hardening.epochs=2",
        "models.vit_scratch.hardening.epochs=4",
        "models.vit_source.training.epochs=4",
        "models.vit_ft.training.epochs=5",
    ):
        options += ["--set", setting]
    script = [sys.executable, str(ROOT / "benchmarks" / "kill.py"), "--kills", "10", "--", *options]
    ended = subprocess.run(script, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "12 cells, no cell twice, numbers equal to the last digit" in ended.stdout
