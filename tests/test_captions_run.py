"""The matrix of captions from the command line to the table: learnt, generated, attacked, stored, measured, shown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
