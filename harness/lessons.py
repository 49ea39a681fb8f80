"""What a training learns from: how its batches are made, what loss is taken of them, how an epoch is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from harness.attacking import ModelProblem
from harness.augmenting import augmented
from harness.data import Samples
from harness.divergence import Unstable
from harness.errors import BenchError
from harness.looking import autocast
from harness.randomness import SampleRandom, derive
from harness.recipe import Recipe
from harness.tasks import classification as task
from harness.types import Batch

Objective = Callable[[ModelProblem, Batch, SampleRandom], Tensor]


class Taken(NamedTuple):
    """An objective's loss (N,), how many samples the model got right by it, and the number of answers there are.

    Of sentences the share of right words of each counts, so ``right`` need not be whole.
    """

    losses: Tensor
    right: float
    classes: int


class Judgement(NamedTuple):
    """Mean loss and accuracy (fraction) on the validation split, and BLEU-4 (fraction) where captions are generated."""

    loss: float
    accuracy: float
    bleu4: float | None = None


class Lessons(Protocol):
    """What the loop of ``training`` asks for."""

    def __len__(self) -> int:
        """The samples that there are to learn from."""
        ...

    def order(self, generator: torch.Generator) -> Tensor:
        """The places of all samples, shuffled: int64 on the CPU. What is best learnt together stands together."""
        ...

    def batches(self, places: Sequence[Tensor], recipe: Recipe, epoch: int) -> Iterator[Batch]:
        """Training batches of the samples at these places, each (N,) int64 on the CPU."""
        ...

    def learn(self, problem: ModelProblem, batch: Batch, recipe: Recipe, epoch: int, progress: float) -> Taken:
        """The loss of a batch, differentiable in the weights. progress: share of the training that is done, [0, 1)."""
        ...

    def judge(self, problem: ModelProblem) -> Judgement:
        """How good the model is on the validation split, in evaluation mode."""
        ...


@dataclass(frozen=True)
class ClassLessons:
    """Images with one label each, learnt by an objective: the plain loss, or that of a defense."""

    train: Samples
    validation: Samples
    objective: Objective
    seed: int
    batch_size: int

    def __len__(self) -> int:
        return len(self.train)

    def order(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self.train), generator=generator)

    def batches(self, places: Sequence[Tensor], recipe: Recipe, epoch: int) -> Iterator[Batch]:
        device = self.train.labels.device
        return augmented(self.train, [place.to(device) for place in places], recipe, self.seed, epoch)

    def learn(self, problem: ModelProblem, batch: Batch, recipe: Recipe, epoch: int, progress: float) -> Taken:
        return self._take(problem, batch, recipe.precision, "objective", epoch)

    def judge(self, problem: ModelProblem) -> Judgement:
        """By the same objective, because a hardened model chosen by its clean accuracy would be its least hardened one.

        The random numbers are those of every epoch, so that epochs compare.
        """
        problem.module.eval()
        loss = right = 0.0
        for batch in self.validation.batches(self.batch_size):
            found = self._take(problem, batch, "float32", "validation")
            loss += float(found.losses.detach().sum())
            right += found.right
        return Judgement(loss / len(self.validation), right / len(self.validation))

    def _take(self, problem: ModelProblem, batch: Batch, precision: str, *use: object) -> Taken:
        last: list[Tensor] = [torch.empty(0)]

        def remember(_module: nn.Module, _inputs: object, logits: Tensor) -> Tensor:
            last[0] = logits.detach()
            return logits.float()  # the loss is taken in float32, whatever the model computes in

        hook = problem.module.register_forward_hook(remember)
        try:
            with autocast(precision, batch.x.device):
                losses = self.objective(problem, batch, SampleRandom(derive(self.seed, *use), batch.ids))
        except BenchError as error:
            with torch.no_grad():
                if problem.module(batch.x).isfinite().all():
                    raise
            raise Unstable("the logits are no longer finite numbers") from error  # of which no attack can be made
        finally:
            hook.remove()
        return Taken(losses, float((task.predict(last[0]) == batch.y).sum()), last[0].shape[1])


def plain_objective(problem: ModelProblem, batch: Batch, random: SampleRandom) -> Tensor:
    """The loss on the images as they are: (N,)."""
    return problem.loss(batch.x, batch)
