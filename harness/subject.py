"""A model as it is judged: whether its answers repeat, its fast form, and what its gradients say about themselves.

Measured once for each model on a few test images, at the price of a few passes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from harness.data import Samples
from harness.folding import folded
from harness.looking import checked, slope_of
from harness.tasks import classification as task
from harness.types import Batch
from harness.validity import REPEATED

PROBES = 24
"""Test images that a model's gradients are looked at with."""

REPEATS = 4
"""Test images that it is asked about twice, and that its fast form is held against it with."""

STEP = 0.25 / 255
"""Length in pixel units (Linf) of the step that must raise the loss where the gradient is right."""


@dataclass(frozen=True)
class Subject:
    """A model with its fast form (itself where there is none). ``facts``: see ``examine``."""

    module: nn.Module
    fast: nn.Module
    classes: int
    repeats: bool
    facts: dict[str, float] = field(default_factory=dict)


def examine(module: nn.Module, samples: Samples) -> Subject:
    """Looks at a model in evaluation mode with frozen weights. Raises BenchError for logits that are no numbers.

    Facts: ``repeat_difference``, between two answers to the same images, in another order, as a share of the largest
    logit; ``logit_gap``, between the two largest logits in the median; ``flat``, the share of images whose gradient is
    zero everywhere; ``rising``, of the others the share whose loss a small step along the gradient raises.
    """
    batch = samples.take(torch.arange(min(PROBES, len(samples)), device=samples.labels.device))
    x = batch.x[:REPEATS]
    with torch.no_grad():
        logits = checked(module(x), x).float()
        again = checked(module(x.flip(0)), x).float().flip(0)
    difference = float((logits - again).abs().amax() / logits.abs().amax().clamp(min=1e-12))
    repeats = difference <= REPEATED
    fast = folded(module, x) if repeats else None
    facts = {"repeat_difference": difference, "folded": float(fast is not None), **_slopes(fast or module, batch)}
    return Subject(module, fast or module, logits.shape[1], repeats, facts)


def _slopes(module: nn.Module, batch: Batch) -> dict[str, float]:
    x = batch.x.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = checked(module(x), x)
        loss = task.loss(logits, batch.y)
        slope = slope_of(loss, x)
    loss, flat = loss.detach(), (slope == 0).flatten(1).all(1)
    top = logits.detach().float().topk(min(2, logits.shape[1]), dim=1).values
    found = {"logit_gap": float((top[:, 0] - top[:, -1]).median()), "flat": float(flat.float().mean())}
    steep = (~flat).nonzero().squeeze(1)
    if len(steep):
        low, high = min(0.0, float(batch.x.min())), max(1.0, float(batch.x.max()))  # of other domains
        moved = (batch.x[steep] + STEP * slope[steep].sign()).clamp(low, high)
        with torch.no_grad():
            after = task.loss(module(moved), batch.y[steep])
        found["rising"] = float((after > loss[steep]).float().mean())
    return found
