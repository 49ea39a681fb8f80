"""Captioners that say nothing of their own: the caption that stands most often, or that of the most similar image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.captioning.vocabulary import PAD
from harness.types import Generated

SIDE = 8
"""Images are compared at this many pixels a side where no network describes them."""


class Reduced(nn.Module):
    """Pixels (N, C, H, W) -> one feature vector each, (N, 1, C * 64): the image at 8 x 8 pixels, each a mean."""

    frozen = True
    grid = (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, SIDE).flatten(1)[:, None]


class Retrieval(nn.Module):
    """``harness.types.Captioner`` without a likelihood: it repeats training captions, and is made by ``memorise``.

    encoder: pixels -> features (N, L, D), frozen; images are compared by the mean over locations, divided by its length
    where ``cosine``. nearest false: everything gets the caption that stands most often.
    """

    frozen = True
    likelihood = False
    captions: Tensor  # (M, T), int64
    keys: Tensor  # (M, D)

    def __init__(self, encoder: nn.Module, *, nearest: bool, cosine: bool) -> None:
        super().__init__()
        self.encoder, self.nearest, self.cosine = encoder, nearest, cosine
        self.register_buffer("captions", torch.zeros(0, 1, dtype=torch.int64))
        self.register_buffer("keys", torch.zeros(0, 1))

    @property
    def grid(self) -> tuple[int, int]:
        found: tuple[int, int] = self.encoder.grid  # type: ignore[assignment]
        return found

    def encode(self, x: Tensor) -> Tensor:
        """Features (N, L, D) of pixels (N, C, H, W)."""
        features: Tensor = self.encoder(x)
        return features

    def memorise(self, images: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Takes the training captions: of images, pixels or features (n, ...), all tokens (n, R, T + 1), by image.

        Rows of <pad> alone stand for captions that an image does not have. Of the nearest image its first caption is
        said; of captions that stand equally often the one that came first.
        """
        keys, captions = [], []
        counts = Counter[tuple[int, ...]]()
        for x, tokens in images:
            if self.nearest:
                keys.append(self._key(x))
                captions.append(tokens[:, 0, 1:])
            else:
                rows = tokens[:, :, 1:].flatten(0, 1)
                counts.update(map(tuple, rows[(rows != PAD).any(1)].tolist()))
        if self.nearest:
            self.keys, self.captions = torch.cat(keys), torch.cat(captions)
        else:
            self.captions = torch.tensor([max(counts, key=lambda row: counts[row])], device=self.captions.device)

    def forward(self, x: Tensor, tokens: Tensor, of: Tensor | None = None) -> Tensor:
        raise NotImplementedError("a caption that is repeated has no probability")

    def objective(self, x: Tensor, tokens: Tensor, progress: float, of: Tensor | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("a caption that is repeated has no probability")

    @torch.no_grad()
    def generate(self, x: Tensor, *, beam: int, longest: int, length_penalty: float) -> Generated:
        """The captions repeated, cut after ``longest`` words; beam and penalty change nothing."""
        place = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        if self.nearest:
            place = torch.cdist(self._key(x), self.keys).argmin(1)
        tokens = self.captions[place][:, :longest]
        return Generated(tokens, None, torch.zeros(len(x), device=x.device))

    def _key(self, x: Tensor) -> Tensor:
        mean = (self.encode(x) if x.ndim == 4 else x).float().mean(1)
        return F.normalize(mean, dim=1) if self.cosine else mean

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for name in ("captions", "keys"):  # as many as were memorised
            if (found := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.empty_like(found, device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *args)
