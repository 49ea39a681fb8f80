"""FMN and FAB-T: against closed forms, foolbox and the authors' code; what they cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchattacks
from attacked import BUDGETS, Recorded, accuracy, check_budget, right, run, stands, trained
from networks import batch_of, images, small
from torch import Tensor, nn

from harness.assault import Assault
from harness.attacking import propose
from harness.registry import bind
from harness.types import Batch, Threat
from plugins.attacks.fab_t import FABT
from plugins.attacks.fmn import FMN

pytestmark = pytest.mark.slow  # against other libraries, one to four seconds each
torch.set_num_threads(1)

NORMS = ("Linf", "L2", "L1")
DUAL = {"Linf": 1.0, "L2": 2.0, "L1": float("inf")}


def distances(attack: Any, norm: str, batch: Batch, module: nn.Module) -> Tensor:
    """Of what the attack finds, infinite where that does not fool: (N,)."""
    threat = Threat(norm, 0.1)
    x_adv = run(attack, threat, batch, module)
    assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1
    return threat.size(x_adv - batch.x).where(~stands(module, x_adv, batch), float("inf"))


def linear(n: int = 48) -> tuple[nn.Module, Batch]:
    """Six random linear classes on 1 x 6 x 6, and grey images near where they meet, which the box does not hold."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(36, 6)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(6, 36, generator=generator))
        layer.bias.copy_(-layer.weight.sum(1) / 2)
    module = nn.Sequential(nn.Flatten(), layer).requires_grad_(False)
    x = 0.45 + 0.1 * torch.rand(n, 1, 6, 6, generator=generator)
    return module, Batch(x, module(x).argmax(1), torch.arange(n))


def truth(module: nn.Module, batch: Batch, norm: str) -> Tensor:
    """The distance to the nearest boundary of the linear model: (N,)."""
    weight: Tensor = module[1].weight  # type: ignore[index, assignment]
    logits, own = module(batch.x), batch.y[:, None]
    slope = torch.linalg.vector_norm(weight[batch.y][:, None] - weight, DUAL[norm], dim=2)
    return ((logits.gather(1, own) - logits) / slope).scatter(1, own, float("inf")).amin(1)


# --- FMN ---


@pytest.mark.parametrize("norm", NORMS)
def test_fmn_finds_the_distance_to_a_linear_boundary(norm: str) -> None:
    module, batch = linear()
    exact = truth(module, batch, norm)
    found = distances(FMN(), norm, batch, module) / exact
    assert float(found.min()) > 0.995  # of a distance of 1e-4 the logits tell no more digits
    assert float(found.median()) < 1.01
    # From the label alone it may walk to the boundary that is steepest, not nearest; towards each class it does not.
    every = distances(FMN(restarts=5), norm, batch, module) / exact
    assert float(every.quantile(0.95)) < 1.01
    assert bool((every <= found + 1e-6).all())


@pytest.mark.parametrize("norm", NORMS)
def test_fmn_comes_as_near_as_foolbox(norm: str) -> None:
    foolbox = pytest.importorskip("foolbox")
    module, batch = trained(), right(64)
    model, attacks = foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu"), foolbox.attacks

    def theirs(attack: Any) -> float:
        x_adv = attack.run(model, batch.x, batch.y)
        size = Threat(norm, 1.0).size(x_adv - batch.x)
        return float(size.where(~stands(module, x_adv, batch), float("inf")).median())

    fmn = {"Linf": attacks.LInfFMNAttack, "L2": attacks.L2FMNAttack, "L1": attacks.L1FMNAttack}[norm]
    assert float(distances(FMN(), norm, batch, module).median()) < 1.02 * theirs(fmn())
    if norm != "L1":
        deep = {"Linf": attacks.LinfDeepFoolAttack, "L2": attacks.L2DeepFoolAttack}[norm]
        assert float(distances(FMN(restarts=4), norm, batch, module).median()) <= theirs(deep())


def test_fmn_keeps_an_image_that_fools_as_it_is() -> None:
    module, batch = linear(8)
    wrong = batch._replace(y=(batch.y + 1) % 6)
    assert torch.equal(run(FMN(steps=5), BUDGETS["L2"], wrong, module), wrong.x)


