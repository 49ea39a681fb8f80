"""The engine: who is attacked, how often the model is asked, what it costs, and that the answer stays the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Linear, batch_of, images, small
from torch import Tensor, nn

from harness.assault import Assault
from harness.attacking import ModelProblem, propose
from harness.data import Samples
from harness.engine import Engine
from harness.errors import BenchError
from harness.hookspecs import hookimpl
from harness.judging import Trial, judge
from harness.looking import Counted
from harness.randomness import SampleRandom
from harness.standing import Fresh
from harness.types import Batch, Evaluation, Outcome, Problem, State, Threat
from harness.undisturbed import undisturbed
from plugins.attacks.apgd_t import APGDT
from plugins.attacks.fgsm import FGSM
from plugins.attacks.pgd import PGD
from plugins.attacks.torchattacks_pgd import TorchattacksPGD

torch.set_num_threads(1)

THREAT = Threat("Linf", 2 / 255)
NO_BUDGET = Threat("Linf", 1e-7)


def as_seen(samples: Samples, module: nn.Module) -> Samples:
    """The samples with the labels that the model gives them, so that all are right at first."""
    with torch.no_grad():
        return replace(samples, labels=module(batch_of(samples).x).argmax(1))


def judged(
    attack: Any, module: nn.Module, samples: Samples, threat: Threat = THREAT, batch_size: int = 16, **how: Any
) -> Outcome:
    return judge(Trial(module, (Assault(attack, "tried", threat, 0, **how),), batch_size), samples)


class Asked(nn.Module):
    """A model that keeps the size of every batch that it is asked about with a gradient, and without."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.with_gradient: list[int] = []
        self.without: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        (self.with_gradient if torch.is_grad_enabled() else self.without).append(len(x))
        logits: Tensor = self.module(x)
        return logits


def run(attack: Any, module: nn.Module, samples: Samples, size: int, threat: Threat = THREAT, **how: Any) -> Any:
    """The engine alone: all samples in one source."""
    engine = Engine(module, Assault(attack, "tried", threat, 0, **how), size)
    batch = batch_of(samples)
    with undisturbed(module):
        return list(engine.run([Fresh(batch, torch.arange(len(samples)), None)]))


# --- who is attacked ---


def test_what_is_wrong_at_first_costs_one_forward_and_is_left_alone() -> None:
    module = small()
    samples = as_seen(images(24), module)
    labels = samples.labels.clone()
    labels[:9] = (labels[:9] + 1) % 5
    outcome = judged(PGD(steps=5), module, replace(samples, labels=labels))
    assert outcome.forwards[:9].tolist() == [1] * 9
    assert outcome.backwards[:9].tolist() == [0] * 9
    assert not outcome.linf[:9].any()
    assert not outcome.correct[:9].any()
    assert (outcome.backwards[9:] >= 1).all()


def test_a_sample_that_stands_costs_its_steps_and_one_last_look() -> None:
    module = small()
    outcome = judged(PGD(steps=5), module, as_seen(images(60), module), NO_BUDGET, 64)
    assert outcome.forwards.tolist() == [1 + 5 + 1] * 60
    assert outcome.backwards.tolist() == [5] * 60
    assert outcome.correct.all()


def test_a_fooled_sample_leaves_at_once_with_the_image_that_fooled_it() -> None:
    # One pixel at 0.5 + k/255: the model says 1 above 0.5, each step goes down by one 255th.
    pixels = torch.tensor([129, 131, 133, 138], dtype=torch.uint8).view(-1, 1, 1, 1)
    samples = Samples(pixels, torch.ones(4, dtype=torch.int64), torch.arange(4))
    module = Linear(torch.ones(1, 1, 1), bias=-0.5)
    attack = PGD(steps=8, alpha=1 / 255, random_start=False)
    outcome = judged(attack, module, samples, Threat("Linf", 8 / 255))
    assert outcome.correct.tolist() == [False, False, False, True]
    # 129 is 1.5 steps above the threshold and falls with the second, 131 with the fourth, 133 with the sixth.
    assert (outcome.linf * 255).round(3).tolist() == [2, 4, 6, 8]
    assert (outcome.forwards - 1).tolist() == [3, 5, 7, 9]


