"""The judge believes no attack: it clips, predicts again, and refuses what cannot be judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.special
import torch
import torchattacks
from networks import Linear, batch_of, digits, images, small
from torch import Tensor, nn

from harness import validity
from harness.assault import Assault
from harness.data import Samples
from harness.errors import BenchError
from harness.hookspecs import hookimpl
from harness.judging import Trial, _Judge, judge
from harness.looking import Look
from harness.types import Batch, Outcome, Problem, Threat
from harness.undisturbed import undisturbed
from plugins.attacks.clean import Clean
from plugins.attacks.fgsm import FGSM
from plugins.attacks.fmn import FMN
from plugins.attacks.pgd import PGD
from plugins.models.resnet18 import ResNet18

torch.set_num_threads(1)

THREAT = Threat("Linf", 8 / 255)


@dataclass(frozen=True)
class Does:
    """Any function of model and batch as an attack."""

    what: Callable[[Problem, Batch], Any]
    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2")

    @hookimpl
    def perturb(self, problem: Problem, batch: Batch) -> Any:
        return self.what(problem, batch)


def judged(
    attack: Any,
    module: nn.Module | None = None,
    samples: Samples | None = None,
    threat: Threat | None = THREAT,
    batch_size: int = 16,
) -> Outcome:
    assault = Assault(attack, "tried", threat, 0, final_iterate=True)
    return judge(Trial(module or small(), (assault,), batch_size), samples or images(40))


def codes(outcome: Outcome, threat: Threat | None = THREAT) -> set[str]:
    """Doubts about what the attack did; samples here are few, and untrained networks have strange gradients."""
    about_the_model = {"few_samples", "gradient_not_ascending", "large_eps_not_chance"}
    return {reason.code for reason in validity.own(outcome, threat)} - about_the_model


def one_pixel(*values: int, labels: list[int]) -> Samples:
    """Images of one pixel, for a model that says 1 above the threshold."""
    pixels = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1)
    return Samples(pixels, torch.tensor(labels), torch.arange(len(values)) + 100)


def above_half() -> Linear:
    return Linear(torch.ones(1, 1, 1), bias=-0.5)


def test_outcomes_are_right_on_a_model_that_can_be_checked_by_hand() -> None:
    # Pixels over 255; eps = 51/255. 0: stands. 102: falls. 153: right and falls. 255: stands. 51: wrong from the start.
    samples = one_pixel(0, 102, 153, 255, 51, labels=[0, 0, 1, 1, 1])
    outcome = judged(FGSM(), above_half(), samples, Threat("Linf", 51 / 255), batch_size=2)
    assert outcome.ids.tolist() == [100, 101, 102, 103, 104]
    assert outcome.label.tolist() == [0, 0, 1, 1, 1]
    assert outcome.clean_prediction.tolist() == [0, 0, 1, 1, 0]
    assert outcome.prediction.tolist() == [0, 1, 0, 1, 0]
    assert outcome.clean_correct.tolist() == [True, True, True, True, False]
    assert outcome.correct.tolist() == [True, False, False, True, False]
    assert outcome.linf.tolist() == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.2], abs=1e-6)
    assert outcome.l2.tolist() == pytest.approx(outcome.linf.tolist())
    assert outcome.forwards.tolist() == [2.0] * 5  # one of them without the attack
    assert outcome.backwards.tolist() == [1.0] * 5
    assert (outcome.linf.dtype, outcome.ids.dtype) == (np.float64, np.int64)
    assert codes(outcome) == {"over_budget"}  # held against a smaller budget than it had: the check does look
    assert codes(outcome, Threat("Linf", 0.2)) == set()


def test_the_unperturbed_column_costs_one_look_and_has_no_budget() -> None:
    outcome = judged(Clean(), threat=None)
    assert outcome.prediction.tolist() == outcome.clean_prediction.tolist()
    assert not outcome.linf.any()
    assert outcome.forwards.tolist() == [1.0] * 40
    assert not outcome.backwards.any()
    assert codes(outcome, None) == set()


def test_an_attack_without_a_threat_cannot_change_what_is_judged() -> None:
    outcome = judged(Does(lambda problem, batch: 1 - batch.x), threat=None)
    assert outcome.prediction.tolist() == judged(Clean(), threat=None).prediction.tolist()
    assert not outcome.linf.any()


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_proposal_over_budget_is_cut_and_told(norm: str) -> None:
    threat = Threat(norm, 0.05)
    outcome = judged(Does(lambda problem, batch: 1 - batch.x), threat=threat)
    kept = outcome.linf if norm == "Linf" else outcome.l2
    assert kept.max() <= 0.05 + 1e-6
    assert outcome.proposal_size.min() > 0.5
    assert codes(outcome, threat) == {"over_budget"}


def test_a_proposal_outside_the_box_is_cut_and_told() -> None:
    samples = one_pixel(0, 255, labels=[0, 1])
    outcome = judged(Does(lambda problem, batch: batch.x + (batch.x - 0.5) * 0.05), above_half(), samples)
    assert (outcome.proposal_low, outcome.proposal_high) == pytest.approx((-0.025, 1.025))
    assert outcome.linf.tolist() == [0, 0]
    assert "outside_domain" in codes(outcome)


def test_images_handed_back_unchanged_are_told() -> None:
    assert codes(judged(Does(lambda problem, batch: batch.x), above_half(), one_pixel(0, 255, labels=[0, 1]))) == {
        "unchanged"
    }


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (lambda x: x * float("nan"), "nan: attack tried: 16 of 16"),
        (lambda x: x / 0, "nan: attack tried"),
        (
            lambda x: x[:, :1],
            r"perturb\(self, problem, batch\) gave a Tensor of shape \(16, 1, 8, 8\).*\(16, 3, 8, 8\)",
        ),
        (lambda x: x[0], r"gave a Tensor of shape \(3, 8, 8\)"),
        (lambda x: x.double(), "torch.float64; a tensor of shape .* torch.float32, is expected"),
        (lambda x: (x * 255).to(torch.uint8), "torch.uint8; a tensor"),
        (lambda x: x.numpy(), "gave a ndarray"),
        (lambda x: (x, x), "gave a tuple of 2"),
        (lambda x: None, "gave None"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_the_reason(what: Callable[[Tensor], Any], reason: str) -> None:
    with pytest.raises(BenchError, match=reason):
        judged(Does(lambda problem, batch: what(batch.x)))


def test_an_attack_that_raises_is_not_taken_for_a_weak_one() -> None:
    with pytest.raises(ZeroDivisionError):
        judged(Does(lambda problem, batch: 1 / 0))


@pytest.mark.parametrize("field", ["x", "y", "ids"])
def test_writing_into_the_batch_does_not_fool_the_judge(field: str) -> None:
    """An attack that overwrites images would have no perturbation, one that overwrites labels a success rate of one."""

    def overwrite(problem: Problem, batch: Batch) -> Tensor:
        x_adv = batch.x.clone()
        if field == "x":
            return batch.x.add_(0.5)
        getattr(batch, field).copy_((getattr(batch, field) + 1) % 5)
        return x_adv

    samples = images(40)
    before = [tensor.clone() for tensor in (samples.images, samples.labels, samples.ids)]
    outcome = judged(Does(overwrite), samples=samples)
    honest = judged(Does(lambda problem, batch: batch.x + (0.5 if field == "x" else 0)), samples=samples)
    for name in ("ids", "label", "clean_prediction", "prediction", "linf", "proposal_size"):
        assert getattr(outcome, name).tolist() == getattr(honest, name).tolist(), name
    assert all(torch.equal(a, b) for a, b in zip(before, (samples.images, samples.labels, samples.ids), strict=True))


def test_a_changed_batch_norm_is_undone_before_the_judge_looks_and_told() -> None:
    def train(problem: Problem, batch: Batch) -> Tensor:
        problem.module.train()
        problem.module(batch.x + 3)
        return batch.x

    module = small()
    outcome = judged(Does(train), module)
    assert "buffers_changed" in codes(outcome)
    assert sum(note.code == "buffers_changed" for note in outcome.notes) == 1  # one note, not one a batch
    assert outcome.prediction.tolist() == judged(Clean(), small(), threat=None).prediction.tolist()


def test_weights_that_an_attack_changed_are_undone_and_told() -> None:
    """The module goes on to the next cell: an attack that trains it would spoil the numbers of others."""

    def ruin(problem: Problem, batch: Batch) -> Tensor:
        for parameter in problem.module.parameters():
            parameter.data.zero_()  # past autograd's count of changes
        return batch.x

    module = small()
    outcome = judged(Does(ruin), module)
    assert "weights_changed" in codes(outcome)
    assert "buffers_changed" not in codes(outcome)
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), small().parameters(), strict=True))
    assert outcome.prediction.tolist() == judged(Clean(), small(), threat=None).prediction.tolist()


def test_another_librarys_attack_leaves_the_model_as_the_harness_set_it() -> None:
    """torchattacks puts a model that says it is training back into training, batch norm and all."""

    def attack_then_look(problem: Problem, batch: Batch) -> Tensor:
        x_adv = torchattacks.FGSM(problem.module, eps=THREAT.eps)(batch.x, batch.y)
        problem.module(x_adv)
        return x_adv

    assert codes(judged(Does(attack_then_look), small().train())) == set()


class Broken(nn.Module):
    """Logits by a function of a real model's logits."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.module = small()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.module(x))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda logits: logits * float("nan"), "nan: model: logits of 4 of 4"),
        (lambda logits: logits / 0, "nan: model"),
        (lambda logits: logits[:, None], "logits of shape"),
        (lambda logits: logits[:3], r"logits of shape \(3, 5\); \(4, classes\)"),
        (lambda logits: logits[:, 0], "logits of shape"),
    ],
)
def test_a_model_without_usable_logits_is_refused(change: Callable[[Tensor], Tensor], reason: str) -> None:
    with pytest.raises(BenchError, match=reason):
        judged(Clean(), Broken(change), threat=None)


