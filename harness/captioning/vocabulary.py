"""The words that a captioner knows, and sentences as their numbers. Imports nothing heavy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

PAD, START, END, UNKNOWN = range(4)
SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")
"""The words that stand for no word, by their numbers."""


@dataclass(frozen=True)
class Vocabulary:
    """Words by their numbers: the four special ones, then the others. Raises ValueError where one stands twice."""

    words: tuple[str, ...]
    _numbers: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.words[: len(SPECIAL)] != SPECIAL:
            raise ValueError(f"a vocabulary begins with {' '.join(SPECIAL)}; got {' '.join(self.words[:4])}")
        numbers = {word: number for number, word in enumerate(self.words)}
        if len(numbers) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise ValueError(f"the word {twice!r} stands twice in the vocabulary")
        object.__setattr__(self, "_numbers", numbers)

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]], minimum_count: int = 1) -> Vocabulary:
        """The words that stand at least ``minimum_count`` times in sentences: the frequent ones first, then by letter.

        A special word in a sentence is text of its own making and counts for nothing.
        """
        counts = Counter(word for sentence in sentences for word in sentence)
        kept = [word for word, count in counts.items() if count >= minimum_count and word not in SPECIAL]
        return cls((*SPECIAL, *sorted(kept, key=lambda word: (-counts[word], word))))

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._numbers

    def encode(self, words: Sequence[str]) -> list[int]:
        """<start>, the words' numbers, <end>; <unk> for those that are not known."""
        return [START, *(self._numbers.get(word, UNKNOWN) for word in words), END]

    def decode(self, tokens: Iterable[int]) -> list[str]:
        """The words up to the first <end>; <start> and <pad> are left out."""
        words = []
        for token in tokens:
            if token == END:
                break
            if token not in (PAD, START):
                words.append(self.words[token])
        return words
