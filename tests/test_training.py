"""The loop learns, and a training that was stopped ends in the very bits of one that was not."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Small, digits, first, small
from torch import Tensor, nn

from harness.artifacts import Tensors, read_checkpoint
from harness.attacking import ModelProblem
from harness.errors import BenchError
from harness.randomness import SampleRandom
from harness.recipe import Recipe
from harness.training import Epoch, Training, plain_objective, train
from harness.types import Batch, Threat
from plugins.attacks.pgd import PGD

torch.set_num_threads(1)

TESTS = Path(__file__).parent


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
    training = Training(
        module or net(),
        recipe,
        first(data.splits["train"], 160),
        first(data.splits["validation"], 60),
        seed=3,
        checkpoint=checkpoint,
        objective=plain_objective,
        batch_size=32,
    )
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
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(training.train.ids.tolist())
    assert epochs[0] != epochs[1]
    assert all(order != training.train.ids.tolist() for order in epochs)


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
    train(replace(training, train=part, on_batch=lambda e, n, of, loss: done.append(n)))
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


@pytest.mark.parametrize("batches", [1, 5])
def test_a_training_that_diverges_is_refused(tmp_path: Path, batches: int) -> None:
    """With one batch in all, only the validation loss can tell."""
    recipe = Recipe(epochs=1, batch_size=160 // batches, optimizer="sgd", lr=3e38)
    with pytest.raises(BenchError, match=r"training diverged in epoch 1: .*lower training\.lr"):
        train(learning(tmp_path / "c", recipe, flat()))


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
