"""Losses made of differences of logits, which tell more than cross-entropy where that is saturated.

All are to be raised, and positive where the sample is fooled: (N, K) -> (N,).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """The likeliest other class over the label."""
    own = y[:, None]
    return logits.scatter(1, own, float("-inf")).amax(1) - logits.gather(1, own).squeeze(1)


def towards(logits: Tensor, y: Tensor, aim: Tensor) -> Tensor:
    """The class ``aim`` over the label."""
    return (logits.gather(1, aim[:, None]) - logits.gather(1, y[:, None])).squeeze(1)


def likeliest_others(clean: Tensor, y: Tensor) -> Tensor:
    """The classes but the label, the likeliest first: (N, K) -> (N, K), the label last."""
    return clean.scatter(1, y[:, None], float("-inf")).argsort(dim=1, descending=True)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio: the margin over the distance from the first to the third largest logit.

    Croce and Hein, ICML 2020, equation 6. With two classes, where there is no third, the margin itself.
    """
    if logits.shape[1] < 3:
        return margin(logits, y)
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


def dlr_towards(logits: Tensor, y: Tensor, aim: Tensor) -> Tensor:
    """The class ``aim`` over the label, over the distance from the first logit to the mean of the third and the fourth.

    Croce and Hein, ICML 2020, equation 7. With three classes the third alone, with two no division.
    """
    gain = towards(logits, y, aim)
    if logits.shape[1] < 3:
        return gain
    top = logits.topk(min(4, logits.shape[1]), dim=1).values
    return gain / (top[:, 0] - top[:, 2:].mean(1) + 1e-12)
