"""Every step attack: what becomes of a sample does not depend on which others, at which iteration, stand beside it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from attacked import BUDGETS, Recorded, right, run, trained
from networks import Linear
from torch import Tensor

from harness.assault import Assault
from harness.attacking import attack
from harness.standing import Fresh
from harness.types import Batch, Threat
from harness.undisturbed import undisturbed
from plugins.attacks.apgd_ce import APGDCE
from plugins.attacks.apgd_dlr import APGDDLR
from plugins.attacks.apgd_t import APGDT
from plugins.attacks.fab_t import FABT
from plugins.attacks.fgsm import FGSM
from plugins.attacks.fmn import FMN
from plugins.attacks.mi_fgsm import MIFGSM
from plugins.attacks.pgd import PGD
from plugins.attacks.pgd_targeted import PGDTargeted
from plugins.attacks.square import Square

pytestmark = pytest.mark.slow  # against other libraries, one to four seconds each
torch.set_num_threads(1)

ALL: list[Any] = [
    FGSM(),
    PGD(steps=8, restarts=3),
    PGDTargeted("random", steps=8, restarts=2),
    MIFGSM(steps=8),
    APGDCE(steps=16, restarts=2),
    APGDDLR(steps=16, restarts=2),
    APGDT(steps=8, n_target_classes=3),
    Square(queries=30, restarts=2),
    FMN(steps=12, restarts=3),
    FABT(iterations=6, n_target_classes=3),
]
CASES = [pytest.param(a, n, id=f"{type(a).__name__}-{n}") for a in ALL for n in a.norms]


def in_batches(component: Any, threat: Threat, batch: Batch, module: Any, size: int) -> tuple[Tensor, Tensor]:
    """Proposals and forward passes of each sample, the engine being fed batches of ``size``."""
    assault = Assault(component, type(component).__name__, threat, 0)
    x_adv, forwards = torch.empty_like(batch.x), torch.zeros_like(batch.y)
    with undisturbed(module):
        places = torch.arange(len(batch.y)).split(size)
        fresh = [Fresh(batch.select(p), p, module(batch.x[p]) if assault.needs_clean else None) for p in places]
        for done in attack(module, assault, fresh, size, 10):
            x_adv[done.place], forwards[done.place] = done.x_adv, done.cost[:, 0]
    return x_adv, forwards


@pytest.mark.parametrize(("component", "norm"), CASES)
def test_a_sample_fares_the_same_whatever_stands_beside_it(component: Any, norm: str) -> None:
    module, batch, threat = copy.deepcopy(trained()).double(), right(32), BUDGETS[norm]
    batch = batch._replace(x=batch.x.double())  # in float32 one sign that rounding turns parts two ways for good
    whole, one = in_batches(component, threat, batch, module, 32), in_batches(component, threat, batch, module, 5)
    same = (whole[0] - one[0]).abs().amax((1, 2, 3)) < 1e-4
    assert int(same.sum()) >= 31
    # Where most samples fall, a look without a gradient comes first; how many did is not the same in both.
    assert float((whole[1] - one[1]).abs().float().mean()) <= 0.15 * float(whole[1].float().mean()) + 1


@pytest.mark.parametrize(("component", "norm"), CASES)
def test_a_sample_that_is_fooled_where_it_starts_costs_one_look(component: Any, norm: str) -> None:
    if isinstance(component, FMN | FABT | PGDTargeted):
        return  # two look for something smaller, the third wants one mistake and no other
    weight = torch.ones(1, 8, 8)
    batch = Batch(torch.full((4, 1, 8, 8), 0.5), torch.zeros(4, dtype=torch.int64), torch.arange(4))
    module = Recorded(Linear(weight, bias=1.0))  # class 1 whatever the image: the label 0 is wrong everywhere
    run(component, Threat(norm, 0.01), batch, module)
    assert sum(len(x) for x in module.asked) == 4 * (1 + isinstance(component, APGDT))  # and the clean logits
