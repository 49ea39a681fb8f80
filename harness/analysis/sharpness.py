"""How the loss changes around a model's weights: its largest curvature, and a walk along a random direction."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from harness.undisturbed import undisturbed

if TYPE_CHECKING:
    from numpy.typing import NDArray

Vector = Sequence[Tensor]
"""One tensor for each weight tensor, in the order of ``module.parameters()``."""


ONE_SIGN = 0.9
"""v.Hv over |Hv| from which on the vector found has no share of negative eigenvalues worth a shift."""


class Sharpness(NamedTuple):
    """The largest eigenvalue of the Hessian, and how well it is known.

    residual: |Hv - value v| of the unit vector found; some eigenvalue lies within it. iterations: Hessian-vector
    products taken. converged: the residual is at most ``tolerance`` times the value.
    """

    eigenvalue: float
    residual: float
    iterations: int
    converged: bool


class LossCurve(NamedTuple):
    """Mean loss and accuracy (P,) of the weights w + t d at positions t (P,)."""

    positions: NDArray[np.float64]
    losses: NDArray[np.float64]
    accuracies: NDArray[np.float64]


def largest_eigenvalue(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    batch: int = 128,
    iterations: int = 100,
    tolerance: float = 1e-2,
    seed: int = 0,
) -> Sharpness:
    """The algebraically largest eigenvalue of the Hessian of the mean cross-entropy with respect to all weights.

    x: (N, C, H, W) in [0, 1], y: (N,), on any device; they go through the model in batches, which bounds memory and
    does not change the result. The model is in evaluation mode: batch norm uses its stored statistics. Power iteration
    finds the eigenvalue of largest modulus; where that is negative, or undecided between two of either sign, the
    Hessian is shifted by it, so that the one wanted becomes the one of largest modulus. ``iterations`` bounds the
    Hessian-vector products of both passes together. Yao et al., "PyHessian", IEEE Big Data 2020.
    """
    weights = [p for p in module.parameters() if p.is_floating_point()]
    with _differentiable(module, weights):

        def product(v: Vector) -> Vector:
            return _hessian_product(module, weights, x, y, v, batch)

        first = _power(product, _start(weights, seed), 0.0, max(1, iterations // 2), tolerance)
        found, left = first.found, iterations - first.found.iterations
        if (found.converged and found.eigenvalue >= 0) or left < 1:
            return found
        if found.eigenvalue > ONE_SIGN * first.radius:  # only positive ones are left to tell apart
            second = _power(product, first.vector, 0.0, left, tolerance)
        else:
            second = _power(product, _start(weights, seed + 1), first.radius, left, tolerance)
    return second.found._replace(iterations=found.iterations + second.found.iterations)


class _Search(NamedTuple):
    found: Sharpness
    radius: float  # |Hv|, which nears the largest modulus from below
    vector: Vector


def _power(product: Callable[[Vector], Vector], v: Vector, shift: float, iterations: int, tolerance: float) -> _Search:
    """Power iteration with H + shift I from the unit vector ``v``. What is returned is of H itself."""
    for iteration in range(1, iterations + 1):
        hv = product(v)
        value, radius = _dot(v, hv), _length(hv)
        residual = _length([h - value * w for h, w in zip(hv, v, strict=True)])
        # a value near 0 beside large negative ones is known when it is known to be near 0
        converged = residual <= tolerance * max(abs(value), tolerance * shift)
        if converged or iteration == iterations:
            break
        v = _unit([h + shift * w for h, w in zip(hv, v, strict=True)])
    return _Search(Sharpness(value, residual, iteration, converged), radius, v)


def _hessian_product(module: nn.Module, weights: Vector, x: Tensor, y: Tensor, v: Vector, batch: int) -> Vector:
    """Hv by differentiating g.v (Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 1994)."""
    total = [torch.zeros_like(p) for p in weights]
    for images, labels in _batches(module, x, y, batch):
        loss = F.cross_entropy(module(images), labels, reduction="sum") / len(x)
        gradient = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
        pairs = [(g, w) for g, w in zip(gradient, v, strict=True) if g is not None and g.requires_grad]
        if not pairs:
            continue  # the loss is linear in the weights
        slope = torch.stack([(g * w).sum() for g, w in pairs]).sum()
        second = torch.autograd.grad(slope, weights, allow_unused=True)
        for t, h in zip(total, second, strict=True):
            if h is not None:
                t += h
    return total


@contextlib.contextmanager
def _differentiable(module: nn.Module, weights: Vector) -> Iterator[None]:
    """Evaluation mode, weights that take gradients, and attention in the one form that has a second derivative."""
    with undisturbed(module), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        for p in weights:
            p.requires_grad_(True)
        yield


def _batches(module: nn.Module, x: Tensor, y: Tensor, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The samples piece by piece on the device of the model."""
    first = next(module.parameters(), None)
    device = x.device if first is None else first.device
    for start in range(0, len(x), batch):
        yield x[start : start + batch].to(device), y[start : start + batch].to(device)


