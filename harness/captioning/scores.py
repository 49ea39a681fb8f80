"""What a generated caption is worth beside its references. Captions are cleaned words with one space between.

Every corpus score is a function of numbers counted image by image, so that it can be taken of any resample of the
images without counting again. No tokeniser is ever used: what a word is was settled when captions were cleaned.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from harness.types import Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORDERS = 4
SIGMA = 6.0
"""Width of CIDEr-D's penalty for another length, in words."""
BETA = 1.2
"""How much more recall counts than precision in ROUGE-L, as COCO has it."""
RESAMPLES = 1000
SEED = 0
TOGETHER = 100
"""Resamples whose weights are held at once."""

Form = Literal["sacrebleu", "nltk"]
OfCorpus = Callable[["NDArray[np.float64]"], "NDArray[np.float64]"]
"""Sums over images (..., k) -> scores (...)."""


def ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    """How often each run of ``order`` words stands in a sentence."""
    return Counter(zip(*(words[start:] for start in range(order)), strict=False))


# --- BLEU


def bleu(
    captions: Sequence[str], references: Sequence[Sequence[str]], order: int = 4, form: Form = "sacrebleu"
) -> float:
    """BLEU of a corpus with n-grams of up to ``order`` words, unsmoothed, in [0, 1] (Papineni et al., ACL 2002).

    form: "sacrebleu", or "nltk" as its ``corpus_bleu`` counts captions that are shorter than n words: as one n-gram
    that is missed. A caption is held against its references together, and against the length nearest to its own.
    """
    return float(bleu_of(order)(bleu_counts(captions, references, form).sum(0)))


def bleu_counts(
    captions: Sequence[str], references: Sequence[Sequence[str]], form: Form = "sacrebleu"
) -> NDArray[np.float64]:
    """Of each image: length, nearest reference length, then matched and all n-grams of 1 to 4 words: (N, 10)."""
    rows = []
    for caption, truths in zip(captions, references, strict=True):
        words, split = caption.split(), [truth.split() for truth in truths]
        nearest = min((abs(len(truth) - len(words)), len(truth)) for truth in split)[1]
        row = [len(words), nearest]
        for order in range(1, ORDERS + 1):
            known = [ngrams(truth, order) for truth in split]
            found = ngrams(words, order).items()
            total = max(0, len(words) - order + 1)
            matched = sum(min(count, max(truth.get(gram, 0) for truth in known)) for gram, count in found)
            row += [matched, max(1, total) if form == "nltk" else total]
        rows.append(row)
    return np.array(rows, np.float64).reshape(-1, 2 + 2 * ORDERS)


