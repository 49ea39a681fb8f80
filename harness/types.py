"""The nouns that cross the plugin boundary.

Letter code of shapes: N samples, C channels, H height, W width, K classes. Pixels are float32 in [0, 1]
everywhere outside a model; normalisation is the model's own first layer.

Nothing here imports torch: planning a run must not pay for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from harness.randomness import SampleRandom

NORMS = ("Linf", "L2")
KINDS = ("datasets", "models", "attacks", "defenses", "metrics")

State = dict[str, Any]
"""What a step attack carries from one iteration to the next: tensors with first dimension N, ``x_adv`` among them."""


class Status(StrEnum):
    """What became of a cell. Only ``ok`` carries numbers."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"


class Verdict(StrEnum):
    """How far a number can be trusted, from best to worst."""

    OK = "ok"
    SUSPECT = "suspect"
    INVALID = "invalid"


class Reason(NamedTuple):
    """Why a cell is not simply ``ok``: a stable code, how bad it is, one sentence with the figures."""

    code: str
    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Threat:
    """What the adversary may do: a perturbation of at most ``eps`` in ``norm``, in pixel units on [0, 1]."""

    norm: str
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ValueError(f"norm: got {self.norm!r}; {' or '.join(NORMS)} is needed")

    def size(self, delta: Tensor) -> Tensor:
        """The norm of each perturbation: (N, C, H, W) -> (N,)."""
        return norm_of(delta, self.norm)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Images inside both the budget around ``x`` and the box [0, 1]: (N, C, H, W).

        Projected onto the ball, then onto the box; ``x`` lies in the box, so the second step leaves neither.
        """
        if self.norm == "Linf":
            x_adv = x_adv.maximum(x - self.eps).minimum(x + self.eps)
        else:
            delta = x_adv - x
            size = self.size(delta).clamp(min=1e-12)
            shrink = (self.eps / size).clamp(max=1.0)
            x_adv = x + delta * shrink.view(-1, 1, 1, 1)
        return x_adv.clamp(0.0, 1.0)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of norm one that raises the loss most: sign for Linf, unit vector for L2."""
        if self.norm == "Linf":
            return gradient.sign()
        return gradient / self.size(gradient).clamp(min=1e-12).view(-1, 1, 1, 1)

    def uniform(self, x: Tensor, random: SampleRandom) -> Tensor:
        """A random point of the ball around each sample, cut to [0, 1].

        Linf: uniform in the cube. L2: a normal direction and a radius uniform in [0, eps] (torchattacks PGDL2,
        foolbox). Shape (N, C, H, W).
        """
        if self.norm == "Linf":
            delta = random.uniform(-self.eps, self.eps, x.shape[1:])
        else:
            direction = random.normal(x.shape[1:])
            radius = random.uniform(0.0, self.eps, (1, 1, 1))
            delta = self.steepest(direction) * radius
        return self.project(x + delta.to(x), x)


def norm_of(delta: Tensor, norm: str) -> Tensor:
    """Linf or L2 norm of each perturbation: (N, C, H, W) -> (N,)."""
    flat = delta.flatten(1)
    return flat.abs().amax(1) if norm == "Linf" else flat.square().sum(1).sqrt()


class Facts(NamedTuple):
    """What is known of a data set before its images are read.

    shape: (C, H, W) of an image. sizes: images per split (train, validation, test). groups: name of the
    super-class of each class, or empty.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    sizes: Mapping[str, int]
    licence: str
    citation: str
    source: str
    groups: tuple[str, ...] = ()


class Split(NamedTuple):
    """One split in memory: images uint8 (N, C, H, W), labels int64 (N,), ids int64 (N,), the sample's stable number."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]


class Batch(NamedTuple):
    """Samples on the device: x float32 (N, C, H, W) in [0, 1], y int64 (N,), ids int64 (N,)."""

    x: Tensor
    y: Tensor
    ids: Tensor

    def select(self, index: Tensor) -> Batch:
        return Batch(self.x[index], self.y[index], self.ids[index])


class Evaluation(NamedTuple):
    """What one look at the model tells: loss (N,), logits (N, K), fooled (N,), gradient of the loss (N, C, H, W)."""

    loss: Tensor
    logits: Tensor
    fooled: Tensor
    gradient: Tensor | None


class Problem(Protocol):
    """A model to be attacked or hardened, as a plugin sees it. Every pass through it is counted, sample by sample."""

    module: nn.Module
    """Pixels (N, C, H, W) in [0, 1] -> logits (N, K); counted. For attacks that bring their own loop."""

    def evaluate(self, x: Tensor, batch: Batch, *, gradient: bool) -> Evaluation:
        """One forward, and one backward if ``gradient``, at images ``x`` with the labels of ``batch``."""
        ...

    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        """Per-sample loss (N,), differentiable in the weights: what a training objective is made of."""
        ...

    def perturb(self, attack: Any, batch: Batch, threat: Threat, random: SampleRandom) -> Tensor:
        """Adversarial images (N, C, H, W) by an attack component, inside the budget; for adversarial training."""
        ...


@dataclass
class Outcome:
    """What the judge saw, one entry a sample, in the order of ``ids``.

    Arrays of length N: ids, label, clean_prediction, prediction (int64); linf, l2 (float64, after clipping);
    forwards, backwards (float64 passes). ``proposal_size`` is the norm before clipping and ``proposal_low`` /
    ``proposal_high`` the pixel range before clipping. ``seconds`` is wall time of attack and judging.
    """

    ids: NDArray[np.int64]
    label: NDArray[np.int64]
    clean_prediction: NDArray[np.int64]
    prediction: NDArray[np.int64]
    linf: NDArray[np.float64]
    l2: NDArray[np.float64]
    forwards: NDArray[np.float64]
    backwards: NDArray[np.float64]
    proposal_size: NDArray[np.float64]
    proposal_low: float = 0.0
    proposal_high: float = 1.0
    seconds: float = 0.0
    notes: list[Reason] = field(default_factory=list)

    @property
    def clean_correct(self) -> NDArray[np.bool_]:
        return self.clean_prediction == self.label

    @property
    def correct(self) -> NDArray[np.bool_]:
        return self.prediction == self.label


class Score(NamedTuple):
    """A number with its 95 % interval (None where there is none) and the count of samples behind it."""

    value: float
    low: float | None
    high: float | None
    n: int


class Preparation(NamedTuple):
    """What a model is built for: the data's facts, mean and standard deviation per channel."""

    facts: Facts
    mean: tuple[float, ...]
    std: tuple[float, ...]
