"""The loop learns, and a training that was stopped ends in the very bits of one that was not."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Small, digits, first, images, small
from torch import Tensor, nn

from harness.artifacts import Tensors, read_checkpoint
from harness.attacking import ModelProblem
from harness.coercion import fill
from harness.divergence import Diverged, Unstable, Watch
from harness.errors import BenchError
from harness.hookspecs import hookimpl
from harness.lessons import ClassLessons, plain_objective
from harness.randomness import SampleRandom
from harness.recipe import Recipe
from harness.training import Epoch, Training, _may_be_channels_last, train
from harness.types import Batch, Preparation, Threat
from plugins.attacks.pgd import PGD
from plugins.models.resnet18 import ResNet18

torch.set_num_threads(1)

TESTS = Path(__file__).parent
LESSONS = {"train", "validation", "objective", "batch_size"}


class Stop(Exception):
    """What stands for Ctrl-C in the middle of a training."""


def net(seed: int = 0) -> Small:
    """Dropout draws from the global generator, batch norm has buffers: both must come back after a stop."""
    return small(seed, channels=1, classes=10)


def flat() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def learning(checkpoint: Path, recipe: Recipe, module: nn.Module | None = None, **changes: Any) -> Training:
    data = digits()
    lessons = ClassLessons(
        first(data.splits["train"], 160),
        first(data.splits["validation"], 60),
        plain_objective,
        seed=changes.get("seed", 3),
        batch_size=32,
    )
    of_lessons = {name: changes.pop(name) for name in LESSONS & changes.keys()}
    training = Training(module or net(), recipe, replace(lessons, **of_lessons), seed=3, checkpoint=checkpoint)
    return replace(training, **changes)


def bits(tensors: Tensors, history: list[dict[str, float]]) -> tuple[Any, Any]:
    timeless = [{name: value for name, value in epoch.items() if name != "images_per_second"} for epoch in history]
    return {name: (t.dtype, t.tolist()) for name, t in tensors.items()}, timeless


def stop_in(epoch: int, batch: int | None) -> dict[str, Callable[..., None]]:
    """Callbacks that raise when ``epoch`` (from 1) is over, or after so many of its batches."""

    def on_epoch(told: Epoch) -> None:
        if batch is None and told.epoch == epoch:
            raise Stop

    def on_batch(at: int, done: int, of: int, loss: float) -> None:
        if batch is not None and at + 1 == epoch and done >= batch * 32:
            raise Stop

    return {"on_epoch": on_epoch, "on_batch": on_batch}


RECIPE = Recipe(epochs=4, batch_size=32, lr=1e-2, augment=("crop", "flip"), crop_padding=1, noise_variance=1e-3)


# --- learning ---


@pytest.mark.slow
def test_the_loss_falls_and_accuracy_rises_on_digits(tmp_path: Path) -> None:
    data = digits()
    recipe = Recipe(epochs=6, batch_size=64, lr=1e-2)
    training = learning(
        tmp_path / "c", recipe, train=data.splits["train"], validation=data.splits["validation"], batch_size=256
    )
    _, history = train(training)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert history[-1]["accuracy"] > history[0]["accuracy"] + 0.2
    assert history[-1]["validation_accuracy"] > 0.8
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3, 4, 5, 6]
    assert all(epoch["images_per_second"] > 0 for epoch in history)


@pytest.mark.parametrize("schedule", ["constant", "plateau", "cosine", "one_cycle", "linear"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_every_schedule_and_optimizer_lowers_the_loss(tmp_path: Path, schedule: Any, optimizer: Any) -> None:
    lr = 0.1 if optimizer == "sgd" else 1e-2
    recipe = Recipe(epochs=4, batch_size=32, lr=lr, schedule=schedule, optimizer=optimizer, weight_decay=1e-4)
    _, history = train(learning(tmp_path / "c", recipe))
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    rates = [epoch["lr"] for epoch in history]
    if schedule in ("constant", "plateau"):
        assert rates == [lr] * 4
    else:
        assert rates[-1] < 0.05 * lr
        assert max(rates) <= lr


@pytest.mark.parametrize(("schedule", "second"), [("cosine", 0.5), ("linear", 0.5), ("constant", 1.0)])
def test_a_schedule_has_its_shape_and_warms_up(tmp_path: Path, schedule: Any, second: float) -> None:
    seen: list[float] = []

    recipe = Recipe(epochs=4, batch_size=32, lr=1.0, schedule=schedule, optimizer="sgd", momentum=0.0)
    train(learning(tmp_path / "c", recipe, flat(), on_epoch=lambda epoch: seen.append(epoch.lr)))
    assert seen[1] == pytest.approx(second)  # half way
    warm: list[float] = []
    recipe = replace(recipe, warmup=0.5)
    train(learning(tmp_path / "d", recipe, flat(), on_epoch=lambda epoch: warm.append(epoch.lr)))
    assert warm[0] == pytest.approx(6 / 11)  # 5 of 20 batches, 10 of them warm
    assert warm[1] == pytest.approx(1.0)


def test_a_warm_up_precedes_plateau_which_then_follows_the_epochs_and_goes_on_so_after_a_stop(tmp_path: Path) -> None:
    """5 batches an epoch; 8 of 40 are warm. Epochs of the warm-up are not held against the accuracy."""
    recipe = Recipe(epochs=8, batch_size=32, lr=1e-6, schedule="plateau", optimizer="sgd", warmup=0.2)
    whole = train(learning(tmp_path / "whole", recipe, flat()))
    rates = [epoch["lr"] for epoch in whole[1]]
    assert rates[0] == pytest.approx(1e-6 * 6 / 9)
    assert rates[1:5] == [1e-6] * 4
    assert rates[-1] == 5e-7
    for stop in ((1, None), (2, None), (2, 2), (6, None)):
        with pytest.raises(Stop):
            train(learning(tmp_path / f"c{stop}", recipe, flat(), **stop_in(*stop)))
        assert bits(*train(learning(tmp_path / f"c{stop}", recipe, flat()))) == bits(*whole)


def test_one_cycle_rises_for_the_share_that_is_its_warm_up(tmp_path: Path) -> None:
    recipe = Recipe(epochs=4, batch_size=32, lr=0.1, optimizer="sgd", schedule="one_cycle", warmup=0.5)
    rates = [epoch["lr"] for epoch in train(learning(tmp_path / "c", recipe, flat()))[1]]
    assert rates[0] < rates[1] == max(rates)
    assert rates[1] > rates[2] > rates[3]


@pytest.mark.parametrize("schedule", ["constant", "plateau", "cosine", "linear"])
def test_every_schedule_rises_in_its_warm_up_to_the_rate_of_the_recipe(tmp_path: Path, schedule: Any) -> None:
    """Seen by the steps that plain gradient descent takes: 160 images, 20 batches in all, 10 of them warm."""
    taken: list[float] = []
    module = flat()
    old = [p.detach().clone() for p in module.parameters()]

    def on_batch(epoch: int, done: int, of: int, loss: float) -> None:
        new = [p.detach().clone() for p in module.parameters()]
        pairs = [(a - b, p.grad) for a, b, p in zip(old, new, module.parameters(), strict=True)]
        moved, slope = (sum(float(t.norm() ** 2) for t in side) ** 0.5 for side in zip(*pairs, strict=True))
        taken.append(moved / slope)
        old[:] = new

    recipe = Recipe(epochs=4, batch_size=32, lr=0.1, optimizer="sgd", momentum=0.0, schedule=schedule, warmup=0.5)
    train(learning(tmp_path / "c", recipe, module, on_batch=on_batch))
    assert taken[:10] == pytest.approx([0.1 * (step + 1) / 11 for step in range(10)], rel=1e-2)
    assert taken[10] == pytest.approx(0.1, rel=1e-2)
    assert (taken[-1] < 0.02) == (schedule in ("cosine", "linear"))


def test_plateau_halves_the_rate_after_three_epochs_without_gain_and_goes_on_so_after_a_stop(tmp_path: Path) -> None:
    # Without batch norm, whose statistics would move the accuracy at any rate.
    recipe = Recipe(epochs=6, batch_size=32, lr=1e-6, schedule="plateau", optimizer="sgd")
    whole = train(learning(tmp_path / "whole", recipe, flat()))
    rates = [epoch["lr"] for epoch in whole[1]]
    assert rates == [1e-6] * 4 + [5e-7] * 2
    with pytest.raises(Stop):
        train(learning(tmp_path / "c", recipe, flat(), **stop_in(3, None)))
    assert bits(*train(learning(tmp_path / "c", recipe, flat()))) == bits(*whole)


def test_the_same_training_twice_gives_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    one = bits(*train(learning(tmp_path / "a", RECIPE)))
    assert bits(*train(learning(tmp_path / "b", RECIPE))) == one
    assert bits(*train(learning(tmp_path / "c", RECIPE, seed=4))) != one


def test_every_image_is_seen_once_an_epoch_in_an_order_of_its_own(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    def objective(problem: ModelProblem, batch: Batch, random: SampleRandom) -> Tensor:
        if problem.module.training:
            seen.append(batch.ids.tolist())
        return problem.loss(batch.x, batch)

    training = learning(tmp_path / "c", replace(RECIPE, epochs=2), objective=objective)
    train(training)
    epochs = [[*itertools.chain(*seen[:5])], [*itertools.chain(*seen[5:])]]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(training.lessons.train.ids.tolist())
    assert epochs[0] != epochs[1]
    assert all(order != training.lessons.train.ids.tolist() for order in epochs)


def test_samples_per_epoch_takes_that_many_others_each_time(tmp_path: Path) -> None:
    told: list[tuple[int, int, int]] = []
    recipe = replace(RECIPE, epochs=2, samples_per_epoch=70)
    train(learning(tmp_path / "c", recipe, on_batch=lambda e, done, of, loss: told.append((e, done, of))))
    assert told == [(0, 32, 70), (0, 64, 70), (0, 70, 70), (1, 32, 70), (1, 64, 70), (1, 70, 70)]


def test_a_last_batch_of_one_is_left_out_for_batch_norms_sake(tmp_path: Path) -> None:
    data = digits()
    done: list[int] = []
    training = learning(tmp_path / "c", replace(RECIPE, epochs=1, schedule="one_cycle"))
    part = first(data.splits["train"], 65)
    lessons = replace(training.lessons, train=part)
    train(replace(training, lessons=lessons, on_batch=lambda e, n, of, loss: done.append(n)))
    assert done == [32, 64]


def test_no_epochs_keep_the_weights_as_they_are(tmp_path: Path) -> None:
    module = net()
    before = bits(dict(module.state_dict()), [])
    assert bits(*train(learning(tmp_path / "c", Recipe(epochs=0), module))) == before
    assert not (tmp_path / "c").exists()


def test_training_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train(learning(tmp_path / "c", replace(RECIPE, epochs=1)))
    assert torch.equal(torch.get_rng_state(), before)


def test_frozen_weights_stay_and_the_others_move(tmp_path: Path) -> None:
    module = net()
    module.features.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    tensors, _ = train(learning(tmp_path / "c", replace(RECIPE, epochs=1, weight_decay=0.1), module))
    for name, old in before.items():
        assert torch.equal(tensors[name], old) == name.startswith("features"), name


# --- stopping early, and not at all ---


@dataclass
class Scripted:
    """An objective whose validation accuracy is told in advance: the labels of so many images are made right."""

    accuracies: list[float]
    epoch: int = -1

    def __call__(self, problem: ModelProblem, batch: Batch, random: SampleRandom) -> Tensor:
        losses = problem.loss(batch.x, batch)
        if not problem.module.training:
            self.epoch += 1
            right = round(self.accuracies[self.epoch] * len(batch.y))
            found = problem.module.module(batch.x).argmax(1)
            batch.y.copy_(torch.where(torch.arange(len(batch.y)) < right, found, (found + 1) % 10))
        return losses


def test_patience_stops_and_the_best_epochs_weights_are_kept_the_earliest_of_equals(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=9, patience=3)
    states: list[Any] = []
    training = learning(tmp_path / "c", recipe, batch_size=60, objective=Scripted([0.2, 0.5, 0.4, 0.5, 0.3, 0.9]))
    training = replace(training, on_epoch=lambda epoch: states.append(bits(dict(training.module.state_dict()), [])))
    tensors, history = train(training)
    assert [epoch["validation_accuracy"] for epoch in history] == pytest.approx([0.2, 0.5, 0.4, 0.5, 0.3], abs=0.01)
    assert bits(tensors, []) == states[1] != states[3]
    assert bits(dict(training.module.state_dict()), []) == states[1]


def test_a_training_stopped_for_patience_is_not_taken_up_again(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=9, patience=1)
    scripted = Scripted([0.5, 0.4, 0.9])
    one = bits(*train(learning(tmp_path / "c", recipe, batch_size=60, objective=scripted)))
    again = bits(*train(learning(tmp_path / "c", recipe, batch_size=60, objective=scripted)))
    assert one == again
    assert scripted.epoch == 1


# --- options of the recipe ---


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label_smoothing": 1.0}, r"label_smoothing: got 1.0; a share in \[0, 1\) is needed"),
        ({"label_smoothing": -0.1}, "label_smoothing: got -0.1"),
        ({"ema": 1.0}, r"ema: got 1.0; a decay such as 0.999, or 0, in \[0, 1\) is needed"),
        ({"ema": -0.5}, "ema: got -0.5"),
        ({"clip_norm": 0.0}, "clip_norm: got 0.0; more than 0 is needed"),
        ({"clip_norm": -1.0}, "clip_norm: got -1.0"),
        ({"lr": 0.0}, "lr: got 0.0; more than 0 is needed"),
        ({"warmup": 1.0}, r"warmup: got 1.0; a share of all steps in \[0, 1\) is needed"),
        ({"precision": "float16"}, "recipe.precision: got 'float16'"),
        ({"channels_last": 1}, "recipe.channels_last: got 1"),
        ({"label_smoothing": "much"}, "recipe.label_smoothing: got 'much'"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BenchError, match=reason):
        fill(Recipe, change, "recipe")


def test_options_at_their_defaults_leave_the_content_key_as_it_was() -> None:
    """These are the fields of the first release; each of the others counts as soon as it is set."""
    first_release = {
        *("epochs", "batch_size", "optimizer", "lr", "weight_decay", "momentum", "schedule", "warmup", "patience"),
        *("augment", "crop_padding", "noise_variance", "samples_per_epoch", "validation_samples"),
    }
    plain = Recipe(augment=("crop", "flip"), schedule="plateau").deciding()
    assert set(plain) == first_release
    assert plain == {name: asdict(Recipe(augment=("crop", "flip"), schedule="plateau"))[name] for name in first_release}
    changes = [{"label_smoothing": 0.1}, {"ema": 0.9}, {"precision": "bfloat16"}, {"channels_last": False}]
    documents = [Recipe(**change).deciding() for change in ({}, *changes, {"clip_norm": 1.0}, {"fused": True})]
    documents += [Recipe(augment=("autoaugment",)).deciding(), Recipe(schedule="plateau", warmup=0.1).deciding()]
    assert all(one != other for one, other in itertools.combinations(documents, 2))
    assert {"autoaugment", "plateau_warmup"} & {*documents[-1]} == {"plateau_warmup"}
    assert {"autoaugment", "plateau_warmup"} & {*documents[-2]} == {"autoaugment"}


def first_step(folder: Path, objective: Any = plain_objective, **options: Any) -> tuple[Tensors, dict[str, float]]:
    """Weights and telemetry after one step of plain gradient descent over all images at once."""
    recipe = Recipe(epochs=1, batch_size=160, lr=0.5, optimizer="sgd", momentum=0.0, **options)
    tensors, history = train(learning(folder, recipe, flat(), objective=objective))
    return tensors, history[0]


def loss_by_hand(smoothing: float) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of the first step, written out with probabilities."""
    module, samples = flat(), first(digits().splits["train"], 160)
    target = torch.nn.functional.one_hot(samples.labels, 10) * (1 - smoothing) + smoothing / 10
    loss = -(target * module(samples.images.float() / 255).log_softmax(1)).sum(1).mean()
    return loss.detach(), list(torch.autograd.grad(loss, list(module.parameters())))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_label_smoothing_is_in_the_training_loss_and_not_in_the_validation_loss(
    tmp_path: Path, smoothing: float
) -> None:
    tensors, epoch = first_step(tmp_path / "c", label_smoothing=smoothing)
    loss, slopes = loss_by_hand(smoothing)
    assert epoch["loss"] == pytest.approx(float(loss), rel=1e-5)
    trained = flat()
    trained.load_state_dict(tensors)
    for p, before, slope in zip(trained.parameters(), flat().parameters(), slopes, strict=True):
        torch.testing.assert_close(p, before - 0.5 * slope, rtol=1e-4, atol=1e-6)
    held = first(digits().splits["validation"], 60)
    plain = torch.nn.functional.cross_entropy(trained(held.images.float() / 255), held.labels)
    assert epoch["validation_loss"] == pytest.approx(plain.item(), rel=1e-5)


