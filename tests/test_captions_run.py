"""The matrix of captions from the command line to the table: learnt, generated, attacked, stored, measured, shown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import run as flow
from harness.progress import Reporter
from harness.request import Options
from harness.store.reading import open_reader

pytestmark = pytest.mark.slow

Bench = Callable[..., subprocess.CompletedProcess[str]]
SMALL = (
    *("datasets.shapes_fa.train=60", "datasets.shapes_fa.validation=8", "datasets.shapes_fa.test=12"),
    *("datasets.shapes_fa.size=32", "datasets.shapes_fa.references=2", "run.longest=14", "attacks.pgd.steps=3"),
    *("models.caption_additive.training.epochs=2", "models.caption_additive.training.batch_size=16"),
)


def run(bench: Bench, *arguments: str, settings: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    changes = [part for setting in (*SMALL, *settings) for part in ("--set", setting)]
    return bench("run", "--matrix", "captions", *arguments, *changes)


def rows(bench: Bench) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(bench("table", "--format", "json").stdout)
    return found


def test_captions_are_learnt_attacked_stored_and_shown(bench: Bench, workplace: Path) -> None:
    ended = run(bench, "--models", "caption_additive,caption_scaled_dot")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "BLEU-4" in ended.stderr

    found = {(row["model"], row["attack"], row["metric"]): row for row in rows(bench)}
    assert {row["status"] for row in found.values()} == {"ok"}
    assert {model for model, _, _ in found} == {"caption_additive", "caption_scaled_dot"}
    for model in ("caption_additive", "caption_scaled_dot"):
        assert found[model, "clean", "bleu4"]["n"] == 12
        assert 0 <= found[model, "clean", "bleu4"]["value"] <= 1
        assert found[model, "clean", "caption_loss"]["value"] > 0
        assert found[model, "pgd", "linf_max"]["value"] == pytest.approx(24 / 255, abs=1e-6)
        assert found[model, "pgd", "forwards"]["value"] > found[model, "clean", "forwards"]["value"]
        # Which way cannot be told: its own caption has become less likely, and so little learnt that is not the truth.
        assert found[model, "pgd", "caption_loss"]["value"] != found[model, "clean", "caption_loss"]["value"]
    with open_reader(str(workplace / "results.db")) as reader:
        stored = reader.rows("SELECT clean_caption, caption, named FROM captions")
    assert len(stored) == 2 * 2 * 12
    assert any(row["clean_caption"] for row in stored)
    assert not any("<" in row["clean_caption"] for row in stored)

    shown = bench("table", "--matrix", "captions", "--reference", "report", "--format", "markdown")
    assert shown.returncode == 0, shown.stderr
    assert "captions, profile tiny: shapes\\_fa; clean" in shown.stdout.replace("shapes_fa", "shapes\\_fa")
    assert "| metric | pgd Linf 24/255 caption_additive |" in shown.stdout.replace("\\_", "_")
    assert "3.14" in shown.stdout  # the published loss stands beside

    again = run(bench, "--models", "caption_additive,caption_scaled_dot")
    assert again.returncode == 0
    assert "(4 cached)" in again.stdout


def test_a_frozen_encoder_is_asked_once_an_image(bench: Bench, workplace: Path) -> None:
    frozen = ("models.caption_additive.frozen=true",)
    ended = run(bench, "--models", "caption_additive", "--attacks", "clean", settings=frozen)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    files = list((workplace / "artifacts" / "features").glob("*/features.npy"))
    assert len(files) == 2  # of the training and of the validation images


def test_baselines_repeat_captions_and_attacks_aim(bench: Bench) -> None:
    aimed = ("attacks.pgd_caption.steps=3", "attacks.pgd_keyword.steps=3")
    ended = run(bench, "--models", "caption_frequent,caption_neighbour", "--attacks", "clean,pgd,gaussian_noise")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = {(row["model"], row["attack"]): row for row in rows(bench) if row["metric"] in ("bleu4", "accuracy")}
    for model in ("caption_frequent", "caption_neighbour"):
        assert found[model, "clean"]["status"] == "ok"
        assert found[model, "gaussian_noise"]["status"] == "ok"
        assert "raises a loss" in found[model, "pgd"]["reasons"][0]["text"]
    assert not any(row["metric"] == "caption_loss" and row["value"] is not None for row in rows(bench))
    changes = [part for setting in (*SMALL, *aimed) for part in ("--set", setting)]
    targeted = bench("run", "--matrix", "captions_targeted", "--models", "caption_additive", *changes)
    assert targeted.returncode == 0, targeted.stdout + targeted.stderr
    rates = {(row["attack"], row["metric"]): row for row in rows(bench) if row["model"] == "caption_additive"}
    for attack, metric in (("pgd_caption", "target_rate"), ("pgd_keyword", "keyword_rate")):
        assert 0 <= rates[attack, metric]["value"] <= 1
        assert rates[attack, metric]["n"] == 12
        assert rates[attack, "bleu4"]["status"] == "ok"
    assert rates.get(("pgd", "target_rate"), {"value": None})["value"] is None
    compared = bench("compare", "caption_additive/none/pgd_caption", "caption_additive/none/pgd_keyword")
    assert compared.returncode == 0, compared.stderr
    assert "paired bootstrap" in compared.stdout
    shown = bench("show", "caption_additive/none/pgd_caption")
    assert "aim" in shown.stdout
    wrong = bench("run", "--models", "resnet_original", "--attacks", "pgd_keyword", "--limit", "4", "--set",
                  "models.resnet_original.training.epochs=1")  # fmt: skip
    assert "attack pgd_keyword aims at a keyword; digits asks for classes" in wrong.stderr


def test_what_does_not_apply_to_captions_is_said(bench: Bench) -> None:
    ended = run(bench, "--models", "caption_additive", "--attacks", "square")
    assert ended.returncode == 0, ended.stderr
    assert "attack square is made for classification; shapes_fa asks for captioning" in ended.stderr
    assert [row["status"] for row in rows(bench)] == ["skipped"]
    mistaken = run(bench, "--models", "caption_additive", "--domain", "normalised", "--dry-run")
    assert mistaken.returncode == 2
    assert "--domain normalised: models.caption_additive writes captions; leave --domain out" in mistaken.stderr
    Path("registry.toml").write_text('[attacks.both]\nmembers = ["fgsm", "pgd"]\n')
    together = run(bench, "--models", "caption_additive", "--attacks", "both")
    assert "attack both needs several attacks; captions are attacked by one attack" in together.stderr
    wrong = bench(
        "run", "--models", "resnet_original", "--set", "models.resnet_original.dataset=shapes_fa", "--dry-run"
    )
    assert wrong.returncode == 2
    assert "a model for classification; its dataset shapes_fa is one for captioning" in wrong.stderr


class Stopping(Reporter):
    """Stands for Ctrl-C as soon as the first epoch is over."""

    def say(self, text: str) -> None:
        if ": epoch 1/3" in text:
            raise KeyboardInterrupt


class Hearing(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, text: str) -> None:
        self.heard.append(text)


def trained(model: str, settings: tuple[str, ...], folder: Path, reporter: Reporter) -> None:
    """The clean captions of a model that is trained for three epochs, in this process."""
    few = ("datasets.shapes_fa.train=40", "models.caption_additive.width=0.25")
    options = Options(matrix="captions", models=[model], attacks=["clean"], settings=(*SMALL, *few, *settings))
    places = flow.Places(store=str(folder / "results.db"), artifacts=str(folder / "artifacts"))
    flow.execute(flow.prospect(options, places), places, "bench run", reporter)


def left(folder: Path) -> dict[str, Any]:
    """What a run has left of a captioner: its weights, what was told of each epoch but its speed, what it says."""
    (weights,) = (folder / "artifacts" / "fit").glob("*/weights.safetensors")
    with open_reader(str(folder / "results.db")) as reader:
        (step,) = reader.rows("SELECT history FROM steps WHERE kind = 'fit' AND status = 'ok'")
        said = reader.rows("SELECT * FROM captions ORDER BY cell_key, sample_id")
    history = [{k: v for k, v in epoch.items() if k != "images_per_second"} for epoch in json.loads(step["history"])]
    return {"weights": weights.read_bytes(), "history": history, "said": [dict(row) for row in said]}


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("caption_additive", ()),
        # Locations and words before are drawn, and what a location has earned is held against a moving average.
        ("caption_hard", ("models.caption_hard.scheduled_sampling=linear", "models.caption_hard.teacher_end=0.5")),
    ],
)
@pytest.mark.usefixtures("workplace")
def test_a_stopped_training_of_a_captioner_ends_in_the_same_bits(
    model: str, settings: tuple[str, ...], tmp_path: Path
) -> None:
    settings = (*settings, "models.caption_additive.training.epochs=3")
    whole, stopped, hearing = tmp_path / "whole", tmp_path / "stopped", Hearing()
    for folder in (whole, stopped):
        folder.mkdir()
    trained(model, settings, whole, Hearing())
    trained(model, settings, stopped, Stopping())
    assert list((stopped / "artifacts" / "checkpoints").iterdir())
    assert not list(stopped.glob("artifacts/fit/*/weights.safetensors"))
    torch.manual_seed(99)  # another process begins with other random numbers
    trained(model, settings, stopped, hearing)
    epochs = [line.partition(": epoch ")[2][:3] for line in hearing.heard if ": epoch " in line]
    assert epochs == ["2/3", "3/3"]
    found, wanted = left(stopped), left(whole)
    assert [epoch["epoch"] for epoch in found["history"]] == [1, 2, 3]
    assert found["history"] == wanted["history"]
    assert found["weights"] == wanted["weights"]
    assert len(found["said"]) == 12
    assert found["said"] == wanted["said"]
