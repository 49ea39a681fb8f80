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


def onto_plane_in_box(x: Tensor, normal: Tensor, offset: Tensor, norm: str) -> Tensor:
    """The smallest perturbations in Linf, L2 or L1 that bring images in [0, 1] onto a plane inside the box.

    x, normal: (N, C, H, W); offset: (N,); the plane is where normal . x = offset. Where it does not cross the box,
    those that come nearest. Every pixel moves towards the plane at its own speed, in L1 one after the other, until it
    meets the box; so the way made is piecewise linear in the time (Croce and Hein, "Minimally distorted adversarial
    examples with a fast adaptive boundary attack", ICML 2020).
    """
    flat, slope = x.flatten(1), normal.flatten(1)
    gap = offset - (slope * flat).sum(1)
    direction = slope.sign() * gap.sign()[:, None]
    slope, wanted = slope.abs(), gap.abs()[:, None]
    room = (1 - flat).where(direction > 0, flat) * direction.abs()
    if norm == "L1":
        moved = _one_after_the_other(slope, room, wanted)
    else:
        speed = slope if norm == "L2" else slope.sign()
        moved = room.minimum(speed * _time(slope, speed, room, wanted))
    return (direction * moved).view_as(x)


def _time(slope: Tensor, speed: Tensor, room: Tensor, wanted: Tensor) -> Tensor:
    """When sum(slope * min(speed * time, room)) is what is wanted, or where it never is all have stopped: (N, 1).

    Newton's method on a concave, piecewise linear function, from the left: each round solves for the pixels that move,
    takes out those that stop before, and ends where none does. A handful of rounds; sorting costs several times that.
    """
    stops, rate, share = room / speed.clamp(min=1e-30), slope * speed, slope * room
    end = stops.amax(1, keepdim=True)
    time = wanted.new_zeros(wanted.shape)
    while True:
        moves = stops > time
        left = wanted - (share * ~moves).sum(1, keepdim=True)
        later = (left / (rate * moves).sum(1, keepdim=True).clamp(min=1e-30)).minimum(end).maximum(time)
        if bool((later <= time).all()):
            return later
        time = later


def _one_after_the_other(slope: Tensor, room: Tensor, wanted: Tensor) -> Tensor:
    """The pixels of the largest slope first, each as far as it can go: (N, D)."""
    falling, order = slope.sort(dim=1, descending=True)
    ahead = room.gather(1, order)
    made = (falling * ahead).cumsum(1)
    left = (wanted - (made - falling * ahead)).clamp(min=0.0)
    moved = ahead.minimum(left / falling.clamp(min=1e-30))
    return moved.new_zeros(moved.shape).scatter(1, order, moved)
