"""Random numbers that belong to a sample, not to its place in a batch.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) is a pure function of a key and a
counter. The key is made of the seed and the sample's id, the counter of restart, step and draw: the same sample gets
the same numbers in any batch, in any order, on any device, and nothing has to be stored to go on after a stop.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_ROUNDS = 10
_FEW = 2048


def derive(seed: int, *names: object) -> int:
    """An independent 63-bit seed for each use of one seed, e.g. ``derive(0, "attack", "pgd")``."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """The global generators of torch (on every device), numpy and Python are afterwards what they were before."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


def seed_generators(seed: int) -> None:
    """Seeds the global generators of torch, numpy and Python, for code that draws from them."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def philox(counter: Sequence[Tensor | int], key: Sequence[Tensor | int]) -> tuple[Tensor, ...]:
    """Four words of 32 random bits for each counter: broadcastable int64 tensors in, four int64 tensors out."""
    words = [torch.as_tensor(word) for word in (*counter, *key)]
    if all(word.device.type == "cpu" and word.numel() < _FEW for word in words):
        # numpy does the same on few numbers in a tenth of the time, which searches with thousands of small draws feel.
        with np.errstate(over="ignore"):
            made = _rounds([word.numpy() for word in words])
        return tuple(torch.from_numpy(np.asarray(word, dtype=np.int64)) for word in made)
    return tuple(_rounds(words))


def _rounds(words: list[Any]) -> list[Any]:
    """Ten rounds on int64 arrays of either library: four words of counter and two of key in, four words out."""
    c, k = words[:4], words[4:]
    for _ in range(_ROUNDS):
        # int64 products wrap at 2^64, which keeps every bit that the 32x32 -> 64 bit multiplication needs.
        left, right = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [
            ((right >> 32) & _MASK) ^ c[1] ^ k[0],
            right & _MASK,
            ((left >> 32) & _MASK) ^ c[3] ^ k[1],
            left & _MASK,
        ]
        k = [(k[0] + 0x9E3779B9) & _MASK, (k[1] + 0xBB67AE85) & _MASK]
    return c


class SampleRandom:
    """One independent stream a sample. Shapes asked for are those of one sample; results have N in front."""

    def __init__(self, seed: int, ids: Tensor) -> None:
        self.seed, self._ids = seed, ids
        self._made: tuple[Tensor, Tensor] | None = None
        self._restart: int | Tensor = 0
        self._step: int | Tensor = 0
        self._draw = 0

    @property
    def _key(self) -> tuple[Tensor, Tensor]:
        """Two words a sample, (N,) each; made when something is drawn, for most steps of most attacks draw nothing."""
        if self._made is None:
            ids, high = self._ids, torch.full_like(self._ids, self.seed >> 32 & _MASK)
            words = philox((ids & _MASK, ids >> 32 & _MASK, 0, 0), (self.seed & _MASK, high))
            self._made = (words[0], words[1])
        return self._made

    def at(self, restart: int | Tensor = 0, step: int | Tensor = 0) -> SampleRandom:
        """The stream for one iteration, or for another one of each sample: (N,).

        Its draws start afresh, whatever was drawn before.
        """
        other = SampleRandom(self.seed, self._ids)
        other._made, other._restart, other._step = self._made, restart, step
        return other

    def select(self, index: Tensor) -> SampleRandom:
        """The streams of some of the samples."""
        other = SampleRandom(self.seed, self._ids[index])
        other._restart, other._step = (p if isinstance(p, int) else p[index] for p in (self._restart, self._step))
        other._draw = self._draw
        return other

    def uniform(self, low: float, high: float, shape: Sequence[int]) -> Tensor:
        """Uniform float32 in [low, high): (N, *shape)."""
        return low + (high - low) * self._fractions(math.prod(shape)).view(-1, *shape)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal float32 by Box and Muller: (N, *shape)."""
        count = math.prod(shape)
        pairs = self._fractions(2 * count).view(-1, 2, count)
        radius = (-2.0 * torch.log1p(-pairs[:, 0])).sqrt()
        return (radius * torch.cos(2 * math.pi * pairs[:, 1])).view(-1, *shape)

    def laplace(self, shape: Sequence[int]) -> Tensor:
        """Laplace float32 of scale one, by its inverse distribution function: (N, *shape)."""
        half = self.uniform(-0.5, 0.5, shape)
        return -half.sign() * torch.log1p(-2 * half.abs().clamp(max=0.5 - 2.0**-25))

    def integers(self, low: int, high: int, shape: Sequence[int]) -> Tensor:
        """Integers in [low, high): (N, *shape), int64."""
        return low + self._words(math.prod(shape)).remainder(high - low).view(-1, *shape)

    def _fractions(self, count: int) -> Tensor:
        return (self._words(count) >> 8).float() * 2.0**-24

    def _words(self, count: int) -> Tensor:
        """(N, count) words of 32 random bits."""
        device = self._ids.device
        blocks = torch.arange(-(-count // 4), device=device)[None, :]
        key = (self._key[0][:, None], self._key[1][:, None])
        step, restart = (p if isinstance(p, int) else p[:, None] for p in (self._step, self._restart))
        words = philox((blocks, self._draw, step, restart), key)
        self._draw += 1
        return torch.stack(words, dim=-1).flatten(1)[:, :count]
