"""The nearest perturbation that a budget allows, for attacks whose budget is not the threat's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.types import onto_l1_ball

if TYPE_CHECKING:
    from torch import Tensor

_HALVINGS = 30


def onto_ball(delta: Tensor, norm: str, eps: Tensor) -> Tensor:
    """The nearest perturbations of at most ``eps`` (N,) in Linf, L2 or L1: (N, C, H, W)."""
    eps = eps[:, None]
    flat = delta.flatten(1)
    if norm == "Linf":
        return flat.maximum(-eps).minimum(eps).view_as(delta)
    if norm == "L2":
        return (flat * (eps / flat.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1.0)).view_as(delta)
    return onto_l1_ball(delta, eps)


def onto_l1_ball_in_box(delta: Tensor, x: Tensor, eps: float) -> Tensor:
    """The nearest perturbations of L1 norm at most ``eps`` that keep ``x`` inside [0, 1]: (N, C, H, W).

    Every pixel shrinks by the same amount, found by bisection, and stops at the box (Croce and Hein, ICML 2021).
    """
    size = delta.abs().flatten(1)
    room = (1 - x).where(delta > 0, x).flatten(1)
    low, high = size.new_zeros(len(size), 1), size.amax(1, keepdim=True)
    inside = size.minimum(room).sum(1, keepdim=True) <= eps
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        over = (size - middle).clamp(min=0.0).minimum(room).sum(1, keepdim=True) > eps
        low, high = middle.where(over, low), high.where(over, middle)
    shrunk = (size - high.where(~inside, 0.0)).clamp(min=0.0).minimum(room)
    return shrunk.view_as(delta) * delta.sign()
