"""An attentive captioner: a convolutional encoder and an LSTM that looks at the image before each word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.errors import BenchError
from harness.hookspecs import NOT_IN_KEY, hookimpl
from harness.types import CAPTIONING, Preparation

if TYPE_CHECKING:
    from torch import nn

    from plugins.captioning.encoder import Encoder
    from plugins.models.timm import Timm
    from plugins.models.torchvision import Torchvision

TORCHVISION = "torchvision:"


@dataclass(frozen=True)
class LSTMCaptioner:
    """Encoder, attention and LSTM with a deep output layer: Xu et al., "Show, attend and tell", ICML 2015.

    encoder: "small", a convolutional network trained along; a name of timm; or torchvision:NAME. Its last map is what
    the decoder looks at. width: of the small one, 1 for 32 to 256 channels. pretrained: start the encoder from
    published weights (of torchvision: true or their name). encoder_weights: a local file to start it from instead.
    frozen: the encoder is not trained, and its batch norm keeps its statistics. weights: a local safetensors file of
    the whole captioner to start from. image_size: what the encoder sees (None: its own size for its weights, else the
    data's); images are resized inside, the whole image, stretched.

    attention: "additive", "scaled_dot", "hard" (one location sampled in training), "none" (the mean of all), or one
    that another package adds. embed_dim, decoder_dim, attention_dim: widths of words, LSTM and attention. dropout:
    probability, on what goes into the output layer. doubly_stochastic: weight of the sum over locations of (1 -
    attention over all words)^2; beside a loss of a word, the paper's 1, beside that of a sentence, is about 0.1.
    scheduled_sampling: how the probability of the true word before falls while training (Bengio et al., NeurIPS 2015).
    teacher_end: what that probability falls to from 1. entropy, baseline_decay, soft_share, at_test: of hard attention,
    the weight of its entropy, the memory of the moving average of the loss, how many images see the mean in training
    after all, and what it sees afterwards ("argmax" lets no gradient through to its weights). vocabulary_size: with the
    special words, for building without data; with data it must be the one of its words.
    """

    task: ClassVar[str] = CAPTIONING

    encoder: str = "small"
    width: float = 1.0
    pretrained: bool | str = False
    encoder_weights: str = field(default="", metadata=NOT_IN_KEY)
    weights: str = ""
    frozen: bool = False
    image_size: int | None = None
    attention: str = "additive"
    embed_dim: int = 256
    decoder_dim: int = 512
    attention_dim: int = 256
    dropout: float = 0.5
    doubly_stochastic: float = 0.1
    scheduled_sampling: Literal["none", "linear", "exponential", "inverse_sigmoid"] = "none"
    teacher_end: float = 0.75
    entropy: float = 0.002
    baseline_decay: float = 0.9
    soft_share: float = 0.5
    at_test: Literal["expectation", "argmax"] = "expectation"
    vocabulary_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("image_size", "embed_dim", "decoder_dim", "attention_dim"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}: got {value}; at least 1 is needed")
        if self.vocabulary_size is not None and self.vocabulary_size < 5:
            raise ValueError(f"vocabulary_size: got {self.vocabulary_size}; 4 special words and one more are needed")
        if not 0 < self.width <= 8:
            raise ValueError(f"width: got {self.width}; more than 0 and at most 8 is needed")
        for name in ("doubly_stochastic", "entropy"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: got {getattr(self, name)}; a weight of 0 or more is needed")
        for name in ("dropout", "baseline_decay", "teacher_end", "soft_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; a share of 0 to 1 is needed")
        if self.encoder == "small" and (self.pretrained or self.encoder_weights):
            raise ValueError("encoder: the small network has no weights; leave pretrained and encoder_weights out")

    @hookimpl
    def sources(self) -> Sequence[Path]:
        if self.weights or self.encoder == "small":
            return []
        if self.encoder_weights and not Path(self.encoder_weights).is_file():
            raise BenchError(f"encoder_weights: {self.encoder_weights}: no such file; give a safetensors file's path")
        return [Path(self.encoder_weights)] if self.encoder_weights else self._classifier().sources()

    @hookimpl
    def build(self, preparation: Preparation) -> nn.Module:
        from harness.weights import read, transfer
        from plugins.captioning import attention
        from plugins.captioning.decoder import Decoder
        from plugins.captioning.network import AttentiveCaptioner, Weights
        from plugins.captioning.schedules import Schedule

        words, encoder = self._words(preparation), self.image_encoder(preparation)
        kind = attention.find(self.attention)
        shape = attention.Shape(encoder.width, self.decoder_dim, self.attention_dim, self.soft_share, self.at_test)
        widths = {"embed": self.embed_dim, "hidden": self.decoder_dim}
        decoder = Decoder(words, encoder.width, kind(shape), **widths, dropout=self.dropout)
        terms = Weights(self.doubly_stochastic, self.entropy, decay=self.baseline_decay)
        schedule = Schedule(self.scheduled_sampling, self.teacher_end)
        module = AttentiveCaptioner(encoder, decoder, terms, schedule)
        if self.weights and not preparation.outline:
            # With no first dimension that may differ: words under other numbers would be nonsense.
            transfer(module, read(self.weights), 0, f"weights {self.weights}")
        return module.eval()

    def _words(self, preparation: Preparation) -> int:
        """How many words there are. Raises BenchError where the field and the vocabulary disagree, or neither tells."""
        known = None if preparation.vocabulary is None else len(preparation.vocabulary)
        if known is None and self.vocabulary_size is None:
            raise BenchError(
                "captioner: neither vocabulary nor vocabulary_size; set vocabulary_size, with the special words"
            )
        if known is not None and self.vocabulary_size not in (None, known):
            raise BenchError(
                f"captioner: vocabulary_size is {self.vocabulary_size}, the training captions have {known} words with "
                "the special ones; leave vocabulary_size out, or change minimum_count of the data set"
            )
        return known or self.vocabulary_size or 0

    def image_encoder(self, preparation: Preparation) -> Encoder:
        """Pixels to features of locations, with the weights that it begins with."""
        from plugins.captioning import encoder
        from plugins.networks import Normalised

        facts = preparation.facts
        if self.encoder == "small":
            size = (self.image_size, self.image_size) if self.image_size else None
            network = encoder.small(facts.shape[0], max(size or facts.shape[1:]), self.width)
            pixels = Normalised(network, preparation.mean, preparation.std, size)
            return encoder.Encoder(pixels, facts.shape, self.encoder, frozen=self.frozen)
        if self.weights and self._own_weights and facts.shape[0] == 1:
            # The network to fill was made for the channels of its published weights.
            preparation = preparation._replace(mean=preparation.mean * 3, std=preparation.std * 3)
            preparation = preparation._replace(facts=facts._replace(shape=(3, *facts.shape[1:])))
        # The classifier of one class is cut off again.
        headed = preparation._replace(facts=preparation.facts._replace(classes=("any",)))
        classifier = self._classifier()
        whole = classifier.build(headed)
        assert isinstance(whole, Normalised)
        pixels = encoder.without_head(whole, classifier.architecture)
        return encoder.Encoder(pixels, facts.shape, self.encoder, frozen=self.frozen)

    @property
    def _own_weights(self) -> bool:
        return bool(self.pretrained or self.encoder_weights)

    def _classifier(self) -> Timm | Torchvision:
        """The component whose network is the encoder, with the head that is cut off."""
        from plugins.models.timm import Timm
        from plugins.models.torchvision import Torchvision

        pretrained, size = self.pretrained, self.image_size
        if self.encoder.startswith(TORCHVISION):
            name = self.encoder.removeprefix(TORCHVISION)
            given = Torchvision(name, pretrained, self.encoder_weights, size, preprocessing="whole")
            if self.weights:  # those of the encoder are in them, and need not be fetched
                own = given._published().transforms().crop_size[0] if self._own_weights else None
                return Torchvision(name, image_size=size or own)
            return given
        named = Timm(self.encoder, bool(pretrained), self.encoder_weights, size)
        if self.weights:
            own = named._config().input_size[-1] if self._own_weights else None
            return Timm(self.encoder, image_size=size or own)
        return named
