"""Curvature against the dense Hessian, the walk against what it must not change."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import small
from torch import Tensor, nn
from torch.func import functional_call

from harness.analysis.sharpness import (
    Sharpness,
    filter_normalised_direction,
    largest_eigenvalue,
    loss_curve,
)


def samples(n: int = 24, shape: tuple[int, ...] = (1, 4, 4), classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, *shape, generator=generator), torch.randint(0, classes, (n,), generator=generator)


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().eval()


def tiny() -> nn.Module:
    """60 weights, smooth, so that a Hessian exists everywhere."""
    layers = [nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 3)]
    return nn.Sequential(*layers).double()


class Concave(nn.Module):
    """Logits (0, -w.w + 0 x): with label 0 its loss curves down at 0 in all directions but those of no effect."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(5, dtype=torch.float64))
        self.scale = torch.tensor([1.0, 2.0, 3.0, 4.0, -0.5], dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        score = -(self.scale * self.weight**2).sum().expand(len(x)) + 0 * x.flatten(1).sum(1)
        return torch.stack([torch.zeros_like(score), score], dim=1)


def dense(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """All eigenvalues, by forming the Hessian over the flattened weights."""
    names = [name for name, _ in module.named_parameters()]
    shapes = [p.shape for p in module.parameters()]
    flat = torch.cat([p.detach().flatten() for p in module.parameters()])

    def loss(vector: Tensor) -> Tensor:
        pieces = vector.split([shape.numel() for shape in shapes])
        weights = {n: p.view(s) for n, p, s in zip(names, pieces, shapes, strict=True)}
        return F.cross_entropy(functional_call(module, weights, (x,)), y)

    return torch.linalg.eigvalsh(torch.func.hessian(loss)(flat))


def test_the_largest_eigenvalue_is_that_of_the_dense_hessian() -> None:
    module, (x, y) = seeded(tiny), samples()
    found = largest_eigenvalue(module, x.double(), y, tolerance=1e-5, iterations=2000)
    assert found.converged
    assert found.eigenvalue == pytest.approx(float(dense(module, x.double(), y)[-1]), rel=1e-6)


def test_an_eigenvalue_lies_within_the_residual() -> None:
    module, (x, y) = seeded(tiny, 3), samples(seed=3)
    found = largest_eigenvalue(module, x.double(), y, iterations=4)
    assert not found.converged
    assert found.iterations == 4
    assert (dense(module, x.double(), y) - found.eigenvalue).abs().min() <= found.residual


def test_large_negative_curvature_does_not_hide_the_largest_positive() -> None:
    module, (x, _) = Concave(), samples(6)
    y = torch.zeros(6, dtype=torch.int64)
    eigenvalues = dense(module, x.double(), y)
    assert -eigenvalues[0] > 4 * eigenvalues[-1] > 0
    found = largest_eigenvalue(module, x.double(), y, tolerance=1e-4, iterations=2000)
    assert found.converged
    assert found.eigenvalue == pytest.approx(float(eigenvalues[-1]), rel=1e-6)


@pytest.mark.parametrize("scale", [(1.0, 2.0, 3.0, 4.0, 5.0), (4.0, 1.0, -1.0, -2.0, -4.0)])
def test_all_negative_and_evenly_matched_curvature(scale: tuple[float, ...]) -> None:
    module, (x, _) = Concave(), samples(6)
    module.scale = torch.tensor(scale, dtype=torch.float64)
    y = torch.zeros(6, dtype=torch.int64)
    found = largest_eigenvalue(module, x.double(), y, tolerance=1e-4, iterations=2000)
    assert found.converged
    assert found.eigenvalue == pytest.approx(-min(scale), rel=1e-6)


def test_a_flat_loss_has_no_curvature() -> None:
    module, (x, _) = Concave(), samples(6)
    module.scale = torch.zeros(5, dtype=torch.float64)
    found = largest_eigenvalue(module, x.double(), torch.zeros(6, dtype=torch.int64))
    assert found == Sharpness(0.0, 0.0, 1, True)


def test_batches_do_not_change_the_eigenvalue_and_the_seed_decides_it() -> None:
    module, (x, y) = small(), samples(20, (3, 8, 8), 5)
    whole = largest_eigenvalue(module, x, y, batch=20)
    assert largest_eigenvalue(module, x, y, batch=20) == whole
    assert largest_eigenvalue(module, x, y, batch=7).eigenvalue == pytest.approx(whole.eigenvalue, rel=1e-3)


def test_the_hessian_leaves_the_model_as_it_was() -> None:
    module, (x, y) = small().train(), samples(8, (3, 8, 8), 5)
    next(module.parameters()).grad = torch.ones_like(next(module.parameters()))
    module.head.weight.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    largest_eigenvalue(module, x, y, iterations=3)
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
    assert all(part.training for part in module.modules())
    assert not module.head.weight.requires_grad
    assert module.head.weight.grad is None
    assert torch.equal(next(module.parameters()).grad, torch.ones_like(next(module.parameters())))


@pytest.mark.slow
def test_fused_attention_has_a_second_derivative() -> None:
    import timm

    module = seeded(
        lambda: timm.create_model(
            "vit_tiny_patch16_224", img_size=16, patch_size=8, embed_dim=16, num_heads=2, depth=2, num_classes=3
        )
    )
    assert module.blocks[0].attn.fused_attn
    x, y = samples(6, (3, 16, 16))
    fused = largest_eigenvalue(module, x, y)
    for block in module.blocks:
        block.attn.fused_attn = False
    plain = largest_eigenvalue(module, x, y)
    assert fused.eigenvalue == pytest.approx(plain.eigenvalue, rel=1e-3)


# --- the walk


def test_position_zero_is_the_plain_loss() -> None:
    module, (x, y) = small().train(), samples(50, (3, 8, 8), 5)
    curve = loss_curve(module, x, y, [-0.5, 0.0, 0.5], batch=16)
    assert module.training
    with torch.no_grad():
        logits = module.eval()(x)
    assert curve.losses[1] == pytest.approx(float(F.cross_entropy(logits, y)), rel=1e-6)
    assert curve.accuracies[1] == float((logits.argmax(1) == y).double().mean())
    assert len(set(curve.losses.tolist())) == 3


def test_each_filter_of_the_direction_is_as_long_as_the_models() -> None:
    module = small()
    direction = filter_normalised_direction(module)
    assert set(direction) == {name for name, _ in module.named_parameters()}
    for name, p in module.named_parameters():
        if p.dim() > 1:
            torch.testing.assert_close(direction[name].flatten(1).norm(dim=1), p.detach().flatten(1).norm(dim=1))
        else:
            assert not direction[name].any()


def test_norm_layers_do_not_move_even_with_weights_of_many_dimensions() -> None:
    module = seeded(lambda: nn.Sequential(nn.LayerNorm((1, 4, 4)), nn.Flatten(), nn.Linear(16, 3)))
    direction = filter_normalised_direction(module)
    assert not direction["0.weight"].any()
    assert direction["2.weight"].any()


def test_the_curve_does_not_see_the_scale_of_a_filter_before_batch_norm() -> None:
    module, (x, y) = small(), samples(40, (3, 8, 8), 5)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 0.0
    scaled = copy.deepcopy(module)
    with torch.no_grad():
        scaled.features[0].weight[2] *= 7.0
        scaled.features[0].bias[2] *= 7.0
        scaled.features[1].running_mean[2] *= 7.0
        scaled.features[1].running_var[2] *= 49.0
    _assert_same_curve(module, scaled, x, y)


def test_the_curve_does_not_see_scale_moved_from_a_layer_to_the_next() -> None:
    module = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 10), nn.ReLU(), nn.Linear(10, 3)))
    scaled = copy.deepcopy(module)
    with torch.no_grad():
        scaled[1].weight *= 5.0
        scaled[1].bias *= 5.0
        scaled[3].weight /= 5.0
    _assert_same_curve(module, scaled, *samples(40))


