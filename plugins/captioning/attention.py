"""Where a captioner looks: kinds of attention behind one interface, found by name.

Another package adds one by the entry-point group ``bench.attentions``: a subclass of ``Attention``.
"""

from __future__ import annotations

import functools
from importlib.metadata import entry_points
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from harness.errors import BenchError, unknown

GROUP = "bench.attentions"


class Shape(NamedTuple):
    """What an attention is made for. features: D; hidden: of the decoder's state; size: of its own inner space.

    soft_share and at_test are for those that sample, as ``Hard`` says.
    """

    features: int
    hidden: int
    size: int
    soft_share: float = 0.5
    at_test: Literal["expectation", "argmax"] = "expectation"


class View(NamedTuple):
    """Images as an attention sees them: features (N, L, D), and what it makes of them once for all words.

    sampled: (N, 1, 1), of which images one location is sampled; None where of none.
    """

    features: Tensor
    projected: Tensor
    sampled: Tensor | None = None


class Glance(NamedTuple):
    """What one word saw: context (N, M, D), attention (N, M, L), which sums to one.

    log_probability: of the location that was sampled, (N, M), 0 where none was; None of an attention that never does.
    """

    context: Tensor
    attention: Tensor
    log_probability: Tensor | None = None


class Attention(nn.Module):
    """A kind of attention gives ``project``, once an image, and ``scores``, once a word."""

    looks: ClassVar[bool] = True
    """Whether it tells locations apart, so that it is worth showing."""
    samples: ClassVar[bool] = False
    """Whether it samples in training, and is trained by what comes of it (REINFORCE)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def project(self, features: Tensor) -> Tensor:
        """What of the scores depends on the image alone: (N, L, D) -> (N, L, A)."""
        raise NotImplementedError

    def scores(self, projected: Tensor, hidden: Tensor) -> Tensor:
        """Unnormalised log weights (N, M, L) of the locations, from (N, L, A) and the states (N, M, H)."""
        raise NotImplementedError

    def view(self, features: Tensor, of: Tensor) -> View:
        """Of rows ``of`` (N,) of features (U, L, D), each projected once."""
        return View(features[of], self.project(features)[of])

    def forward(self, view: View, hidden: Tensor) -> Glance:
        """The mean of the features by their weights."""
        attention = self.scores(view.projected, hidden).softmax(-1)
        return Glance(attention @ view.features, attention)


class Additive(Attention):
    """v.tanh(U a + W h): Bahdanau et al., ICLR 2015, as the soft attention of Xu et al., ICML 2015, has it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.features = nn.Linear(shape.features, shape.size)
        self.hidden = nn.Linear(shape.hidden, shape.size)
        self.score = nn.Linear(shape.size, 1)

    def project(self, features: Tensor) -> Tensor:
        projected: Tensor = self.features(features)
        return projected

    def scores(self, projected: Tensor, hidden: Tensor) -> Tensor:
        both = torch.tanh(projected[:, None] + self.hidden(hidden)[:, :, None])  # (N, M, L, A)
        return self.score(both).squeeze(-1)


class ScaledDot(Attention):
    """(W h).(U a) / sqrt(A): the dot product of Vaswani et al., NeurIPS 2017, with one head, values the features."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.features = nn.Linear(shape.features, shape.size)
        self.hidden = nn.Linear(shape.hidden, shape.size)

    def project(self, features: Tensor) -> Tensor:
        return self.features(features) * self.shape.size**-0.5

    def scores(self, projected: Tensor, hidden: Tensor) -> Tensor:
        return self.hidden(hidden) @ projected.transpose(1, 2)


class Hard(Additive):
    """One location, sampled in training by the additive weights: Xu et al., section 4.1.

    An image is seen by the weighted mean with the probability ``soft_share`` (0.5 there, for a lower variance). After
    training: ``at_test`` "expectation", the weighted mean, or "argmax", the likeliest location alone, through which no
    gradient reaches the weights.
    """

    samples: ClassVar[bool] = True

    def view(self, features: Tensor, of: Tensor) -> View:
        sampled = None
        if self.training:
            sampled = torch.rand(len(of), 1, 1, device=features.device) >= self.shape.soft_share
        return super().view(features, of)._replace(sampled=sampled)

    def forward(self, view: View, hidden: Tensor) -> Glance:
        log_weights = self.scores(view.projected, hidden).log_softmax(-1)
        attention = log_weights.exp()
        if view.sampled is None:
            used = attention if self.shape.at_test == "expectation" else _only(attention.argmax(-1), attention)
            return Glance(used @ view.features, attention)
        location = attention.detach().flatten(0, 1).multinomial(1).view(attention.shape[:2])
        used = torch.where(view.sampled, _only(location, attention), attention)
        log_probability = log_weights.gather(-1, location[..., None]) * view.sampled
        return Glance(used @ view.features, attention, log_probability.squeeze(-1))


class NoAttention(Attention):
    """The mean of all locations for every word: what a captioner is without attention (Vinyals et al., CVPR 2015)."""

    looks: ClassVar[bool] = False

    def project(self, features: Tensor) -> Tensor:
        return features.mean(1, keepdim=True)

    def forward(self, view: View, hidden: Tensor) -> Glance:
        shape = *hidden.shape[:2], view.features.shape[1]
        uniform = hidden.new_full(shape, 1 / shape[2])
        return Glance(view.projected.expand(-1, shape[1], -1), uniform)


BUILT_IN: dict[str, type[Attention]] = {
    "additive": Additive,
    "scaled_dot": ScaledDot,
    "hard": Hard,
    "none": NoAttention,
}


def names() -> list[str]:
    """The names of all kinds, of other packages too. Imports none of them."""
    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})


@functools.cache
def find(name: str) -> type[Attention]:
    """The kind of this name; the built-in one where another package has the same name.

    Raises BenchError with the nearest names, and for what cannot be imported or is no attention.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    found = next((entry for entry in entry_points(group=GROUP) if entry.name == name), None)
    if found is None:
        raise unknown("attention", name, names())
    try:
        kind = found.load()
    except Exception as error:  # foreign code, which has errors of every type
        raise BenchError(f"attention {name!r} ({found.value}) cannot be imported: {type(error).__name__}") from error
    if not (isinstance(kind, type) and issubclass(kind, Attention)):
        raise BenchError(f"attention {name!r}: {found.value} is {kind!r}; a subclass of Attention is needed")
    return kind


def _only(location: Tensor, like: Tensor) -> Tensor:
    """All weight on one location: (N, M) -> (N, M, L)."""
    return torch.zeros_like(like).scatter(-1, location[..., None], 1.0)
