"""Captions as lessons of the training loop: a sample is a caption with its image, an epoch is judged by BLEU-4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from harness.attacking import ModelProblem
from harness.augmenting import augment
from harness.captioning.data import CaptionSamples
from harness.captioning.saying import Decoding, said
from harness.captioning.scores import bleu
from harness.divergence import Unstable
from harness.lessons import Judgement, Taken
from harness.looking import autocast
from harness.recipe import Recipe
from harness.tasks import captioning as task
from harness.types import Batch, Captioner


@dataclass(frozen=True)
class CaptionLessons:
    """Every caption of the training images once an epoch. Validation: generated greedily, against all references.

    With features kept, they are what is learnt from and validated on; images are then never read.
    """

    train: CaptionSamples
    validation: CaptionSamples
    seed: int
    batch_size: int
    longest: int

    def __len__(self) -> int:
        return len(self.train.tokens)

    def batches(self, places: Sequence[Tensor], recipe: Recipe, epoch: int) -> Iterator[Batch]:
        samples = self.train

        def images(index: Tensor) -> Tensor:
            if samples.features is not None:
                return samples.given(index)
            rows = samples.rows[index.cpu().numpy()]
            read = torch.from_numpy(samples.images[rows]).to(samples.device)
            return augment(
                read, torch.from_numpy(samples.ids)[index.cpu()].to(samples.device), recipe, self.seed, epoch
            )

        for place in places:
            yield samples.captioned(place.to(samples.device), images)

    def learn(self, problem: ModelProblem, batch: Batch, recipe: Recipe, epoch: int, progress: float) -> Taken:
        module = _captioner(problem)
        with autocast(recipe.precision, batch.x.device):
            losses, logits = module.objective(batch.x, batch.y, progress)
        return Taken(losses.float(), float(task.right(logits, batch.y).sum()), logits.shape[-1])

    def judge(self, problem: ModelProblem) -> Judgement:
        problem.module.eval()
        module, samples = _captioner(problem), self.validation
        loss = right = 0.0
        captions: list[str] = []
        greedy = Decoding(longest=self.longest)
        with torch.no_grad():
            for place in samples.batches(self.batch_size):
                first, behind = samples.first[place[0]], samples.first[place[-1] + 1]
                rows = torch.arange(int(first), int(behind), device=samples.device)
                x = samples.given(place)
                owner = torch.searchsorted(samples.first, rows, right=True) - 1 - place[0]
                for part in torch.arange(len(rows), device=samples.device).split(self.batch_size):  # type: ignore[no-untyped-call]
                    tokens = samples.tokens[rows[part]]
                    logits = module(x[owner[part]], tokens)
                    loss += float(task.loss(logits, tokens).sum())
                    right += float(task.right(logits, tokens).sum())
                captions += said(module, x, samples.vocabulary, greedy)[0]
        if not loss < float("inf"):
            raise Unstable("the validation loss is not a finite number")
        n = len(samples.tokens)
        return Judgement(loss / n, right / n, bleu(captions, samples.references, 4))


def _captioner(problem: ModelProblem) -> Captioner:
    return cast("Captioner", problem.module.module)
