"""Captions as lessons of the training loop: a sample is a caption with its image, an epoch is judged by BLEU-4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from harness.attacking import ModelProblem
from harness.augmenting import augment
from harness.captioning.data import CaptionSamples, trimmed
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

    def order(self, generator: torch.Generator) -> Tensor:
        """Images shuffled, the captions of each in a row: an image is encoded once for all of them in a batch."""
        first = self.train.first.cpu()
        images = torch.randperm(len(self.train), generator=generator)
        counts = first.diff()[images]
        before = counts.cumsum(0) - counts
        return torch.repeat_interleave(first[images] - before, counts) + torch.arange(len(self))

    def batches(self, places: Sequence[Tensor], recipe: Recipe, epoch: int) -> Iterator[Batch]:
        """Captions, by their places in ``ids``, with the images or features of them all: each once, in x."""
        samples = self.train
        for place in places:
            captions = place.to(samples.device)
            images, _ = samples.owners(captions)
            yield Batch(self._given(images, recipe, epoch), trimmed(samples.tokens[captions]), captions)

    def _given(self, images: Tensor, recipe: Recipe, epoch: int) -> Tensor:
        samples = self.train
        if samples.features is not None:
            return samples.given(images)
        at = images.cpu().numpy()
        read = torch.from_numpy(samples.images[samples.rows[at]]).to(samples.device)
        return augment(read, torch.from_numpy(samples.ids[at]).to(samples.device), recipe, self.seed, epoch)

    def learn(self, problem: ModelProblem, batch: Batch, recipe: Recipe, epoch: int, progress: float) -> Taken:
        module = _captioner(problem)
        _, of = self.train.owners(batch.ids)
        with autocast(recipe.precision, batch.x.device):
            losses, logits = module.objective(_features(module, batch.x), batch.y, progress, of)
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
                features = _features(module, samples.given(place))
                owner = torch.searchsorted(samples.first, rows, right=True) - 1 - place[0]
                for part in torch.arange(len(rows), device=samples.device).split(self.batch_size):  # type: ignore[no-untyped-call]
                    tokens = trimmed(samples.tokens[rows[part]])
                    logits = module(features, tokens, owner[part])
                    loss += float(task.loss(logits, tokens).sum())
                    right += float(task.right(logits, tokens).sum())
                captions += said(module, features, samples.vocabulary, greedy)[0]
        if not loss < float("inf"):
            raise Unstable("the validation loss is not a finite number")
        n = len(samples.tokens)
        return Judgement(loss / n, right / n, bleu(captions, samples.references, 4))


def _captioner(problem: ModelProblem) -> Captioner:
    return cast("Captioner", problem.module.module)


def _features(module: Captioner, x: Tensor) -> Tensor:
    """Of pixels or, where they are kept, as they are: (U, L, D)."""
    return module.encode(x) if x.ndim == 4 else x
