"""Models that hide their gradients are never shown as robust without a mark; a sound one is shown without any."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import Small, digits, first
from torch import Tensor, nn

from harness import validity
from harness.assault import Assault
from harness.data import Samples
from harness.judging import Trial, judge
from harness.subject import examine
from harness.types import Outcome, Reason, Threat
from harness.undisturbed import undisturbed
from plugins.attacks.pgd import PGD
from plugins.attacks.square import Square

torch.set_num_threads(1)

EPS = 24 / 255
THREAT = Threat("Linf", EPS)


@functools.cache
def trained() -> Small:
    """A small network that has learnt the digits, some of it under attack, so that part of it stands."""
    from harness.attacking import ModelProblem
    from harness.randomness import SampleRandom

    torch.manual_seed(0)
    module, data = Small(1, 10, dropout=0.0), digits().splits["train"]
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    problem = ModelProblem(module.train())
    for epoch in range(14):
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(epoch))
        for index in order.split(128):
            batch = data.take(index)
            if epoch >= 8:
                x = problem.perturb(PGD(steps=2), batch, THREAT, SampleRandom(epoch, batch.ids))
                batch = batch._replace(x=x)
            optimizer.zero_grad()
            problem.loss(batch.x, batch).mean().backward()
            optimizer.step()
    return module.eval()


@functools.cache
def samples() -> Samples:
    return first(digits().splits["test"], 200)


def outcome(module: nn.Module, attack: Any = None, *, verify: bool = False, **how: Any) -> Outcome:
    attack = attack or PGD(steps=10)
    probe = Assault(Square(queries=200), "square", THREAT, 0) if verify else None
    trial = Trial(module.eval(), (Assault(attack, "tried", THREAT, 0, **how),), 64, verify=verify, probe=probe)
    return judge(trial, samples())


def doubts(module: nn.Module, *, verify: bool = False, draws: int = 1) -> set[str]:
    found: list[Reason] = validity.own(outcome(module, verify=verify, draws=draws), THREAT, draws=draws)
    return {reason.code for reason in found}


class Changed(nn.Module):
    """The trained network behind a function of its images, and before one of its logits."""

    def __init__(
        self, images: Callable[[Tensor], Tensor] = lambda x: x, logits: Callable[[Tensor], Tensor] = lambda z: z
    ) -> None:
        super().__init__()
        self.module, self.images, self.logits = trained(), images, logits

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.module(self.images(x)))


class Detached(torch.autograd.Function):
    """The identity forwards, noise backwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(slope.shape, generator=generator)


def saturated(logits: Tensor) -> Tensor:
    return logits * 1e4


def rounded(x: Tensor) -> Tensor:
    return (x * 4).round() / 4


def noisy(x: Tensor) -> Tensor:
    return x + 0.1 * torch.randn_like(x)


@pytest.mark.parametrize("verify", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_sound_model_earns_no_mark(verify: bool) -> None:
    assert doubts(trained(), verify=verify) == set()


@pytest.mark.parametrize(
    ("module", "codes"),
    [
        (lambda: Changed(logits=saturated), {"zero_gradients", "saturated_logits"}),
        (lambda: Changed(images=rounded), {"zero_gradients"}),
        (lambda: Changed(images=Detached.apply), {"gradient_not_ascending"}),
        (lambda: Changed(images=noisy), {"random_predictions"}),
        (lambda: Changed(images=lambda x: x.detach()), {"zero_gradients"}),
    ],
    ids=["saturated", "rounded", "shattered", "random", "detached"],
)
def test_a_model_that_hides_its_gradients_is_marked_without_any_extra_pass(
    module: Callable[[], nn.Module], codes: set[str]
) -> None:
    made = module()
    hidden = outcome(made)
    assert hidden.correct.mean() > outcome(trained()).correct.mean() - 0.02  # it looks no less robust than it is
    assert codes <= doubts(made)


def test_the_mark_of_a_random_model_goes_when_the_attack_averages() -> None:
    assert "random_predictions" not in doubts(Changed(images=noisy), draws=4)


@pytest.mark.parametrize("hide", [lambda: Changed(logits=saturated), lambda: Changed(images=Detached.apply)])
def test_the_checks_that_cost_passes_see_what_is_hidden(hide: Callable[[], nn.Module]) -> None:
    found = doubts(hide(), verify=True)
    assert {"black_box_stronger", "large_eps_not_chance"} <= found


@pytest.mark.slow
def test_verifying_looks_at_every_final_image_again_and_at_its_8_bit_form() -> None:
    seen = outcome(trained(), verify=True)
    attacked = int(seen.clean_correct.sum())
    assert seen.facts["checked_again"] == attacked
    assert seen.facts["differing"] == 0
    assert seen.quantised_prediction is not None
    wrong = ~seen.clean_correct
    assert (seen.quantised_prediction[wrong] == seen.clean_prediction[wrong]).all()
    assert outcome(trained()).quantised_prediction is None


def test_what_a_model_says_of_itself() -> None:
    with undisturbed(trained()):
        sound = examine(trained(), samples())
    assert sound.repeats
    assert sound.classes == 10
    assert sound.fast is not trained()
    assert sound.facts["flat"] == 0
    assert sound.facts["rising"] > 0.9
    random = Changed(images=noisy).eval()
    with undisturbed(random):
        found = examine(random, samples())
    assert not found.repeats
    assert found.fast is random  # what does not repeat cannot be shown to be the same in another form


def test_a_model_whose_answer_depends_on_the_batch_does_not_repeat() -> None:
    class OnBatch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = trained()(x)
            return logits + torch.arange(len(x)).float()[:, None] * torch.tensor([0.1] * 5 + [0.0] * 5)

    assert not examine(OnBatch().eval(), samples()).repeats
