"""The contract that every registered component keeps, outsiders' too: a new one is tested here with no new test."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import captioners
import numpy as np
import pytest
import torch
from PIL import Image

from harness import locating, registry
from harness.contract import Candidate, Claim, Rule
from harness.contract.checking import rules_of
from harness.types import KINDS

torch.set_num_threads(1)

# Parameters where the defaults are too large for a test; a component that is not named here is tested as it is.
SMALLER: dict[tuple[str, str], dict[str, Any]] = {
    ("models", "timm"): {
        "architecture": "vit_tiny_patch16_224",
        "patch_size": 4,
        "embed_dim": 16,
        "depth": 1,
        "num_heads": 2,
    },
    ("models", "vit"): {"size": "tiny", "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2},
    ("models", "torchvision"): {"architecture": "shufflenet_v2_x0_5"},
    ("models", "transformers"): {
        "overrides": {
            "patch_size": 4,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        }
    },
    ("models", "resnet18"): {"width": 1 / 16},
    ("attacks", "square"): {"queries": 60},
    ("attacks", "apgd_ce"): {"steps": 20},
    ("attacks", "apgd_dlr"): {"steps": 20},
    ("attacks", "apgd_t"): {"steps": 20, "n_target_classes": 3},
    ("attacks", "fab_t"): {"iterations": 10},
    ("attacks", "fmn"): {"steps": 20},
    ("attacks", "foolbox"): {"parameters": {"steps": 5}},
    ("attacks", "art"): {"parameters": {"max_iter": 5}},
    ("attacks", "autoattack"): {"name": "apgd-ce", "parameters": {"n_iter": 10}},
}

# Their weights are on the network; the tests of their own make some.
ELSEWHERE = {("models", "robustbench")}

ELSEWHERE = {("models", "robustbench"): "its classes and weights are given: see tests/test_robustbench.py"}


@pytest.fixture(scope="module", autouse=True)
def _own_images(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the data set of anybody's images is made of here."""
    folder = tmp_path_factory.mktemp("own")
    SMALLER["models", "vision_encoder_decoder"] = {"weights": str(captioners.saved(folder / "captioner", "bert"))}
    for label in "abc":
        (folder / label).mkdir()
        for number in range(20):
            pixels = np.random.default_rng([ord(label), number]).integers(0, 256, (9, 11, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    SMALLER["datasets", "image_folder"] = {"path": str(folder), "size": 8}
    arrays = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    np.savez(folder / "arrays.npz", x=arrays, y=np.arange(60) % 3)
    SMALLER["datasets", "numpy"] = {"path": str(folder / "arrays.npz")}
    SMALLER["datasets", "hf_datasets"] = {"path": str(table(folder / "table.parquet", arrays)), "size": 8}
    (folder / "net.py").write_text(NETWORK)
    SMALLER["models", "file"] = {"file": f"{folder}/net.py:build", "mean": [0.5], "std": [0.25]}
    SMALLER["models", "hf"] = {"architecture": "vit", "pretrained": False, **SMALLER["models", "transformers"]}
    entries = [{"image": f"a/{number}.png", "captions_fa": ["یک سگ سیاه"]} for number in range(20)]
    (folder / "captions.json").write_text(json.dumps(entries))
    SMALLER["datasets", "coco_fa"] = {"path": str(folder), "size": 8, "drop": ["uncaptioned"]}


NETWORK = """from torch import nn
def build(channels, classes):
    features = nn.Sequential(nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4))
    return nn.Sequential(features, nn.Flatten(), nn.Dropout(0.1), nn.Linear(128, classes))
"""


def table(place: Path, images: Any) -> Path:
    """A file of the library datasets."""
    import datasets

    rows = {"image": list(map(Image.fromarray, images)), "label": [number % 3 for number in range(len(images))]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(place))
    return place


@functools.cache
def candidate(kind: str, name: str, *data: str) -> Candidate:
    return Candidate(kind, name, SMALLER.get((kind, name), {}), data=data)


HEAVY = {
    *("transformers", "vision_encoder_decoder", "hf"),
    *("fab_t", "fmn", "square", "apgd_t", "torchattacks", "foolbox", "art", "advlib", "autoattack"),
}
"""Components that take seconds for each rule of their kind: many passes, or a large library to import."""


def marks(name: str, rule: Rule) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if rule.slow or (rule.kind and name in HEAVY) else []


def every() -> list[Any]:
    return [
        pytest.param(kind, name, rule, id=f"{name}-{rule.name}", marks=marks(name, rule))
        for kind in KINDS
        for name in registry.names(kind)
        for rule in rules_of(kind)
    ]


def folders(kind: str, name: str, request: pytest.FixtureRequest) -> list[str]:
    """Where a data set lies that is not found without being told; not every one can be had here."""
    hooks = candidate(kind, name).hooks
    if hooks.locate(roots=locating.roots()) is not None:
        return []
    shared = [str(request.getfixturevalue(fixture)) for fixture in ("shared_data", "cifar_root")]
    if hooks.locate(roots=[Path(folder) for folder in shared]) is None:
        pytest.skip(f"{name} lies neither in the folders that are searched nor among the shared data")
    return shared


def test_every_kind_has_components() -> None:
    assert all(registry.names(kind) for kind in KINDS)


@pytest.mark.parametrize(("kind", "name", "rule"), every())
def test_a_component_keeps_the_contract(kind: str, name: str, rule: Rule, request: pytest.FixtureRequest) -> None:
    if rule.kind and (kind, name) in ELSEWHERE:
        pytest.skip(f"{name}: its weights are on the network")
    if (kind, name) in ELSEWHERE and rule.kind == kind:
        pytest.skip(ELSEWHERE[kind, name])
    data = folders(kind, name, request) if kind == "datasets" and rule.slow else []
    Claim(rule, candidate(kind, name, *data)).assert_holds()
