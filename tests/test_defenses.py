"""Adversarial training: what its objective is, and what it leaves alone."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from networks import batch_of, images, small

from harness import boundary
from harness.assault import Assault
from harness.attacking import ModelProblem, propose
from harness.randomness import SampleRandom
from harness.types import Threat
from harness.undisturbed import undisturbed
from plugins.attacks.pgd import PGD
from plugins.defenses.none import Undefended
from plugins.defenses.pgd_at import PGDAdversarialTraining

torch.set_num_threads(1)

BATCH = batch_of(images(16))


@pytest.mark.parametrize(
    ("defense", "threat", "attack"),
    [
        (PGDAdversarialTraining(), Threat("Linf", 8 / 255), PGD(steps=4)),
        (PGDAdversarialTraining("L2", 1.0, 3, 0.2, False), Threat("L2", 1.0), PGD(3, 0.2, False)),
    ],
)
def test_the_objective_is_cross_entropy_on_images_crafted_by_pgd_in_evaluation_mode(
    defense: PGDAdversarialTraining, threat: Threat, attack: PGD
) -> None:
    module = small(dropout=0.0)
    random = SampleRandom(5, BATCH.ids)
    with undisturbed(module):
        x_adv = propose(module, Assault(attack, "tried", threat, random.seed, final_iterate=True), BATCH)
    module.train()
    # By a copy, for a pass in training mode moves the running statistics that the next images are crafted with.
    wanted = F.cross_entropy(deepcopy(module)(x_adv), BATCH.y, reduction="none")
    losses = boundary.bind("defenses", defense).objective(problem=ModelProblem(module), batch=BATCH, random=random)
    assert torch.allclose(losses, wanted, rtol=0, atol=1e-6)
    clean = F.cross_entropy(module(BATCH.x), BATCH.y, reduction="none")
    assert losses.mean() > clean.mean()


def test_crafting_moves_neither_statistics_nor_gradients_and_the_loss_reaches_every_weight() -> None:
    module = small(dropout=0.0).train()
    hooks = boundary.bind("defenses", PGDAdversarialTraining())
    before = int(module.features[1].num_batches_tracked)  # type: ignore[operator, arg-type]
    losses = hooks.objective(problem=ModelProblem(module), batch=BATCH, random=SampleRandom(0, BATCH.ids))
    assert int(module.features[1].num_batches_tracked) == before + 1  # type: ignore[operator, arg-type]
    assert all(p.grad is None for p in module.parameters())
    losses.mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.head.parameters())
    assert all(p.grad is not None for p in module.parameters())


def test_the_cost_told_is_the_cost_counted() -> None:
    defense = PGDAdversarialTraining(steps=3)
    hooks, problem = boundary.bind("defenses", defense), ModelProblem(small().train())
    losses = hooks.objective(problem=problem, batch=BATCH, random=SampleRandom(0, BATCH.ids))
    losses.mean().backward()
    assert problem.module.forwards == problem.module.backwards == hooks.passes() * len(BATCH.y) == 4 * 16


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 0, in pixel units"):
        PGDAdversarialTraining(eps=0)


def test_no_defense_trains_nothing_and_wraps_nothing() -> None:
    hooks = boundary.bind("defenses", Undefended())
    assert not hooks.offers("objective")
    assert not hooks.offers("wrap")
