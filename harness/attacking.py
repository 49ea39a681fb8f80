"""The engine: turns an attack's proposals into adversarial images, and counts what they cost.

A step attack says how to start and how to take one step; everything else (gradients, restarts, which samples still
stand, the state of the model) happens here, so that it is right once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from harness import registry
from harness.errors import BenchError
from harness.randomness import SampleRandom, derive, generators_kept, seed_generators
from harness.tasks import classification as task
from harness.types import Batch, Evaluation, Reason, Threat, Verdict


class Counted(nn.Module):
    """A model whose passes are counted: one forward and one backward a sample that goes through."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.training = module.training  # other libraries ask this flag, and set the mode that it told afterwards
        self.forwards = 0
        self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.module(x)
        self.forwards += len(x)
        if logits.requires_grad:
            count = len(x)

            def count_backward(gradient: Tensor) -> None:
                self.backwards += count

            logits.register_hook(count_backward)  # type: ignore[no-untyped-call]
        return logits


class ModelProblem:
    """A classifier as attacks and defenses see it (``harness.types.Problem``)."""

    def __init__(self, module: nn.Module) -> None:
        self.module = Counted(module)

    def evaluate(self, x: Tensor, batch: Batch, *, gradient: bool) -> Evaluation:
        if not gradient:
            with torch.no_grad():
                logits = self.module(x)
                return Evaluation(task.loss(logits, batch.y), logits, task.predict(logits) != batch.y, None)
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            logits = self.module(x)
            loss = task.loss(logits, batch.y)
            (slope,) = torch.autograd.grad(loss.sum(), x)
        logits = logits.detach()
        return Evaluation(loss.detach(), logits, task.predict(logits) != batch.y, slope)

    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        return task.loss(self.module(x), batch.y)

    def perturb(self, attack: Any, batch: Batch, threat: Threat, random: SampleRandom) -> Tensor:
        """Adversarial images for training: crafted in evaluation mode, projected, detached."""
        with undisturbed(self.module):
            x_adv = propose(self, registry.bind("attacks", attack), attack, batch, threat, random)
        return threat.project(x_adv, batch.x).detach()


def propose(
    problem: ModelProblem, hooks: Any, attack: Any, batch: Batch, threat: Threat | None, random: SampleRandom
) -> Tensor:
    """What the attack proposes for a batch, unclipped: (N, C, H, W). The caller judges it."""
    if registry.offers(hooks, "perturb"):
        return hooks.perturb(problem=problem, batch=batch, threat=threat, random=random)
    assert threat is not None
    x_adv = _one_restart(problem, hooks, attack, batch, threat, random, restart=0)
    for restart in range(1, attack.restarts):
        standing = (~problem.evaluate(x_adv, batch, gradient=False).fooled).nonzero().squeeze(1)
        if not len(standing):
            break
        tried = _one_restart(problem, hooks, attack, batch.select(standing), threat, random.select(standing), restart)
        x_adv = x_adv.index_copy(0, standing, tried)
    return x_adv


def _one_restart(
    problem: ModelProblem, hooks: Any, attack: Any, batch: Batch, threat: Threat, random: SampleRandom, restart: int
) -> Tensor:
    state = hooks.start(batch=batch, threat=threat, random=random.at(restart, 0))
    for step in range(attack.steps):
        found = problem.evaluate(state["x_adv"], batch, gradient=True)
        state = hooks.step(state=state, found=found, batch=batch, threat=threat, random=random.at(restart, step + 1))
    return state["x_adv"]


def check_proposal(x_adv: Any, x: Tensor, name: str) -> Tensor:
    """Refuses what is not a batch of images like ``x``. Raises BenchError: the cell then fails with this reason."""
    if not isinstance(x_adv, Tensor):
        raise BenchError(
            f"attack {name}: returned {type(x_adv).__name__}; a tensor of shape {tuple(x.shape)} is needed"
        )
    if x_adv.shape != x.shape:
        raise BenchError(f"attack {name}: returned shape {tuple(x_adv.shape)}; {tuple(x.shape)} is needed")
    if x_adv.dtype != x.dtype:
        raise BenchError(f"attack {name}: returned dtype {x_adv.dtype}; {x.dtype} is needed")
    bad = int((~x_adv.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise BenchError(f"nan: attack {name}: {bad} of {len(x)} adversarial images hold NaN or Inf")
    return x_adv.detach().to(x.device)


@contextlib.contextmanager
def undisturbed(module: nn.Module, *, weights: bool = False) -> Iterator[list[Reason]]:
    """Evaluation mode and frozen weights inside; afterwards every flag, buffer and gradient is as it was before.

    Each module's own training flag is kept, for ``module.train()`` would un-freeze batch norm that is frozen on
    purpose. The global random generators are restored too. Yields a list that names buffers changed by what ran,
    and with ``weights`` parameters, at the price of a copy: an attack that trained the model would spoil later cells.
    """
    modes = {m: m.training for m in module.modules()}
    wanted = {p: p.requires_grad for p in module.parameters()}
    gradients = {p: p.grad for p in module.parameters()}
    before = {name: t.detach().clone() for name, t in _watched(module, weights)}
    notes: list[Reason] = []
    with generators_kept():
        module.eval()
        module.requires_grad_(False)
        for p in gradients:
            p.grad = None  # a backward pass inside would add to the tensor that is kept
        try:
            yield notes
        finally:
            for m, mode in modes.items():
                m.training = mode
            for p, flag in wanted.items():
                p.requires_grad_(flag)
                p.grad = gradients[p]
            changed = {name: t for name, t in _watched(module, weights) if not _same(t, before.get(name))}
            with torch.no_grad():
                for name, t in changed.items():
                    if name in before:
                        t.copy_(before[name])
            for what in ("buffers", "weights"):
                of_it = [name for name, t in changed.items() if isinstance(t, nn.Parameter) == (what == "weights")]
                if of_it:
                    text = f"the attack changed {len(of_it)} {what} of the model, {of_it[0]} first; they were restored"
                    notes.append(Reason(f"{what}_changed", Verdict.SUSPECT, text))


def _watched(module: nn.Module, weights: bool) -> list[tuple[str, Tensor]]:
    return [*module.named_buffers(), *(module.named_parameters() if weights else ())]


def seed_global(seed: int, ids: Tensor) -> None:
    """Seeds the global generators for attacks that draw from them (other libraries): a function of seed and batch."""
    seed_generators(derive(seed, "global", *ids[:1].tolist(), len(ids)))


def _same(one: Tensor, other: Tensor | None) -> bool:
    return other is not None and one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
