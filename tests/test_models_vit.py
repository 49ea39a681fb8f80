"""Vision transformers by size, and timm's own preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from networks import batch_of, images
from photographs import SHAPES, differences, piece, pixels, shown
from safetensors.torch import save_file
from test_models import build, count

from harness.boundary import bind
from harness.errors import BenchError
from plugins.models.timm import Timm
from plugins.models.vit import ViT
from plugins.networks import Crop

torch.set_num_threads(1)

TINY: dict[str, Any] = {"size": "tiny", "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
CONVOLUTIONAL = "test_efficientnet"  # timm's own for tests: 160 px, bicubic, crop 0.95


def saved(module: Any, file: Path) -> str:
    save_file(module.network.state_dict(), file)
    return str(file)


def test_it_is_timms_network_under_a_short_name() -> None:
    one = build(ViT(**TINY), seed=3).state_dict()
    long = Timm(architecture="vit_tiny_patch16_224", patch_size=4, embed_dim=16, depth=2, num_heads=2)
    other = build(long, seed=3).state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "parameters"), [("tiny", 5_717_416), ("small", 22_050_664), ("base", 86_567_656)])
def test_the_sizes_are_those_of_the_papers(size: Any, parameters: int) -> None:
    """DeiT's table 1 (5, 22 and 86 million); exactly, of 1000 classes at 224 pixels, as timm publishes them."""
    assert count(build(ViT(size=size), 1000, (3, 224, 224))) == parameters


@pytest.mark.parametrize(
    ("patch_size", "architecture"), [(16, "vit_small_patch16_224"), (32, "vit_small_patch32_224"), (4, None)]
)
def test_the_patch_size_names_weights_where_there_are_some(patch_size: int, architecture: str | None) -> None:
    made = ViT(size="small", patch_size=patch_size)._timm()
    assert made.architecture == (architecture or "vit_small_patch16_224")
    assert made.patch_size == (None if architecture else patch_size)


@pytest.mark.parametrize(("image_size", "patch_size"), [(24, 4), (16, 2)], ids=["image", "patch"])
def test_weights_of_another_size_are_interpolated(image_size: int, patch_size: int, tmp_path: Path) -> None:
    source: Any = build(ViT(**TINY, image_size=16), 5, seed=1)
    with torch.no_grad():
        source.network.pos_embed[:, 1:] = 0.7  # a constant stays one, whatever it is stretched to
    file = saved(source, tmp_path / "vit.safetensors")
    target: Any = build(ViT(**{**TINY, "patch_size": patch_size}, image_size=image_size, weights=file), 5, seed=2)
    patches = (image_size // patch_size) ** 2
    found = target.network.state_dict()
    assert found["pos_embed"].shape == (1, 1 + patches, 16)
    assert torch.allclose(found["pos_embed"][:, 1:], torch.full((1, patches, 16), 0.7), atol=1e-5)
    assert found["patch_embed.proj.weight"].shape[-1] == patch_size
    assert torch.equal(found["head.weight"], source.network.state_dict()["head.weight"])
    assert target(batch_of(images(2)).x).shape == (2, 5)


def test_figures_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="patch_size: got 0"):
        ViT(patch_size=0)
    with pytest.raises(ValueError, match="image_size: got 8; at least one patch of 16"):
        ViT(image_size=8)
    with pytest.raises(BenchError, match=r"vit: 16 pixels are no whole number of patches of 5; set image_size, .* 20"):
        build(ViT(**{**TINY, "patch_size": 5}), 5)


def test_offline_it_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BenchError) as error:
        bind("models", ViT(size="tiny", pretrained=True)).sources()
    repository = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert str(error.value) == (
        f"model vit_tiny_patch16_224: {repository} is not in the local cache and could not be downloaded "
        f"(LocalEntryNotFoundError); fetch https://huggingface.co/{repository}/resolve/main/model.safetensors and give "
        "it by --weights PATH"
    )


# --- timm's preprocessing


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "architecture",
    [CONVOLUTIONAL, "test_vit"],
)
def test_images_are_prepared_as_timm_prepares_them(architecture: str, shape: tuple[int, int], tmp_path: Path) -> None:
    file = saved(build(Timm(architecture=architecture), 5, (3, 160, 160)), tmp_path / "timm.safetensors")
    module = build(Timm(architecture=architecture, weights=file, preprocessing="own"), 5, (3, *shape))
    own = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(architecture).to_dict())
    image = piece(shape)
    theirs = timm.data.create_transform(**own)(image)[None]
    largest, mean = differences(module, shown(module, pixels(image)), theirs)
    assert largest < 2.0
    assert mean < 0.35


def test_the_whole_image_is_shown_unless_its_own_preprocessing_is_asked_for(tmp_path: Path) -> None:
    file = saved(build(Timm(architecture=CONVOLUTIONAL), 5, (3, 160, 160)), tmp_path / "timm.safetensors")
    module: Any = build(Timm(architecture=CONVOLUTIONAL, weights=file), 5, (3, 40, 60))
    assert module.crop is None
    x = pixels(piece((40, 60)))
    stretched = torch.nn.functional.interpolate(x, size=(160, 160), mode="bilinear", antialias=True)
    assert torch.equal(shown(module, x), (stretched - module.mean) / module.std)
    assert build(Timm(architecture=CONVOLUTIONAL, preprocessing="own"), 5).crop is None  # from scratch


@pytest.mark.parametrize(
    ("architecture", "size", "crop"),
    [
        ("vit_base_patch16_224", 224, Crop(248, "bicubic")),
        ("tf_efficientnet_lite0", 224, Crop(256, "bicubic")),
        ("tf_efficientnet_lite0", 112, Crop(128, "bicubic")),
        ("vit_base_patch16_clip_384.openai_ft_in12k_in1k", 384, Crop((404, 404), "bicubic")),  # squashed
    ],
)
def test_resizing_follows_the_share_that_timm_crops_to(architecture: str, size: int, crop: Crop) -> None:
    model = Timm(architecture=architecture, preprocessing="own")
    assert model._crop(model._config(), size) == crop


def test_padding_is_refused() -> None:
    model = Timm(architecture="volo_d4_448", preprocessing="own")
    with pytest.raises(BenchError, match=r"volo_d4_448: timm pads images for it.*; set preprocessing = whole"):
        model._crop(model._config(), 448)


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, 112])
def test_published_weights_recognise_a_photograph(size: int | None, shared_data: Path) -> None:
    """EfficientNet-lite0 trained on ImageNet sees a flower of scikit-learn's as timm's own pipeline does."""
    file = shared_data / "weights" / "tf_efficientnet_lite0_imagenet1k.safetensors"
    if not file.is_file():
        pytest.skip(f"no real data: {file.name} is not in the shared data")
    name, shape = "tf_efficientnet_lite0", (300, 260)
    model = Timm(architecture=name, weights=str(file), preprocessing="own", image_size=size)
    module = build(model, 1000, (3, *shape))
    theirs = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)}).eval()
    own = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    own["input_size"] = (3, size or 224, size or 224)
    image = piece(shape, 1.0)
    with torch.no_grad():
        expected = theirs(timm.data.create_transform(**own)(image)[None]).softmax(1)
        found = module(pixels(image)).softmax(1)
    assert found.argmax() == expected.argmax()
    assert float(found.max()) > 0.1
    assert float((found - expected).abs().max()) < 0.02