def test_restarts_touch_survivors_only_and_help() -> None:
    module = small()
    samples = as_seen(images(128), module)
    once, often = (judged(PGD(steps=1, restarts=r), module, samples, Threat("L2", 0.5)) for r in (1, 6))
    assert not (~once.correct & often.correct).any()
    assert often.correct.sum() < once.correct.sum()
    fell_at_once = ~once.correct
    assert often.forwards[fell_at_once].tolist() == once.forwards[fell_at_once].tolist()
    stands = often.correct
    assert (often.forwards[stands] == 1 + 6 * 2).all()
    assert (often.backwards[stands] == 6).all()


def test_the_worst_case_over_steps_is_never_better_for_the_model_than_the_last_iterate() -> None:
    module = small()
    samples = as_seen(images(200), module)
    worst = judged(PGD(steps=4), module, samples, Threat("Linf", 4 / 255), 64)
    last = judged(PGD(steps=4), module, samples, Threat("Linf", 4 / 255), 64, final_iterate=True)
    assert not (worst.correct & ~last.correct).any()
    assert worst.backwards.sum() < last.backwards.sum()
    assert (last.backwards == 4).all()


# --- full batches ---


def test_the_batch_is_refilled_so_that_it_stays_full() -> None:
    module = small()
    samples = as_seen(images(300), module)
    asked = Asked(module)
    run(PGD(steps=6), asked, samples, 32, Threat("Linf", 4 / 255))
    full = [size for size in asked.with_gradient if size == 32]
    assert max(asked.with_gradient + asked.without) == 32
    assert 32 * len(full) >= 0.8 * sum(asked.with_gradient)  # only the tail is short


def test_where_most_fall_a_look_without_a_gradient_comes_first() -> None:
    module = small()
    samples = as_seen(images(400), module)
    strong, weak = Threat("Linf", 64 / 255), NO_BUDGET
    attack = PGD(steps=5, alpha=64 / 255, random_start=False)
    falls, stands = (judged(attack, module, samples, threat, 32) for threat in (strong, weak))
    assert falls.correct.mean() < 0.2
    assert falls.backwards.mean() < 1.5  # one at the start, and then hardly any
    assert (stands.forwards == stands.backwards + 2).all()  # never where nothing falls


@pytest.mark.slow
@given(size=st.sampled_from([1, 3, 16, 64]), order=st.integers(0, 5))
@settings(max_examples=10, deadline=None)
def test_neither_batch_size_nor_order_changes_what_becomes_of_a_sample(size: int, order: int) -> None:
    module = small()
    samples = as_seen(images(40), module)
    reference = judged(PGD(steps=3, restarts=2), module, samples, Threat("Linf", 3 / 255), 40)
    shuffle = torch.randperm(40, generator=torch.Generator().manual_seed(order))
    other = judged(
        PGD(steps=3, restarts=2),
        module,
        Samples(samples.images[shuffle], samples.labels[shuffle], samples.ids[shuffle]),
        Threat("Linf", 3 / 255),
        size,
    )
    assert other.prediction.tolist() == reference.prediction[shuffle.numpy()].tolist()
    assert other.linf.tolist() == pytest.approx(reference.linf[shuffle.numpy()].tolist(), abs=1e-6)


# --- state ---


@dataclass(frozen=True)
class Recording:
    """A step attack that keeps numbers of its own beside the images."""

    steps: int = 3
    restarts: int = 1
    norms: ClassVar[tuple[str, ...]] = ("Linf",)

    @hookimpl
    def start(self, batch: Batch, random: SampleRandom, restart: Tensor) -> State:
        first = random.uniform(0, 1, (1,))
        return {"x_adv": batch.x, "drawn": torch.cat([first, torch.zeros(len(first), 3)], dim=1), "try": restart}

    @hookimpl
    def step(self, state: State, random: SampleRandom, iteration: Tensor) -> State:
        drawn = state["drawn"].scatter(1, iteration[:, None] + 1, random.uniform(0, 1, (1,)))
        KEPT.append({"iteration": iteration, "try": state["try"], "drawn": drawn})
        return {**state, "drawn": drawn}


KEPT: list[State] = []


