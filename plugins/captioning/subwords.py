"""The vocabulary of a captioner that brings its own tokenizer: words in pieces, under the harness's numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.captioning.text import cleaned
from harness.captioning.vocabulary import END, PAD, SPECIAL, START, UNKNOWN, Vocabulary


class Specials(NamedTuple):
    """The ids of what stands for no word; several may be one, as those of GPT-2 are."""

    pad: int
    start: int
    end: int
    unknown: int | None


class Numbering(NamedTuple):
    """A decoder's ids under the harness's numbers: those of the four special ones, then all of them in their order.

    ids: by number. absent: the numbers that stand for nothing, so that every id has one: a special id has that among
    the first four, of several the end's before all.
    """

    ids: tuple[int, ...]
    absent: frozenset[int]

    @classmethod
    def of(cls, size: int, specials: Specials) -> Numbering:
        ids = {END: specials.end, PAD: specials.pad, START: specials.start}
        if specials.unknown is not None:
            ids[UNKNOWN] = specials.unknown
        own = {id_: number for number, id_ in reversed(ids.items())}
        absent = set(range(len(SPECIAL))) - set(own.values()) | {len(SPECIAL) + id_ for id_ in own}
        first = (ids.get(number, specials.end) for number in range(len(SPECIAL)))
        return cls((*first, *range(size)), frozenset(absent))

    @property
    def numbers(self) -> dict[int, int]:
        """By id."""
        return {id_: number for number, id_ in enumerate(self.ids) if number not in self.absent}


@dataclass(frozen=True)
class Subwords(Vocabulary):
    """The pieces of words that a tokenizer of transformers knows. A sentence begins with <start> and what ``opening``
    names, numbers that the captioner always says first. language: of the words that sentences are cleaned to.
    """

    tokenizer: Any = field(kw_only=True, repr=False, compare=False)
    numbering: Numbering = field(kw_only=True, repr=False)
    language: str = field(kw_only=True)
    opening: tuple[int, ...] = field(kw_only=True, default=())
    _by_id: dict[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_by_id", self.numbering.numbers)

    def encode(self, words: Sequence[str]) -> list[int]:
        """<start>, the opening, the numbers of the words' pieces, <end>."""
        ids = self.tokenizer(" ".join(words), add_special_tokens=False)["input_ids"]
        # A special piece in a sentence is text of its own making, and would end or hide what comes behind it.
        pieces = (number for number in map(self._by_id.__getitem__, ids) if number not in (PAD, START, END))
        return [START, *self.opening, *pieces, END]

    def before(self) -> tuple[int, ...]:
        """The numbers of what the tokenizer puts before a text; empty where it puts nothing."""
        numbers = [self._by_id[id_] for id_ in self.tokenizer("")["input_ids"]]
        return tuple(numbers[: numbers.index(END)] if END in numbers else numbers)

    def decode(self, tokens: Iterable[int]) -> list[str]:
        """The cleaned words up to the first <end>."""
        return [word for raw in self._text(self._sentence(tokens)).split() for word in self._cleaned(raw)]

    def places(self, tokens: Iterable[int]) -> list[list[int]]:
        """Of each word that ``decode`` gives, the places of the tokens that it is made of."""
        sentence = self._sentence(tokens)
        # A piece belongs to the last word that the text has with it; later ones may join what stood apart.
        counts = [len(self._text(sentence[: end + 1]).split()) for end in range(len(sentence))]
        for place in reversed(range(len(counts) - 1)):
            counts[place] = min(counts[place], counts[place + 1])
        found: list[list[int]] = []
        for word, raw in enumerate(self._text(sentence).split(), 1):
            own = [place for place, count in enumerate(counts) if count == word]
            found += [own] * len(self._cleaned(raw))
        return found

    def _sentence(self, tokens: Iterable[int]) -> list[int]:
        sentence = list(tokens)
        return sentence[: sentence.index(END)] if END in sentence else sentence

    def _text(self, sentence: Sequence[int]) -> str:
        ids = [self.numbering.ids[number] for number in sentence if number not in (PAD, START)]
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _cleaned(self, raw: str) -> list[str]:
        return next(cleaned([raw], self.language))


def subwords(tokenizer: Any, size: int, specials: Specials, language: str) -> Subwords:
    """Of a decoder with so many ids, which may be more than the tokenizer's."""
    names, seen = list(SPECIAL), set(SPECIAL)
    found = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    for id_, name in enumerate([*map(str, found), *[""] * (size - len(found))]):
        names.append(f"{name}#{id_}" if name in seen else name)
        seen.add(name)
    return Subwords(tuple(names), tokenizer=tokenizer, numbering=Numbering.of(size, specials), language=language)