def test_one_bad_image_is_counted_as_one() -> None:
    batch = batch_of(images(16))

    def spoil(logits: Tensor) -> Tensor:
        logits[0, 0] = float("inf")
        return logits

    with pytest.raises(BenchError, match="logits of 1 of 16 images"):
        Look(Broken(spoil), 16)(batch.x, batch, {}, gradient=False)


def test_progress_tells_the_share_done_and_accuracy_so_far() -> None:
    told: list[tuple[float, float]] = []
    assault = Assault(Does(lambda problem, batch: 1 - batch.x), "tried", Threat("Linf", 1.0), 0)
    trial = Trial(above_half(), (assault,), 2)
    samples = one_pixel(0, 0, 0, 255, labels=[0, 0, 1, 1])  # three are right, and all of them fall
    judge(trial, samples, lambda share, accuracy: told.append((share, accuracy)))
    assert told == [(pytest.approx(2 / 3), 0.25), (1.0, 0.0)]


def test_seconds_are_those_that_passed() -> None:
    import time

    outcome = judged(Does(lambda problem, batch: time.sleep(0.05) or batch.x), samples=images(32))
    assert 0.1 <= outcome.seconds < 100


@pytest.mark.slow
@pytest.mark.parametrize("attack", [Clean(), FGSM(), PGD(steps=4)], ids=lambda attack: type(attack).__name__)
def test_predictions_depend_neither_on_batch_size_nor_on_order(attack: Any) -> None:
    from harness.boundary import bind
    from harness.types import Preparation

    data = digits()
    torch.manual_seed(0)
    module = bind("models", ResNet18(width=0.125)).build(preparation=Preparation(data.facts, data.mean, data.std))
    samples, threat = data.splits["test"], THREAT if attack.norms else None

    def predictions(batch_size: int, which: Samples = samples) -> np.ndarray[Any, Any]:
        outcome = judged(attack, module.eval(), which, threat, batch_size)
        return outcome.prediction[np.argsort(outcome.ids)]

    reference = predictions(64)
    assert np.array_equal(predictions(64), reference)
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
    shuffled = Samples(samples.images[order], samples.labels[order], samples.ids[order])
    for other in (predictions(7), predictions(64, shuffled)):
        assert (other != reference).mean() <= 0.005