def test_a_step_attack_gets_its_state_back_and_fresh_numbers_at_each_step_and_try() -> None:
    KEPT.clear()
    module = small()
    run(Recording(restarts=2), module, as_seen(images(16), module), 5)
    last = [(kept["try"], kept["drawn"][kept["iteration"] == 2]) for kept in KEPT if (kept["iteration"] == 2).any()]
    drawn = torch.cat([rows for _, rows in last])  # (2 N, 1 + steps)
    assert drawn.shape == (32, 4)
    assert len(drawn.unique()) == 32 * 4
    assert sorted({int(t) for tries, _ in last for t in tries}) == [0, 1]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (lambda batch: {"x_adv": batch.x[:1]}, "a row for each"),
        (lambda batch: {"start": batch.x}, "a dict of tensors with x_adv is expected"),
        (lambda batch: None, "a dict of tensors with x_adv is expected"),
        (lambda batch: {"x_adv": batch.x, "count": 3}, r"state\['count'\]"),
        (lambda batch: {"x_adv": batch.x * float("nan")}, "nan: attack tried"),
        (lambda batch: {"x_adv": batch.x.double()}, "float64"),
    ],
)
def test_a_state_that_cannot_be_used_is_refused(state: Callable[[Batch], Any], reason: str) -> None:
    @dataclass(frozen=True)
    class Odd(Recording):
        @hookimpl
        def start(self, batch: Batch) -> State:
            return state(batch)

    module = small()
    with pytest.raises(BenchError, match=reason):
        judged(Odd(), module, as_seen(images(8), module))


def test_a_state_that_changes_its_entries_is_refused() -> None:
    @dataclass(frozen=True)
    class Growing(Recording):
        @hookimpl
        def step(self, state: State) -> State:
            return {**state, "more": state["x_adv"]}

    module = small()
    with pytest.raises(BenchError, match="the same entries from start on"):
        judged(Growing(), module, as_seen(images(8), module))


def test_an_attack_that_writes_into_its_batch_hides_nothing() -> None:
    @dataclass(frozen=True)
    class Overwrites(Recording):
        @hookimpl
        def start(self, batch: Batch) -> State:
            return {"x_adv": batch.x}

        @hookimpl
        def step(self, state: State, batch: Batch) -> State:
            batch.x.add_(0.3).clamp_(0, 1)
            batch.y.fill_(0)
            return state

    module = small()
    samples = as_seen(images(16), module)
    outcome = judged(Overwrites(steps=1), module, samples)
    assert outcome.linf.max() <= THREAT.eps + 1e-6  # cut to what is allowed around the true image
    assert outcome.proposal_size.max() > 0.1
    assert outcome.label.tolist() == samples.labels.tolist()


# --- what an attack may see and spend ---


@dataclass(frozen=True)
class Blind:
    """Goes to random corners by the logits alone."""

    steps: int = 6
    restarts: ClassVar[int] = 1
    access: ClassVar[str] = "scores"
    norms: ClassVar[tuple[str, ...]] = ("Linf",)

    @hookimpl
    def start(self, batch: Batch) -> State:
        return {"x_adv": batch.x}

    @hookimpl
    def step(self, found: Evaluation, batch: Batch, threat: Threat, random: SampleRandom) -> State:
        assert found.gradient is None
        assert not found.logits.requires_grad
        return {"x_adv": threat.project(batch.x + threat.eps * random.normal(batch.x.shape[1:]).sign(), batch.x)}


def test_a_black_box_attack_sees_scores_and_takes_no_gradient() -> None:
    module = small()
    outcome = judged(Blind(), module, as_seen(images(30), module))
    assert not outcome.backwards.any()
    assert outcome.zero_gradients is None
    assert outcome.forwards.max() == 1 + 6 + 1


def test_a_black_box_attack_with_a_loop_of_its_own_gets_no_gradient_either() -> None:
    @dataclass(frozen=True)
    class Cheats:
        access: ClassVar[str] = "scores"
        norms: ClassVar[tuple[str, ...]] = ("Linf",)

        @hookimpl
        def perturb(self, problem: Problem, batch: Batch) -> Tensor:
            assert problem.evaluate(batch.x, batch, gradient=True).gradient is None
            logits = problem.module(batch.x.clone().requires_grad_())
            assert not logits.requires_grad
            return batch.x

    module = small()
    judged(Cheats(), module, as_seen(images(8), module))


