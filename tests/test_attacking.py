"""Budgets, attacks against torchattacks and closed forms, what passes cost, and what an attack may leave behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
import torchattacks
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Linear, Small, batch_of, images, small
from torch import Tensor, nn

from harness.assault import Assault, check_finite
from harness.attacking import ModelProblem, propose
from harness.errors import BenchError
from harness.hookspecs import hookimpl
from harness.randomness import SampleRandom
from harness.tasks import classification as task
from harness.types import Batch, Problem, Threat
from harness.undisturbed import undisturbed
from plugins.attacks.fgsm import FGSM
from plugins.attacks.pgd import PGD
from plugins.attacks.torchattacks_fgsm import TorchattacksFGSM
from plugins.attacks.torchattacks_pgd import TorchattacksPGD

torch.set_num_threads(1)

LINF, L2 = Threat("Linf", 8 / 255), Threat("L2", 0.5)
# A power of two, so that torchattacks' mean over the batch and our per-sample loss give the same bits of gradient.
BATCH = batch_of(images(16))
EDGE = 1e-6


def run(module: nn.Module, attack: Any, threat: Threat, batch: Batch = BATCH, seed: int = 0) -> Tensor:
    """As the judge runs an attack in its classic form, where the last iterate counts."""
    with undisturbed(module):
        return propose(module, Assault(attack, "tried", threat, seed, final_iterate=True), batch)


def fooled(module: nn.Module, x: Tensor, batch: Batch = BATCH) -> Tensor:
    with torch.no_grad():
        return task.predict(module(x)) != batch.y


# --- the threat ---


@given(
    norm=st.sampled_from(["Linf", "L2", "L1"]),
    eps=st.floats(0, 3),
    reach=st.sampled_from([0.01, 0.5, 3.0, 100.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_a_projection_lies_in_ball_and_box_and_projecting_again_changes_nothing(
    norm: str, eps: float, reach: float, seed: int
) -> None:
    threat, x = Threat(norm, eps), batch_of(images(4, seed)).x
    wild = x + reach * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    inside = threat.project(wild, x)
    assert float(threat.size(inside - x).max()) <= eps * (1 + EDGE) + EDGE
    assert float(inside.min()) >= 0
    assert float(inside.max()) <= 1
    assert torch.allclose(threat.project(inside, x), inside, rtol=0, atol=EDGE)
    kept = threat.project(x, x)
    assert torch.allclose(kept, x, rtol=0, atol=1e-7)


def test_a_projection_onto_the_linf_ball_and_box_is_the_nearest_point_of_both() -> None:
    x = torch.tensor([0.02, 0.5, 0.99]).view(1, 1, 1, 3)
    wild = torch.tensor([-1.0, 0.52, 2.0]).view(1, 1, 1, 3)
    assert Threat("Linf", 0.1).project(wild, x).flatten().tolist() == pytest.approx([0.0, 0.52, 1.0])


@pytest.mark.parametrize("threat", [LINF, L2])
def test_random_points_fill_the_ball(threat: Threat) -> None:
    x = torch.full((2000, 1, 4, 4), 0.5)
    delta = threat.uniform(x, SampleRandom(0, torch.arange(2000))) - x
    sizes = threat.size(delta)
    assert float(sizes.max()) <= threat.eps + EDGE
    assert float(sizes.max()) > 0.98 * threat.eps
    if threat.norm == "L2":
        assert float(sizes.mean()) == pytest.approx(threat.eps / 2, rel=0.05)  # radius uniform in [0, eps]
    else:
        assert float(delta.var()) == pytest.approx(threat.eps**2 / 3, rel=0.03)  # uniform in each pixel
    assert float(delta.mean().abs()) < 0.02 * threat.eps


def test_random_points_near_the_edge_of_the_box_stay_in_it() -> None:
    for threat in (Threat("Linf", 0.3), Threat("L2", 2.0)):
        x = torch.cat([torch.zeros(20, 3, 8, 8), torch.ones(20, 3, 8, 8)])
        drawn = threat.uniform(x, SampleRandom(0, torch.arange(40)))
        assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1


@pytest.mark.parametrize("threat", [LINF, L2])
def test_the_steepest_direction_has_norm_one_and_none_where_there_is_no_gradient(threat: Threat) -> None:
    gradient = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 1e-5
    gradient[3] = 0
    sizes = threat.size(threat.steepest(gradient))
    assert sizes.tolist() == pytest.approx([1, 1, 1, 0, 1, 1, 1, 1], abs=1e-5)


@pytest.mark.parametrize(("threat", "dual"), [(Threat("Linf", 0.03), 1), (Threat("L2", 0.3), 2)])
def test_fgsm_raises_a_linear_score_by_eps_times_the_dual_norm(threat: Threat, dual: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 8, 8, generator=generator)
    # Away from the edge of the box, which would take a part of the perturbation.
    x = 0.35 + 0.3 * torch.rand(16, 3, 8, 8, generator=generator)
    batch = Batch(x, torch.arange(16) % 2, torch.arange(16))
    module = Linear(weight, bias=-float((0.5 * weight).sum()))
    moved = module(run(module, FGSM(), threat, batch)) - module(x)  # (N, 2): class 0 is always 0
    sign = 1.0 - 2.0 * batch.y  # the score is pushed up for label 0 and down for label 1
    closed = threat.eps * float(weight.flatten().norm(p=dual))
    assert (sign * moved[:, 1]).tolist() == pytest.approx([closed] * 16, rel=1e-4)


# --- against torchattacks, called directly ---


def foreign(module: nn.Module, kind: Callable[..., Any], **parameters: Any) -> Tensor:
    return kind(module, **parameters)(BATCH.x, BATCH.y)


@pytest.mark.parametrize("eps", [0.0, 2 / 255, 8 / 255, 0.3])
def test_fgsm_is_that_of_torchattacks(eps: float) -> None:
    module = small()
    theirs = foreign(module, torchattacks.FGSM, eps=eps)
    assert torch.allclose(run(module, FGSM(), Threat("Linf", eps)), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("eps", "alpha", "steps"), [(8 / 255, 2 / 255, 5), (0.1, 0.01, 8), (4 / 255, 0.1, 3)])
def test_pgd_is_that_of_torchattacks(eps: float, alpha: float, steps: int) -> None:
    module, attack = small(), PGD(steps=steps, alpha=alpha, random_start=False)
    theirs = foreign(module, torchattacks.PGD, eps=eps, alpha=alpha, steps=steps, random_start=False)
    assert torch.allclose(run(module, attack, Threat("Linf", eps)), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("eps", "alpha", "steps"), [(0.5, 0.1, 8), (2.0, 0.4, 8), (0.3, 1.0, 3)])
def test_pgd_in_l2_is_that_of_torchattacks(eps: float, alpha: float, steps: int) -> None:
    module, attack = small(), PGD(steps=steps, alpha=alpha, random_start=False)
    theirs = foreign(module, torchattacks.PGDL2, eps=eps, alpha=alpha, steps=steps, random_start=False)
    assert torch.allclose(run(module, attack, Threat("L2", eps)), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("threat", [LINF, L2])
def test_the_bridges_to_torchattacks_pass_budget_and_step_size_on(threat: Threat) -> None:
    module = small()
    if threat.norm == "Linf":
        assert torch.equal(run(module, TorchattacksFGSM(), threat), foreign(module, torchattacks.FGSM, eps=threat.eps))
    kind = torchattacks.PGD if threat.norm == "Linf" else torchattacks.PGDL2
    # Without alpha, 2.5 eps / steps, as in the native PGD.
    theirs = foreign(module, kind, eps=threat.eps, alpha=2.5 * threat.eps / 4, steps=4, random_start=False)
    assert torch.equal(run(module, TorchattacksPGD(steps=4, random_start=False), threat), theirs)
    native = run(module, PGD(steps=4, random_start=False), threat)
    assert torch.allclose(native, theirs, rtol=0, atol=1e-6)


# --- the engine ---


@pytest.mark.parametrize("threat", [LINF, L2, Threat("Linf", 0.9), Threat("L2", 20.0)])
def test_pgd_with_a_random_start_stays_in_budget_and_box(threat: Threat) -> None:
    x_adv = run(small(), PGD(steps=3, restarts=2), threat)
    assert float(threat.size(x_adv - BATCH.x).max()) <= threat.eps * (1 + EDGE) + EDGE
    assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1


def test_pgd_draws_its_start_by_seed_and_sample_not_by_place() -> None:
    module, attack = small(), PGD(steps=1)
    whole = run(module, attack, LINF)
    assert not torch.equal(whole, run(module, attack, LINF, seed=1))
    index = torch.tensor([9, 2, 14])
    assert torch.allclose(run(module, attack, LINF, BATCH.select(index)), whole[index], rtol=0, atol=1e-6)


def test_an_evaluation_tells_loss_logits_gradient_and_success_of_each_sample() -> None:
    module, problem = small(), ModelProblem(small())
    found = problem.evaluate(BATCH.x, BATCH, gradient=True)
    x = BATCH.x.clone().requires_grad_()
    logits = module(x)
    loss = nn.functional.cross_entropy(logits, BATCH.y, reduction="none")
    assert torch.equal(found.logits, logits.detach())
    assert torch.equal(found.loss, loss.detach())
    assert torch.equal(found.fooled, logits.argmax(1) != BATCH.y)
    assert found.gradient is not None
    for place in (0, 7):  # a sample's own gradient, whatever else is in the batch
        (alone,) = torch.autograd.grad(loss[place], x, retain_graph=True)
        assert torch.allclose(found.gradient[place], alone[place], rtol=1e-4, atol=1e-8)
    assert problem.evaluate(BATCH.x, BATCH, gradient=False).gradient is None
    assert not BATCH.x.requires_grad


@pytest.mark.parametrize(
    ("proposal", "reason"),
    [
        (BATCH.x.where(BATCH.x < 0.5, float("nan")), "nan: attack bad: 16 of 16"),
        (BATCH.x.clone().index_fill_(0, torch.tensor([2]), float("inf")), "1 of 16"),
    ],
)
def test_a_proposal_that_is_not_finite_is_refused(proposal: torch.Tensor, reason: str) -> None:
    with pytest.raises(BenchError, match=reason):
        check_finite(proposal, "bad")


# --- what an attack leaves behind ---


@dataclass(frozen=True)
class Rude:
    """Does to the model what other libraries do: training mode, gradients, the global generator."""

    norms: ClassVar[tuple[str, ...]] = ("Linf",)

    @hookimpl
    def perturb(self, problem: Problem, batch: Batch) -> Tensor:
        problem.module.train()
        problem.module.requires_grad_(True)
        problem.module(batch.x).sum().backward()
        torch.manual_seed(123)
        return batch.x + torch.rand_like(batch.x) * 1e-3


@dataclass(frozen=True)
class Raises:
    """Gives up half way, the model in disorder."""

    norms: ClassVar[tuple[str, ...]] = ("Linf",)

    @hookimpl
    def perturb(self, problem: Problem, batch: Batch) -> Tensor:
        problem.module.train()
        problem.module(batch.x + torch.rand(1))
        raise RuntimeError("no more")


def partly_frozen() -> Small:
    """In training mode but for one batch norm, one weight frozen, and a gradient waiting at the head."""
    module = small().train()
    module.features[1].eval()
    module.features[0].weight.requires_grad_(False)
    for parameter in module.head.parameters():
        parameter.grad = torch.full_like(parameter, 0.25)
    return module


def picture(module: nn.Module) -> dict[str, Any]:
    state = {f"mode {name}": part.training for name, part in module.named_modules()}
    state |= {f"wanted {name}": p.requires_grad for name, p in module.named_parameters()}
    state |= {f"gradient {name}": None if p.grad is None else p.grad.tolist() for name, p in module.named_parameters()}
    state |= {f"tensor {name}": t.tolist() for name, t in module.state_dict().items()}
    return state | {"generator": torch.get_rng_state().tolist()}


@pytest.mark.parametrize(
    "attack",
    [FGSM(), PGD(steps=2, restarts=2), TorchattacksFGSM(), TorchattacksPGD(steps=2), Rude()],
    ids=lambda attack: type(attack).__name__,
)
def test_after_an_attack_everything_is_as_it_was(attack: Any) -> None:
    module = partly_frozen()
    before = picture(module)
    run(module, attack, LINF)
    after = picture(module)
    assert {name for name in before if before[name] != after[name]} == set()


def test_everything_is_as_it_was_after_an_attack_that_raises() -> None:
    module = partly_frozen()
    before = picture(module)
    with pytest.raises(RuntimeError, match="no more"):
        run(module, Raises(), LINF)
    assert picture(module) == before


def test_inside_weights_are_frozen_and_every_part_is_in_evaluation_mode() -> None:
    module = partly_frozen()
    with undisturbed(module):
        assert not any(part.training for part in module.modules())
        assert not any(p.requires_grad for p in module.parameters())


def test_changed_buffers_are_restored_and_noted() -> None:
    module = small()
    before = {name: b.clone() for name, b in module.named_buffers()}
    with undisturbed(module) as notes:
        module.train()
        module(BATCH.x)
    assert [note.code for note in notes] == ["buffers_changed"]
    assert "6 buffers" in notes[0].text
    assert all(torch.equal(b, before[name]) for name, b in module.named_buffers())
    with undisturbed(module) as notes:
        module(BATCH.x)
    assert notes == []


def test_training_images_by_an_attack_are_projected_and_leave_the_model_training() -> None:
    @dataclass(frozen=True)
    class Far:
        norms: ClassVar[tuple[str, ...]] = ("Linf",)

        @hookimpl
        def perturb(self, batch: Batch) -> Tensor:
            return batch.x + 1

    module = small().train()
    x_adv = ModelProblem(module).perturb(Far(), BATCH, LINF, SampleRandom(0, BATCH.ids))
    assert torch.equal(x_adv, (BATCH.x + LINF.eps).clamp(0, 1))
    assert module.training
    assert not x_adv.requires_grad
