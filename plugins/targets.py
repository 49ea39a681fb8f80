"""Which class a targeted attack wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from harness.randomness import SampleRandom

Target = Literal["random", "least_likely", "second"]


def target_of(kind: str, y: Tensor, clean: Tensor, random: SampleRandom) -> Tensor:
    """A class that is not the label: (N,). clean: the logits (N, K) of the images as they are.

    kind: "random" draws one of the other classes for each sample, "least_likely" and "second" take the least likely and
    the likeliest of them. random: a stream that nothing else draws from.
    """
    own = y[:, None]
    if kind == "least_likely":
        return clean.scatter(1, own, float("inf")).argmin(1)
    if kind == "second":
        return clean.scatter(1, own, float("-inf")).argmax(1)
    other = random.integers(0, clean.shape[1] - 1, ())
    return other + (other >= y)
