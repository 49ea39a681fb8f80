"""One look of an attack at a captioner: the teacher-forced loss of a sentence, and its gradient in the pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.errors import BenchError
from harness.looking import Look, autocast, slope_of
from harness.tasks import captioning as task
from harness.types import Batch, Evaluation, State


class CaptionLook(Look):
    """``batch.y`` holds the sentence of each image, (N, T + 1). The logits told are the loss alone, (N, 1).

    Nothing is ever fooled: how far a caption has gone is not told from its teacher-forced words.
    """

    def _once(self, x: Tensor, batch: Batch, state: State, gradient: bool) -> Evaluation:
        x = x.detach().requires_grad_(gradient)
        with torch.set_grad_enabled(gradient), autocast(self.precision, x.device):
            logits = self.module(x, batch.y).float()
            if not bool(logits.isfinite().all()):
                raise BenchError(f"nan: model: logits of captions of {len(x)} images hold NaN or Inf")
            loss = task.loss(logits, batch.y)
            slope = slope_of(loss, x) if gradient else None
        loss = loss.detach()
        return Evaluation(loss, loss[:, None], torch.zeros_like(loss, dtype=torch.bool), slope)
