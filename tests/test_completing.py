"""What a shell is offered for names on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import completing
from harness.types import KINDS


def test_names_of_a_kind_are_configurations_and_components_each_comma_anew() -> None:
    models = completing.of_kind("models")
    assert {"vit", "vit_ft", "vit_scratch"} <= set(models("vi"))
    assert "resnet_noisy,vit_ft" in models("resnet_noisy,vi")
    assert all(found.startswith("a,b,pgd") for found in completing.of_kind("attacks")("a,b,pgd"))
    assert models("there is no such model") == []


def test_sections_and_kinds() -> None:
    assert set(completing.of_section("profiles")("")) >= {"tiny", "small", "report"}
    assert completing.of_section("matrices")("captions_") == ["captions_targeted"]
    assert completing.kinds("") == list(KINDS)
    assert completing.kinds("at") == ["attacks"]


def test_a_registry_of_ones_own_counts_and_a_broken_one_offers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry.toml").write_text('[attacks.zeal]\ncomponent = "pgd"\n')
    assert completing.of_kind("attacks")("ze") == ["zeal"]
    (tmp_path / "registry.toml").write_text("[attacks")
    assert completing.of_kind("attacks")("ze") == []


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("bench run --models resnet_noisy,vit_", {"resnet_noisy,vit_ft", "resnet_noisy,vit_scratch"}),
        ("bench run --metrics accuracy,top", {"accuracy,top5_accuracy", "accuracy,top_k_accuracy"}),
        ("bench table --matrix captions_", {"captions_targeted"}),
        ("bench info attacks torchatt", {"torchattacks", "torchattacks_fgsm", "torchattacks_pgd"}),
    ],
)
def test_the_shell_asks_the_program(words: str, offered: set[str], tmp_path: Path) -> None:
    bench = Path(sys.executable).with_name("bench")
    asked = {"_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    ended = subprocess.run(
        [bench], env={**os.environ, **asked}, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert set(ended.stdout.split()) == offered, ended.stderr
