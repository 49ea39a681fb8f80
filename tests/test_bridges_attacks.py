"""Other libraries' attacks through the bridges: against direct calls, what they leave behind, what they cost."""

from __future__ import annotations

import logging
import random
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from networks import CLASSES, batch_of, first, images, small
from torch import Tensor, nn

from harness.assault import Assault, Log
from harness.attacking import propose
from harness.errors import BenchError
from harness.judging import Trial, at_budget, judge
from harness.types import Batch, Threat
from harness.undisturbed import seed_global, undisturbed
from plugins.bridges.advlib import Advlib, without_visdom
from plugins.bridges.art import Art
from plugins.bridges.autoattack import AutoAttack
from plugins.bridges.foolbox import Foolbox
from plugins.bridges.torchattacks import Torchattacks

pytestmark = pytest.mark.slow  # importing the libraries takes seconds

LINF, L2 = Threat("Linf", 8 / 255), Threat("L2", 0.5)
SEED = 7


def batch(n: int = 6) -> Batch:
    """Images with the labels that the model gives them."""
    found = batch_of(images(n, shape=(3, 12, 12)))
    with torch.no_grad():
        return found._replace(y=small()(found.x).argmax(1))


def bridged(component: Any, threat: Threat, log: Log | None = None) -> Tensor:
    module = small()
    with undisturbed(module):
        return propose(module, Assault(component, component.name, threat, SEED), batch(), log)


def seeded() -> int:
    """The generators as the bridge finds them, and the seed that a library is given which seeds itself."""
    seed_global(SEED, batch().ids)
    return int(torch.randint(2**31 - 1, ()))


