"""FMN and FAB-T: against closed forms, foolbox and the authors' code; what they cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchattacks
from attacked import BUDGETS, Recorded, right, run, stands, trained
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import batch_of, images, small
from scipy import optimize
from torch import Tensor, nn
from torchattacks.attacks import fab

from harness.assault import Assault, Log
from harness.attacking import propose
from harness.boundary import bind
from harness.types import Batch, Threat
from harness.undisturbed import undisturbed
from plugins.attacks.fab_t import FABT
from plugins.attacks.fmn import FMN
from plugins.projections import onto_plane_in_box

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


def nearest_by_torchattacks(module: nn.Module, batch: Batch, norm: str, steps: int) -> Tensor:
    """Distance of what torchattacks' FAB finds over all nine targets: (N,)."""
    attack = torchattacks.FAB(module, norm=norm, eps=10.0, steps=steps, multi_targeted=True, n_classes=10)
    found = torch.full((len(batch.y),), float("inf"))
    for place in range(2, 11):
        attack.target_class = place
        x_adv = attack.attack_single_run_targeted(batch.x, batch.y)
        size = Threat(norm, 1.0).size(x_adv - batch.x).where(~stands(module, x_adv, batch), float("inf"))
        found = found.minimum(size)
    return found


@pytest.mark.parametrize("norm", NORMS)
def test_fab_finds_what_torchattacks_finds(norm: str) -> None:
    module, batch = trained(), right(64)
    ours = distances(FABT(iterations=20), norm, batch, module)
    theirs = nearest_by_torchattacks(module, batch, norm, 20)
    # Ours also counts a point on the way back that still fools, which is nearer; the ways themselves are the same.
    assert (ours <= theirs * (1 + 1e-4)).all()
    assert float((ours / theirs).median()) > 0.98


@pytest.mark.parametrize("norm", NORMS)
def test_fab_leaves_what_the_authors_code_leaves(norm: str) -> None:
    theirs = pytest.importorskip("pyautoattack.fab_pt")
    module, batch, threat = trained(), right(64), BUDGETS[norm]
    other = theirs.FABAttack_PT(module, norm=norm, n_iter=20, eps=threat.eps, targeted=True, device="cpu")
    other.n_target_classes = 9
    robust = float(stands(module, other.perturb(batch.x, batch.y), batch).float().mean())
    ours = float((distances(FABT(iterations=20), norm, batch, module) > threat.eps).float().mean())
    assert ours == pytest.approx(robust, abs=0.02)


@pytest.mark.parametrize("norm", NORMS)
def test_fab_finds_the_distance_to_a_linear_boundary(norm: str) -> None:
    module, batch = linear()
    found = distances(FABT(iterations=30), norm, batch, module)
    assert float((found / truth(module, batch, norm)).median()) == pytest.approx(1, abs=0.01)


def test_fab_pays_as_it_says_and_draws_no_numbers() -> None:
    module, batch = Recorded(trained()), right(8)
    assault, log = Assault(FABT(iterations=5, n_target_classes=3), "fab_t", Threat("Linf", 1e-4), 0), Log()
    with undisturbed(module):
        propose(module, assault, batch, log)
    assert sum(len(x) for x in module.asked) == 8 * (1 + 3 * 2 * 5) == log.forwards
    assert log.backwards == 8 * 3 * 5
    module, again = trained(), run(FABT(iterations=5), BUDGETS["Linf"], batch, trained(), seed=5)
    assert torch.equal(again, run(FABT(iterations=5), BUDGETS["Linf"], batch, module, seed=6))


@pytest.mark.parametrize("classes", [2, 3])
def test_fab_with_few_classes_and_with_nothing_to_do(classes: int) -> None:
    module, batch = small(classes=classes), batch_of(images(6, classes=classes))
    standing = batch._replace(y=module(batch.x).argmax(1).detach())
    assert bool(distances(FABT(iterations=10), "Linf", standing, module).isfinite().all())
    wrong = batch._replace(y=(standing.y + 1) % classes)
    assert torch.equal(run(FABT(iterations=3), Threat("L2", 0.3), wrong, module), batch.x)


# --- the way onto a plane inside the box ---


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("far", [0.01, 0.3, 3.0])
def test_the_way_onto_a_plane_is_that_of_torchattacks(norm: str, far: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, normal = torch.rand(40, 1, 5, 6, generator=generator), torch.randn(40, 1, 5, 6, generator=generator)
    x[:, :, 0], x[:, :, 1], normal[:, :, :, 0] = 0.0, 1.0, 0.0  # pixels at the box, and such as do not matter
    offset = (normal * x).flatten(1).sum(1) + far * torch.randn(40, generator=generator)
    way = onto_plane_in_box(x, normal, offset, norm)
    theirs = getattr(fab, f"projection_{norm.lower()}")(x.flatten(1), normal.flatten(1), offset).view_as(x)
    assert torch.allclose(way, theirs, atol=2e-6)
    assert 0 <= float((x + way).min()) <= float((x + way).max()) <= 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), far=st.floats(-8, 8), norm=st.sampled_from(NORMS))
def test_no_point_of_the_plane_inside_the_box_is_nearer(seed: int, far: float, norm: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, normal = torch.rand(1, 1, 2, 3, generator=generator), torch.randn(1, 1, 2, 3, generator=generator)
    offset = (normal * x).sum().view(1) + far
    way = onto_plane_in_box(x, normal, offset, norm)
    # The same as a linear programme or a quadratic one, by scipy.
    w, low, high = normal.flatten().numpy(), -x.flatten().numpy(), 1 - x.flatten().numpy()
    reach = float(np.where(np.sign(far) * w > 0, w * high, w * low).sum())  # as far towards the plane as the box allows
    goal = float(np.clip(far, min(reach, 0), max(reach, 0)))
    assert float((normal * way).sum()) == pytest.approx(goal, abs=1e-4)
    size = float(Threat(norm, 1.0).size(way))
    if norm == "L2":
        found = optimize.minimize(
            lambda d: d @ d,
            np.zeros(6),
            bounds=list(zip(low, high, strict=True)),
            constraints={"type": "eq", "fun": lambda d: w @ d - goal},
        )
        assert size <= float(found.fun) ** 0.5 * (1 + 1e-3) + 1e-4
        return
    # |d_i| <= t_i, and the sum (L1) or one common bound (Linf) is made small.
    bounds = [*zip(low, high, strict=True), *([(0, 1)] * (6 if norm == "L1" else 1))]
    wide = np.eye(6) if norm == "L1" else np.ones((6, 1))
    above = np.block([[np.eye(6), -wide], [-np.eye(6), -wide]])
    price = np.r_[np.zeros(6), np.ones(wide.shape[1])]
    even = np.r_[w, np.zeros(wide.shape[1])][None]
    found = optimize.linprog(price, above, np.zeros(12), even, [goal * (1 - 1e-6)], bounds)
    assert found.success
    assert size == pytest.approx(float(found.fun), abs=2e-3)  # the programme may stop a millionth before the plane


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (FMN, {"steps": 0}),
        (FMN, {"alpha": 0.0}),
        (FMN, {"alpha_final": -1.0}),
        (FMN, {"gamma": 1.0}),
        (FMN, {"gamma_final": 0.5}),
        (FMN, {"restarts": 0}),
        (FABT, {"iterations": 0}),
        (FABT, {"n_target_classes": 0}),
        (FABT, {"alpha_max": 2.0}),
        (FABT, {"eta": 0.5}),
        (FABT, {"beta": 0.0}),
    ],
)
def test_senseless_parameters_are_refused(kind: type[Any], values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        kind(**values)
