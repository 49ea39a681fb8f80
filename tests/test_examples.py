"""The examples are what they say: installed and tested as an outsider would, and as short as is claimed."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import pytest
import torch
import torchattacks
from outsider import Outsider

from harness import config, registry
from harness.attacking import ModelProblem
from harness.material import right, small
from harness.types import Threat

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_ni_fgsm_takes_25_lines() -> None:
    source = (EXAMPLES / "ni_fgsm.py").read_text()
    (node,) = [part for part in ast.parse(source).body if isinstance(part, ast.ClassDef)]
    begin = min(mark.lineno for mark in node.decorator_list)
    assert node.end_lineno is not None
    assert node.end_lineno - begin + 1 <= 25


def test_ni_fgsm_makes_the_images_of_torchattacks() -> None:
    registry.plug("--plugin", [EXAMPLES / "ni_fgsm.py"])
    try:
        attack = config.configure({}, "attacks", "ni_fgsm").component
    finally:
        registry.plug("--plugin", [])
    batch, threat = right(), Threat("Linf", 8 / 255)
    ours = attack.perturb(ModelProblem(small()), batch, threat)
    theirs = torchattacks.NIFGSM(small(), eps=threat.eps, alpha=2 / 255, steps=10, decay=1.0)(batch.x, batch.y)
    assert float((theirs - batch.x).abs().max()) == pytest.approx(threat.eps, rel=1e-4)
    assert torch.equal((ours - theirs).abs() > 1e-6, torch.zeros_like(ours, dtype=torch.bool))


@pytest.mark.slow
def test_vmi_fgsm_is_installed_tested_and_run_as_an_outsider_would(tmp_path: Path) -> None:
    outsider = Outsider(tmp_path)
    package = outsider.place / "vmi_fgsm"
    shutil.copytree(EXAMPLES / "vmi_fgsm", package, ignore=shutil.ignore_patterns("__pycache__"))
    outsider.install(package)
    told = json.loads(outsider.bench("info", "attacks", "vmi_fgsm", "--json"))
    assert (told["distribution"], told["version"]) == ("bench-vmi-fgsm", "0.1.0")
    tested = outsider.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "vmi_fgsm")
    assert tested.returncode == 0, tested.stdout
    assert json.loads(outsider.bench("check", "vmi_fgsm", "--json"))["holds"]
    few = ["--limit", "100", "--set", "models.resnet_original.training.epochs=3"]
    outsider.bench("run", "--models", "resnet_original", "--attacks", "clean,mi_fgsm,vmi_fgsm", *few)
    rows = {row["attack"]: row for row in json.loads(outsider.bench("table", "--format", "json"))}
    assert rows["vmi_fgsm"]["status"] == "ok"
    assert rows["vmi_fgsm"]["value"] < rows["clean"]["value"]