def with_torchattacks(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    import torchattacks

    seeded()
    return torchattacks.PGD(module, eps=8 / 255, alpha=2 / 255, steps=4)(x, y)


def with_torchattacks_square(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    import torchattacks

    return torchattacks.Square(module, norm="Linf", eps=8 / 255, n_queries=40, seed=seeded())(x, y)


def with_foolbox(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    import foolbox

    seeded()
    attack = foolbox.attacks.L2ProjectedGradientDescentAttack(steps=4)
    return attack(foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu"), x, y, epsilons=0.5)[0]


def with_foolbox_ddn(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    import foolbox

    seeded()
    model = foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu")
    return foolbox.attacks.DDNAttack(steps=20)(model, x, y, epsilons=None)[0]


def with_art(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    from art.attacks.evasion import MomentumIterativeMethod
    from art.estimators.classification import PyTorchClassifier

    loss, shape = nn.CrossEntropyLoss(), tuple(x.shape[1:])
    classifier = PyTorchClassifier(module, loss, shape, CLASSES, clip_values=(0.0, 1.0), device_type="cpu")
    seeded()
    attack = MomentumIterativeMethod(classifier, norm=2, eps=0.5, eps_step=0.2, max_iter=4, verbose=False)
    return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


def with_advlib(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with without_visdom():
        from adv_lib.attacks import fmn

    seeded()
    return fmn(module, x, y, norm=2, steps=20, γ_init=0.1)


def with_autoattack(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    from pyautoattack import AutoAttack as Original

    attack = Original(module, version="custom", attacks=["apgd-ce"], norm="Linf", eps=8 / 255, seed=seeded())
    attack.apgd.n_iter = 5
    return attack.run_standard_evaluation(x, y, batch_size=len(x))[0]


DIRECT: list[tuple[Any, Threat, Callable[[nn.Module, Tensor, Tensor], Tensor]]] = [
    (Torchattacks("PGD", {"steps": 4, "alpha": "2/255"}), LINF, with_torchattacks),
    (Torchattacks("Square", {"n_queries": 40}), LINF, with_torchattacks_square),
    (Foolbox("L2PGD", {"steps": 4}), L2, with_foolbox),
    (Foolbox("DDNAttack", {"steps": 20}), L2, with_foolbox_ddn),
    (Art("MomentumIterativeMethod", {"max_iter": 4, "eps_step": 0.2}), L2, with_art),
    (Advlib("fmn", {"steps": 20, "gamma_init": 0.1}), L2, with_advlib),
    (AutoAttack("apgd-ce", {"n_iter": 5}), LINF, with_autoattack),
]


@pytest.mark.parametrize(("component", "threat", "direct"), DIRECT, ids=[c.title for c, *_ in DIRECT])
def test_the_images_are_those_of_a_direct_call(
    component: Any, threat: Threat, direct: Callable[[nn.Module, Tensor, Tensor], Tensor]
) -> None:
    x, y, _ = batch()
    module = small().requires_grad_(False)
    log = Log()
    made = bridged(component, threat, log)
    assert torch.equal(made, direct(module, x, y).detach())
    assert log.forwards > len(y)
    assert (log.backwards > 0) == (component.access == "gradient")


def test_what_a_library_changes_is_put_back() -> None:
    """Modes, flags, buffers, generators, settings: looked at around attacks that are known to change them."""
    module = small().train()
    module.features[1].eval()  # frozen on purpose
    module.features[0].weight.requires_grad_(False)
    before = [(m.training, [p.requires_grad for p in m.parameters()]) for m in module.modules()]
    weights = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    level, tracer = logging.root.manager.disable, sys.gettrace()
    states = torch.get_rng_state(), _numpy_state(), random.getstate()
    error = np.geterr()
    samples = images(6, shape=(3, 12, 12))
    for component, threat, _ in DIRECT:
        outcome = judge(Trial(module, (Assault(component, component.name, threat, 0),), 6), samples)
        assert [note.code for note in outcome.notes] == []
    assert [(m.training, [p.requires_grad for p in m.parameters()]) for m in module.modules()] == before
    assert all(torch.equal(tensor, weights[key]) for key, tensor in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (_numpy_state(), random.getstate()) == states[1:]
    assert (np.geterr(), torch.get_default_dtype(), torch.is_grad_enabled()) == (error, torch.float32, True)
    assert (logging.root.manager.disable, sys.gettrace()) == (level, tracer)
    assert "visdom" not in sys.modules


def _numpy_state() -> list[int]:
    state: Any = np.random.get_state()  # noqa: NPY002 (what the libraries draw from)
    return list(state[1])


def test_nothing_is_printed_logged_or_warned_of(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for component in (AutoAttack("apgd-t", {"n_iter": 3}), Art("BasicIterativeMethod", {"max_iter": 2})):
            bridged(component, LINF)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_autoattack_does_not_take_later_models_for_dynamic_ones() -> None:
    from pyautoattack import checks

    before = dict(checks.funcs)

    class Dynamic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small()

        def forward(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                z = x.detach().requires_grad_()
                (slope,) = torch.autograd.grad(self.inner(z).sum(), z)
            return self.inner(x + 0 * slope)

    module = Dynamic().eval()
    with undisturbed(module):
        propose(module, Assault(AutoAttack("apgd-ce", {"n_iter": 2}), "aa", LINF, 0), batch())
    assert checks.funcs == before


def test_a_smallest_perturbation_is_judged_at_any_budget() -> None:
    samples = images(8, shape=(3, 12, 12))
    component = Torchattacks("DeepFool")
    outcome = judge(Trial(small(), (Assault(component, "deepfool", L2, 0),), 8), samples)
    attacked = outcome.clean_prediction == outcome.label
    assert attacked.any()
    sizes = outcome.proposal_size[attacked]
    accuracies = [float((at_budget(outcome, Threat("L2", e)).prediction == outcome.label).mean()) for e in (0, 0.5, 5)]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[-1] < accuracies[0]
    assert np.isfinite(sizes).any()


def test_what_has_no_norm_is_measured_in_the_one_that_is_asked_for() -> None:
    samples = first(images(6, shape=(3, 12, 12)), 6)
    samples = samples.__class__(samples.images, batch().y, samples.ids)
    component = Foolbox("SpatialAttack")
    for norm in ("Linf", "L2"):
        large = judge(Trial(small(), (Assault(component, "s", Threat(norm, 1e3), 0),), 6), samples)
        tiny = at_budget(large, Threat(norm, 1e-6))
        assert (large.prediction != large.label).any()
        assert (tiny.prediction == tiny.label).all()


def test_a_targeted_form_goes_where_it_is_told() -> None:
    import torchattacks

    component = Torchattacks("PGD", {"steps": 10, "alpha": 0.02}, target="least_likely")
    x, y, _ = batch()
    module = small().requires_grad_(False)
    wanted = module(x).argmin(1)
    made = bridged(component, Threat("Linf", 0.3))
    attack = torchattacks.PGD(module, eps=0.3, alpha=0.02, steps=10)
    attack.set_mode_targeted_by_label(quiet=True)
    seeded()
    assert torch.equal(made, attack(x, wanted))
    assert (wanted != y).all()
    assert bool((module(made).gather(1, wanted[:, None]) > module(x).gather(1, wanted[:, None])).all())


def test_an_attack_that_raises_tells_its_own_reason() -> None:
    """torchattacks' PIFGSM has a kernel of three channels."""
    grey = small(channels=1)
    samples = _as_seen(grey, images(2, shape=(1, 8, 8)))
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 1"):
        judge(Trial(grey, (Assault(Torchattacks("PIFGSM"), "p", LINF, 0),), 2), samples)


def test_torchattacks_apgd_works_on_samples_that_are_wrong_already() -> None:
    """With an eps for each sample it raises; the bridge gives one for all, so the known mistake is not met."""
    samples = images(6, shape=(3, 12, 12))
    component = Torchattacks("APGD", {"steps": 3})
    outcome = judge(Trial(small(), (Assault(component, "a", LINF, 0, final_iterate=True),), 6), samples)
    assert (outcome.clean_prediction != outcome.label).any()
    assert outcome.linf.max() <= LINF.eps * 1.001


def _as_seen(module: nn.Module, samples: Any) -> Any:
    with torch.no_grad():
        return samples.__class__(samples.images, module(batch_of(samples).x).argmax(1), samples.ids)


def test_a_query_budget_stops_it() -> None:
    component = Foolbox("HopSkipJumpAttack", {"steps": 3})
    samples = _as_seen(small(), images(4, shape=(3, 12, 12)))
    outcome = judge(Trial(small(), (Assault(component, "h", L2, 0, query_budget=50),), 4), samples)
    assert outcome.forwards.max() <= 51


def test_a_library_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Advlib, "project", "no-such-library")
    with pytest.raises(BenchError, match="no-such-library is not installed; pip install"):
        _ = Advlib("ddn").library