def _assert_same_curve(one: nn.Module, other: nn.Module, x: Tensor, y: Tensor) -> None:
    a, b = (loss_curve(m, x, y, np.linspace(-4, 4, 5).tolist(), seed=4) for m in (one, other))
    np.testing.assert_allclose(a.losses, b.losses, rtol=1e-4)
    assert np.ptp(a.losses) > 0.01


def test_another_seed_is_another_direction() -> None:
    module, (x, y) = small(), samples(20, (3, 8, 8), 5)
    assert loss_curve(module, x, y, [1.0], seed=1).losses[0] != loss_curve(module, x, y, [1.0], seed=2).losses[0]


def test_only_what_the_direction_names_moves() -> None:
    module, (x, y) = small(), samples(20, (3, 8, 8), 5)
    way = {"head.bias": torch.tensor([100.0, 0.0, 0.0, 0.0, 0.0])}
    curve = loss_curve(module, x, y, [1.0], direction=way)
    assert curve.accuracies[0] == float((y == 0).double().mean())


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 2:
            raise RuntimeError("out of memory")
        return self.inner(x.flatten(1))


def test_weights_are_those_of_before_after_an_exception() -> None:
    module = seeded(Failing)
    before = copy.deepcopy(module.state_dict())
    parameters = dict(module.named_parameters())
    with pytest.raises(RuntimeError, match="out of memory"):
        loss_curve(module, *samples(), [0.0, 0.5, 1.0, 1.5])
    assert all(p is parameters[name] for name, p in module.named_parameters())
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
