"""A model as it was, whatever ran on it: modes, flags, gradients, buffers, weights, and the global generators."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from harness.randomness import derive, generators_kept, seed_generators
from harness.types import Reason, Verdict


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
