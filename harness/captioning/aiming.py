"""What a targeted attack on captions wants: another image's caption word for word, or one word somewhere in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from harness.captioning.vocabulary import UNKNOWN, Vocabulary
from harness.errors import BenchError
from harness.randomness import SampleRandom, derive
from harness.types import AIM_CAPTION, AIM_KEYWORD, Corpus

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRIES = 64
"""Training captions drawn for an image until one fits. Where none does, all are gone through."""


@dataclass(frozen=True)
class Wanted:
    """Draws what is wanted of images: ``aim`` "caption" a training caption that the vocabulary knows wholly and that
    ``longest`` words suffice for, "keyword" one word of such a caption.

    It depends on the seed and the image's id alone, and on what is said of the image as it is: nothing that is said or
    true of it is wanted.
    """

    aim: str
    vocabulary: Vocabulary
    corpus: Corpus
    longest: int
    seed: int

    def draw(self, ids: NDArray[Any], said: Sequence[str], references: Sequence[Sequence[str]]) -> list[str]:
        """One target an image, (N,). Raises BenchError where there is none."""
        random = SampleRandom(derive(self.seed, "aim"), torch.from_numpy(ids)).at()
        turns = random.integers(0, len(self.pool), (TRIES,)).tolist()
        places = random.integers(0, 2**31, ()).tolist()
        found = []
        for id_, own, truths, turn, place in zip(ids.tolist(), said, references, turns, places, strict=True):
            target = next(self._fitting(turn, (own, *truths), place), None)
            if target is None:
                raise BenchError(f"aim {self.aim}: no training caption says anything else than image {id_} shows")
            found.append(target)
        return found

    @cached_property
    def pool(self) -> list[str]:
        """The captions to draw from, in an order that no run decides."""
        fitting = [
            text
            for text in sorted(self.corpus.training)
            if UNKNOWN not in self.vocabulary.encode(text.split()) and len(text.split()) < self.longest
        ]
        if not fitting:
            raise BenchError(
                f"aim {self.aim}: no training caption has fewer than {self.longest} words, all of them known; "
                "raise run.longest or lower minimum_count of the data set"
            )
        return fitting

    def _fitting(self, turn: list[int], true: Sequence[str], place: int) -> Iterator[str]:
        words = {word for text in true for word in text.split()}
        for text in itertools.chain((self.pool[k] for k in turn), self.pool):
            if self.aim == AIM_CAPTION and text not in true:
                yield text
            elif self.aim == AIM_KEYWORD and (other := sorted(set(text.split()) - words)):
                yield other[place % len(other)]