@pytest.mark.parametrize("attack", [PGD(steps=9), PGD(steps=3, restarts=4), Blind(steps=20), TorchattacksPGD(steps=9)])
@pytest.mark.parametrize("budget", [1, 4, 7])
def test_a_query_budget_holds_for_every_attack(attack: Any, budget: int) -> None:
    module = small()
    outcome = judged(attack, module, as_seen(images(20), module), NO_BUDGET, query_budget=budget)
    assert (outcome.forwards - 1).tolist() == [budget] * 20  # the first look is the judge's
    assert outcome.correct.all()


def test_a_budget_that_is_used_up_by_the_look_an_attack_starts_from_leaves_all_standing() -> None:
    module = small()
    samples = as_seen(images(12), module)
    outcome = judged(APGDT(steps=3), module, samples, Threat("Linf", 0.3), query_budget=1)
    assert outcome.forwards.max() <= 2  # the judge's own and one
    assert outcome.correct.all()
    assert judged(APGDT(steps=3), module, samples, Threat("Linf", 0.3), query_budget=2).forwards.max() == 3


def test_an_attack_stopped_at_its_budget_keeps_what_it_had_shown() -> None:
    module = small()
    samples = as_seen(images(64), module)
    attack, threat = TorchattacksPGD(steps=30, random_start=False), Threat("Linf", 16 / 255)
    outcome = judged(attack, module, samples, threat, query_budget=12)
    assert (~outcome.correct).any()
    assert (outcome.forwards <= 13).all()
    assert outcome.linf.max() <= threat.eps + 1e-6


