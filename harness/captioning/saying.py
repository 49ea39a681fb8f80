"""Captions in words from a captioner's tokens, and how they are searched for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.captioning.vocabulary import Vocabulary
from harness.types import Captioner, Generated

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Decoding:
    """Greedy for ``beam`` 1, else beam search of that width; at most ``longest`` words.

    Hypotheses are compared by log probability / length ** ``length_penalty``; 0 compares the log probabilities.
    """

    beam: int = 1
    longest: int = 30
    length_penalty: float = 0.0


def said(module: Captioner, x: Tensor, vocabulary: Vocabulary, how: Decoding) -> tuple[list[str], Generated]:
    """Captions of images or features, words with one space between, and what they were made of."""
    found = module.generate(x, beam=how.beam, longest=how.longest, length_penalty=how.length_penalty)
    return [" ".join(vocabulary.decode(row)) for row in found.tokens.tolist()], found
