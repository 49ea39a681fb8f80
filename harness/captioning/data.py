"""Images with captions: cleaned, counted, and in batches on a device. Images stay where they are until asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from harness.captioning.features import Features
from harness.captioning.scores import document_frequencies
from harness.captioning.text import cleaned
from harness.captioning.vocabulary import PAD, Vocabulary
from harness.composition import Composition, check, measured
from harness.data import chosen
from harness.errors import BenchError
from harness.types import Box, CaptionedSplit, Corpus, Facts

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class CaptionSamples:
    """One split of N images. ``rows`` (N,): their places in ``images`` and ``features``; the other parts are by image.

    images: uint8 (M, C, H, W), in memory or not. references: captions of cleaned words with one space between. ids
    int64 (N,). features: what a frozen encoder made of every image, where that is kept.
    """

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    references: tuple[tuple[str, ...], ...]
    ids: NDArray[np.int64]
    vocabulary: Vocabulary
    device: torch.device
    objects: tuple[tuple[Box, ...], ...] = ()
    features: Features | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def tokens(self) -> Tensor:
        """Every caption as <start>, words, <end> and <pad>, those of an image in a row: int64 (M, T + 1)."""
        texts = [text for captions in self.references for text in captions]
        return tokens_of(texts, self.vocabulary).to(self.device)

    @cached_property
    def first(self) -> Tensor:
        """The place of each image's first caption in ``tokens``, and behind the last: (N + 1,)."""
        counts = [0, *(len(captions) for captions in self.references)]
        return torch.tensor(counts, device=self.device).cumsum(0)

    def pixels(self, places: Tensor) -> Tensor:
        """Images in [0, 1] on the device: (n,) -> (n, C, H, W)."""
        found = np.ascontiguousarray(self.images[self.rows[places.cpu().numpy()]])
        return torch.from_numpy(found).to(self.device).float() / 255

    def given(self, places: Tensor) -> Tensor:
        """What a captioner is trained on: features (n, L, D) where they are kept, else pixels."""
        if self.features is None:
            return self.pixels(places)
        return self.features.read(self.rows[places.cpu().numpy()]).to(self.device)

    def owners(self, captions: Tensor) -> tuple[Tensor, Tensor]:
        """Of captions by their places in ``tokens``, (n,): the places of their images, each once, (U,), and which of
        these is each caption's, (n,).
        """
        images = torch.searchsorted(self.first, captions, right=True) - 1
        unique, of = torch.unique(images, return_inverse=True)
        return unique, of

    def whole(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (n, C, H, W) with all their tokens (n, R, T + 1), <pad> alone where one has fewer than R captions."""
        most = int(self.first.diff().amax())
        for places in self.batches(size):
            row = self.first[places, None] + torch.arange(most, device=self.device)
            has = row < self.first[places + 1, None]
            tokens = self.tokens[row.clamp(max=len(self.tokens) - 1)]
            yield self.pixels(places), tokens.masked_fill(~has[..., None], PAD)

    def limited(self, limit: int | None) -> CaptionSamples:
        """A fixed random subset of images, the same for every model, attack and seed; ordered as the whole."""
        if limit is None or limit >= len(self):
            return self
        return self.select(chosen(len(self), limit).tolist())

    def select(self, places: Sequence[int]) -> CaptionSamples:
        """These images, in this order."""
        references = tuple(self.references[place] for place in places)
        objects = tuple(self.objects[place] for place in places) if self.objects else ()
        return replace(self, rows=self.rows[places], ids=self.ids[places], references=references, objects=objects)

    def batches(self, size: int) -> Iterator[Tensor]:
        """The places of the images, so many at a time."""
        yield from torch.arange(len(self), device=self.device).split(size)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class CaptionData:
    """A captioned data set, with mean and standard deviation per channel of its training images, and its words."""

    facts: Facts
    splits: Mapping[str, CaptionSamples]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    vocabulary: Vocabulary
    corpus: Corpus

    @cached_property
    def references(self) -> dict[int, tuple[str, ...]]:
        """Of the test images, by their id."""
        test = self.splits["test"]
        return dict(zip(test.ids.tolist(), test.references, strict=True))


def trimmed(tokens: Tensor) -> Tensor:
    """Without the columns in which every caption is over: (n, T + 1) -> (n, at most T + 1)."""
    return tokens[:, : int((tokens != PAD).sum(1).amax())]


def tokens_of(captions: Sequence[str], vocabulary: Vocabulary) -> Tensor:
    """Captions of cleaned words as <start>, words, <end> and <pad> up to the longest: int64 (N, T + 1)."""
    rows = [vocabulary.encode(text.split()) for text in captions]
    width = max(map(len, rows))
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])


def on_device(
    facts: Facts,
    splits: Mapping[str, CaptionedSplit],
    device: torch.device,
    name: str,
    settle: Callable[[Facts, Mapping[str, CaptionedSplit]], Composition] = measured,
) -> CaptionData:
    """Splits as the plugin gave them, checked and cleaned. Raises BenchError for what does not fit.

    The vocabulary is of the training captions alone.
    """
    check(name, facts, splits)
    found = settle(facts, splits)
    texts = {split: _cleaned(part, facts, f"dataset {name}, split {split}") for split, part in splits.items()}
    training = [text for captions in texts["train"] for text in captions]
    vocabulary = Vocabulary.of((text.split() for text in training), facts.minimum_count)
    samples = {
        split: CaptionSamples(
            part.images, np.arange(len(part.ids)), texts[split], part.ids, vocabulary, device, part.objects
        )
        for split, part in splits.items()
    }
    counted = document_frequencies(texts["test"])
    corpus = Corpus(frozenset(training), frozenset(vocabulary.words[4:]), counted, len(texts["test"]))
    return CaptionData(facts, samples, found.mean, found.std, vocabulary, corpus)


def _cleaned(part: CaptionedSplit, facts: Facts, where: str) -> tuple[tuple[str, ...], ...]:
    words = iter(cleaned((text for captions in part.captions for text in captions), facts.language))
    texts = tuple(tuple(" ".join(next(words)) for _ in captions) for captions in part.captions)
    empty = [image for image, captions in zip(part.ids.tolist(), texts, strict=True) if not all(captions)]
    if empty:
        raise BenchError(
            f"{where}: {len(empty)} images have a caption without a single word, the first with id {empty[0]}; mend or "
            "leave them out"
        )
    return texts
