"""The nouns that cross the plugin boundary.

Letter code of shapes: N samples, C channels, H height, W width, K classes. Pixels are float32 in [0, 1]
everywhere outside a model; normalisation is the model's own first layer.

Nothing here imports torch: planning a run must not pay for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from harness.captioning.vocabulary import Vocabulary
    from harness.randomness import SampleRandom

NORMS = ("Linf", "L2", "L1")
SEVERITY = "severity"
"""What stands in the place of a norm for common corruptions, whose strength is a severity and no distance."""
CLASSIFICATION, CAPTIONING = "classification", "captioning"
"""What a data set asks of a model: one class of each image, or a sentence about it."""
ANY_TASK = (CLASSIFICATION, CAPTIONING)
AIM_CAPTION, AIM_KEYWORD = AIMS = ("caption", "keyword")
"""What an attack on captions may want: a certain sentence, or a certain word in it."""
KINDS = ("datasets", "models", "attacks", "defenses", "metrics")

State = dict[str, Any]
"""What a step attack carries from one iteration to the next: tensors with first dimension N, ``x_adv`` among them.

A tensor ``target`` (N,), int64, says that the attack wants these classes: a sample is then fooled when it is predicted
as its target, and not by any other mistake.
"""


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
    """What the adversary may do: a perturbation of at most ``eps`` in ``norm``, in pixel units on [0, 1].

    With the norm ``severity`` a corruption of the severity ``eps`` (1 to 5), which is bound by the box alone.
    """

    norm: str
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in (*NORMS, SEVERITY):
            raise ValueError(f"norm: got {self.norm!r}; {', '.join(NORMS)} or {SEVERITY} is needed")

    def __str__(self) -> str:
        return f"{self.norm} {eps_text(self.eps)}"

    def size(self, delta: Tensor) -> Tensor:
        """The norm of each perturbation (of a corruption: Linf): (N, C, H, W) -> (N,)."""
        return norm_of(delta, "Linf" if self.norm == SEVERITY else self.norm)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Images inside both the budget around ``x`` and the box [0, 1]: (N, C, H, W).

        Projected onto the ball, then onto the box; ``x`` lies in the box, so the second step leaves neither.
        """
        if self.norm == "Linf":
            x_adv = x_adv.maximum(x - self.eps).minimum(x + self.eps)
        elif self.norm == "L2":
            delta = x_adv - x
            size = self.size(delta).clamp(min=1e-12)
            shrink = (self.eps / size).clamp(max=1.0)
            x_adv = x + delta * shrink.view(-1, 1, 1, 1)
        elif self.norm == "L1":
            x_adv = x + onto_l1_ball(x_adv - x, self.eps)
        return x_adv.clamp(0.0, 1.0)

    def steepest(self, gradient: Tensor) -> Tensor:
        """A direction of norm one that raises the loss: sign for Linf, unit vector for L2, few large pixels for L1.

        For Linf and L2 none raises a linear loss more. For L1 that would be a single pixel, which the box soon stops:
        the largest hundredth of them is taken instead (Tramer and Boneh, NeurIPS 2019).
        """
        if self.norm == "Linf":
            return gradient.sign()
        if self.norm == "L2":
            return gradient / self.size(gradient).clamp(min=1e-12).view(-1, 1, 1, 1)
        size = gradient.abs().flatten(1)
        count = max(1, size.shape[1] // 100)
        chosen = size.topk(count, dim=1).indices
        signs = gradient.flatten(1).sign()
        return signs.new_zeros(signs.shape).scatter(1, chosen, signs.gather(1, chosen) / count).view_as(gradient)

    def uniform(self, x: Tensor, random: SampleRandom) -> Tensor:
        """A random point of the ball around each sample, cut to [0, 1].

        Linf: uniform in the cube. L2, L1: a direction that favours none (normal, Laplace) and a radius uniform in
        [0, eps], as torchattacks' PGDL2 and foolbox do in L2. Shape (N, C, H, W).
        """
        if self.norm == "Linf":
            delta = random.uniform(-self.eps, self.eps, x.shape[1:])
        else:
            direction = random.normal(x.shape[1:]) if self.norm == "L2" else random.laplace(x.shape[1:])
            radius = random.uniform(0.0, self.eps, (1, 1, 1))
            delta = direction / self.size(direction).clamp(min=1e-12).view(-1, 1, 1, 1) * radius
        return self.project(x + delta.to(x), x)


def eps_text(eps: float) -> str:
    """A budget as people write it: k/255 where it is one to 1e-9, whole numbers plain, otherwise decimal."""
    k = round(eps * 255) if math.isfinite(eps) else 0
    if abs(eps - k / 255) > 1e-9:
        return f"{eps:.6g}"
    return str(k // 255) if k % 255 == 0 else f"{k}/255"


def norm_of(delta: Tensor, norm: str) -> Tensor:
    """Linf, L2 or L1 norm of each perturbation: (N, C, H, W) -> (N,)."""
    flat = delta.flatten(1)
    if norm == "Linf":
        return flat.abs().amax(1)
    return flat.square().sum(1).sqrt() if norm == "L2" else flat.abs().sum(1)


def onto_l1_ball(delta: Tensor, eps: float | Tensor) -> Tensor:
    """The nearest perturbations of L1 norm at most ``eps``, one for all or (N, 1): (N, C, H, W).

    Duchi et al., "Efficient projections onto the l1-ball for learning in high dimensions", ICML 2008.
    """
    size = delta.abs().flatten(1).double()  # in float32 the sums of far points are not good to a thousandth
    falling = size.sort(dim=1, descending=True).values
    over = falling.cumsum(1) - eps
    rank = size.new_ones(size.shape[1]).cumsum(0)
    count = (falling * rank > over).sum(1, keepdim=True).clamp(min=1)
    threshold = (over.gather(1, count - 1) / count).clamp(min=0.0)
    return (size - threshold).clamp(min=0.0).to(delta).view_as(delta) * delta.sign()


class Facts(NamedTuple):
    """What is known of a data set before its images are read.

    shape: (C, H, W) of an image. sizes: images per split (train, validation, test). groups: name of the
    super-class of each class, or empty. Captions have a ``language`` ("fa", "en") and no classes; words that the
    training captions have fewer than ``minimum_count`` times are unknown to a captioner. pixels: how images are kept,
    "uint8" as files have them, or "float32" in [0, 1] of images that are no 8-bit levels.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    sizes: Mapping[str, int]
    licence: str
    citation: str
    source: str
    groups: tuple[str, ...] = ()
    task: str = CLASSIFICATION
    language: str = ""
    minimum_count: int = 1
    pixels: str = "uint8"


class Split(NamedTuple):
    """One split in memory: images uint8 (N, C, H, W), labels int64 (N,), ids int64 (N,), the sample's stable number."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]


class Box(NamedTuple):
    """Where something that captions name by ``word`` stands in an image; edges as shares of its width and height."""

    word: str
    left: float
    top: float
    right: float
    bottom: float


class CaptionedSplit(NamedTuple):
    """One split of images with captions: images uint8 (N, C, H, W), which may be memory-mapped; ids int64 (N,).

    captions: of each image one or more, as they were written. objects: what is known to stand where, of each image, or
    empty where nothing is known of any.
    """

    images: NDArray[np.uint8]
    captions: tuple[tuple[str, ...], ...]
    ids: NDArray[np.int64]
    objects: tuple[tuple[Box, ...], ...] = ()


class Batch(NamedTuple):
    """Samples on the device: x float32 (N, C, H, W) in [0, 1], y int64 (N,), ids int64 (N,)."""

    x: Tensor
    y: Tensor
    ids: Tensor

    def select(self, index: Tensor) -> Batch:
        return Batch(self.x[index], self.y[index], self.ids[index])


class Evaluation(NamedTuple):
    """What one look at the model tells: loss (N,), logits (N, K), fooled (N,), gradient of the loss (N, C, H, W).

    The loss is the attack's own where it has one, else the task's. The gradient is None where none was asked for and
    for attacks that may not see it.
    """

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
    ``proposal_high`` the pixel range before clipping; of an attack that looks for the smallest perturbation
    ``proposal_size`` is the size it found, infinite where it found none. ``seconds`` is wall time, attack and judging.

    Where they were measured, else None: l1 (float64, after clipping); ``zero_gradients``, the share of a sample's
    gradients that were zero everywhere (NaN: none was taken); ``quantised_prediction``, the class of the adversarial
    image rounded to 8 bits; ``target``, the class that a targeted attack wanted; ``proposal_prediction``, the class of
    the image that a minimum-norm attack found, whatever its size; linf, l2 and l1 are then those of that image;
    ``confidence``, the probability of the predicted class; ``label_rank``, the true class's place among the logits,
    from 1. ``facts`` are single figures about how the cell was made and what was found while looking for reasons to
    doubt it.
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
    l1: NDArray[np.float64] | None = None
    zero_gradients: NDArray[np.float64] | None = None
    quantised_prediction: NDArray[np.int64] | None = None
    target: NDArray[np.int64] | None = None
    proposal_prediction: NDArray[np.int64] | None = None
    confidence: NDArray[np.float64] | None = None
    label_rank: NDArray[np.int64] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def clean_correct(self) -> NDArray[np.bool_]:
        return self.clean_prediction == self.label

    @property
    def correct(self) -> NDArray[np.bool_]:
        return self.prediction == self.label


class Corpus(NamedTuple):
    """What captions are held against: the training captions, cleaned, and the words known to a captioner.

    document_frequency: for how many of ``documents`` images of the whole test split a reference has this n-gram, of one
    to four words; frozen, so that a score does not depend on which of them are judged.
    """

    training: frozenset[str]
    vocabulary: frozenset[str]
    document_frequency: Mapping[tuple[str, ...], int]
    documents: int


@dataclass
class CaptionOutcome:
    """What the judge of captions saw, one entry an image, in the order of ``ids``, int64 (N,).

    Captions are cleaned and made of words with one space between: ``references``, one or more of each image;
    ``clean_caption``, generated from the image as it is, and ``caption``, from what the attack made of it (the same
    where nothing is attacked). ``loss``: the teacher-forced cross-entropy of the references on that image, nats a word
    with the end of the sentence, float64 (N,), the mean over references. The other arrays as in ``Outcome``.

    Where boxes are known, else None: ``named``, how many words of the caption name something that stands in the image,
    and ``pointed``, for how many of them the attention's peak lies inside such a box (int64, (N,)); ``covered``, the
    mean share of the image that these boxes cover (float64 (N,), NaN where nothing is named), which is chance.
    ``target``: the caption or the word that a targeted attack wanted of each image, else None. ``bleu_counts``: what
    ``harness.captioning.scores.bleu_counts`` says of the captions, float64 (N, 10); None where nobody has counted.
    """

    ids: NDArray[np.int64]
    references: tuple[tuple[str, ...], ...]
    clean_caption: tuple[str, ...]
    caption: tuple[str, ...]
    loss: NDArray[np.float64]
    corpus: Corpus
    linf: NDArray[np.float64]
    l2: NDArray[np.float64]
    forwards: NDArray[np.float64]
    backwards: NDArray[np.float64]
    proposal_size: NDArray[np.float64]
    proposal_low: float = 0.0
    proposal_high: float = 1.0
    seconds: float = 0.0
    notes: list[Reason] = field(default_factory=list)
    l1: NDArray[np.float64] | None = None
    named: NDArray[np.int64] | None = None
    pointed: NDArray[np.int64] | None = None
    covered: NDArray[np.float64] | None = None
    target: tuple[str, ...] | None = None
    bleu_counts: NDArray[np.float64] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def aim(self) -> str:
        """What the attack wanted: "caption" or "keyword", empty where it wanted any other caption, or was none."""
        return str(self.facts.get("aim", ""))


class Generated(NamedTuple):
    """Captions of N images: tokens int64 (N, T) without <start>, after <end> all <pad>; log_probability (N,).

    attention: (N, T, L), how much each of the encoder's L locations counted for each word; None where there is none.
    """

    tokens: Tensor
    attention: Tensor | None
    log_probability: Tensor


class Score(NamedTuple):
    """A number with its 95 % interval (None where there is none) and the count of samples behind it."""

    value: float
    low: float | None
    high: float | None
    n: int


class Preparation(NamedTuple):
    """What a model is built for: the data's facts, mean and standard deviation per channel; a captioner's words.

    outline: only the shapes of its parameters are asked for, so no weights need be read, and none fetched.
    """

    facts: Facts
    mean: tuple[float, ...]
    std: tuple[float, ...]
    vocabulary: Vocabulary | None = None
    outline: bool = False


class Captioner(Protocol):
    """What the module of a captioning model can do beside being a torch module.

    ``x`` is pixels (N, C, H, W) in [0, 1], or what ``encode`` made of them, (N, L, D): told apart by their dimensions.
    ``tokens`` int64 (N, T + 1) are <start>, the words, <end>, and <pad> up to the longest. ``of`` (N,), int64: which
    sample of x each row of tokens is about, where several are about one; None: each about its own.

    Optional: ``memorise(images)``, which takes the place of training: pixels with all tokens of each image, a batch at
    a time. ``likelihood`` False (of the model component too) where captions have none: no loss, no attack by gradients.
    Optional too: ``vocabulary``, a ``harness.captioning.vocabulary.Vocabulary`` of its own whose numbers the tokens
    then are; of pieces of words, say. The attention of what it generates has a row for each word that it is decoded to.
    """

    encoder: nn.Module
    """What ``encode`` asks."""
    frozen: bool
    """Whether the encoder is not trained, so that what it makes of an image may be kept."""
    grid: tuple[int, int]
    """Rows and columns of the locations, row by row; features of no place, a class token's, stand before theirs."""

    def encode(self, x: Tensor) -> Tensor:
        """Features (N, L, D) of pixels, differentiable in them."""
        ...

    def __call__(self, x: Tensor, tokens: Tensor, of: Tensor | None = None) -> Tensor:
        """Teacher-forced logits (N, T, V): those at t are of ``tokens[:, t + 1]``; after <end> they may be anything."""
        ...

    def objective(self, x: Tensor, tokens: Tensor, progress: float, of: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What training makes small, of each sample (N,), and the logits (N, T, V) it comes from.

        progress: share of the training that is done, in [0, 1].
        """
        ...

    def generate(self, x: Tensor, *, beam: int, longest: int, length_penalty: float) -> Generated:
        """Captions of at most ``longest`` words, never empty of tokens: greedy for ``beam`` 1, else beam search."""
        ...
