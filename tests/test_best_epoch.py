"""Which epoch's weights a training of captions keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from networks import digits, first, small
from test_training import RECIPE, bits

from harness.artifacts import Tensors
from harness.attacking import ModelProblem
from harness.lessons import ClassLessons, Judgement, plain_objective
from harness.training import Epoch, Training, train

torch.set_num_threads(1)


class Stop(Exception):
    """What stands for Ctrl-C after an epoch."""


@dataclass(frozen=True)
class Scored(ClassLessons):
    """Lessons whose epochs are found to have these losses and BLEU-4, one after the other."""

    found: Iterator[Judgement] = field(default_factory=lambda: iter(()))

    def judge(self, problem: ModelProblem) -> Judgement:
        problem.module.eval()
        return next(self.found)


def trained(folder: Path, found: list[tuple[float, float]], stop: int = 0) -> tuple[Tensors, int]:
    """The weights that are kept and the epochs gone through; ``stop``: after this one it is stopped and taken up."""

    def stops(epoch: Epoch) -> None:
        if epoch.epoch == stop:
            raise Stop

    judged = iter([Judgement(loss, 0.5, score) for loss, score in found])
    data = digits()
    parts = first(data.splits["train"], 160), first(data.splits["validation"], 60)
    lessons = Scored(*parts, plain_objective, seed=3, batch_size=60, found=judged)
    recipe = replace(RECIPE, epochs=len(found), patience=3)

    def training() -> Training:
        return Training(small(0, channels=1, classes=10), recipe, lessons, seed=3, checkpoint=folder, on_epoch=stops)

    if stop:
        with pytest.raises(Stop):
            train(training())
    tensors, history = train(replace(training(), on_epoch=lambda epoch: None))
    return tensors, len(history)


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_of_epochs_of_equal_bleu_the_lower_loss_is_kept(tmp_path: Path, stop: int) -> None:
    ties = [(3.0, 0.0), (2.0, 0.0), (2.5, 0.0), (2.0, 0.0), (2.2, 0.0), (1.0, 0.0)]
    kept, epochs = trained(tmp_path / "ties", ties, stop)
    assert epochs == 5  # three without a better one: an equal loss is none
    second, _ = trained(tmp_path / "second", [(9.0, 0.0), (9.0, 0.5), (1.0, 0.1), (1.0, 0.1), (1.0, 0.1), (1.0, 0.1)])
    assert bits(kept, []) == bits(second, [])


def test_a_higher_bleu_counts_before_any_loss(tmp_path: Path) -> None:
    one, _ = trained(tmp_path / "one", [(5.0, 0.3), (1.0, 0.2)])
    other, _ = trained(tmp_path / "other", [(1.0, 0.2), (5.0, 0.3)])
    plain, _ = trained(tmp_path / "plain", [(1.0, 0.9), (1.0, 0.0)])
    assert bits(one, []) == bits(plain, []) != bits(other, [])


def test_the_rate_does_not_fall_while_the_loss_does(tmp_path: Path) -> None:
    rates: list[float] = []
    falling = [(5.0 - n / 4, 0.0) for n in range(5)]
    still = [(4.0, 0.0)] * 5
    for name, found in (("falling", falling), ("still", still)):
        judged = iter([Judgement(loss, 0.5, score) for loss, score in found])
        data = digits()
        parts = first(data.splits["train"], 160), first(data.splits["validation"], 60)
        lessons = Scored(*parts, plain_objective, seed=3, batch_size=60, found=judged)
        recipe = replace(RECIPE, epochs=5, schedule="plateau", warmup=0.0)
        module = small(0, channels=1, classes=10)
        _, history = train(Training(module, recipe, lessons, seed=3, checkpoint=tmp_path / name))
        rates.append(history[-1]["lr"])
    assert rates == [RECIPE.lr, RECIPE.lr * RECIPE.plateau_factor]
