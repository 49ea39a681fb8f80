"""The whole program, from one command to the table, on embedded and on real data."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import in_process
from pages import TOP, blocks

Bench = Callable[..., "subprocess.CompletedProcess[str]"]
CHEAP = ("--set", "models.resnet_original.training.epochs=2", "--set", "models.resnet_original.hardening.epochs=1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the default command has run once, as a process: the 24 cells of tiny."""
    folder = tmp_path_factory.mktemp("tiny")
    command = [sys.executable, "-m", "cli", "run", "--json"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["counts"] == {"ok": 24, "failed": 0, "skipped": 0, "interrupted": 0}
    return folder


@pytest.fixture
def tiny(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "tiny"))


def in_folder(folder: Path, *arguments: str) -> dict[str, Any] | list[dict[str, Any]]:
    ended = in_process(folder, *arguments)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] | list[dict[str, Any]] = json.loads(ended.stdout)
    return found


def accuracies(folder: Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    rows = in_folder(folder, "table", "--format", "json", "--metric", "accuracy")
    return {(row["model"], row["defense"], row["attack"]): row for row in rows if isinstance(row, dict)}


@pytest.mark.slow
def test_the_numbers_of_tiny_make_sense(tiny: Path) -> None:
    found = accuracies(tiny)
    assert len(found) == 24
    for model in ("resnet_original", "resnet_noisy", "vit_ft", "vit_scratch"):
        for defense in ("none", "pgd_at"):
            clean, fgsm, pgd = (found[model, defense, attack]["value"] for attack in ("clean", "fgsm", "pgd"))
            assert clean > fgsm > pgd
        # Visibly: the intervals of robust accuracy before and after do not meet.
        assert found[model, "none", "pgd"]["high"] < found[model, "pgd_at", "pgd"]["low"]
        assert all(found[model, d, a]["verdict"] == "ok" for d in ("none", "pgd_at") for a in ("clean", "fgsm", "pgd"))
    for model in ("resnet_original", "resnet_noisy"):
        assert found[model, "none", "clean"]["value"] > 0.9
    assert found["vit_ft", "none", "clean"]["value"] > found["vit_scratch", "none", "clean"]["value"]


@pytest.mark.slow
def test_the_table_of_the_readme_is_the_one_that_is_printed(tiny: Path) -> None:
    """The same names and layout, and each number in the interval of the other: machines differ in a sample or two."""
    (page,) = [block for block in blocks(TOP / "README.md") if block.text.startswith("accuracy (%)")]
    command = [sys.executable, "-m", "cli", "table"]
    wide = {**os.environ, "COLUMNS": "160"}
    printed = subprocess.run(command, cwd=tiny, env=wide, capture_output=True, text=True, check=True).stdout
    number = r"(\d+\.\d) +\[ *(\d+\.\d), (\d+\.\d)\]"
    shown, made = ([re.sub(number, "x", line).split() for line in text.splitlines()] for text in (page.text, printed))
    assert shown == made[: len(shown)]
    pairs = list(zip(re.findall(number, page.text), re.findall(number, printed), strict=True))
    assert len(pairs) == 24
    for ours, theirs in pairs:
        assert float(theirs[1]) <= float(ours[0]) <= float(theirs[2])
        assert float(ours[1]) <= float(theirs[0]) <= float(ours[2])


@pytest.mark.slow
def test_a_second_run_does_nothing_and_says_so(tiny: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (tiny / "artifacts").rglob("step.json")}
    again = in_folder(tiny, "run", "--json")
    assert isinstance(again, dict)
    assert again["cached"] == 24
    assert before == {path: path.stat().st_mtime_ns for path in (tiny / "artifacts").rglob("step.json")}


@pytest.mark.slow
def test_an_attack_parameter_runs_that_attack_alone(tiny: Path) -> None:
    weights = sorted(tiny.glob("artifacts/*/*/step.json"))
    changed = in_folder(tiny, "run", "--json", "--models", "resnet_original,vit_ft", "--set", "attacks.pgd.steps=2")
    assert isinstance(changed, dict)
    assert changed["cached"] == 8  # of 12: clean and FGSM of two models under two defenses
    assert sorted(tiny.glob("artifacts/*/*/step.json")) == weights


@pytest.mark.slow
def test_a_new_metric_is_taken_from_stored_outcomes(tiny: Path) -> None:
    model = ("--models", "vit_scratch")
    metrics = '["accuracy", "mean_linf_again"]'
    more = ("--set", "metrics.mean_linf_again.component=perturbation", "--set", f"matrices.report.metrics={metrics}")
    ended = in_process(tiny, "run", *model, *more)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("measured mean_linf_again") == 6
    rows = in_folder(tiny, "table", "--format", "json", "--metric", "mean_linf_again")
    old = in_folder(tiny, "table", "--format", "json", "--metric", "linf_mean")
    values = {row["key"]: row["value"] for row in old if isinstance(row, dict)}
    fresh = {row["key"]: row["value"] for row in rows if isinstance(row, dict) and row["value"] is not None}
    assert len(fresh) == 6
    assert fresh == {key: values[key] for key in fresh}


def hear_interrupts() -> None:
    """In the child: a shell's background jobs, and so their tests, inherit an ignored SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_goes_on(workplace: Path, bench: Bench, kind: signal.Signals) -> None:
    command = [sys.executable, "-m", "cli", "run", "--models", "resnet_original", *CHEAP]
    process = subprocess.Popen(
        command,
        cwd=workplace,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,  # noqa: PLW1509
    )
    deadline = time.monotonic() + 120
    while not list(workplace.glob("artifacts/checkpoints/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(kind)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "the same command goes on from here" in output
    rows = json.loads(bench("table", "--format", "json", "--metric", "accuracy").stdout)
    assert {row["status"] for row in rows} <= {"ok", "interrupted"}
    assert any(row["status"] == "interrupted" and row["value"] is None for row in rows)
    assert bench("run", "--models", "resnet_original", *CHEAP).returncode == 0
    rows = json.loads(bench("table", "--format", "json", "--metric", "accuracy").stdout)
    assert [row["status"] for row in rows] == ["ok"] * 6


@pytest.mark.slow
def test_what_does_not_apply_is_skipped_once(bench: Bench) -> None:
    options = ("--models", "resnet_original", "--attacks", "torchattacks_fgsm", "--defenses", "none", "--norm", "L2")
    first = bench("run", *options, "--eps", "0.5")
    assert first.returncode == 0, first.stderr
    assert "1 skipped (0 cached)" in first.stdout
    assert "1 skipped (1 cached)" in bench("run", *options, "--eps", "0.5").stdout


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet_original", "vit_ft"])
def test_small_runs_on_real_images(bench: Bench, cifar_root: Path, flowers_root: Path, model: str) -> None:
    cut = ("models.resnet_original", "models.vit_scratch", "models.vit_source", "models.vit_ft")
    settings = [f"{name}.training.{key}" for name in cut for key in ("epochs=1", "samples_per_epoch=256")]
    settings += [f"{name}.hardening.{key}" for name in cut for key in ("epochs=1", "samples_per_epoch=128")]
    settings += [f"{name}.training.validation_samples=128" for name in cut]
    options = [part for setting in settings for part in ("--set", setting)]
    options += ["--data", str(cifar_root), "--data", str(flowers_root)]
    ended = bench("run", "--profile", "small", "--models", model, "--limit", "64", "--json", *options)
    assert ended.returncode == 0, ended.stderr
    cells = [row for row in json.loads(ended.stdout)["cells"] if row["metric"] == "accuracy"]
    assert [(row["status"], row["n"]) for row in cells] == [("ok", 64)] * 6
