"""Auto-PGD: a step that halves where it stops paying, shared by ``apgd_ce``, ``apgd_dlr`` and ``apgd_t``.

Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks", ICML
2020, and for L1 "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers", ICML 2021.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.hookspecs import hookimpl
from harness.types import Batch, Evaluation, State, Threat
from plugins.projections import onto_l1_ball_in_box

if TYPE_CHECKING:
    from torch import Tensor

    from harness.randomness import SampleRandom

MOMENTUM = 0.75
"""Share of the new step; the rest is the step before it."""

SHRINK = 1.5
"""By how much the step, and the share of pixels that it moves, become smaller in L1."""


@functools.cache
def checks(steps: int, norm: str) -> tuple[int, ...]:
    """For each of ``steps`` + 1 iterations how many steps it looks back on; 0 where the step size is left alone."""
    if norm == "L1":
        period = max(int(0.04 * steps), 1)
        return tuple(period * (i > 0 and i % period == 0) for i in range(steps + 1))
    found = [0] * (steps + 1)
    period, place = max(int(0.22 * steps), 1), 0
    while (place := place + period) <= steps:
        found[place] = period
        period = max(period - max(int(0.03 * steps), 1), int(0.06 * steps), 1)
    return tuple(found)


def wide(values: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


@dataclass(frozen=True)
class AutoPGD:
    """What the three have in common; each adds its loss and how it starts.

    steps: iterations. restarts: tries, each on the samples that still stand. rho: the share of steps since the last
    check that must have raised the loss, or the step size is halved and the best point so far is taken up again.
    """

    steps: int = 100
    restarts: int = 1
    rho: float = 0.75

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")
    stronger_than: ClassVar[tuple[str, ...]] = ("fgsm",)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise ValueError(f"steps and restarts: got {self.steps} and {self.restarts}; 1 or more is needed")
        if not 0 <= self.rho <= 1:
            raise ValueError(f"rho: got {self.rho}; a share from 0 to 1 is needed")

    def begin(self, batch: Batch, threat: Threat, random: SampleRandom) -> State:
        """At a random point of the sphere of radius eps, cut to the box."""
        x, nothing = batch.x, batch.x.new_zeros(len(batch.y))
        draw = random.uniform(-1.0, 1.0, x.shape[1:]) if threat.norm == "Linf" else random.normal(x.shape[1:])
        state = {"best_loss": nothing - float("inf"), "best_gradient": x.new_zeros(x.shape)}
        if threat.norm == "L1":
            x_adv = x + onto_l1_ball_in_box(draw.to(x), x, threat.eps)
            state |= {"alpha": nothing + threat.eps, "share": nothing + 0.2, "moved": nothing + x[0].numel()}
        else:
            x_adv = threat.project(x + threat.eps * draw.to(x) / wide(threat.size(draw)), x)
            state |= {"alpha": nothing + 2 * threat.eps, "previous": x_adv, "last_loss": nothing + float("inf")}
            state |= {"rises": nothing, "checked_loss": nothing, "halved": nothing == 0}
        return {**state, "x_adv": x_adv, "best": x_adv}

    @hookimpl
    def step(self, state: State, found: Evaluation, batch: Batch, threat: Threat, iteration: Tensor) -> State:
        assert found.gradient is not None
        better = found.loss > state["best_loss"]
        state = state | {
            "best": state["x_adv"].where(wide(better), state["best"]),
            "best_gradient": found.gradient.where(wide(better), state["best_gradient"]),
            "best_loss": found.loss.where(better, state["best_loss"]),
        }
        period = iteration.new_tensor(checks(self.steps, threat.norm))[iteration]  # (N,)
        if threat.norm == "L1":
            return _sparse(state, found.gradient, batch.x, threat, period > 0)
        state, back = self._paced(state, found.loss, period)
        x = state["best"].where(wide(back), state["x_adv"])
        gradient = state["best_gradient"].where(wide(back), found.gradient)
        ahead = threat.project(x + wide(state["alpha"]) * threat.steepest(gradient), batch.x) - x
        new = 1 - (1 - MOMENTUM) * wide((iteration > 0).to(x))
        x_adv = threat.project(x + new * ahead + (1 - new) * (x - state["previous"]), batch.x)
        return state | {"x_adv": x_adv, "previous": x}

    def _paced(self, state: State, loss: Tensor, period: Tensor) -> tuple[State, Tensor]:
        """The state with the step size for what comes, and which samples go back to their best point: (N,).

        Those whose loss rose in too few steps since the last check, or not at all although the step size was kept then.
        """
        rises = state["rises"] + (loss > state["last_loss"])
        check = period > 0
        stuck = ~state["halved"] & (state["checked_loss"] >= state["best_loss"])
        back = check & ((rises <= self.rho * period) | stuck)
        return state | {
            "alpha": (state["alpha"] / 2).where(back, state["alpha"]),
            "rises": rises.where(~check, 0.0),
            "last_loss": loss,
            "checked_loss": state["best_loss"].where(check, state["checked_loss"]),
            "halved": back.where(check, state["halved"]),
        }, back


def _sparse(state: State, gradient: Tensor, x: Tensor, threat: Threat, check: Tensor) -> State:
    """One step in L1: along the signs of the largest pixels of the gradient, ever fewer of them."""
    moved = (state["best"] != x).flatten(1).sum(1).to(x)
    back = check & (moved / state["moved"] < 0.95)
    size = x[0].numel()
    alpha = (state["alpha"] / SHRINK).where(~back, threat.eps).clamp(threat.eps / 10, threat.eps)
    state = state | {
        "alpha": alpha.where(check, state["alpha"]),
        "share": (moved / size / SHRINK).where(check, state["share"]),
        "moved": moved.where(check, state["moved"]),
    }
    at = state["best"].where(wide(back), state["x_adv"])
    gradient = state["best_gradient"].where(wide(back), gradient)
    rank = ((1 - state["share"]) * size).long().clamp(0, size - 1)
    least = gradient.abs().flatten(1).sort(dim=1).values.gather(1, rank[:, None])
    signs = gradient.sign() * (gradient.abs() >= wide(least))
    step = wide(state["alpha"]) * signs / (wide(threat.size(signs)) + 1e-10)
    return state | {"x_adv": x + onto_l1_ball_in_box(at + step - x, x, threat.eps)}