def _start(weights: Vector, seed: int) -> Vector:
    return _unit(_normal(weights, seed))


def _normal(weights: Vector, seed: int) -> Vector:
    """Normal numbers in the shapes of the weights: the same on every device, for they are drawn on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=generator).to(p) for p in weights]


def _dot(a: Vector, b: Vector) -> float:
    return float(torch.stack([(s * t).sum() for s, t in zip(a, b, strict=True)]).sum())


def _length(v: Vector) -> float:
    return float(torch.stack([t.norm() for t in v]).norm())


def _unit(v: Vector) -> Vector:
    length = _length(v)
    return [t / length for t in v] if length else v


# --- a walk through the weights


def filter_normalised_direction(module: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """A random direction in which each filter is as long as the model's own filter, by the name of its parameter.

    A filter is one output channel of a convolution or one row of a linear layer. Biases and what belongs to norm layers
    stay 0. Li et al., "Visualizing the loss landscape of neural nets", NeurIPS 2018.
    """
    fixed = {id(p) for m in module.modules() if "Norm" in type(m).__name__ for p in m.parameters(recurse=False)}
    names = {name: p.detach() for name, p in module.named_parameters() if p.is_floating_point()}
    drawn = dict(zip(names, _normal(list(names.values()), seed), strict=True))
    kept = {name for name, p in module.named_parameters() if id(p) in fixed or p.dim() < 2}
    return {
        name: torch.zeros_like(d) if name in kept else d * _lengths(names[name]) / _lengths(d).clamp(min=1e-10)
        for name, d in drawn.items()
    }


def _lengths(weight: Tensor) -> Tensor:
    """Length of each filter, shaped to multiply the weight it belongs to: (out, ...) -> (out, 1, ...)."""
    return weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.dim() - 1))


def loss_curve(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    positions: Sequence[float],
    *,
    direction: dict[str, Tensor] | None = None,
    seed: int = 0,
    batch: int = 256,
) -> LossCurve:
    """Mean cross-entropy and accuracy along a straight line through the weights, at w + t d for each position t.

    x: (N, C, H, W) in [0, 1], y: (N,), on any device, looked at in batches and in evaluation mode. direction: a tensor
    for each parameter that moves, by name; left out, ``filter_normalised_direction`` of the seed, in which positions of
    two models compare although their weights differ in scale. The weights themselves are never written to.
    """
    way = filter_normalised_direction(module, seed) if direction is None else direction
    weights = {name: p.detach() for name, p in module.named_parameters() if name in way}
    found = []
    with undisturbed(module), torch.no_grad():
        for t in positions:
            moved = {name: p + t * way[name].to(p) for name, p in weights.items()}
            found.append(_loss_and_accuracy(module, moved, x, y, batch))
    losses, accuracies = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return LossCurve(np.array(positions, dtype=np.float64), losses, accuracies)


def _loss_and_accuracy(
    module: nn.Module, weights: dict[str, Tensor], x: Tensor, y: Tensor, batch: int
) -> tuple[float, float]:
    loss, right = 0.0, 0
    for images, labels in _batches(module, x, y, batch):
        logits = functional_call(module, weights, (images,))
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        right += int((logits.argmax(1) == labels).sum())
    return loss / len(x), right / len(x)
