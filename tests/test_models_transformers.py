"""transformers' classifiers: the library's image processors and networks as oracles, folders, what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from attacked import check_budget, run
from hypothesis import given
from hypothesis import strategies as st
from networks import batch_of, images
from photographs import SHAPES, differences, piece, pixels, shown
from safetensors.torch import save_file
from test_models import build

from harness.boundary import bind
from harness.coercion import fill
from harness.errors import BenchError
from harness.folding import folded
from harness.types import Facts, Preparation, Threat
from harness.weights import read
from plugins import huggingface
from plugins.attacks.pgd import PGD
from plugins.image_processors import measured
from plugins.models.hf import HuggingFace
from plugins.models.transformers import Overrides, Transformers

transformers: Any = pytest.importorskip("transformers", reason="the extra transformers is not installed")
pytestmark = pytest.mark.slow  # importing it takes seconds
torch.set_num_threads(1)

VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "patch_size": 4,
}
KINDS: dict[str, dict[str, Any]] = {
    "vit": VIT,
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    "convnext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "patch_size": 2},
    "swin": {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2, "patch_size": 2},
    "dinov2": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 4},
    "clip": {"vision_config": {**VIT, "num_hidden_layers": 1}},
}
SHAPE = (3, 16, 16)


def saved(folder: Path, kind: str = "vit", *, classes: int = 7, size: int = 16, processor: Any = None) -> Path:
    """The weights in a folder as save_pretrained makes it, of a network with random weights."""
    torch.manual_seed(1)
    entries = {**KINDS[kind], **({} if kind in ("resnet", "convnext") else {"image_size": size})}
    config = transformers.AutoConfig.for_model(kind, **entries)
    config.num_labels = classes
    transformers.AutoModelForImageClassification.from_config(config).save_pretrained(folder)
    shape = {"height": size, "width": size}
    (processor or transformers.ViTImageProcessor(size=shape, image_mean=[0.4, 0.5, 0.6])).save_pretrained(folder)
    return folder / "model.safetensors"


def state(folder: Path) -> dict[str, torch.Tensor]:
    """What transformers itself loads, under the names of its version; files may have older ones."""
    loaded: dict[str, torch.Tensor] = transformers.AutoModelForImageClassification.from_pretrained(folder).state_dict()
    return loaded


# --- networks


@pytest.mark.parametrize("shape", [SHAPE, (1, 8, 8)], ids=["colour", "grey"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_is_enough(kind: str, shape: tuple[int, int, int]) -> None:
    model = Transformers(architecture=kind, overrides=KINDS[kind])
    module = build(model, 5, shape)
    x = batch_of(images(3, shape=shape)).x.requires_grad_()
    logits = module(x)
    assert logits.shape == (3, 5)
    assert logits.dtype == torch.float32
    assert torch.allclose(module(x[:1]), logits[:1], atol=1e-5)
    assert not any(part.training for part in module.modules())
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
    assert (gradient != 0).float().mean() > 0.95
    again = build(model, 5, shape).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in module.state_dict().items())
    assert bind("models", model).sources() == []


def test_overrides_come_from_a_table_and_stay_a_part_of_the_component() -> None:
    one = fill(Transformers, {"overrides": {"hidden_sizes": [8, 16], "depths": [1, 1]}}, "models.x")
    two = Transformers(overrides=Overrides(hidden_sizes=[8, 16], depths=[1, 1]))
    assert one == two
    assert hash(one) == hash(two)
    assert json.loads(json.dumps(one.overrides)) == {"hidden_sizes": [8, 16], "depths": [1, 1]}


def test_a_convolutional_network_is_folded() -> None:
    module = build(Transformers(architecture="resnet", overrides=KINDS["resnet"]), 5, SHAPE)
    assert folded(module, batch_of(images(2, shape=SHAPE)).x) is not None


# --- weights


@pytest.mark.parametrize("classes", [5, 7])
def test_a_network_computes_what_transformers_computes_with_the_same_folder(classes: int, tmp_path: Path) -> None:
    model = Transformers(weights=str(saved(tmp_path)))
    module: Any = build(model, classes, SHAPE)
    theirs = transformers.AutoModelForImageClassification.from_pretrained(tmp_path)
    x = batch_of(images(4, shape=SHAPE)).x
    if classes == 7:
        mean = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)
        assert torch.allclose(module(x), theirs((x - mean) / 0.5).logits, atol=1e-5)
    own = module.network.network.state_dict()
    differing = {name for name, tensor in theirs.state_dict().items() if not torch.equal(own[name], tensor)}
    assert differing == (set() if classes == 7 else {"classifier.weight", "classifier.bias"})
    assert module(x).shape == (4, classes)
    again = build(model, classes, SHAPE).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in module.state_dict().items())


def test_a_backbone_without_a_classifier_gets_one(tmp_path: Path) -> None:
    file = saved(tmp_path)
    whole = state(tmp_path)
    save_file({name: t for name, t in read(str(file)).items() if not name.startswith("classifier")}, file)
    module: Any = build(Transformers(weights=str(file)), 7, SHAPE)
    own = module.network.network.state_dict()
    differing = {name for name, tensor in whole.items() if not torch.equal(own[name], tensor)}
    assert differing == {"classifier.weight"}  # the bias is zero in both


def test_half_precision_weights_are_computed_with_in_single(tmp_path: Path) -> None:
    file = saved(tmp_path)
    save_file({name: tensor.half() for name, tensor in read(str(file)).items()}, file)
    assert {p.dtype for p in build(Transformers(weights=str(file)), 7, SHAPE).parameters()} == {torch.float32}


def test_weights_in_several_files_are_read_by_their_index(tmp_path: Path) -> None:
    tensors, whole = read(str(saved(tmp_path))), state(tmp_path)
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for part, own in parts.items():
        save_file({name: tensors[name] for name in own}, tmp_path / part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: part for part, own in parts.items() for name in own}}))
    (tmp_path / "model.safetensors").unlink()
    model = Transformers(weights=str(index))
    beside = ["config.json", "preprocessor_config.json", *parts]
    assert [file.name for file in bind("models", model).sources()] == beside
    own = build(model, 7, SHAPE).network.network.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(own[name], tensor) for name, tensor in whole.items())
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(BenchError, match=r"names .*b\.safetensors, which is not there"):
        bind("models", model).sources()


def test_what_decides_the_model_beside_the_weights_is_a_source(tmp_path: Path) -> None:
    sources = bind("models", Transformers(weights=str(saved(tmp_path)))).sources()
    assert [file.name for file in sources] == ["config.json", "preprocessor_config.json"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden_size": 32}, r"vit\.embeddings\.cls_token needs shape \(1, 1, 32\), got \(1, 1, 16\); the same"),
        ({"num_hidden_layers": 3}, r"\.2\..* is not among the weights; the same architecture"),
    ],
    ids=["width", "depth"],
)
def test_only_the_classifier_may_differ(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    model = Transformers(weights=str(saved(tmp_path)), overrides=change)
    with pytest.raises(BenchError, match=reason) as error:
        build(model, 5, SHAPE)
    assert "\n" not in str(error.value)


# --- preprocessing


PROCESSORS = {
    "stretched, bilinear": lambda: transformers.ViTImageProcessor(size={"height": 32, "width": 32}),
    "cropped, bicubic": lambda: transformers.CLIPImageProcessor(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}
    ),
    "stretched and cropped": lambda: transformers.DeiTImageProcessor(
        size={"height": 36, "width": 36}, crop_size={"height": 32, "width": 32}
    ),
    "ConvNeXt's share": lambda: transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875),
    "LeViT's share": lambda: transformers.LevitImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    ),
    "normalised twice": lambda: transformers.EfficientNetImageProcessor(size={"height": 32, "width": 32}),
    "blue first": lambda: transformers.MobileViTImageProcessor(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", PROCESSORS)
def test_images_are_prepared_as_the_image_processor_prepares_them(
    case: str, shape: tuple[int, int], tmp_path: Path
) -> None:
    """Through the whole network: what it is given, against the processor on the image as an array."""
    import numpy as np

    processor = PROCESSORS[case]()
    size = measured(processor).size[0]
    module: Any = build(Transformers(weights=str(saved(tmp_path, size=size, processor=processor))), 7, (3, *shape))
    image = piece(shape)
    theirs = processor(images=np.array(image), return_tensors="pt")["pixel_values"]
    ours = shown(module, pixels(image))
    ours = ours.flip(1) if module.network.flipped else ours
    assert module.network.flipped is (case == "blue first")
    largest, mean = differences(module, ours, theirs)
    assert largest < 2.0
    assert mean < 0.35


def test_the_figures_are_those_of_the_configuration(tmp_path: Path) -> None:
    module: Any = build(Transformers(weights=str(saved(tmp_path))), 7, SHAPE)
    assert module.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert module.std.flatten().tolist() == pytest.approx([0.5] * 3)
    scratch: Any = build(Transformers(overrides=VIT), 7, SHAPE)
    assert scratch.mean.flatten().tolist() == pytest.approx([0.4] * 3)


@pytest.mark.parametrize(
    ("processor", "reason"),
    [
        (lambda: transformers.ViTImageProcessor(do_resize=False), "in their own ratio"),
        (transformers.PerceiverImageProcessor, "does something to images that cannot be done here"),
        (transformers.Siglip2ImageProcessor, "gives no image but a tensor of shape"),
    ],
    ids=["no size", "crops first", "patches"],
)
def test_an_image_processor_that_does_more_is_refused(processor: Any, reason: str) -> None:
    with pytest.raises(BenchError, match=reason):
        measured(processor())


def test_another_image_size_interpolates_position_embeddings(tmp_path: Path) -> None:
    weights = str(saved(tmp_path, size=32))
    module: Any = build(Transformers(weights=weights, image_size=48), 7, SHAPE)
    assert module.size == (48, 48)
    assert module.network.given == {"interpolate_pos_encoding": True}
    x = torch.rand(2, 3, 48, 48)
    theirs = transformers.AutoModelForImageClassification.from_pretrained(tmp_path)
    seen = (x - module.mean) / module.std
    assert torch.allclose(module(x), theirs(seen, interpolate_pos_encoding=True).logits, atol=1e-5)
    assert build(Transformers(weights=weights), 7, SHAPE).network.given == {}  # type: ignore[union-attr]


# --- what is refused


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Transformers(architecture="vti"), r"architecture \(transformers\): no such name 'vti'; did you mean vit"),
        (Transformers(architecture="bert"), r"architecture \(transformers\): no such name 'bert'"),
        (Transformers(overrides={"hidden_sizes": 8}), r"vit: overrides: no such name .* did you mean hidden_size"),
        (Transformers(overrides={"hidden_size": "8"}), r"vit: its configuration is refused: .*hidden_size"),
        (Transformers(pretrained=True), r"vit: a kind of model, which has no weights; name one on the hub"),
        (
            Transformers(architecture="swin", overrides={**KINDS["swin"], "embed_dim": 7, "num_heads": [2, 2]}),
            r"swin: does not take images of 16 x 16 \(shape .* is invalid .*\); set image_size .* or change its config",
        ),
    ],
    ids=["kind", "no classifier", "entry", "type", "no weights", "geometry"],
)
def test_what_cannot_be_built_is_told_in_one_line(model: Transformers, reason: str) -> None:
    with pytest.raises(BenchError, match=reason) as error:
        build(model, 5, SHAPE)
    assert "\n" not in str(error.value)


def test_channels_that_the_weights_do_not_take_are_refused(tmp_path: Path) -> None:
    model = Transformers(weights=str(saved(tmp_path)))
    grey = batch_of(images(2, shape=(1, 16, 16))).x
    assert torch.equal(build(model, 7, (1, 16, 16))(grey), build(model, 7, SHAPE)(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(BenchError, match="takes 3 channels, the data has 4"):
        build(model, 5, (4, 16, 16))


def test_a_folder_needs_its_configurations(tmp_path: Path) -> None:
    file = saved(tmp_path / "here")
    with pytest.raises(BenchError, match=r"here: a folder; set weights = .*here/model\.safetensors"):
        bind("models", Transformers(architecture=str(tmp_path / "here"))).sources()
    (tmp_path / "here" / "preprocessor_config.json").unlink()
    with pytest.raises(BenchError, match=r"no preprocessor_config\.json beside config\.json, so what its images"):
        build(Transformers(weights=str(file)), 7, SHAPE)
    (tmp_path / "here" / "config.json").unlink()
    with pytest.raises(BenchError, match=r"no config\.json beside it; the folder that save_pretrained writes"):
        bind("models", Transformers(weights=str(file))).sources()


@pytest.mark.usefixtures("workplace")
def test_a_folder_that_is_not_there_is_told() -> None:
    with pytest.raises(
        BenchError, match=r"model \./mine: no such folder, and no name on the Hugging Face hub; a folder"
    ):
        bind("models", HuggingFace("./mine")).sources()


def test_offline_it_says_what_to_fetch_and_where_to_put_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    hooks = bind("models", Transformers(architecture="google/vit-base-patch16-224", pretrained=True))
    with pytest.raises(BenchError) as error:
        hooks.sources()
    assert str(error.value) == (
        "model google/vit-base-patch16-224: google/vit-base-patch16-224 is not in the local cache and could not be "
        "downloaded (LocalEntryNotFoundError); fetch "
        "https://huggingface.co/google/vit-base-patch16-224/resolve/main/model.safetensors and put it, config.json and "
        "preprocessor_config.json from there into one folder: the model is then hf:FOLDER, or weights = "
        "FOLDER/model.safetensors"
    )


def test_the_hubs_cache_is_used_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache as huggingface_hub lays it out, which knows of one processor file that the repository has none."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--someone--tiny"
    saved(place / "snapshots" / "abc")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    absent = place / ".no_exist" / "abc" / "processor_config.json"
    absent.parent.mkdir(parents=True)
    absent.touch()
    model = Transformers(architecture="someone/tiny", pretrained=True)
    names = [file.name for file in bind("models", model).sources()]
    assert names == ["config.json", "preprocessor_config.json", "model.safetensors"]
    assert build(model, 7, SHAPE)(torch.rand(2, *SHAPE)).shape == (2, 7)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BenchError, match=r"pip install 'adversarial-bench\[transformers\]'"):
        bind("models", Transformers()).sources()


# --- attacked


def test_one_step_of_pgd_raises_the_loss_through_the_preprocessing(tmp_path: Path) -> None:
    module = build(Transformers(weights=str(saved(tmp_path, size=32))), 7, SHAPE).requires_grad_(False)
    batch = batch_of(images(16, shape=SHAPE))
    batch = batch._replace(y=module(batch.x).argmax(1))
    threat = Threat("Linf", 8 / 255)
    x_adv = run(PGD(steps=1, alpha=8 / 255, random_start=False), threat, batch, module)
    check_budget(x_adv, batch.x, threat)
    before, after = (torch.nn.functional.cross_entropy(module(x), batch.y) for x in (batch.x, x_adv))
    assert after > before


# --- the order of classes


NAMES = ("daisy", "sea lion", "pot-plant", "tench, Tinca tinca")


def named(folder: Path, names: Sequence[str]) -> Path:
    """Weights whose configuration gives its outputs these names."""
    weights = saved(folder, classes=len(names))
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(k): name for k, name in enumerate(names)}
    config["label2id"] = {name: k for k, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config))
    return weights


@pytest.mark.parametrize(
    ("classes", "order"),
    [
        (("daisy", "sea_lion", "pot plant", "Tench"), None),
        (("tench", "Pot_Plant", "daisy", "sea lion"), [3, 2, 0, 1]),
        (("tench", "pot plant", "daisy", "walrus"), None),  # the names do not tell
        (("daisy", "daisy", "pot plant", "tench"), None),
    ],
)
def test_outputs_are_put_into_the_order_of_the_datas_classes(
    classes: tuple[str, ...], order: list[int] | None, tmp_path: Path
) -> None:
    weights = named(tmp_path, NAMES)
    network = transformers.AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    facts = Facts((3, 16, 16), classes, {"train": 4, "validation": 4, "test": 4}, "none", "nobody", "nowhere")
    module = Transformers(weights=str(weights)).build(Preparation(facts, (0.5,) * 3, (0.5,) * 3))
    x = torch.rand(3, 3, 16, 16)
    shown = (x - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor([0.5, 0.5, 0.5]).view(3, 1, 1)
    with torch.no_grad():
        wanted = network(shown).logits
        assert torch.allclose(module(x), wanted if order is None else wanted[:, order], atol=1e-5)
    assert "order" not in "".join(module.state_dict())


@given(st.permutations(range(6)))
def test_any_order_is_found(order: list[int]) -> None:
    names = [f"class {k}" for k in range(6)]
    found = huggingface.order(dict(enumerate(names)), [names[k] for k in order])
    assert found == (None if order == sorted(order) else order)
