"""Grad-CAM against the paper's formula, roll-out against numpy, and models that are left as they were found."""

from __future__ import annotations

import copy
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import small
from torch import Tensor, nn

from harness.analysis import saliency
from harness.analysis.saliency import attention_recorded, attention_rollout, grad_cam, rollout, spatial_layer
from harness.errors import BenchError
from plugins.networks import Normalised, resnet18

CLASSES = 4


def images(n: int = 5, shape: tuple[int, int, int] = (3, 32, 32), seed: int = 0) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def residual_network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Normalised(resnet18(3, CLASSES, 8), [0.5] * 3, [0.25] * 3).eval()


def transformer(**more: Any) -> nn.Module:
    """Three layers of three heads on 32 x 32 images in patches of 8, with attention that is not flat."""
    import timm

    settings: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, **settings | more)
        for block in network.blocks:
            nn.init.normal_(block.attn.qkv.weight, std=0.5)
        nn.init.normal_(network.head.weight, std=0.5)
    return Normalised(network, [0.5] * 3, [0.5] * 3).eval()


def configured_transformer() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=32, image_size=32, patch_size=8
    )
    config.num_labels = CLASSES

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = transformers.ViTForImageClassification(config)

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x).logits

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Logits()
        for name, p in module.named_parameters():
            if "_proj.weight" in name or "query" in name or "key" in name or "classifier.weight" in name:
                nn.init.normal_(p, std=0.5)
    return module.eval()


def by_the_formula(module: nn.Module, layer: nn.Module, x: Tensor, classes: list[int]) -> np.ndarray:
    """Selvaraju et al., equations 1 and 2, image by image, then enlarged and divided by the maximum."""
    maps = []
    for image, wanted in zip(x, classes, strict=True):
        seen: list[Tensor] = []
        hook = layer.register_forward_hook(lambda part, args, output, seen=seen: seen.append(output))
        logit = module(image[None])[0, wanted]
        hook.remove()
        (gradient,) = torch.autograd.grad(logit, seen)
        activations, slopes = seen[0][0].detach().numpy(), gradient[0].numpy()
        h, w = slopes.shape[1:]
        alpha = [slopes[k].sum() / (h * w) for k in range(len(slopes))]
        coarse = np.maximum(sum(a * activations[k] for k, a in enumerate(alpha)), 0.0)
        large = F.interpolate(torch.tensor(coarse)[None, None].float(), size=x.shape[-2:], mode="bilinear")[
            0, 0
        ].numpy()
        maps.append(large / large.max() if large.max() > 0 else large)
    return np.stack(maps)


# --- Grad-CAM


def test_grad_cam_is_the_papers_formula() -> None:
    module, x = residual_network(), images()
    layer = module.get_submodule(spatial_layer(module, x[:1]))
    found = grad_cam(module, x, torch.tensor([0, 1, 2, 3, 0]), batch=2)
    np.testing.assert_allclose(found.maps, by_the_formula(module, layer, x, [0, 1, 2, 3, 0]), atol=1e-4)
    assert found.maps.shape == (5, 32, 32)
    assert found.maps.dtype == np.float32
    assert found.maps.max() == pytest.approx(1.0)
    assert found.classes.tolist() == [0, 1, 2, 3, 0]


def test_grad_cam_of_a_named_layer() -> None:
    module, x = small(), images(3, (3, 8, 8))
    found = grad_cam(module, x, torch.tensor([1, 2, 3]), layer="features.2")
    np.testing.assert_allclose(found.maps, by_the_formula(module, module.features[2], x, [1, 2, 3]), atol=1e-4)


def test_the_predicted_class_is_explained_unless_told_otherwise() -> None:
    module, x = residual_network(), images()
    with torch.no_grad():
        predicted = module(x).argmax(1)
    assert grad_cam(module, x).classes.tolist() == predicted.tolist()
    np.testing.assert_array_equal(grad_cam(module, x).maps, grad_cam(module, x, predicted).maps)


def test_the_layer_is_the_last_map_before_pooling() -> None:
    assert spatial_layer(residual_network(), images(1)) == "network.10"  # the last of eight blocks
    assert spatial_layer(small(), images(1, (3, 8, 8))) == "features.5"  # not the pooling that gives 2 x 2
    ends_in_pooling = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), nn.Flatten())
    assert spatial_layer(ends_in_pooling, images(1, (3, 8, 8))) == "0.1"