@pytest.mark.parametrize(
    "attack", [Clean(), PGD(), FMN(steps=20, restarts=1), Does(lambda problem, batch: (batch.x + 0.3).clamp(0, 1))]
)
@pytest.mark.parametrize("eps", [2 / 255, 0.5])
def test_confidence_and_rank_are_those_of_the_image_that_counts(attack: Any, eps: float) -> None:
    """The images are found again from what is known of them: their classes, or the model asked once more."""
    module, samples = small(), images(40)
    seen: dict[str, Tensor] = {}
    threat = Threat("Linf", eps) if attack.norms else None
    judge_ = _Judge(Trial(module, (Assault(attack, "tried", threat, 0),), 16), samples, lambda share, accuracy: None)
    answer = judge_._answer

    def spy(place: Tensor, logits: Tensor, y: Tensor) -> None:
        for row, sample in enumerate(place.tolist()):
            seen[sample] = logits[row].double()
        answer(place, logits, y)

    judge_._answer = spy  # type: ignore[method-assign]
    with undisturbed(module):
        found = judge_.run()
    assert found.confidence is not None
    assert found.label_rank is not None
    for row in range(40):
        logits = seen[row].numpy()
        assert int(logits.argmax()) == found.prediction[row]
        assert found.confidence[row] == pytest.approx(scipy.special.softmax(logits).max(), rel=1e-5)
        assert found.label_rank[row] == 1 + (np.delete(logits, found.label[row]) >= logits[found.label[row]]).sum()
    assert ((found.label_rank == 1) == found.correct).all()


def test_a_larger_budget_takes_confidence_and_rank_over_from_a_smaller_one() -> None:
    module, samples = small(), images(60)
    first = judge(Trial(module, (Assault(PGD(), "tried", Threat("Linf", 2 / 255), 0),), 16), samples)
    larger = Assault(PGD(), "tried", Threat("Linf", 4 / 255), 0)
    second = judge(Trial(module, (larger,), 16, before=first), samples)
    fell = ~first.correct
    assert fell.any()
    assert first.confidence is not None
    assert second.confidence is not None
    assert first.label_rank is not None
    assert second.label_rank is not None
    assert (second.confidence[fell] == first.confidence[fell]).all()
    assert (second.label_rank[fell] == first.label_rank[fell]).all()
    older = dataclasses.replace(first, confidence=None, label_rank=None)  # stored before they were taken
    assert judge(Trial(module, (larger,), 16, before=older), samples).confidence is None
