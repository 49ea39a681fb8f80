"""What a captioner has to beat: the caption that stands most often, and that of the most similar training image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.hookspecs import NOT_IN_KEY, hookimpl
from harness.types import CAPTIONING, Preparation
from plugins.models.captioner import LSTMCaptioner

if TYPE_CHECKING:
    from torch import nn

PIXELS = "pixels"


@dataclass(frozen=True)
class CaptionBaseline:
    """Repeats training captions; nothing is trained, and there is no loss that an attack by gradients could raise.

    kind: "most_frequent" says the same of every image; "nearest_neighbour" the first caption of the training image
    that is nearest. encoder: "pixels" compares images at 8 x 8 pixels by their Euclidean distance; a name of timm or
    torchvision:NAME by the cosine of the mean feature. pretrained, encoder_weights, image_size: as of ``captioner``.
    """

    task: ClassVar[str] = CAPTIONING
    likelihood: ClassVar[bool] = False

    kind: Literal["most_frequent", "nearest_neighbour"] = "most_frequent"
    encoder: str = PIXELS
    pretrained: bool | str = False
    encoder_weights: str = field(default="", metadata=NOT_IN_KEY)
    image_size: int | None = None

    def __post_init__(self) -> None:
        if self.encoder == "small":
            raise ValueError("encoder: the small network would not be trained; name one of timm, or leave encoder out")
        if self.encoder == PIXELS and (self.pretrained or self.encoder_weights):
            raise ValueError("encoder: pixels have no weights; leave pretrained and encoder_weights out")
        self._like()

    @hookimpl
    def sources(self) -> Sequence[Path]:
        return self._like().sources() if self._by_network else []

    @hookimpl
    def build(self, preparation: Preparation) -> nn.Module:
        from plugins.captioning.retrieval import Reduced, Retrieval

        encoder = self._like().image_encoder(preparation) if self._by_network else Reduced()
        nearest = self.kind == "nearest_neighbour"
        return Retrieval(encoder, nearest=nearest, cosine=self._by_network).eval()

    @property
    def _by_network(self) -> bool:
        return self.kind == "nearest_neighbour" and self.encoder != PIXELS

    def _like(self) -> LSTMCaptioner:
        """A captioner with the same encoder."""
        if self.encoder == PIXELS:
            return LSTMCaptioner()
        given = (self.pretrained, self.encoder_weights)
        return LSTMCaptioner(
            self.encoder, pretrained=given[0], encoder_weights=given[1], frozen=True, image_size=self.image_size
        )