def test_a_network_without_maps_is_refused_with_a_way_out() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))
    with pytest.raises(BenchError, match="no layer of the network gives a spatial map"):
        grad_cam(flat, images(1, (3, 8, 8)))
    with pytest.raises(BenchError, match="no layer 'conv9'"):
        grad_cam(small(), images(1, (3, 8, 8)), layer="conv9")
    with pytest.raises(BenchError, match="2 are needed"):
        grad_cam(small(), images(1, (3, 8, 8)), layer="head")


def test_no_evidence_is_no_map() -> None:
    assert not grad_cam(_blind(), images(2, (3, 8, 8))).maps.any()


def _blind() -> nn.Module:
    module = small()
    nn.init.zeros_(module.head.weight)
    return module


def test_without_captum_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(BenchError, match=r"captum is not installed; pip install 'adversarial-bench\[figures\]'"):
        grad_cam(small(), images(1, (3, 8, 8)))


# --- roll-out


def test_attention_is_what_the_layer_computes() -> None:
    module, x = transformer(), images()
    inputs: list[Tensor] = []
    attn = module.network.blocks[1].attn
    hook = attn.register_forward_pre_hook(lambda part, args: inputs.append(args[0]))
    with torch.no_grad(), attention_recorded(module) as record:
        module(x)
    hook.remove()
    q, k, _ = attn.qkv(inputs[0]).detach().reshape(5, 17, 3, 3, 8).permute(2, 0, 3, 1, 4)
    wanted = (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1)
    assert len(record) == 3
    torch.testing.assert_close(record[1], wanted)


@pytest.mark.parametrize("residual", [0.5, 0.2])
def test_rollout_is_a_product_of_matrices(residual: float) -> None:
    module, x = transformer(), images()
    with torch.no_grad(), attention_recorded(module) as record:
        module(x)
    joint = rollout(record, residual)
    for sample in range(len(x)):
        product = np.eye(17)
        for layer in record:
            attention = layer[sample].double().numpy()
            product = ((1 - residual) * sum(attention) / len(attention) + residual * np.eye(17)) @ product
        np.testing.assert_allclose(joint[sample], product, atol=1e-5)
        patches = torch.tensor(product[0, 1:].reshape(1, 1, 4, 4))
        large = F.interpolate(patches, size=(32, 32), mode="bilinear")[0, 0].numpy()
        wanted = (large - large.min()) / (large.max() - large.min())
        found = attention_rollout(module, x, residual=residual, batch=2).maps[sample]
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_gradients_weight_the_heads_that_speak_for_the_class() -> None:
    module, x = transformer(), images(2)
    with attention_recorded(module) as record:
        logits = module(x)
    slopes = torch.autograd.grad(logits[:, 2].sum(), record)
    for sample in range(2):
        relevance = np.eye(17)
        for layer, slope in zip(record, slopes, strict=True):
            weighted = np.maximum(layer[sample].detach().numpy() * slope[sample].numpy(), 0).mean(0)
            relevance = relevance + weighted @ relevance
        patches = torch.tensor(relevance[0, 1:].reshape(1, 1, 4, 4))
        large = F.interpolate(patches, size=(32, 32), mode="bilinear")[0, 0].numpy()
        found = attention_rollout(module, x, torch.tensor([2, 2]), gradient=True).maps[sample]
        np.testing.assert_allclose(found, (large - large.min()) / np.ptp(large), atol=1e-4)


def test_a_class_changes_the_weighted_roll_out_only() -> None:
    module, x = transformer(), images(1)
    one, other = torch.tensor([0]), torch.tensor([1])
    assert (attention_rollout(module, x, one).maps == attention_rollout(module, x, other).maps).all()
    weighted = [attention_rollout(module, x, chosen, gradient=True).maps for chosen in (one, other)]
    assert not np.allclose(*weighted)


def test_what_the_head_averages_is_averaged() -> None:
    module, x = transformer(class_token=False, global_pool="avg"), images(1)
    with torch.no_grad(), attention_recorded(module) as record:
        module(x)
    coarse = rollout(record).mean(1).view(1, 4, 4)
    wanted = saliency.scaled(coarse, (32, 32), from_zero=False)
    np.testing.assert_allclose(attention_rollout(module, x).maps, wanted, atol=1e-5)


