"""The square attack against its authors' code: schedule, patterns, what it leaves standing, what it costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attacked import BUDGETS, Recorded, accuracy, check_budget, right, run, stands, trained
from networks import batch_of, images, small
from torch import nn

from harness.types import Threat
from plugins.attacks.square import Square, _inside, _pattern, sides
from plugins.margins import margin

torch.set_num_threads(1)
theirs = pytest.importorskip("pyautoattack.square")

NORMS = ["Linf", "L2"]


def reference(module: Any, norm: str, eps: float, queries: int) -> Any:
    made = theirs.SquareAttack(module, norm=norm, n_queries=queries, eps=eps, seed=0)
    made.device = torch.device("cpu")
    return made


@pytest.mark.parametrize("queries", [100, 999, 5000])
@pytest.mark.parametrize("side", [8, 32])
def test_the_squares_shrink_by_the_authors_schedule(queries: int, side: int) -> None:
    other = reference(None, "Linf", 1.0, queries)
    for least in (1, 3):
        expected = []
        for query in range(queries):
            s = max(round((other.p_selection(query) * side * side) ** 0.5), least)
            expected.append(min(s + (least == 3 and s % 2 == 0), side))
        assert list(sides(queries, 0.8, side, side, least)) == expected


@pytest.mark.parametrize("side", [1, 2, 3, 5, 6, 7, 12])
def test_the_pattern_is_the_authors(side: int) -> None:
    other, pattern = reference(None, "L2", 1.0, 10).eta(side), torch.tensor(_pattern(side))
    assert torch.allclose(other, pattern, atol=1e-6) or torch.allclose(other.T, pattern, atol=1e-6)


def test_each_sample_has_a_square_of_its_own_side_and_place() -> None:
    top, left, side = torch.tensor([0, 5]), torch.tensor([2, 6]), torch.tensor([3, 2])
    inside = _inside(top, left, side, torch.zeros(2, 3, 8, 9))
    assert inside.shape == (2, 1, 8, 9)
    assert [inside[i].nonzero()[:, 1:].tolist() for i in range(2)] == [
        [[r, c] for r in range(3) for c in range(2, 5)],
        [[r, c] for r in (5, 6) for c in (6, 7)],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_it_leaves_no_more_standing_than_the_authors_code(norm: str) -> None:
    # On 8 x 8 pixels that squares reach the lower and the right edge matters: ours is a little stronger.
    module, batch, threat = trained(), right(), BUDGETS[norm]
    other = reference(module, norm, threat.eps, 300).perturb(batch.x, batch.y)
    robust = float(stands(module, other, batch).float().mean())
    ours = accuracy(Square(queries=301), threat, batch, module)
    assert robust - 0.2 < ours < robust + 0.02


@pytest.mark.parametrize("norm", NORMS)
def test_every_query_is_inside_the_budget(norm: str) -> None:
    module, batch, threat = Recorded(small()), batch_of(images(8)), Threat(norm, {"Linf": 0.01, "L2": 0.05}[norm])
    batch = batch._replace(y=module(batch.x).argmax(1).detach())
    module.asked.clear()
    run(Square(queries=60), threat, batch, module, final_iterate=True)
    assert len(module.asked) == 59  # the last iterate is not looked at
    for x in module.asked:
        check_budget(x, batch.x, threat)


def test_the_state_keeps_the_best_and_goes_on_from_it() -> None:
    module, batch, threat = Recorded(trained()), right(32), Threat("Linf", 0.02)
    run(Square(queries=50), threat, batch, module, final_iterate=True)
    assert len(module.asked) == 49
    with torch.no_grad():
        losses = torch.stack([margin(module.module(x), batch.y) for x in module.asked])  # (49, N)
    best = losses.cummax(0).values
    for later, x in enumerate(module.asked[1:], 1):
        kept = torch.stack(module.asked[:later])[losses[:later].argmax(0), torch.arange(32)]
        changed = (x - kept).abs().amax(1) > 1e-6
        rows, columns = changed.any(2).sum(1), changed.any(1).sum(1)
        side = sides(49, 0.8, 8, 8, 1)[later - 1]
        assert int(rows.max()) <= side
        assert int(columns.max()) <= side
    assert bool((best[-1] > best[0]).any())


@pytest.mark.parametrize("norm", NORMS)
def test_it_spends_its_queries_and_no_more_and_asks_for_no_gradient(norm: str) -> None:
    module, batch = NoGradient(trained()), right(16)
    recorded = Recorded(module)
    run(Square(queries=40), Threat(norm, 1e-4), batch, recorded)
    assert sum(len(x) for x in recorded.asked) == 40 * 16


class NoGradient(nn.Module):
    """Refuses to be differentiated."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not x.requires_grad
        logits: torch.Tensor = self.module(x)
        return logits


@pytest.mark.parametrize("norm", NORMS)
def test_it_belongs_to_the_sample_and_is_decided_by_its_seed(norm: str) -> None:
    module, batch, threat = trained(), right(32), BUDGETS[norm]
    attack = Square(queries=40)
    whole = run(attack, threat, batch, module)
    check_budget(whole, batch.x, threat)
    assert torch.equal(whole, run(attack, threat, batch, module))
    assert not torch.equal(whole, run(attack, threat, batch, module, seed=1))
    parts = torch.arange(32).split(9)
    apart = torch.cat([run(attack, threat, batch.select(part), module) for part in parts])
    same = (apart - whole).abs().amax((1, 2, 3)) < 1e-5
    assert int(same.sum()) >= 31  # rounding may call one of two equal margins the better


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 5), (3, 9, 12), (1, 3, 3)])
@pytest.mark.parametrize("norm", NORMS)
def test_images_of_any_shape_are_attacked(norm: str, shape: tuple[int, int, int]) -> None:
    batch, threat = batch_of(images(4, shape=shape)), Threat(norm, 0.3)
    x_adv = run(Square(queries=20), threat, batch, small(channels=shape[0]))
    check_budget(x_adv, batch.x, threat)


@pytest.mark.parametrize("values", [{"queries": 1}, {"p_init": 0.0}, {"p_init": 1.1}, {"restarts": 0}])
def test_senseless_parameters_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Square(**values)
