"""One look of an attack at a captioner: what it raises there, and its gradient in the pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from harness.captioning.saying import Decoding, said
from harness.captioning.vocabulary import PAD, START, Vocabulary
from harness.errors import BenchError
from harness.looking import Look, autocast, slope_of
from harness.tasks import captioning as task
from harness.types import AIM_CAPTION, Batch, Captioner, Evaluation, State


@dataclass
class CaptionLook(Look):
    """The teacher-forced loss of a sentence. ``batch.y`` holds that of each image, (N, T + 1).

    The logits told are the loss alone, (N, 1). Nothing is ever fooled: how far a caption has gone is not told from its
    teacher-forced words.
    """

    def _once(self, x: Tensor, batch: Batch, state: State, gradient: bool) -> Evaluation:
        x = x.detach().requires_grad_(gradient)
        with torch.set_grad_enabled(gradient), autocast(self.precision, x.device):
            loss, fooled = self._told(x, batch)
            slope = slope_of(loss, x) if gradient else None
        loss = loss.detach()
        return Evaluation(loss, loss[:, None], fooled, slope)

    def _told(self, x: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is to be raised, (N,), and whether each image is where the attack wants it, (N,)."""
        loss = task.loss(self._checked(self.module(x, batch.y)), batch.y)
        return loss, torch.zeros_like(loss, dtype=torch.bool)

    def _checked(self, logits: Tensor) -> Tensor:
        if not bool(logits.isfinite().all()):
            raise BenchError(f"nan: model: logits of captions of {len(logits)} images hold NaN or Inf")
        return logits.float()


@dataclass(kw_only=True)
class AimedLook(CaptionLook):
    """The way to a sentence or a word that is wanted; an image that is captioned so has been fooled.

    ``batch.y``: with the aim "caption" the sentence wanted, whose loss is lowered; with "keyword" the word, (N, 1). Of
    a keyword the margin over all other words is raised where it is largest among the places of the caption that the
    image gets at that moment: Chen et al., "Attacking visual language grounding with adversarial examples", ACL 2018
    (there by its hinge, with the words before taken from the model as here). Captions are generated at every look,
    from the same features. targets: what is wanted, by the image's id.
    """

    aim: str
    targets: Mapping[int, str]
    vocabulary: Vocabulary
    how: Decoding

    def _told(self, x: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        module = cast("Captioner", self.module)
        features = module.encode(x)
        captions, found = said(module, features.detach(), self.vocabulary, self.how)
        won = [
            task.reached(self.aim, text, self.targets[number])
            for text, number in zip(captions, batch.ids.tolist(), strict=True)
        ]
        fooled = torch.tensor(won, device=x.device)
        if self.aim == AIM_CAPTION:
            return -task.loss(self._checked(module(features, batch.y)), batch.y), fooled
        start = torch.full_like(found.tokens[:, :1], START)
        logits = self._checked(module(features, torch.cat([start, found.tokens], dim=1)))
        ahead = margin(logits, batch.y.expand(-1, logits.shape[1]))
        return ahead.masked_fill(found.tokens == PAD, -torch.inf).amax(1), fooled


def margin(logits: Tensor, words: Tensor) -> Tensor:
    """By how much words are ahead of the likeliest other ones: (N, T, V), (N, T) -> (N, T)."""
    index = words[..., None]
    own = logits.gather(2, index).squeeze(2)
    return own - logits.scatter(2, index, -torch.inf).amax(2)