def test_fmn_counts_its_looks() -> None:
    module, batch = Recorded(trained()), right(8)
    run(FMN(steps=7, restarts=2), BUDGETS["L2"], batch, module)
    assert sum(len(x) for x in module.asked) == 8 * (1 + 2 * (7 + 1))  # the clean images; and the last iterate
    assert [bind("attacks", FMN(restarts=20)).rounds(classes=k) for k in (2, 10, 50)] == [1, 9, 20]


def test_fmn_finds_the_same_in_any_batch() -> None:
    module, batch = trained(), right(24)
    for norm in NORMS:
        whole = distances(FMN(steps=50), norm, batch, module)
        parts = [distances(FMN(steps=50), norm, batch.select(part), module) for part in torch.arange(24).split(7)]
        assert torch.allclose(torch.cat(parts), whole, rtol=1e-3, atol=1e-5)


# --- FAB-T ---


@pytest.mark.parametrize("norm", NORMS)
def test_fab_is_that_of_torchattacks(norm: str) -> None:
    module, batch, threat = trained(), right(64), BUDGETS[norm]
    ours = run(FABT(steps=20), threat, batch, module)
    check_budget(ours, batch.x, threat)
    if norm == "L1":  # whose perturb does not know that norm
        assert accuracy(FABT(steps=20), threat, batch, module) < 0.8
        return
    theirs = torchattacks.FAB(module, norm=norm, eps=threat.eps, steps=20, multi_targeted=True, n_classes=10)
    assert torch.equal(ours, theirs(batch.x, batch.y))


@pytest.mark.parametrize("norm", NORMS)
def test_fab_leaves_what_the_authors_code_leaves(norm: str) -> None:
    fab = pytest.importorskip("pyautoattack.fab_pt")
    module, batch, threat = trained(), right(64), BUDGETS[norm]
    other = fab.FABAttack_PT(module, norm=norm, n_iter=20, eps=threat.eps, targeted=True, device="cpu")
    other.n_target_classes = 9
    robust = float(stands(module, other.perturb(batch.x, batch.y), batch).float().mean())
    assert accuracy(FABT(steps=20), threat, batch, module) == pytest.approx(robust, abs=0.02)


def test_fab_hands_back_the_image_where_nothing_is_found_in_reach() -> None:
    module, batch = trained(), right(16)
    assert torch.equal(run(FABT(steps=5, n_target_classes=2), Threat("Linf", 1e-4), batch, module), batch.x)


def test_fab_pays_as_it_says_and_draws_no_numbers() -> None:
    module, batch = Recorded(trained()), right(8)
    before = torch.get_rng_state()
    assault = Assault(FABT(steps=5, n_target_classes=3), "fab_t", Threat("Linf", 1e-4), 0)
    propose(module, assault, batch)
    assert sum(len(x) for x in module.asked) == 8 * (1 + 3 * (2 * 5 + 3))
    torch.manual_seed(1)
    again = run(FABT(steps=5), BUDGETS["Linf"], batch, module, seed=5)
    assert torch.equal(again, run(FABT(steps=5), BUDGETS["Linf"], batch, module, seed=6))
    torch.set_rng_state(before)


@pytest.mark.parametrize("classes", [2, 3])
def test_fab_with_few_classes_and_with_nothing_to_do(classes: int) -> None:
    module, batch = small(classes=classes), batch_of(images(6, classes=classes))
    standing = batch._replace(y=module(batch.x).argmax(1).detach())
    check_budget(run(FABT(steps=3), Threat("Linf", 0.3), standing, module), batch.x, Threat("Linf", 0.3))
    wrong = batch._replace(y=(standing.y + 1) % classes)
    assert torch.equal(run(FABT(steps=3), Threat("L2", 0.3), wrong, module), batch.x)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (FMN, {"steps": 0}),
        (FMN, {"alpha": 0.0}),
        (FMN, {"alpha_final": -1.0}),
        (FMN, {"gamma": 1.0}),
        (FMN, {"gamma_final": 0.5}),
        (FMN, {"restarts": 0}),
        (FABT, {"steps": 0}),
        (FABT, {"n_target_classes": 0}),
        (FABT, {"alpha_max": 2.0}),
        (FABT, {"eta": 0.5}),
        (FABT, {"beta": 0.0}),
    ],
)
def test_senseless_parameters_are_refused(kind: type[Any], values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        kind(**values)
