"""Rules of models: classifiers, and captioners."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from harness.captioning.vocabulary import Vocabulary
from harness.contract.rule import Candidate, DoesNotApply, need, rule
from harness.material import FACTS, batch_of, images
from harness.types import CAPTIONING, CLASSIFICATION, Captioner, Preparation

TOKENS = ((1, 4, 5, 2), (1, 6, 2, 0), (1, 4, 4, 2))


def writes(candidate: Candidate) -> bool:
    return bool(candidate.says("task", CLASSIFICATION) == CAPTIONING)


def _repeats(candidate: Candidate) -> bool:
    """Whether it repeats captions that it has seen, which have no likelihood."""
    return not candidate.says("likelihood", True)


def built(candidate: Candidate) -> nn.Module:
    """The module, from one seed, in evaluation mode."""
    facts, vocabulary = FACTS, None
    if writes(candidate):
        facts, vocabulary = FACTS._replace(language="fa"), Vocabulary.of([["a", "b", "c"]])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = candidate.hooks.build(preparation=Preparation(facts, (0.4,) * 3, (0.2,) * 3, vocabulary))
    need(isinstance(module, nn.Module), f"build gave {type(module).__name__}; a torch module is needed")
    return cast("nn.Module", module.eval())


def pixels() -> Tensor:
    return batch_of(images(3, shape=FACTS.shape)).x


def answers(candidate: Candidate, module: nn.Module, x: Tensor) -> Tensor:
    """Logits of classes (N, K), or of words (N, T, V)."""
    if _repeats(candidate):
        raise DoesNotApply("it repeats captions, and has no logits")
    return cast("Tensor", module(x, torch.tensor(TOKENS)[: len(x)]) if writes(candidate) else module(x))


@rule("models", "it makes finite float32 logits of pixels in [0, 1], one for each class or word")
def logits(candidate: Candidate) -> str:
    module = built(candidate)
    made = answers(candidate, module, pixels())
    words = len(cast("Vocabulary", module.vocabulary)) if hasattr(module, "vocabulary") else 7
    wanted = (3, 3, words) if writes(candidate) else (3, len(FACTS.classes))
    need(made.shape == wanted, f"shape {tuple(made.shape)} of {tuple(pixels().shape)}; {wanted} is needed")
    need(made.dtype == torch.float32, f"they are {made.dtype}")
    need(made.isfinite().all(), "some are NaN or infinite")
    return f"shape {wanted}"


@rule("models", "in evaluation mode it gives the same answer twice")
def answers_repeat(candidate: Candidate) -> str:
    ask = partial(answers, candidate, built(candidate))
    apart = float((ask(pixels()) - ask(pixels())).detach().abs().max())
    need(apart == 0, f"logits differ by up to {apart:.3g}")
    return "the same bits twice"


@rule("models", "no image's answer depends on its neighbours in the batch")
def neighbours(candidate: Candidate) -> str:
    ask = partial(answers, candidate, built(candidate))
    apart = float((ask(pixels())[:1] - ask(pixels()[:1])).detach().abs().max())
    need(apart <= 1e-4, f"alone its logits differ by up to {apart:.3g}")
    return f"alone its logits differ by up to {apart:.2g}"


@rule("models", "gradients reach the pixels, and some weights learn")
def gradients(candidate: Candidate) -> str:
    module, x = built(candidate), pixels().requires_grad_()
    (slope,) = torch.autograd.grad(answers(candidate, module, x).sum(), x, allow_unused=True)
    need(slope is not None and (slope != 0).any(), "none reaches the pixels")
    learns = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    need(learns, "no weight has requires_grad")
    return f"{learns} weights learn"


@rule("models", "the seed decides its first weights")
def initial_weights(candidate: Candidate) -> str:
    first, again = (built(candidate).state_dict() for _ in range(2))
    other = [key for key in first if not torch.equal(first[key], again[key])]
    need(not other, f"{len(other)} tensors differ the second time, {other[:1]} first")
    return f"{len(first)} tensors, the same twice"


@rule("models", "a captioner encodes, generates and learns as harness.types.Captioner says")
def captioner(candidate: Candidate) -> str:
    if not writes(candidate):
        raise DoesNotApply("it is no captioner")
    module: Any = built(candidate)
    says = cast("Captioner", module)
    x, tokens = pixels(), torch.tensor(TOKENS)
    if _repeats(candidate):
        module.memorise([(x, tokens[:, None])])
        need(module.likelihood is False, "its module's likelihood is not False, the component's is")
        made = says.generate(x, beam=1, longest=4, length_penalty=0.0).tokens
        need(len(made) == 3, f"{len(made)} captions of 3 images")
        return "repeats captions"
    rows, columns = says.grid
    features = says.encode(x)
    need(features.shape[1] >= rows * columns, f"{features.shape[1]} features, the grid is {rows} x {columns}")
    generated = says.generate(x, beam=1, longest=4, length_penalty=0.0)
    need(
        1 <= generated.tokens.shape[1] <= 4, f"captions of {generated.tokens.shape[1]} words, at most 4 were asked for"
    )
    if generated.attention is not None:
        need(generated.attention.shape[2] == rows * columns, f"attention {tuple(generated.attention.shape)}")
    losses, made = says.objective(x, tokens, 0.5)
    wanted = answers(candidate, module, x).shape
    need(losses.shape == (3,), f"objective: losses {tuple(losses.shape)}; (3,) is needed")
    need(made.shape == wanted, f"objective: logits {tuple(made.shape)}; {tuple(wanted)} is needed")
    return f"grid {rows} x {columns}"