def test_passes_of_other_libraries_are_counted_for_each_sample() -> None:
    module, batch = small(), batch_of(images(8))
    counted = Counted(module, batch)
    counted(batch.x)
    some = (batch.x[torch.tensor([5, 2])] + 0.01).requires_grad_()
    counted(some).sum().backward()
    assert counted.cost[:, 0].tolist() == [1, 1, 2, 1, 1, 2, 1, 1]
    assert counted.cost[:, 1].tolist() == [0, 0, 1, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("asks", [True, False])
def test_a_loop_that_only_asks_is_given_the_fast_form_of_the_model(asks: bool) -> None:
    seen: list[str] = []

    @dataclass(frozen=True)
    class Looks:
        norms: ClassVar[tuple[str, ...]] = ("Linf",)
        only_asks: ClassVar[bool] = asks

        @hookimpl
        def perturb(self, problem: Problem, batch: Batch) -> Tensor:
            assert isinstance(problem.module, Counted)
            seen.append(type(problem.module.module).__name__)
            return batch.x + 1e-3

    module = small()
    outcome = judged(Looks(), module, as_seen(images(8), module))
    assert seen == ["Folded" if asks else "Small"]
    assert outcome.notes == []


# --- random models ---


class Noisy(nn.Module):
    """Adds noise to what it is shown."""

    def __init__(self, module: nn.Module, deviation: float) -> None:
        super().__init__()
        self.module, self.deviation = module, deviation

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.module(x + self.deviation * torch.randn_like(x))
        return logits


def test_eot_averages_gradients_and_pays_for_each_draw() -> None:
    module = Noisy(small(), 0.1)
    samples = as_seen(images(12), module.module)
    outcome = judged(PGD(steps=2), module.eval(), samples, NO_BUDGET, draws=5)
    attacked = outcome.backwards > 0
    assert (outcome.backwards[attacked] % 5 == 0).all()
    batch = batch_of(images(4))
    engine = Engine(module, Assault(PGD(), "pgd", THREAT, 0, draws=400), 4)
    torch.manual_seed(0)
    found = engine.look(batch.x, batch, {}, gradient=True)
    engine.look.draws = 1
    torch.manual_seed(1)
    one = engine.look(batch.x, batch, {}, gradient=True)
    torch.manual_seed(2)
    draws = [engine.look(batch.x, batch, {}, gradient=True).gradient for _ in range(400)]
    truth = torch.stack([d for d in draws if d is not None]).mean(0)
    assert found.gradient is not None
    assert one.gradient is not None
    assert float((found.gradient - truth).norm()) < 0.3 * float((one.gradient - truth).norm())


def test_a_random_model_is_judged_by_the_judges_own_look_and_not_by_a_lucky_one() -> None:
    module = Noisy(small(), 0.3).eval()
    samples = as_seen(images(200), module.module)
    outcome = judged(PGD(steps=10), module, samples, NO_BUDGET)
    lucky = (outcome.forwards < 12) & (outcome.forwards > 1)
    assert lucky.any()
    assert outcome.correct[lucky].any()  # what noise turned once is right again when it is looked at again


# --- memory ---


REFUSED: list[int] = []


class Narrow(nn.Module):
    """A model whose memory holds so many images."""

    def __init__(self, module: nn.Module, holds: int) -> None:
        super().__init__()
        self.module, self.holds = module, holds

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.holds:
            REFUSED.append(len(x))
            raise torch.OutOfMemoryError("no room")
        logits: Tensor = self.module(x)
        return logits


def test_where_memory_runs_out_the_batch_is_halved_and_the_numbers_stay() -> None:
    REFUSED.clear()
    module = Narrow(small(), 32)
    samples = as_seen(images(100), module.module)
    outcome = judged(PGD(steps=3), module, samples, batch_size=128)
    assert 0 < len(REFUSED) < 10  # asked for once or twice by each who looks, and then no more
    assert outcome.facts["batch_size"] <= 32
    reference = judged(PGD(steps=3), module.module, samples, batch_size=32)
    assert outcome.prediction.tolist() == reference.prediction.tolist()
    assert outcome.forwards.tolist() == reference.forwards.tolist()


def test_a_single_image_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        judged(FGSM(), Narrow(small(), 0), images(4))


# --- minimum norm, targets, ensembles, curves, transfer ---


@dataclass(frozen=True)
class Shrinking:
    """Towards class 1 of a linear model by 0.3, then nearer and nearer to the image."""

    steps: int = 3
    restarts: ClassVar[int] = 1
    minimum_norm: ClassVar[bool] = True
    norms: ClassVar[tuple[str, ...]] = ("Linf",)

    @hookimpl
    def start(self, batch: Batch) -> State:
        return {"x_adv": batch.x + 0.3}

    @hookimpl
    def step(self, state: State, batch: Batch, threat: Threat) -> State:
        assert threat.eps == float("inf")
        return {"x_adv": batch.x + (state["x_adv"] - batch.x) / 2}


def test_of_a_minimum_norm_attack_the_smallest_image_that_fools_is_kept() -> None:
    pixels = torch.tensor([40, 90, 110], dtype=torch.uint8).view(-1, 1, 1, 1)
    samples = Samples(pixels, torch.zeros(3, dtype=torch.int64), torch.arange(3))
    module = Linear(torch.ones(1, 1, 1), bias=-0.5)
    # Distances to 0.5: 0.343, 0.147, 0.069; tried: 0.3, 0.15, 0.075, 0.0375.
    outcome = judged(Shrinking(), module, samples, Threat("Linf", 0.1))
    assert outcome.proposal_size.tolist() == [float("inf"), pytest.approx(0.15), pytest.approx(0.075)]
    assert outcome.proposal_prediction is not None
    assert outcome.proposal_prediction.tolist() == [0, 1, 1]
    assert outcome.correct.tolist() == [True, True, False]  # judged at 0.1
    from harness.judging import at_budget

    assert at_budget(outcome, Threat("Linf", 0.2)).correct.tolist() == [True, False, False]
    assert at_budget(outcome, Threat("Linf", 0.05)).correct.all()


def test_a_target_makes_being_fooled_mean_the_target() -> None:
    @dataclass(frozen=True)
    class Aimed(PGD):
        @hookimpl
        def start(self, batch: Batch) -> State:
            return {"x_adv": batch.x, "target": (batch.y + 1) % 5}

        @hookimpl
        def step(self, state: State, found: Evaluation, batch: Batch, threat: Threat) -> State:
            return {**state, **PGD.step(self, state, found, batch, threat)}

    module = small()
    samples = as_seen(images(60), module)
    outcome = judged(Aimed(steps=20), module, samples, Threat("Linf", 32 / 255))
    assert outcome.target is not None
    assert outcome.target.tolist() == ((samples.labels + 1) % 5).tolist()
    left_early = outcome.backwards < 20
    assert left_early.any()
    assert (outcome.prediction[left_early] == outcome.target[left_early]).all()


def test_members_of_an_ensemble_share_survivors() -> None:
    module = small()
    samples = as_seen(images(80), module)
    threat = Threat("Linf", 3 / 255)
    parts = [Assault(FGSM(), "fgsm", threat, 0), Assault(PGD(steps=5), "pgd", threat, 0)]
    both = judge(Trial(module, parts, 16), samples)
    first, second = (judge(Trial(module, [part], 16), samples) for part in parts)
    assert both.correct.tolist() == (first.correct & second.correct).tolist()
    fell = ~first.correct
    assert both.forwards[fell].tolist() == first.forwards[fell].tolist()
    stands = first.correct
    assert both.backwards[stands].tolist() == (first.backwards + second.backwards)[stands].tolist()


def test_what_fell_at_a_smaller_budget_is_not_attacked_again() -> None:
    module = small()
    samples = as_seen(images(80), module)
    attack, small_eps, large_eps = PGD(steps=4), Threat("Linf", 2 / 255), Threat("Linf", 4 / 255)
    before = judged(attack, module, samples, small_eps)
    trial = Trial(module, [Assault(attack, "pgd", large_eps, 0)], 16, before=before)
    after = judge(trial, samples)
    fell = ~before.correct
    assert fell.any()
    assert not after.correct[fell].any()
    assert not after.forwards[fell].any()
    assert after.linf[fell].tolist() == before.linf[fell].tolist()
    alone = judged(attack, module, samples, large_eps)
    assert after.correct.sum() <= alone.correct.sum()
    assert after.correct[~fell].tolist() == alone.correct[~fell].tolist()


def test_transferred_images_are_made_on_one_model_and_judged_on_another() -> None:
    victim, surrogate = small(0), small(1)
    samples = as_seen(images(120), victim)
    threat = Threat("Linf", 24 / 255)
    trial = Trial(victim, [Assault(PGD(steps=5), "pgd", threat, 0)], 32, crafted_on=surrogate)
    moved = judge(trial, samples)
    # By hand: the last iterate on the surrogate, shown to the victim.
    batch = batch_of(samples)
    with undisturbed(surrogate):
        x_adv = propose(surrogate, Assault(PGD(steps=5), "pgd", threat, 0, final_iterate=True), batch)
    with torch.no_grad():
        by_hand = victim(x_adv).argmax(1)
    assert (moved.prediction == by_hand.numpy()).mean() > 0.98
    assert (moved.backwards == 5).all()
    direct = judged(PGD(steps=5), victim, samples, threat)
    assert direct.correct.sum() < moved.correct.sum()


# --- precision, and the engine's word against the judge's ---


def test_bfloat16_is_judged_in_float32_and_the_difference_told() -> None:
    module = small()
    samples = as_seen(images(64), module)
    outcome = judged(PGD(steps=3), module, samples, Threat("Linf", 4 / 255), precision="bfloat16")
    assert 0 <= outcome.facts["precision_gap"] < 0.3
    with torch.no_grad():
        plain = judged(PGD(steps=3), module, samples, Threat("Linf", 4 / 255))
    assert abs(outcome.correct.mean() - plain.correct.mean()) < 0.1
    assert "precision_gap" not in plain.facts


def test_training_images_come_from_the_last_iterate_with_the_weights_of_the_moment() -> None:
    module = small(dropout=0.0).train()
    problem, batch = ModelProblem(module), batch_of(images(16))
    random = SampleRandom(3, batch.ids)
    for _ in range(2):
        made = problem.perturb(PGD(steps=3), batch, THREAT, random)
        with undisturbed(module):
            plain = propose(module, Assault(PGD(steps=3), "pgd", THREAT, 3, final_iterate=True), batch)
        assert float(((made - plain).abs() > 1e-5).float().mean()) < 0.01  # folded batch norm rounds otherwise
        assert module.training
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(1.2)


def test_counts_are_whole_numbers_and_zero_gradients_are_shares() -> None:
    module = small()
    outcome = judged(PGD(steps=4), module, as_seen(images(30), module))
    assert np.array_equal(outcome.forwards, outcome.forwards.round())
    assert outcome.zero_gradients is not None
    assert (outcome.zero_gradients == 0).all()