def test_patches_of_an_image_that_is_no_square() -> None:
    module = transformer(img_size=(16, 32))
    assert attention_rollout(module, images(2, (3, 16, 32))).maps.shape == (2, 16, 32)


@pytest.mark.slow
def test_a_configured_transformer_is_asked_for_its_attentions() -> None:
    module, x = configured_transformer(), images(3)
    config = module.network.config
    before = (config._attn_implementation, config.output_attentions)
    with torch.no_grad(), attention_recorded(module) as record:
        module(x)
    assert (config._attn_implementation, config.output_attentions) == before
    assert [tuple(attention.shape) for attention in record] == [(3, 3, 17, 17)] * 2
    with torch.no_grad():
        assert module.network(x).attentions is None
    product = np.eye(17)
    for layer in record:
        product = (0.5 * layer[0].mean(0).double().numpy() + 0.5 * np.eye(17)) @ product
    wanted = saliency.scaled(torch.tensor(product[0, 1:]).view(1, 4, 4), (32, 32), from_zero=False)
    np.testing.assert_allclose(attention_rollout(module, x).maps[:1], wanted, atol=1e-4)
    assert not np.allclose(attention_rollout(module, x, gradient=True).maps[:1], wanted)


@pytest.mark.slow
def test_windowed_attention_is_refused_with_a_way_out() -> None:
    import timm

    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, window_size=2, embed_dim=12, num_heads=(1, 1, 2, 2), num_classes=3
    )
    with pytest.raises(BenchError, match=r"needs the same tokens in all layers|take Grad-CAM"):
        attention_rollout(swin, images(1))
    with pytest.raises(BenchError, match="channels last"):
        grad_cam(swin, images(1))


def test_a_network_without_attention_is_refused_with_a_way_out() -> None:
    with pytest.raises(BenchError, match="take Grad-CAM"):
        attention_rollout(small(), images(1, (3, 8, 8)))


# --- both


def test_the_method_follows_the_network() -> None:
    x = images(2)
    np.testing.assert_array_equal(saliency.saliency(residual_network(), x).maps, grad_cam(residual_network(), x).maps)
    vit = transformer()
    weighted = attention_rollout(vit, x, gradient=True).maps
    np.testing.assert_array_equal(saliency.saliency(vit, x).maps, weighted)


@pytest.mark.parametrize(
    "build", [residual_network, transformer, pytest.param(configured_transformer, marks=pytest.mark.slow)]
)
def test_the_model_is_left_as_it_was(build: Any) -> None:
    module, x = build(), images(2)
    module.train()
    parts = list(module.modules())
    parts[-1].training = False
    first, second = list(module.parameters())[:2]
    first.grad = torch.ones_like(first)
    second.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    modes = [part.training for part in parts]
    flags = [getattr(part, "fused_attn", None) for part in parts]
    saliency.saliency(module, x)  # transformers leaves hooks of its own in a model that was asked for attentions once
    hooks = _hooks(module)
    assert build is configured_transformer or not hooks
    saliency.saliency(module, x)
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
    assert [part.training for part in parts] == modes
    assert [getattr(part, "fused_attn", None) for part in parts] == flags
    assert torch.equal(first.grad, torch.ones_like(first))
    assert [p.requires_grad for p in module.parameters()][:3] == [True, False, True]
    assert all(p.grad is None for p in list(module.parameters())[1:])
    assert hooks == _hooks(module)
    assert not x.requires_grad


def _hooks(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def test_flags_are_those_of_before_after_an_exception() -> None:
    module = transformer()
    with pytest.raises(RuntimeError):
        attention_rollout(module, images(1, (5, 32, 32)))
    assert all(block.attn.fused_attn for block in module.network.blocks)
    assert not any(part._forward_hooks for part in module.modules())


def test_batches_do_not_change_the_maps() -> None:
    module, x = residual_network(), images(7)
    np.testing.assert_allclose(grad_cam(module, x, batch=3).maps, grad_cam(module, x, batch=7).maps, atol=1e-4)
