"""Rounds side by side and proposals looked at together: the same answers as one after the other, in fewer looks."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from attacked import BUDGETS, Recorded, right, stands, trained
from torch import Tensor

from harness.assault import Assault
from harness.engine import AHEAD, Engine
from harness.standing import Finished, Fresh
from harness.types import Batch, Threat
from harness.undisturbed import undisturbed
from plugins.attacks.apgd_t import APGDT
from plugins.attacks.fab_t import FABT
from plugins.attacks.pgd import PGD
from plugins.attacks.square import Square

pytestmark = pytest.mark.slow  # hundreds of looks

IN_TURN = 10**9
"""A query budget that never binds: with any budget the engine takes one round, and one proposal, after the other."""


def run(
    component: Any, threat: Threat, batch: Batch, size: int = 128, **how: Any
) -> tuple[Tensor, Tensor, list[int], list[Finished]]:
    """Proposals, passes (forwards, backwards, zeros) of each sample, images in each look; in double precision."""
    module = Recorded(copy.deepcopy(trained()).double())
    batch = batch._replace(x=batch.x.double())
    assault = Assault(component, "tried", threat, 0, **how)
    clean = module(batch.x)
    module.asked.clear()
    x_adv, cost = torch.empty_like(batch.x), torch.zeros(len(batch.y), 3, dtype=torch.int64)
    with undisturbed(module):
        engine = Engine(module, assault, size, classes=10)
        done = list(engine.run([Fresh(batch, torch.arange(len(batch.y)), clean)]))
    for part in done:
        x_adv[part.place], cost[part.place] = part.x_adv, part.cost
    return x_adv, cost, [len(x) for x in module.asked], done


def survivors(threat: Threat, n: int) -> Batch:
    """Digits that ten steps of PGD leave."""
    batch = right(128)
    x_adv = run(PGD(), threat, batch)[0]
    index = stands(trained(), x_adv.float(), batch).nonzero().squeeze(1)
    assert len(index) >= n
    return batch.select(index[:n])


HALF = replace(BUDGETS["Linf"], eps=0.1)


@pytest.mark.parametrize(
    "component", [PGD(steps=8, restarts=6), APGDT(steps=12, n_target_classes=6), FABT(iterations=6, n_target_classes=6)]
)
def test_rounds_side_by_side_answer_as_one_after_the_other(component: Any) -> None:
    batch = right(24)
    beside, spent, looks, done = run(component, HALF, batch)
    in_turn, spent_in_turn, looks_in_turn, _ = run(component, HALF, batch, query_budget=IN_TURN)
    assert torch.allclose(beside, in_turn, atol=1e-9)
    assert sorted(place for part in done for place in part.place.tolist()) == list(range(24))  # each once
    assert len(looks) < 0.7 * len(looks_in_turn)
    assert (spent[:, 0] >= spent_in_turn[:, 0]).all()  # rounds behind the one that won were in vain, and are counted
    assert int(spent[:, 0].sum()) == sum(looks) + 24  # the clean logits
    left = stands(trained(), in_turn.float(), batch)
    if not isinstance(component, FABT):
        assert 0 < int(left.sum()) < 24
        assert torch.equal(spent[left], spent_in_turn[left])  # nothing is in vain for those that stand


def test_rounds_begin_side_by_side_only_where_the_batch_has_room() -> None:
    batch = survivors(HALF, 8)
    looks = run(APGDT(steps=12, n_target_classes=6), HALF, batch, size=8)[2]
    assert max(looks) == 8
    assert max(run(APGDT(steps=12, n_target_classes=6), HALF, batch, size=30)[2]) == 30
    assert max(run(APGDT(steps=12, n_target_classes=6), HALF, batch, size=100)[2]) == 8 * 6


def test_samples_that_fall_early_cost_no_further_rounds() -> None:
    batch = right(24)
    steps = 40
    _, spent, _, _ = run(PGD(steps=steps, restarts=5), Threat("Linf", 0.5), batch)
    assert (spent[:, 1] < steps / 4).all()


@pytest.mark.parametrize("norm", Square.norms)
def test_proposals_looked_at_together_give_what_one_after_the_other_gives(norm: str) -> None:
    threat = replace(BUDGETS[norm], eps=BUDGETS[norm].eps * 0.6)
    batch = survivors(threat, 3)
    together, spent, looks, _ = run(Square(queries=300), threat, batch)
    in_turn, spent_in_turn, looks_in_turn, _ = run(Square(queries=300), threat, batch, query_budget=IN_TURN)
    assert torch.equal(together, in_turn)
    left = stands(trained(), in_turn.float(), batch)
    assert (spent_in_turn[left, 0] == 301).all()  # the clean look, and 300 queries
    assert (spent[left, 0] >= 301).all()
    assert len(looks) < 0.7 * len(looks_in_turn)
    assert max(looks) <= AHEAD["cpu"]


def test_only_attacks_that_say_so_have_proposals_looked_at_together() -> None:
    class Plain(Square):
        keeps_best = False

    batch = survivors(HALF, 2)
    assert set(run(Plain(queries=40), HALF, batch)[2]) <= {1, 2}
    assert max(run(Square(queries=40), HALF, batch)[2]) > 2


def test_a_find_inside_the_budget_suffices_where_that_is_all_that_is_asked() -> None:
    batch, attack = right(24), FABT(iterations=10, n_target_classes=4)
    whole, spent, _, _ = run(attack, HALF, batch)
    enough, less, _, _ = run(attack, HALF, batch, inside_suffices=True)
    x = batch.x.double()
    inside = [HALF.size(found - x) <= HALF.eps for found in (whole, enough)]
    fooled = [~stands(trained(), found.float(), batch) for found in (whole, enough)]
    assert torch.equal(inside[0] & fooled[0], inside[1] & fooled[1])
    fell = inside[0] & fooled[0]
    assert 0 < int(fell.sum()) < 24
    assert int(less[fell].sum()) < 0.5 * int(spent[fell].sum())
    assert torch.equal(less[~fell], spent[~fell])
    assert (HALF.size(enough - x)[fell] >= HALF.size(whole - x)[fell] - 1e-12).all()
