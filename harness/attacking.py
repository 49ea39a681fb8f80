"""Adversarial images: by the engine for step attacks, by their own loop for others; for the judge and for training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from harness.assault import Assault, Log, check_finite
from harness.engine import Engine
from harness.folding import Folded, folded
from harness.looking import BudgetSpent, Counted, Look
from harness.randomness import SampleRandom
from harness.standing import Finished, Fresh, refilled
from harness.tasks import classification as task
from harness.types import Batch, Evaluation, Threat
from harness.undisturbed import seed_global, undisturbed


def attack(
    module: nn.Module,
    assault: Assault,
    source: Iterable[Fresh],
    batch_size: int,
    classes: int | None,
    log: Log | None = None,
    look: Callable[..., Look] = Look,
) -> Iterator[Finished]:
    """What becomes of every sample of ``source``. ``module`` must be in evaluation mode with frozen weights.

    look: how a step attack's points are looked at, where the model is no classifier.
    """
    log = log or Log()
    if not assault.by_step:
        for fresh in refilled(source, max(1, batch_size)):
            with undisturbed(module, weights=True) as notes:  # foreign code has the model in its hands
                finished = _perturbed(module, assault, fresh)
            log.notes |= {note.code: note for note in notes}
            yield finished
        return
    engine = Engine(module, assault, batch_size, classes=classes, look=look)
    yield from engine.run(source)
    if engine.look.halved:
        log.facts["batch_size"] = engine.look.batch_size


def propose(module: nn.Module, assault: Assault, batch: Batch, log: Log | None = None) -> Tensor:
    """What an attack makes of one batch, in the batch's order: (N, C, H, W). ``log`` is told what it cost."""
    log = log or Log()
    with torch.no_grad():
        # Only the engine begins from it; a loop of an attack's own looks for itself.
        starts = assault.needs_clean or (assault.by_step and assault.minimum_norm)
        clean = module(batch.x) if starts else None
    fresh = Fresh(batch, torch.arange(len(batch.y), device=batch.y.device), clean)
    made = torch.empty_like(batch.x)
    for part in attack(module, assault, [fresh], len(batch.y), None if clean is None else clean.shape[1], log):
        made[part.place] = part.x_adv
        log.forwards += int(part.cost[:, 0].sum())
        log.backwards += int(part.cost[:, 1].sum())
    return made


def _perturbed(module: nn.Module, assault: Assault, fresh: Fresh) -> Finished:
    """One batch under an attack with its own loop; it is stopped where its queries are spent."""
    batch, threat = fresh.batch, assault.threat
    counted = Counted(
        module,
        batch,
        threat=None if assault.minimum_norm else threat,
        by_gradient=assault.by_gradient,
        budget=assault.query_budget,
        draws=assault.draws,
    )
    problem = ModelProblem(counted)
    seed_global(assault.seed, batch.ids)
    given = Batch(*(tensor.clone() for tensor in batch))  # an attack may write into what it was given
    random = SampleRandom(assault.seed, batch.ids)
    try:
        x_adv = assault.hooks.perturb(problem=problem, batch=given, threat=threat, random=random)
        x_adv = check_finite(x_adv, assault.name).detach().to(batch.x.device)
    except BudgetSpent:
        x_adv = counted.best
    cost = torch.cat([counted.cost, counted.cost.new_zeros(len(batch.y), 1)], dim=1)
    return Finished(fresh.place, x_adv, None, cost, None)


class ModelProblem:
    """A classifier as code with a loop of its own sees it (``harness.types.Problem``): attacks, and defenses."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module if isinstance(module, Counted) else Counted(module)
        self._fast: Folded | None = None
        self._tried = False

    def evaluate(self, x: Tensor, batch: Batch, *, gradient: bool) -> Evaluation:
        return Look(self.module, max(1, len(x)))(x, batch, {}, gradient=gradient and self.module.by_gradient)

    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        return task.loss(self.module(x), batch.y)

    def perturb(self, attack: Any, batch: Batch, threat: Threat, random: SampleRandom) -> Tensor:
        """Adversarial images for training, of the last iterate: made in evaluation mode, projected, detached."""
        assault = Assault(attack, type(attack).__name__, threat, random.seed, final_iterate=True)
        log = Log()
        with undisturbed(self.module):
            module = self._crafting(batch.x) if assault.by_step else self.module.module
            x_adv = propose(module, assault, batch, log)
        self.module.forwards += log.forwards
        self.module.backwards += log.backwards
        return threat.project(x_adv, batch.x).detach()

    def _crafting(self, x: Tensor) -> nn.Module:
        """The model's fast form with the weights of the moment; adversarial training asks for it batch after batch."""
        if not self._tried:
            self._fast, self._tried = folded(self.module.module, x[:8]), True
        if self._fast is None:
            return self.module.module
        self._fast.refresh()
        return self._fast
