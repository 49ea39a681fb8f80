"""The captioner's decoder and its beam search written as plainly as can be: one word, one image, nothing shared."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from harness.captioning.vocabulary import END, PAD, START, UNKNOWN
from harness.types import Facts, Preparation
from plugins.captioning.attention import NoAttention, Shape, find
from plugins.captioning.decoder import Decoder
from plugins.captioning.network import AttentiveCaptioner
from plugins.models.captioner import LSTMCaptioner

WORDS, FEATURES, HIDDEN, EMBED, SIZE = 11, 6, 8, 5, 7


def decoder_of(kind: str = "additive", seed: int = 0, words: int = WORDS, spread: float = 3.0) -> Decoder:
    """A small decoder in evaluation mode whose opinions are ``spread`` times as strong as those of a fresh one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        attention = find(kind)(Shape(FEATURES, HIDDEN, SIZE))
        decoder = Decoder(words, FEATURES, attention, embed=EMBED, hidden=HIDDEN, dropout=0.5)
        with torch.no_grad():
            for weight in decoder.parameters():
                weight.mul_(spread)
    return decoder.eval()


def features_of(n: int, seed: int = 0, locations: int = 6) -> Tensor:
    return torch.randn(n, locations, FEATURES, generator=torch.Generator().manual_seed(seed))


def tokens_of(lengths: list[int], seed: int = 0, words: int = WORDS) -> Tensor:
    """Captions of so many random words: (N, longest + 2)."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.full((len(lengths), max(lengths) + 2), PAD)
    for row, length in zip(rows, lengths, strict=True):
        row[0], row[length + 1] = START, END
        row[1 : length + 1] = torch.randint(4, words, (length,), generator=random)
    return rows


def build(
    shape: tuple[int, int, int] = (3, 16, 16), *, words: int = WORDS, seed: int = 0, **given: object
) -> AttentiveCaptioner:
    """A captioner with small widths for images of this shape."""
    widths = {"embed_dim": EMBED, "decoder_dim": HIDDEN, "attention_dim": SIZE, "vocabulary_size": words}
    facts = Facts(shape, (), {"train": 1, "validation": 1, "test": 1}, "", "", "", task="captioning")
    preparation = Preparation(facts, (0.4,) * shape[0], (0.2,) * shape[0])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = LSTMCaptioner(**(widths | given)).build(preparation)  # type: ignore[arg-type]
    assert isinstance(module, AttentiveCaptioner)
    return module


class State(NamedTuple):
    h: Tensor  # (H,)
    c: Tensor


def first(decoder: Decoder, image: Tensor) -> State:
    """image: (L, D)."""
    mean = image.mean(0)
    return State(torch.tanh(decoder.first_hidden(mean)), torch.tanh(decoder.first_cell(mean)))


def weights_of(decoder: Decoder, image: Tensor, h: Tensor) -> Tensor:
    """Where it looks: (L,)."""
    attention = decoder.attention
    if isinstance(attention, NoAttention):
        return torch.full_like(image[:, 0], 1 / len(image))
    if hasattr(attention, "score"):
        scores = [attention.score(torch.tanh(attention.features(a) + attention.hidden(h))).squeeze() for a in image]
    else:
        scores = [attention.features(a).dot(attention.hidden(h)) / SIZE**0.5 for a in image]
    return torch.stack(scores).softmax(0)


def step(decoder: Decoder, image: Tensor, word: int, state: State) -> tuple[Tensor, State, Tensor]:
    """Logits (V,), state and attention (L,) after one word of one image (L, D)."""
    alpha = weights_of(decoder, image, state.h)
    z = sum(weight * location for weight, location in zip(alpha, image, strict=True))
    z = torch.sigmoid(decoder.gate(state.h)) * z
    y = decoder.embedding.weight[word]
    into = torch.cat([decoder.of_word.weight, decoder.of_context.weight], 1)
    weights = into, decoder.of_hidden.weight, decoder.of_word.bias, decoder.of_hidden.bias
    h, c = torch.lstm_cell(torch.cat([y, z])[None], (state.h[None], state.c[None]), *weights)
    p = decoder.out(y + decoder.hidden_out(h[0]) + decoder.context_out(z))
    return p, State(h[0], c[0]), alpha


def logits_of(decoder: Decoder, features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Teacher-forced logits (N, T, V) and attention (N, T, L)."""
    logits, looks = [], []
    for image, words in zip(features, tokens[:, :-1].tolist(), strict=True):
        state = first(decoder, image)
        for word in words:
            p, state, alpha = step(decoder, image, word, state)
            logits.append(p)
            looks.append(alpha)
    shape = len(features), tokens.shape[1] - 1, -1
    return torch.stack(logits).view(shape), torch.stack(looks).view(shape)


class Hypothesis(NamedTuple):
    """Words after <start>, log probability, attention of each word; state None once <end> is reached."""

    words: list[int]
    score: float
    looks: list[Tensor]
    state: State | None

    def rank(self, penalty: float) -> float:
        return self.score / max(1, len(self.words)) ** penalty


@torch.no_grad()
def searched(decoder: Decoder, image: Tensor, beam: int, longest: int, penalty: float) -> Hypothesis:
    """Beam search of one image (L, D), by lists, until ``longest`` words or until all are finished."""
    beams = [Hypothesis([], 0.0, [], first(decoder, image))]
    for _ in range(longest):
        became = [hypothesis for hypothesis in beams if hypothesis.state is None]
        for hypothesis in beams:
            if hypothesis.state is not None:
                became += continued(decoder, image, hypothesis)
        beams = sorted(became, key=lambda hypothesis: -hypothesis.rank(penalty))[:beam]
        if all(hypothesis.state is None for hypothesis in beams):
            break
    return max(beams, key=lambda hypothesis: hypothesis.rank(penalty))


def continued(decoder: Decoder, image: Tensor, hypothesis: Hypothesis) -> list[Hypothesis]:
    assert hypothesis.state is not None
    last = hypothesis.words[-1] if hypothesis.words else START
    p, state, alpha = step(decoder, image, last, hypothesis.state)
    found = []
    for word, log_probability in enumerate(p.log_softmax(0).tolist()):
        if word not in (PAD, START, UNKNOWN):
            after = None if word == END else state
            score = hypothesis.score + log_probability
            found.append(Hypothesis([*hypothesis.words, word], score, [*hypothesis.looks, alpha], after))
    return found
