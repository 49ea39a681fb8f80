"""What the captions of a data set are made of: their words, how often they stand, how long captions are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.captioning.vocabulary import SPECIAL, Vocabulary


@dataclass(frozen=True)
class Wording:
    """Counts of the training captions, and how much of the others their vocabulary knows.

    written, unique, known: different words of the training captions as they were written (what stands between spaces;
    0 where that was not given), as they are cleaned, and of these in the vocabulary. frequent: the words that stand
    most often, with how often they do, then by letter. lengths: how many captions have so many words, from the
    shortest. unknown: of each other split the share of its words, counted as often as they stand, that the vocabulary
    lacks; NaN for a split without a word.
    """

    captions: int
    written: int
    unique: int
    known: int
    frequent: tuple[tuple[str, int], ...]
    lengths: Mapping[int, int]
    unknown: Mapping[str, float]

    @property
    def mean_length(self) -> float:
        """In words; NaN of no caption."""
        words = sum(length * count for length, count in self.lengths.items())
        return words / self.captions if self.captions else math.nan


def wording(
    training: Iterable[Sequence[str]],
    vocabulary: Vocabulary,
    others: Mapping[str, Iterable[Sequence[str]]] | None = None,
    most: int = 20,
    written: Iterable[str] = (),
) -> Wording:
    """Counted over captions of cleaned words, each iterated once; ``others`` by their splits. ``most`` is of frequent.

    written: the training captions as they were before they were cleaned. Raises ValueError where ``most`` is negative.
    """
    if most < 0:
        raise ValueError(f"the number of most frequent words is {most}; 0 or more is needed")
    counts, lengths = Counter[str](), Counter[int]()
    for caption in training:
        counts.update(caption)
        lengths[len(caption)] += 1
    return Wording(
        captions=lengths.total(),
        written=len({word for caption in written for word in caption.split()}),
        unique=len(counts),
        known=sum(_knows(vocabulary, word) for word in counts),
        frequent=tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]),
        lengths=dict(sorted(lengths.items())),
        unknown={split: _unknown(captions, vocabulary) for split, captions in (others or {}).items()},
    )


def _unknown(captions: Iterable[Sequence[str]], vocabulary: Vocabulary) -> float:
    counts = Counter(word for caption in captions for word in caption)
    missing = sum(count for word, count in counts.items() if not _knows(vocabulary, word))
    return missing / counts.total() if counts else math.nan


def _knows(vocabulary: Vocabulary, word: str) -> bool:
    """Whether it has the word as a word; the text "<unk>" is none of its own."""
    return word in vocabulary and word not in SPECIAL
