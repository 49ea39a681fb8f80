"""Rules of defenses."""

from __future__ import annotations

import math

from torch import nn

from harness.attacking import ModelProblem
from harness.contract.rule import Candidate, DoesNotApply, need, rule
from harness.material import CLASSES, right, small
from harness.randomness import SampleRandom


@rule("defenses", "its objective is a finite loss of each sample that weights learn from, in training mode")
def objective(candidate: Candidate) -> str:
    if not candidate.hooks.offers("objective"):
        raise DoesNotApply("it trains nothing")
    module, batch = small().train(), right()
    losses = candidate.hooks.objective(problem=ModelProblem(module), batch=batch, random=SampleRandom(0, batch.ids))
    need(losses.isfinite().all(), "some losses are NaN or infinite")
    losses.mean().backward()
    learning = sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())
    need(learning, "no gradient reaches a weight")
    need(module.training, "the model is left in evaluation mode")
    return f"mean loss {float(losses.detach().mean()):.3g}, {learning} tensors learn"


@rule("defenses", "it says what its objective costs: one pass a sample or more")
def passes(candidate: Candidate) -> str:
    if not candidate.hooks.offers("passes"):
        raise DoesNotApply("it does not say, and is taken for plain training")
    told = candidate.hooks.passes()
    need(math.isfinite(told) and told >= 1, f"passes gave {told}")
    return f"{told:g} passes"


@rule("defenses", "what it deploys is a module that makes logits of pixels")
def deployed(candidate: Candidate) -> str:
    if not candidate.hooks.offers("wrap"):
        raise DoesNotApply("it deploys the model as it is")
    wrapped = candidate.hooks.wrap(module=small())
    need(isinstance(wrapped, nn.Module), f"wrap gave {type(wrapped).__name__}; a torch module is needed")
    shape = tuple(wrapped(right().x).shape)
    need(shape == (len(right().y), CLASSES), f"logits of shape {shape}")
    return f"{type(wrapped).__name__}, logits of shape {shape}"