def test_label_smoothing_leaves_adversarial_images_as_they_are(tmp_path: Path) -> None:
    seen: dict[float, list[Tensor]] = {0.0: [], 0.3: []}

    def watched(smoothing: float) -> Any:
        def objective(problem: ModelProblem, batch: Batch, random: SampleRandom) -> Tensor:
            x_adv = problem.perturb(PGD(steps=2), batch, Threat("Linf", 0.1), random)
            seen[smoothing].append(x_adv)
            return problem.loss(x_adv, batch)

        return objective

    epochs = [first_step(tmp_path / f"{s}", watched(s), label_smoothing=s)[1] for s in seen]
    assert torch.equal(seen[0.0][0], seen[0.3][0])  # of the first step, made on equal weights
    assert epochs[0]["loss"] != epochs[1]["loss"]


def test_the_average_is_that_of_weights_and_batch_norm_statistics_and_is_what_is_validated(tmp_path: Path) -> None:
    """Against the average taken by hand after each step; counts and whole-number tables are not averaged."""
    module = net()
    module.register_buffer("places", torch.tensor([5, 1_000_003]))
    by_hand: Tensors = {}

    def on_batch(epoch: int, done: int, of: int, loss: float) -> None:
        for name, t in module.state_dict().items():
            old = by_hand.get(name, t)
            by_hand[name] = (0.8 * old + 0.2 * t).clone() if t.is_floating_point() else t.clone()

    recipe = Recipe(epochs=1, batch_size=32, lr=1e-2, ema=0.8)
    tensors, history = train(learning(tmp_path / "c", recipe, module, on_batch=on_batch))
    assert set(tensors) == set(by_hand)
    for name, t in by_hand.items():
        torch.testing.assert_close(tensors[name], t, msg=name)
    assert int(tensors["features.1.num_batches_tracked"]) == 5
    assert tensors["places"].tolist() == [5, 1_000_003]
    averaged = net()
    averaged.register_buffer("places", torch.zeros(2, dtype=torch.int64))
    averaged.load_state_dict(tensors)
    held = first(digits().splits["validation"], 60)
    logits = averaged.eval()(held.images.float() / 255)
    right = int((logits.argmax(1) == held.labels).sum())
    assert history[0]["validation_accuracy"] == pytest.approx(right / 60)
    loss = torch.nn.functional.cross_entropy(logits, held.labels)
    assert history[0]["validation_loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert bits(dict(module.state_dict()), []) == bits(tensors, [])  # the module is left with the result


def test_the_average_does_not_change_what_is_trained(tmp_path: Path) -> None:
    _, plain = train(learning(tmp_path / "a", RECIPE))
    _, averaged = train(learning(tmp_path / "b", replace(RECIPE, ema=0.9)))
    assert [epoch["loss"] for epoch in plain] == [epoch["loss"] for epoch in averaged]
    assert [epoch["validation_loss"] for epoch in plain] != [epoch["validation_loss"] for epoch in averaged]


def test_frozen_weights_stay_in_the_average(tmp_path: Path) -> None:
    module = net()
    module.features.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    tensors, _ = train(learning(tmp_path / "c", replace(RECIPE, epochs=1, ema=0.7), module))
    for name, old in before.items():
        assert torch.equal(tensors[name], old) == name.startswith("features"), name


def test_bfloat16_is_what_the_training_loss_is_computed_in_and_nothing_else(tmp_path: Path) -> None:
    """Outputs of the first convolution by use; weights, validation and adversarial images stay float32."""
    seen: dict[str, set[torch.dtype]] = {"training": set(), "validation": set(), "crafting": set()}
    module, use = net(), ["training"]

    def objective(problem: ModelProblem, batch: Batch, random: SampleRandom) -> Tensor:
        with torch.no_grad():
            use[0] = "crafting"
            x_adv = problem.perturb(Nudge(use.append), batch, Threat("Linf", 0.1), random)
        use[0] = "training" if problem.module.training else "validation"
        losses = problem.loss(x_adv, batch)
        assert losses.dtype == problem.module(x_adv).dtype == torch.float32
        return losses

    module.features[0].register_forward_hook(lambda m, inputs, made: seen[use[0]].add(made.dtype))
    recipe = Recipe(epochs=2, batch_size=32, lr=1e-2, precision="bfloat16")
    tensors, history = train(learning(tmp_path / "c", recipe, module, objective=objective))
    assert seen["training"] == {torch.bfloat16}
    assert seen["validation"] == seen["crafting"] == {torch.float32}
    assert {t.dtype for t in tensors.values()} == {torch.float32, torch.int64}
    exact = train(learning(tmp_path / "d", replace(recipe, precision="float32"), net(), objective=objective))
    assert history[0]["loss"] != exact[1][0]["loss"]
    assert history[0]["loss"] == pytest.approx(exact[1][0]["loss"], rel=0.02)


@dataclass(frozen=True)
class Nudge:
    """An attack with a loop of its own: one look at the model, and all pixels a little brighter."""

    told: Callable[[Any], None]
    norms = ("Linf",)
    access = "gradient"

    @hookimpl
    def perturb(self, problem: Any, batch: Batch) -> Tensor:
        self.told(problem.module(batch.x).dtype)
        return batch.x + 0.01


@pytest.mark.parametrize("channels_last", [True, False])
def test_images_and_convolutions_lie_in_memory_as_asked_for(tmp_path: Path, channels_last: bool) -> None:
    """With three channels, for one channel lies both ways at once."""
    found: set[tuple[bool, bool]] = set()
    module = small(0, channels=3, classes=5)

    def objective(problem: ModelProblem, batch: Batch, random: SampleRandom) -> Tensor:
        if problem.module.training:
            weight = problem.module.module.features[3].weight
            found.add(tuple(t.is_contiguous(memory_format=torch.channels_last) for t in (batch.x, weight)))
        return problem.loss(batch.x, batch)

    recipe = Recipe(epochs=1, batch_size=20, channels_last=channels_last)
    training = learning(tmp_path / "c", recipe, module, objective=objective)
    train(replace(training, lessons=replace(training.lessons, train=images(40), validation=images(10))))
    assert found == {(channels_last, channels_last)}


def test_the_gradient_is_cut_to_its_norm_and_smaller_ones_are_left_alone(tmp_path: Path) -> None:
    _, slopes = loss_by_hand(0.0)
    norm = float(torch.cat([slope.flatten() for slope in slopes]).norm())

    def moved(clip_norm: float | None) -> Tensor:
        tensors, _ = first_step(tmp_path / f"{clip_norm}", clip_norm=clip_norm)
        pairs = zip(flat().named_parameters(), tensors.values(), strict=True)
        return torch.cat([(p.detach() - t).flatten() for (_, p), t in pairs])

    free = moved(None)
    assert float(free.norm()) == pytest.approx(0.5 * norm, rel=1e-4)
    assert torch.equal(moved(2 * norm), free)
    torch.testing.assert_close(moved(0.1 * norm), 0.1 * free, rtol=1e-3, atol=1e-6)


# --- diverging ---


@pytest.mark.parametrize("batches", [1, 5])
def test_a_training_that_diverges_is_refused(tmp_path: Path, batches: int) -> None:
    """With one batch in all, only the validation loss can tell."""
    recipe = Recipe(epochs=1, batch_size=160 // batches, optimizer="sgd", lr=3e38)
    with pytest.raises(BenchError, match=r"training diverged in epoch 1: .*lower training\.lr.*no epoch was finished"):
        train(learning(tmp_path / "c", recipe, flat()))
    assert not (tmp_path / "c").exists()


def test_a_hardening_that_diverges_says_so_and_not_that_its_images_cannot_be_made(tmp_path: Path) -> None:
    recipe = Recipe(epochs=2, batch_size=32, optimizer="sgd", lr=3e38)
    with pytest.raises(Diverged, match=r"training diverged in epoch 1: .*(loss is|logits are)"):
        train(learning(tmp_path / "c", recipe, flat(), objective=hardening))


def test_an_error_of_the_objective_stays_what_it_is(tmp_path: Path) -> None:
    def objective(problem: ModelProblem, batch: Batch, random: SampleRandom) -> Tensor:
        raise BenchError("attack x: wants another norm")

    with pytest.raises(BenchError, match="attack x: wants another norm") as caught:
        train(learning(tmp_path / "c", RECIPE, objective=objective))
    assert not isinstance(caught.value, Diverged)


@dataclass
class Exploding:
    """An objective that is multiplied from one of the training's batches (from 1) to another, and at the first one."""

    since: int
    until: int
    factor: float
    at_first: float = 1.0
    batch: int = 0

    def __call__(self, problem: ModelProblem, batch: Batch, random: SampleRandom) -> Tensor:
        losses = problem.loss(batch.x, batch)
        if problem.module.training:
            self.batch += 1
            losses = losses * self.at_first if self.batch == 1 else losses
            losses = losses.detach() * self.factor if self.since <= self.batch < self.until else losses
            losses.requires_grad_()
        return losses


def exploding(path: Path, *when: Any, **changes: Any) -> Training:
    """8 epochs of 5 batches, so 20 in a row are half of the training. Goes on where its checkpoint is."""
    recipe = Recipe(epochs=8, batch_size=32, lr=1e-3)
    found = read_checkpoint(path)
    objective = Exploding(*when, batch=5 * found[1]["loop"]["epoch"] if found else 0)
    return learning(path, recipe, flat(), objective=objective, **changes)


def test_a_loss_that_explodes_and_stays_so_ends_the_training_which_names_what_is_left(tmp_path: Path) -> None:
    """From the 13th batch on, in the third epoch; the 20th after it is the second of the seventh."""
    with pytest.raises(Diverged) as caught:
        train(exploding(tmp_path / "c", 13, 99, 1000.0))
    reason = str(caught.value)
    assert re.match(r"training diverged in epoch 7: the loss is \d.* and was above 2\d\.\d+, 10 times", reason), reason
    assert "for 20 batches in a row; lower training.lr" in reason
    assert f"the weights after epoch 2 are in {tmp_path / 'c'}" in reason
    assert "\n" not in reason
    assert [epoch["epoch"] for epoch in caught.value.history] == [1, 2, 3, 4, 5, 6]
    found = read_checkpoint(tmp_path / "c")
    assert found is not None
    _, whole = train(exploding(tmp_path / "whole", 99, 99, 1.0))
    assert found[1]["loop"]["history"][1]["loss"] == whole[1]["loss"]
    assert len(found[1]["loop"]["history"]) == 2


def test_a_training_that_diverges_does_so_again_after_a_stop(tmp_path: Path) -> None:
    reasons = []
    for name, stops in {"a": [], "b": [(2, None)], "c": [(4, None), (6, 2)]}.items():
        for stop in stops:
            with pytest.raises(Stop):
                train(exploding(tmp_path / name, 13, 99, 1000.0, **stop_in(*stop)))
        with pytest.raises(Diverged) as caught:
            train(exploding(tmp_path / name, 13, 99, 1000.0))
        reasons.append(str(caught.value).replace(str(tmp_path / name), "PATH"))
    assert reasons == [reasons[0]] * 3


@pytest.mark.parametrize(
    "when",
    [(13, 32, 1000.0), (2, 21, 1000.0), (2, 99, 5.0), (1, 99, 1000.0)],
    ids=["not long enough", "from the second batch", "not large enough", "large from the start"],
)
def test_spikes_and_objectives_of_another_scale_are_no_divergence(tmp_path: Path, when: Any) -> None:
    _, history = train(exploding(tmp_path / "c", *when))
    assert len(history) == 8


def test_what_the_loss_was_at_the_start_is_known_after_a_stop(tmp_path: Path) -> None:
    """A first loss of 12 allows 120; of what comes later 23 would be the most."""
    _, history = train(exploding(tmp_path / "whole", 11, 99, 30.0, 5.0))
    assert min(epoch["loss"] for epoch in history[2:]) > 23.1
    with pytest.raises(Stop):
        train(exploding(tmp_path / "c", 11, 99, 30.0, 5.0, **stop_in(1, None)))
    assert len(train(exploding(tmp_path / "c", 11, 99, 30.0, 5.0))[1]) == 8


@pytest.mark.parametrize("steps", [4, 30, 200, 100_000])
def test_how_long_a_loss_may_be_too_large(steps: int) -> None:
    watch = Watch(steps)
    watch.see(0.5, 10)
    allowed = {4: 9, 30: 14, 200: 99, 100_000: 99}[steps]
    for _ in range(allowed):
        watch.see(23.1, 10)  # ten times ln 10 is 23.03
    watch.see(23.0, 10)
    for _ in range(allowed):
        watch.see(23.1, 10)
    with pytest.raises(Unstable, match=rf"for {allowed + 1} batches in a row"):
        watch.see(23.1, 10)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_ends_it_at_once(loss: float) -> None:
    with pytest.raises(Unstable, match=f"the loss is {loss}"):
        Watch(1000).see(loss, 10)


@pytest.mark.parametrize("lr", [0.3, 3.0])
def test_a_rate_that_is_far_too_high_but_learns_is_no_divergence(tmp_path: Path, lr: float) -> None:
    """The loss leaves that of guessing behind and the accuracy still rises: a poor training, not a failed one."""
    recipe = Recipe(epochs=12, batch_size=32, lr=lr, optimizer="sgd")
    _, history = train(learning(tmp_path / "c", recipe, flat()))
    assert len(history) == 12
    assert history[-1]["validation_accuracy"] > 0.3


# --- going on ---

CASES = [
    ("plateau", "adam", ("crop", "flip")),
    ("one_cycle", "sgd", ("flip",)),
    ("cosine", "adamw", ()),
    ("one_cycle", "adam", ("crop",)),
    pytest.param("linear", "sgd", ("autoaugment",), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("schedule", "optimizer", "augmentation"), CASES)
@pytest.mark.parametrize("stops", [[(1, None)], [(3, None)], [(1, 2)], [(3, 4)], [(2, 1), (2, 3), (3, None), (4, 5)]])
def test_a_stopped_training_ends_in_the_same_bits(
    tmp_path: Path, schedule: Any, optimizer: Any, augmentation: Any, stops: list[tuple[int, int | None]]
) -> None:
    recipe = replace(RECIPE, schedule=schedule, optimizer=optimizer, augment=augmentation, weight_decay=1e-3)
    whole = bits(*train(learning(tmp_path / "whole", recipe)))
    for stop in stops:
        with pytest.raises(Stop):
            train(learning(tmp_path / "c", recipe, **stop_in(*stop)))
    assert bits(*train(learning(tmp_path / "c", recipe))) == whole


OPTIONS = [
    {"ema": 0.9, "fused": True},
    {"ema": 0.9, "schedule": "plateau", "warmup": 0.3, "optimizer": "sgd"},
    {"precision": "bfloat16", "clip_norm": 0.5, "schedule": "cosine", "warmup": 0.2},
    {"label_smoothing": 0.1, "ema": 0.5, "precision": "bfloat16", "channels_last": False, "schedule": "one_cycle"},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("stops", [[(3, None)], [(1, 2), (3, 4)]])
def test_a_stopped_training_with_options_ends_in_the_same_bits(
    tmp_path: Path, options: dict[str, Any], stops: list[tuple[int, int | None]]
) -> None:
    recipe = replace(RECIPE, **options)
    whole = bits(*train(learning(tmp_path / "whole", recipe)))
    for stop in stops:
        with pytest.raises(Stop):
            train(learning(tmp_path / "c", recipe, **stop_in(*stop)))
    assert bits(*train(learning(tmp_path / "c", recipe, net(seed=9)))) == whole


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
def test_a_stopped_hardening_with_options_ends_in_the_same_bits(tmp_path: Path, options: dict[str, Any]) -> None:
    recipe = replace(RECIPE, epochs=3, **options)
    whole = bits(*train(learning(tmp_path / "whole", recipe, objective=hardening)))
    with pytest.raises(Stop):
        train(learning(tmp_path / "c", recipe, objective=hardening, **stop_in(2, 3)))
    assert bits(*train(learning(tmp_path / "c", recipe, objective=hardening))) == whole


def hardening(problem: ModelProblem, batch: Batch, random: SampleRandom) -> Tensor:
    x_adv = problem.perturb(PGD(steps=2), batch, Threat("Linf", 0.1), random)
    return problem.loss(x_adv, batch)


def test_a_stopped_hardening_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole = bits(*train(learning(tmp_path / "whole", RECIPE, objective=hardening)))
    with pytest.raises(Stop):
        train(learning(tmp_path / "c", RECIPE, objective=hardening, **stop_in(2, 3)))
    assert bits(*train(learning(tmp_path / "c", RECIPE, objective=hardening))) == whole


def test_going_on_does_not_hang_on_how_the_module_was_built_again(tmp_path: Path) -> None:
    whole = bits(*train(learning(tmp_path / "whole", RECIPE)))
    with pytest.raises(Stop):
        train(learning(tmp_path / "c", RECIPE, **stop_in(2, None)))
    assert bits(*train(learning(tmp_path / "c", RECIPE, net(seed=9)))) == whole


@pytest.mark.parametrize(("at", "truncate"), [(0.0, True), (0.01, True), (0.5, True), (1.0, True), (0.6, False)])
def test_a_checkpoint_that_cannot_be_read_is_begun_again(tmp_path: Path, at: float, truncate: bool) -> None:
    folder, recipe = tmp_path, replace(RECIPE, epochs=2)
    with contextlib.suppress(Stop):
        train(learning(folder / "c", recipe, **stop_in(1, None)))
    content = (folder / "c").read_bytes()
    if truncate:
        (folder / "c").write_bytes(content[: int(at * (len(content) - 1))])
    else:
        header = int(at * 7)  # the first bytes tell how long the header is
        (folder / "c").write_bytes(content[:header] + b"\xff" + content[header + 1 :])
    assert read_checkpoint(folder / "c") is None
    whole = bits(*train(learning(folder / "whole", recipe)))
    assert bits(*train(learning(folder / "c", recipe))) == whole


def test_a_checkpoint_holds_the_best_weights_beside_the_last(tmp_path: Path) -> None:
    scripted = Scripted([0.5, 0.4, 0.4, 0.4])
    with pytest.raises(Stop):
        train(learning(tmp_path / "c", RECIPE, batch_size=60, objective=scripted, **stop_in(2, None)))
    best, _ = train(learning(tmp_path / "c", RECIPE, batch_size=60, objective=scripted))
    after_one, _ = train(
        learning(tmp_path / "one", replace(RECIPE, epochs=1), batch_size=60, objective=Scripted([0.5]))
    )
    assert bits(best, []) == bits(after_one, [])


SCRIPT = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from test_training import RECIPE, learning, bits, train
folder = Path(sys.argv[1])
told = lambda epoch, done, of, loss: print(epoch, done, flush=True)
tensors, history = train(learning(folder / "c", RECIPE, on_batch=told))
save_file(tensors, folder / "weights")
"""


@pytest.mark.slow
def test_a_training_killed_in_mid_epoch_ends_in_the_same_bits(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    script = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    python_path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": python_path}
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        for line in process.stdout:
            if line.split() == ["2", "96"]:
                process.send_signal(signal.SIGKILL)
                break
        else:
            pytest.fail("the training ended before it could be killed")
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "weights").exists()
    again = subprocess.run(script, env=environment, check=True, capture_output=True, text=True)
    assert again.stdout.split()[0] in ("2", "3")  # epochs 1 and 2 are not trained again
    tensors, _ = train(learning(tmp_path / "whole", RECIPE))
    assert bits(load_file(tmp_path / "weights"), []) == bits(tensors, [])


# --- telemetry ---


def test_telemetry_is_of_what_the_objective_looks_at(tmp_path: Path) -> None:
    """Hardened models are chosen by their accuracy under attack: telemetry by clean accuracy would be higher."""
    recipe = Recipe(epochs=3, batch_size=32, lr=1e-2)
    _, plain = train(learning(tmp_path / "a", recipe, flat()))

    def noise(problem: ModelProblem, batch: Batch, random: SampleRandom) -> Tensor:
        problem.loss(batch.x, batch)  # a first look that telemetry must not be taken from
        return problem.loss(random.uniform(0, 1, batch.x.shape[1:]), batch)

    _, noisy = train(learning(tmp_path / "b", recipe, flat(), objective=noise))
    for name in ("accuracy", "validation_accuracy"):
        assert noisy[-1][name] < 0.3 < 0.6 < plain[-1][name]


TRAINING = "models.resnet_original.training"
TINY = ("run", "--models", "resnet_original", "--attacks", "clean", "--set", f"{TRAINING}.epochs=2")


def stored_steps(folder: Path) -> dict[str, dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(folder / "results.db")) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute("SELECT kind, status, reason, history FROM steps")
        return {row["kind"]: {**row, "history": json.loads(row["history"])} for row in found}


@pytest.mark.slow
def test_fit_and_hardening_store_their_telemetry_beside_their_weights_and_in_the_store(
    workplace: Path, bench: Callable[..., Any]
) -> None:
    cheap = ("--set", f"{TRAINING}.samples_per_epoch=200", "--set", "models.resnet_original.hardening.epochs=1")
    ended = bench(*TINY, *cheap)
    assert ended.returncode == 0, ended.stderr
    steps = stored_steps(workplace)
    for kind, epochs in {"fit": 2, "harden": 1}.items():
        history = steps[kind]["history"]
        assert [epoch["epoch"] for epoch in history] == list(range(1, epochs + 1))
        for epoch in history:
            assert set(epoch) == {field.name for field in fields(Epoch)} - {"validation_bleu4"}
            assert all(math.isfinite(value) for value in epoch.values())
            assert 0 <= epoch["accuracy"] <= 1
            assert 0 < epoch["validation_accuracy"] <= 1
            assert min(epoch[name] for name in ("loss", "validation_loss", "lr", "images_per_second")) > 0
        (record,) = (workplace / "artifacts" / kind).glob("*/step.json")
        assert json.loads(record.read_text())["history"] == history


@pytest.mark.slow
def test_a_fit_that_diverges_fails_with_its_reason_and_so_do_its_cells(
    workplace: Path, bench: Callable[..., Any]
) -> None:
    options = ("--set", f"{TRAINING}.lr=1e30", "--set", f"{TRAINING}.optimizer=sgd")
    ended = bench(*TINY, *options)
    assert ended.returncode != 0
    fit = stored_steps(workplace)["fit"]
    assert fit["status"] == "failed"
    assert re.search(r"training diverged in epoch 1: .*lower training\.lr", fit["reason"])
    assert fit["reason"] in ended.stderr + ended.stdout
    assert fit["history"] == []


def test_a_network_that_torch_cannot_train_in_channels_last_is_trained_in_the_plain_order(tmp_path: Path) -> None:
    """In channels last the process dies of a damaged heap, which no test could tell of."""
    narrow, wide = ResNet18(width=1 / 16), ResNet18(width=1 / 8)
    preparation = Preparation(digits().facts, (0.5,), (0.5,))
    for component, safe in ((narrow, False), (wide, True)):
        module = component.build(preparation=preparation)
        assert _may_be_channels_last(module) is safe
    module = narrow.build(preparation=preparation)
    images = digits().splits["train"].limited(64)
    lessons = ClassLessons(images, images, plain_objective, 0, 64)
    train(Training(module, Recipe(epochs=1, batch_size=32), lessons, 0, tmp_path / "c"))
    orders = [p.is_contiguous() for p in module.parameters() if p.ndim == 4]
    assert all(orders)
