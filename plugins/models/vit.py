"""The vision transformer, by size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.errors import BenchError
from harness.hookspecs import hookimpl
from harness.types import Preparation

if TYPE_CHECKING:
    from torch import nn

    from plugins.models.timm import Timm


@dataclass(frozen=True)
class ViT:
    """The vision transformer (ViT-Ti, S, B or L), built by timm, its head made for the data set's classes.

    size: tiny (5.7 million parameters at 224 pixels), small (22), base (86) or large (303). patch_size: side of a patch
    in pixels. pretrained: start from the hub's weights. weights: a local file of them to start from instead.
    image_size: what the network sees (None: 224 for pretrained weights, else the data's). Weights of another image or
    patch size fit too: their position embeddings are interpolated, their patch filters resampled. embed_dim, depth,
    num_heads: None takes those of the size. drop_rate: dropout before the head and in the blocks. preprocessing: as in
    ``timm``, which this is a short form of.
    Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021; the smaller ones from Touvron et al., ICML 2021.
    """

    size: Literal["tiny", "small", "base", "large"] = "base"
    patch_size: int = 16
    image_size: int | None = None
    pretrained: bool = False
    weights: str = ""
    embed_dim: int | None = None
    depth: int | None = None
    num_heads: int | None = None
    drop_rate: float | None = None
    preprocessing: Literal["whole", "own"] = "whole"

    def __post_init__(self) -> None:
        if self.patch_size < 1:
            raise ValueError(f"patch_size: got {self.patch_size}; at least 1 pixel is needed")
        if self.image_size is not None and self.image_size < self.patch_size:
            raise ValueError(f"image_size: got {self.image_size}; at least one patch of {self.patch_size} is needed")

    @hookimpl
    def sources(self) -> Sequence[Path]:
        return self._timm().sources() if self.pretrained and not self.weights else []

    @hookimpl
    def build(self, preparation: Preparation) -> nn.Module:
        side = self.image_size or (224 if self.pretrained or self.weights else preparation.facts.shape[-1])
        if side % self.patch_size:
            # timm would leave out the pixels beyond the last whole patch, and nothing could be said of them.
            raise BenchError(
                f"model vit: {side} pixels are no whole number of patches of {self.patch_size}; set image_size, for "
                f"example to {-(-side // self.patch_size) * self.patch_size}, or patch_size"
            )
        return self._timm().build(preparation)

    def _timm(self) -> Timm:
        """timm's network of this size: the one with patches of this size where there is one, for it has weights."""
        import timm

        from plugins.models.timm import Timm

        named = f"vit_{self.size}_patch{self.patch_size}_224"
        known = timm.is_model(named)
        return Timm(
            architecture=named if known else f"vit_{self.size}_patch16_224",
            patch_size=None if known else self.patch_size,
            pretrained=self.pretrained,
            weights=self.weights,
            image_size=self.image_size,
            embed_dim=self.embed_dim,
            depth=self.depth,
            num_heads=self.num_heads,
            drop_rate=self.drop_rate,
            preprocessing=self.preprocessing,
        )
