"""What the tests of attacks share: networks trained on the digits, an attack run as the judge runs it."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from networks import batch_of, digits, first
from torch import Tensor, nn

from harness.assault import Assault
from harness.attacking import propose
from harness.types import Batch, Threat
from harness.undisturbed import seed_global, undisturbed

EDGE = 1e-5
BUDGETS = {"Linf": Threat("Linf", 0.12), "L2": Threat("L2", 0.7), "L1": Threat("L1", 2.0)}
"""Where about half of the samples fall."""


@functools.cache
def trained() -> nn.Module:
    """A network for the digits, trained on FGSM's images (Linf 0.1) for about a second."""
    samples = digits().splits["train"]
    everything = batch_of(samples)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.Adam(module.parameters(), 1e-2)
        for _ in range(10):
            for index in torch.randperm(len(everything.y)).split(64):
                x, y = everything.x[index], everything.y[index]
                start = (x + 0.2 * torch.rand_like(x) - 0.1).clamp(0, 1).requires_grad_()
                (slope,) = torch.autograd.grad(F.cross_entropy(module(start), y), start)
                x_adv = Threat("Linf", 0.1).project(start + 0.12 * slope.sign(), x).detach()
                optimizer.zero_grad()
                F.cross_entropy(module(x_adv), y).backward()
                optimizer.step()
    return module.eval().requires_grad_(False)


@functools.cache
def right(n: int = 128) -> Batch:
    """The first test digits that the trained network classifies rightly."""
    module, batch = trained(), batch_of(first(digits().splits["test"], 2 * n))
    return batch.select((module(batch.x).argmax(1) == batch.y).nonzero().squeeze(1)[:n])


def run(attack: Any, threat: Threat, batch: Batch, module: nn.Module, **how: Any) -> Tensor:
    """What the attack proposes. how: of the Assault."""
    assault = Assault(attack, type(attack).__name__, threat, **{"seed": 0, **how})
    with undisturbed(module):
        seed_global(assault.seed, batch.ids)
        return propose(module, assault, batch)


def stands(module: nn.Module, x: Tensor, batch: Batch) -> Tensor:
    """Which samples are still classified rightly: (N,)."""
    with torch.no_grad():
        return module(x).argmax(1) == batch.y


def accuracy(attack: Any, threat: Threat, batch: Batch, module: nn.Module, **how: Any) -> float:
    """Of the attacked images, after a check of the budget."""
    x_adv = run(attack, threat, batch, module, **how)
    check_budget(x_adv, batch.x, threat)
    return float(stands(module, x_adv, batch).float().mean())


def check_budget(x_adv: Tensor, x: Tensor, threat: Threat) -> None:
    assert x_adv.isfinite().all()
    assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1
    assert float(threat.size(x_adv - x).max()) <= threat.eps * (1 + EDGE) + EDGE


class Recorded(nn.Module):
    """A model that keeps the images it is asked about."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x.detach().clone())
        logits: Tensor = self.module(x)
        return logits
