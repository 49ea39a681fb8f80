"""Captions from a decoder: greedy, and beam search of all images at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from harness.captioning.vocabulary import END, PAD, START, UNKNOWN
from harness.types import Generated
from plugins.captioning.attention import Glance
from plugins.captioning.decoder import Decoder, Memory

NEVER = (PAD, START, UNKNOWN)
"""What no caption has, however likely the decoder thinks it."""


class Beams(NamedTuple):
    """M hypotheses of each image, the best first.

    score: log probability (N, M), -inf for a place that none has taken yet. length: words with <end> (N, M), int64.
    ended: (N, M). last: the last word (N, M).
    """

    score: Tensor
    length: Tensor
    ended: Tensor
    last: Tensor

    def rank(self, length_penalty: float) -> Tensor:
        """What hypotheses are compared by: (N, M)."""
        return self.score / self.length.clamp(min=1) ** length_penalty


class Step(NamedTuple):
    """What one step of the search leaves behind: the beam that each now comes from, its word, where that looked."""

    parent: Tensor  # (N, M)
    token: Tensor  # (N, M)
    attention: Tensor  # (N, M before, L)


@torch.no_grad()
def greedy(decoder: Decoder, features: Tensor, longest: int) -> Generated:
    """The likeliest word, one after the other, up to <end> or ``longest`` words: features (N, L, D)."""
    memory = decoder.begin(features)
    before = torch.full((len(features), 1), START, device=features.device)
    ended = torch.zeros_like(before, dtype=torch.bool)
    total = features.new_zeros(before.shape)
    tokens, looks = [], []
    for _ in range(longest):
        log_probability, memory, glance = _next(decoder, memory, before)
        best = log_probability.max(-1)
        total = torch.where(ended, total, total + best.values)
        before = torch.where(ended, PAD, best.indices)
        tokens.append(before)
        looks.append(glance.attention.masked_fill(ended[..., None], 0.0))
        ended = ended | (before == END)
        if ended.all():
            break
    attention = torch.cat(looks, 1) if decoder.attention.looks else None
    return Generated(torch.cat(tokens, 1), attention, total.squeeze(1))


@torch.no_grad()
def beam_search(decoder: Decoder, features: Tensor, beam: int, longest: int, length_penalty: float) -> Generated:
    """The best of ``beam`` hypotheses an image, by log probability / length ** length_penalty, <end> counted.

    A finished hypothesis keeps its score and its place among the best until others take it; what is not finished after
    ``longest`` words counts as it is. All beams of an image look at the same projected features.
    """
    memory = decoder.begin(features)
    beams = _first(features)
    steps: list[Step] = []
    for _ in range(longest):
        log_probability, memory, glance = _next(decoder, memory, beams.last)
        beams, parent = _best(beams, log_probability, beam, length_penalty)
        steps.append(Step(parent, beams.last, glance.attention))
        memory = memory._replace(hidden=_of(memory.hidden, parent), cell=_of(memory.cell, parent))
        if _decided(beams, longest, length_penalty):
            break
    chosen = beams.rank(length_penalty).argmax(1, keepdim=True)
    tokens, attention = _traced(steps, chosen)
    total = beams.score.gather(1, chosen).squeeze(1)
    words = int((tokens != PAD).sum(1).max())  # the chosen ones may have ended before the search
    return Generated(tokens[:, :words], attention[:, :words] if decoder.attention.looks else None, total)


def _next(decoder: Decoder, memory: Memory, before: Tensor) -> tuple[Tensor, Memory, Glance]:
    """One step: log probabilities of the next word (N, M, V), -inf for what no caption has."""
    logits, memory, glance = decoder.step(memory, before)
    log_probability = logits.log_softmax(-1)
    log_probability[..., NEVER] = -torch.inf
    return log_probability, memory, glance


def _first(features: Tensor) -> Beams:
    """One hypothesis an image, which is <start> and has no word yet."""
    start = torch.full((len(features), 1), START, device=features.device)
    nothing = torch.zeros_like(start)
    return Beams(features.new_zeros(start.shape), nothing, nothing.bool(), start)


def _best(beams: Beams, log_probability: Tensor, beam: int, length_penalty: float) -> tuple[Beams, Tensor]:
    """The best ``beam`` of what the hypotheses can become, (N, M, V) -> (N, beam), and which each comes from."""
    words = log_probability.shape[2]
    # A finished one can become nothing but itself, by a <pad> that costs nothing.
    log_probability = log_probability.masked_fill(beams.ended[..., None], -torch.inf)
    log_probability[..., PAD].masked_fill_(beams.ended, 0.0)
    length = beams.length + (~beams.ended).long()
    score = beams.score[..., None] + log_probability
    rank = score / length[..., None] ** length_penalty if length_penalty else score
    place = rank.flatten(1).topk(min(beam, rank[0].numel())).indices
    parent, token = place.div(words, rounding_mode="floor"), place % words
    ended = beams.ended.gather(1, parent) | (token == END)
    return Beams(score.flatten(1).gather(1, place), length.gather(1, parent), ended, token), parent


def _of(states: Tensor, parent: Tensor) -> Tensor:
    """The states of the hypotheses that these come from: (N, M before, H), (N, M) -> (N, M, H)."""
    return states.gather(1, parent[..., None].expand(-1, -1, states.shape[2]))


def _decided(beams: Beams, longest: int, length_penalty: float) -> bool:
    """Whether in every image a finished hypothesis is the best that there can be.

    The score of an unfinished one falls with every word, and at best is divided by the greatest length.
    """
    best = beams.rank(length_penalty).masked_fill(~beams.ended, -torch.inf).amax(1)
    to_come = (beams.score / longest**length_penalty).masked_fill(beams.ended, -torch.inf).amax(1)
    return bool((best >= to_come).all())


def _traced(steps: list[Step], chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Words (N, T) and where they looked (N, T, L), zero after <end>, of the hypotheses at the places chosen (N, 1)."""
    tokens, looks = [], []
    for parent, token, attention in reversed(steps):
        word, chosen = token.gather(1, chosen), parent.gather(1, chosen)
        look = attention.gather(1, chosen[..., None].expand(-1, -1, attention.shape[2]))
        tokens.append(word)
        looks.append(look.masked_fill((word == PAD)[..., None], 0.0))
    return torch.cat(tokens[::-1], 1), torch.cat(looks[::-1], 1)
