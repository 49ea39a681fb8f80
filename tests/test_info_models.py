"""`bench info models`: how many parameters a model has, told without weights and, where it can be, without data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.captioning.text import cleaned
from harness.captioning.vocabulary import Vocabulary
from harness.report.catalogue import as_json, description
from harness.types import Facts, Preparation
from plugins import hub
from plugins.datasets.shapes_fa import ShapesFa
from plugins.models.captioner import LSTMCaptioner
from plugins.models.resnet18 import ResNet18
from plugins.models.timm import Timm

if TYPE_CHECKING:
    from torch import nn

pytestmark = pytest.mark.usefixtures("workplace")

SMALL = ["datasets.shapes_fa.train=20", "datasets.shapes_fa.validation=3", "datasets.shapes_fa.test=3"]


def size(name: str, profile: str = "tiny", settings: list[str] | None = None) -> Any:
    return json.loads(as_json("models", name, profile, None, settings or []))["size"]


def total(text: str) -> list[int]:
    """Parameters and those of them that are trained, from the text."""
    (line,) = [line for line in text.splitlines() if line.startswith("  total")]
    return [int(number.replace(",", "")) for number in line.split()[1:]]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_given: object) -> None:
        raise AssertionError("asked for weights")

    for name in ("huggingface", "optional", "address"):
        monkeypatch.setattr(hub, name, refuse)


@pytest.mark.slow
@pytest.mark.usefixtures("no_hub")
def test_the_published_captioner_has_its_published_size() -> None:
    text = description("models", "caption_additive", "report", None, ["models.caption_additive.vocabulary_size=3992"])
    assert total(text) == [78_164_585, 14_377_625]
    rows = [line.split() for line in text.splitlines()]
    assert ["encoder", "Encoder", "63,786,960", "frozen"] in rows
    assert ["decoder", "Decoder", "14,377,625", "14,377,625"] in rows
    assert ["embedding", "Embedding", "1,021,952", "1,021,952"] in rows
    assert "for images of 3 x 224 x 224, 3,992 words, the special ones among them" in text


def test_a_classifier_has_as_many_as_when_it_is_built() -> None:
    text = description("models", "resnet_original", "report", None, [])
    facts = Facts((3, 32, 32), tuple(map(str, range(100))), {}, "", "", "")
    assert total(text) == [count(ResNet18().build(Preparation(facts, (0.5,) * 3, (0.2,) * 3)))] * 2
    assert "for images of 3 x 32 x 32, 100 classes" in text


@pytest.mark.parametrize("encoder", ["small", "tf_efficientnet_lite0"])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_captioner_has_as_many_as_when_it_is_built(encoder: str, frozen: bool) -> None:
    facts = Facts((3, 48, 48), (), {}, "", "", "", task="captioning")
    widths: dict[str, Any] = {"embed_dim": 8, "decoder_dim": 12, "attention_dim": 6}
    captioner = LSTMCaptioner(encoder=encoder, frozen=frozen, vocabulary_size=50, **widths)
    module = captioner.build(Preparation(facts, (0.5,) * 3, (0.2,) * 3))
    settings = {"encoder": f'"{encoder}"', "frozen": str(frozen).lower(), "vocabulary_size": 50, "width": 1.0, **widths}
    found = size("caption_additive", settings=[f"models.caption_additive.{k}={v}" for k, v in settings.items()])
    assert found["all"] == count(module)
    assert found["trainable"] == sum(p.numel() for p in module.parameters() if p.requires_grad)


def test_the_words_are_read_where_they_are_not_set(capsys: pytest.CaptureFixture[str]) -> None:
    found = size("caption_additive", settings=SMALL)
    assert capsys.readouterr().err == "bench info: reading the captions of shapes_fa\n"
    training = ShapesFa(train=20, validation=3, test=3).load()["train"].captions
    words = len(Vocabulary.of(cleaned((text for captions in training for text in captions), "fa")))
    assert found["for"] == f"images of 3 x 48 x 48, {words} words, the special ones among them"
    assert size("caption_additive", settings=[f"models.caption_additive.vocabulary_size={words}"]) == found
    assert capsys.readouterr().err == ""


def test_where_the_words_cannot_be_read_one_line_says_what_to_set() -> None:
    last = description("models", "caption_additive", "report", None, []).splitlines()[-1]
    assert last.startswith("parameters: depend on how many words the captions of coco_fa have (coco_fa is not found in")
    assert last.endswith("set it by --set models.caption_additive.vocabulary_size=N, the 4 special words counted")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet18", [], "depend on the data set; name one by --set models.resnet18.dataset=NAME"),
        ("timm:resnet18", [], "name one by --set models.timm:resnet18.dataset=NAME"),
        ("timm:resnet18.a1_in1k", [], "name one by --set 'models.\"timm:resnet18.a1_in1k\".dataset=NAME'"),
        ("resnet_original", ["models.resnet_original.dataset=image_folder"], "image_folder: no path is set"),
        ("resnet_original", ["models.resnet_original.dataset=shapes_fa"], "a model for classification, its dataset"),
        ("caption_additive", ["models.caption_additive.dataset=digits"], "a model for captioning, its dataset digits"),
        ("vit_scratch", ["models.vit_scratch.embed_dim=7"], "cannot be built"),
    ],
)
def test_what_cannot_be_counted_says_why_and_the_rest_is_told(name: str, settings: list[str], message: str) -> None:
    text = description("models", name, "tiny", None, settings)
    assert "component  " in text
    (line,) = [line for line in text.splitlines() if line.startswith("parameters: ")]
    assert message in line
    assert message in size(name, settings=settings)["fault"]


@pytest.mark.usefixtures("no_hub")
def test_published_weights_are_not_fetched_and_count_at_their_own_size() -> None:
    settings = ["models.vit_ft.architecture=vit_tiny_patch16_224", "models.vit_ft.dataset=cifar100"]
    found = size("vit_ft", "report", settings)
    facts = Facts((3, 32, 32), tuple(map(str, range(100))), {}, "", "", "")
    same = Timm("vit_tiny_patch16_224", image_size=224).build(Preparation(facts, (0.5,) * 3, (0.2,) * 3))
    assert found["all"] == found["trainable"] == count(same)
    assert {group["name"]: group["all"] for group in found["groups"]}["pos_embed"] == 197 * 192


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize(
    ("component", "settings"),
    [
        ("vit", ['size="tiny"']),
        ("timm", ['architecture="resnet10t"']),
        ("torchvision", ['architecture="resnet18"']),
        ("resnet18", []),
        ("captioner", ['encoder="resnet10t"', "vocabulary_size=40", 'dataset="shapes_fa"']),
    ],
)
def test_a_file_of_weights_is_not_opened(component: str, settings: list[str]) -> None:
    own = [f"models.{component}.{setting}" for setting in ["weights=gone.safetensors", 'dataset="cifar100"', *settings]]
    assert size(component, settings=own)["all"] > 100_000


def test_a_model_that_looks_at_values_while_it_builds_is_counted_too(plugin_distribution: Callable[..., Path]) -> None:
    source = """
        from dataclasses import dataclass
        from harness.hookspecs import hookimpl

        @dataclass(frozen=True)
        class Odd:
            @hookimpl
            def build(self, preparation):
                from torch import nn
                module = nn.Linear(3, len(preparation.facts.classes))
                assert float(module.weight.detach().sum()) < 1e9
                return module
    """
    plugin_distribution("stranger", source, models={"odd": "Odd"})
    assert size("odd", settings=["models.odd.dataset=digits"])["all"] == 40


@pytest.mark.slow
def test_the_command_prints_text_and_json(bench: Callable[..., Any]) -> None:
    ended = bench("info", "models", "resnet_original")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^parameters +layer +all +trainable$", ended.stdout, re.MULTILINE)
    told = bench("info", "models", "resnet_original", "--json")
    assert [json.loads(told.stdout)["size"][name] for name in ("all", "trainable")] == total(ended.stdout)
    assert not Path("artifacts").exists()
