"""The built-in models: what they take and give, how large they are, and that a seed decides them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from networks import batch_of, images
from safetensors.torch import save_file
from torch import nn

from harness.boundary import bind
from harness.errors import BenchError
from harness.types import Facts, Preparation
from plugins.models.resnet18 import ResNet18
from plugins.models.timm import Timm
from plugins.networks import BasicBlock, Normalised

torch.set_num_threads(1)

VIT = Timm(architecture="vit_tiny_patch16_224", patch_size=4, embed_dim=16, depth=2, num_heads=2)
MODELS = [ResNet18(width=1 / 16), VIT, Timm(architecture="resnet10t")]
NAMES = ["resnet18", "vit", "convolutional timm"]


def build(model: Any, classes: int = 5, shape: tuple[int, int, int] = (3, 16, 16), seed: int = 0) -> nn.Module:
    facts = Facts(shape, tuple(map(str, range(classes))), {"train": 1, "validation": 1, "test": 1}, "", "", "")
    preparation = Preparation(facts, (0.4,) * shape[0], (0.2,) * shape[0])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module: nn.Module = bind("models", model).build(preparation=preparation)
    return module


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
@pytest.mark.parametrize(("shape", "classes"), [((3, 16, 16), 5), ((1, 8, 8), 10)])
def test_pixels_in_logits_out(model: Any, shape: tuple[int, int, int], classes: int) -> None:
    x = batch_of(images(6, shape=shape)).x
    logits = build(model, classes, shape)(x)
    assert logits.shape == (6, classes)
    assert logits.isfinite().all()
    assert logits.std() > 0


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_the_gradient_reaches_every_pixel(model: Any) -> None:
    x = batch_of(images(2, shape=(3, 16, 16))).x.requires_grad_()
    (gradient,) = torch.autograd.grad(build(model)(x)[:, 0].sum(), x)
    assert (gradient != 0).float().mean() > 0.95


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_a_seed_decides_the_weights(model: Any) -> None:
    one, again, other = (build(model, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_normalisation_happens_inside_with_the_datas_figures(model: Any) -> None:
    module, seen = build(model), list[torch.Tensor]()
    assert isinstance(module, Normalised)
    module.network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    x = batch_of(images(4, shape=(3, 16, 16))).x
    module(x)
    assert torch.allclose(seen[0], (x - 0.4) / 0.2)
    # Buffers, for they belong to the weights: saved with them, moved with them, never trained.
    assert {"mean", "std"} <= module.state_dict().keys()
    assert not {"mean", "std"} & {name for name, _ in module.named_parameters()}


@pytest.mark.parametrize(("into", "out", "stride"), [(4, 4, 1), (4, 8, 2), (4, 8, 1)])
def test_a_residual_block_is_torchvisions(into: int, out: int, stride: int) -> None:
    block = BasicBlock(into, out, stride)
    way = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    wanted = torchvision.models.resnet.BasicBlock(into, out, stride, None if stride == 1 and into == out else way)
    wanted.load_state_dict(block.state_dict())
    x = torch.rand(5, into, 6, 6)
    for _ in range(2):  # the second with the running means of the first
        assert torch.equal(block(x), wanted(x))
    assert all(
        torch.equal(a, b) for a, b in zip(block.state_dict().values(), wanted.state_dict().values(), strict=True)
    )
    assert torch.equal(block.eval()(x), wanted.eval()(x))


def test_images_of_another_size_are_resized_inside_and_keep_their_gradient() -> None:
    model = Timm(architecture=VIT.architecture, patch_size=4, embed_dim=16, depth=2, num_heads=2, image_size=24)
    module, seen = build(model, shape=(3, 16, 16)), list[torch.Tensor]()
    assert isinstance(module, Normalised)
    module.network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    x = torch.full((2, 3, 16, 16), 0.6).requires_grad_()
    logits = module(x)
    assert torch.allclose(seen[0], torch.ones(2, 3, 24, 24), atol=1e-5)  # grey stays grey: (0.6 - 0.4) / 0.2
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
    assert (gradient != 0).all()


def test_resnet18_has_the_parameters_of_torchvisions_with_the_stem_for_small_images() -> None:
    module = build(ResNet18(), classes=100, shape=(3, 32, 32))
    theirs = torchvision.models.resnet18(num_classes=100)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    assert count(module) == count(theirs) == 11_220_132
    shapes = sorted(tuple(p.shape) for p in module.parameters())
    assert shapes == sorted(tuple(p.shape) for p in theirs.parameters())


def test_resnet18_computes_what_torchvisions_computes() -> None:
    """The same weights in the same order give the same logits, so the blocks are wired alike."""
    module = build(ResNet18(), classes=10)
    assert isinstance(module, Normalised)
    theirs = torchvision.models.resnet18(num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    own = module.network.state_dict()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), own.values(), strict=True)))
    x = batch_of(images(2, shape=(3, 16, 16))).x
    assert torch.allclose(theirs.eval()((x - 0.4) / 0.2), module(x), atol=1e-4)


def test_width_scales_every_stage() -> None:
    half, whole = (build(ResNet18(width=width)) for width in (0.5, 1.0))
    assert 3.9 < count(whole) / count(half) < 4.1
    with pytest.raises(ValueError, match="width"):
        ResNet18(width=0.01)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Timm(architecture="vit_bse_patch16_224"), r"architecture \(timm\).*did you mean .*vit_base_patch16_224"),
        (Timm(architecture=VIT.architecture, patch_size=4, embed_dim=16, num_heads=3), "cannot be built"),
    ],
)
def test_what_timm_cannot_build_is_told_in_one_line(model: Timm, reason: str) -> None:
    with pytest.raises(BenchError, match=reason) as error:
        build(model)
    assert "\n" not in str(error.value)


def test_dropout_of_a_timm_model_is_passed_on() -> None:
    torch.manual_seed(0)
    x = batch_of(images(2, shape=(3, 16, 16))).x
    wet = Timm(architecture=VIT.architecture, patch_size=4, embed_dim=16, depth=2, num_heads=2, drop_rate=0.5)
    assert torch.equal(build(VIT).train()(x), build(VIT).train()(x))
    module = build(wet).train()
    assert not torch.equal(module(x), module(x))


def test_a_transformers_geometry_is_left_out_for_convolutions() -> None:
    assert count(build(Timm(architecture="resnet10t", embed_dim=3))) == count(build(Timm(architecture="resnet10t")))


def test_weights_of_which_nothing_fits_are_refused(tmp_path: Path) -> None:
    # timm would take such a file with a line in a log, and train from random weights under a key that says otherwise.
    file = tmp_path / "foreign.safetensors"
    save_file({"stranger": torch.zeros(3)}, file)
    with pytest.raises(BenchError, match=r"foreign.safetensors do not fit: \d+ of its tensors are not in the"):
        build(Timm(architecture="resnet10t", weights=str(file)))