def bleu_of(order: int) -> OfCorpus:
    """BLEU from summed counts, those of ``bleu_counts``: (..., 10) -> (...)."""

    def score(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        length, reference = sums[..., 0], sums[..., 1]
        matched, total = sums[..., 2 : 2 + 2 * order : 2], sums[..., 3 : 3 + 2 * order : 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.log(matched / total).mean(-1)  # -inf, and so 0 in the end, where nothing is matched
            brevity = np.where(length < reference, 1 - reference / length, 0.0)
        found: NDArray[np.float64] = np.nan_to_num(np.exp(precision + brevity), nan=0.0)
        return found

    return score


def sentence_bleu(captions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """BLEU-4 of each caption, (N,), in [0, 1]: smoothed, or most single sentences would have 0.

    One is added to matched and all n-grams of two words and more: Lin and Och, "ORANGE", COLING 2004 (nltk's method2).
    """
    counts = bleu_counts(captions, references, "nltk")
    length, nearest = counts[:, 0], counts[:, 1]
    one = np.arange(ORDERS) > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.log((counts[:, 2::2] + one) / (counts[:, 3::2] + one)).mean(1)
        brevity = np.where(length < nearest, 1 - nearest / length, 0.0)
    found: NDArray[np.float64] = np.exp(precision + brevity)
    return found


# --- the others, a number an image


def rouge_l(captions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """ROUGE-L of each image as COCO takes it: the best precision and the best recall over its references, (N,).

    Lin, "ROUGE: a package for automatic evaluation of summaries", ACL workshop 2004.
    """
    return np.array([_rouge_l(c.split(), [r.split() for r in truths]) for c, truths in _pairs(captions, references)])


def _rouge_l(words: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    common = [_longest_common(words, truth) for truth in references]
    precision = max(found / len(words) if words else 0.0 for found in common)
    recall = max(found / len(truth) if truth else 0.0 for found, truth in zip(common, references, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for place, truth in enumerate(other, 1):
            above = row[place]
            row[place] = before + 1 if word == truth else max(above, row[place - 1])
            before = above
    return row[-1]


def document_frequencies(references: Sequence[Sequence[str]]) -> dict[tuple[str, ...], int]:
    """For how many images a reference has this n-gram, of one to four words."""
    found: Counter[tuple[str, ...]] = Counter()
    for truths in references:
        split = [truth.split() for truth in truths]
        found.update({gram for truth in split for order in range(1, ORDERS + 1) for gram in ngrams(truth, order)})
    return dict(found)


class _Vector(NamedTuple):
    """TF-IDF weights of a sentence by order, their norms, and its number of word pairs."""

    weights: list[dict[tuple[str, ...], float]]
    norms: list[float]
    length: int


def cider_d(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    frequencies: Mapping[tuple[str, ...], int],
    documents: int,
) -> NDArray[np.float64]:
    """CIDEr-D of each image, (N,), 0 to 10 (Vedantam et al., CVPR 2015), as pycocoevalcap takes it.

    frequencies, documents: for how many of so many images an n-gram is in a reference (``document_frequencies``).
    """
    logarithm = math.log(max(documents, 1))

    def vector(words: Sequence[str]) -> _Vector:
        weights = [
            {gram: count * (logarithm - math.log(max(1, frequencies.get(gram, 0)))) for gram, count in found.items()}
            for found in (ngrams(words, order) for order in range(1, ORDERS + 1))
        ]
        norms = [math.sqrt(sum(weight**2 for weight in one.values())) for one in weights]
        return _Vector(weights, norms, max(0, len(words) - 1))

    def similarity(one: _Vector, other: _Vector) -> float:
        penalty = math.exp(-((one.length - other.length) ** 2) / (2 * SIGMA**2))
        total = 0.0
        for mine, theirs, a, b in zip(one.weights, other.weights, one.norms, other.norms, strict=True):
            shared = sum(min(weight, theirs[gram]) * theirs[gram] for gram, weight in mine.items() if gram in theirs)
            total += penalty * shared / (a * b) if a and b else 0.0  # no weights where every word is in every image
        return total / ORDERS

    found = []
    for caption, truths in _pairs(captions, references):
        said = vector(caption.split())
        found.append(10 * sum(similarity(said, vector(truth.split())) for truth in truths) / len(truths))
    return np.array(found, np.float64)


def meteor_exact(captions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """METEOR of each image with exact matches alone, the best over its references, (N,).

    Banerjee and Lavie, ACL workshop 2005, with alpha 0.9, beta 3, gamma 0.5 as nltk has them. Without stems, synonyms
    and paraphrases, for which Persian has no tables: not comparable with METEOR 1.5.
    """
    return np.array(
        [max(_meteor(c.split(), truth.split()) for truth in truths) for c, truths in _pairs(captions, references)]
    )


def _meteor(words: Sequence[str], reference: Sequence[str]) -> float:
    matches = sorted(_matches(words, reference))
    if not matches:
        return 0.0
    precision, recall = len(matches) / len(words), len(matches) / len(reference)
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    chunks = 1 + sum(b != (a[0] + 1, a[1] + 1) for a, b in itertools.pairwise(matches))
    return (1 - 0.5 * (chunks / len(matches)) ** 3) * mean


def _matches(words: Sequence[str], reference: Sequence[str]) -> list[tuple[int, int]]:
    """Places of equal words, each used once, the last ones first: nltk's alignment."""
    left, found = list(range(len(reference))), []
    for place in reversed(range(len(words))):
        for truth in reversed(left):
            if reference[truth] == words[place]:
                found.append((place, truth))
                left.remove(truth)
                break
    return found


def _pairs(captions: Sequence[str], references: Sequence[Sequence[str]]) -> zip[tuple[str, Sequence[str]]]:
    return zip(captions, references, strict=True)


# --- intervals


def mean_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """For numbers that are simply averaged: summed value and count (..., 2) -> (...)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: NDArray[np.float64] = sums[..., 0] / sums[..., 1]
    return found


def averaged(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values (N,) as the counts of ``mean_of``: (N, 2)."""
    return np.stack([values, np.ones_like(values)], axis=1)


def scored(counts: NDArray[np.float64], of: OfCorpus, resamples: int = RESAMPLES) -> Score:
    """The score of a corpus with its 95 % percentile interval over resampled images. counts: (N, k), summed for ``of``.

    Resamples in which the score does not exist (nothing to divide by) are left out. No interval for fewer than two
    images. The same counts give the same interval.
    """
    value, n = float(of(counts.sum(0))), len(counts)
    found = of(_resampled(counts, resamples)) if n > 1 else np.empty(0)
    low, high = _interval(found)
    return Score(value, low, high, n)


class Difference(NamedTuple):
    """A score less another on the same images, with its 95 % interval (None as in ``Score``).

    p_value: two-sided, from how often a resample has the other sign or none; never below 2 / (resamples + 1).
    """

    value: float
    low: float | None
    high: float | None
    p_value: float


def paired(a: NDArray[np.float64], b: NDArray[np.float64], of: OfCorpus, resamples: int = RESAMPLES) -> Difference:
    """Paired bootstrap (Koehn, EMNLP 2004): counts of two systems on the same images in the same order, (N, k) each.

    Both are taken of the same resamples, so what makes an image hard for either cancels. Raises ValueError for unequal
    numbers of images.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} images cannot be paired")
    value = float(of(a.sum(0)) - of(b.sum(0)))
    joint = _resampled(np.concatenate([a, b], axis=1), resamples) if len(a) > 1 else np.empty((0, 2 * a.shape[1]))
    found = of(joint[:, : a.shape[1]]) - of(joint[:, a.shape[1] :])
    low, high = _interval(found)
    found = found[np.isfinite(found)]
    fewer = 1 + min((found <= 0).sum(), (found >= 0).sum())
    return Difference(value, low, high, min(1.0, float(2 * fewer / (1 + len(found)))))


def _interval(found: NDArray[np.float64]) -> tuple[float | None, float | None]:
    found = found[np.isfinite(found)]
    if not len(found):
        return None, None
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def _resampled(counts: NDArray[np.float64], resamples: int) -> NDArray[np.float64]:
    """Sums over images drawn with replacement: (N, k) -> (resamples, k). The same draws for the same N."""
    n = len(counts)
    random, shares = np.random.default_rng(SEED), np.full(n, 1 / n)
    parts = []
    for start in range(0, resamples, TOGETHER):  # all weights at once would take 320 MB of 40,000 images
        weights = random.multinomial(n, shares, size=min(TOGETHER, resamples - start))
        parts.append(weights.astype(np.float64) @ counts)
    return np.concatenate(parts)
