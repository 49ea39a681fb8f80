"""A VisionEncoderDecoderModel of transformers as the harness uses a captioner."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.captioning.vocabulary import END, PAD, SPECIAL, START
from harness.errors import BenchError
from harness.tasks import captioning as task
from harness.types import Generated
from plugins.captioning.encoder import PixelEncoder
from plugins.captioning.subwords import Subwords
from plugins.huggingface import quiet

NEVER = -1e4
"""The logit of what has no id of its own: a probability of 0, and finite in every precision."""
EXTRA = 8
"""The most features that may stand before those of the patches: class and distillation tokens, registers."""


class Layout(NamedTuple):
    """How the encoder's features stand: so many of no place, then those of a grid's locations, row by row.

    grid: rows and columns; one row of all of them where it is not ``known``.
    """

    before: int
    grid: tuple[int, int]
    known: bool = True

    @classmethod
    def of(cls, features: int, size: tuple[int, int], patch: Any) -> Layout:
        """Of so many features of an image of this size (H, W) whose patches have ``patch`` pixels a side."""
        if isinstance(patch, int):
            grid = size[0] // patch, size[1] // patch
            before = features - grid[0] * grid[1]
            if 0 <= before <= EXTRA:
                return cls(before, grid)
        side = math.isqrt(features)  # of networks that join patches
        return cls(0, (side, side)) if side * side == features else cls(0, (1, features), known=False)


class TransformerCaptioner(nn.Module):
    """The module of a captioning model: ``harness.types.Captioner``, with a vocabulary of its own.

    encoder: pixels (N, C, H, W) in [0, 1] -> its last hidden state (N, L, D), with what it has before the patches.
    network: the whole, whose encoder is in there. generation: a generation configuration, which searches keep but for
    what they are told. longest: the most tokens that its decoder has positions for.
    """

    ids: Tensor  # (V,), by the harness's numbers
    numbers: Tensor  # (V of the decoder,), by its ids
    absent: Tensor  # of the numbers that stand for nothing

    def __init__(
        self,
        encoder: PixelEncoder,
        network: Any,
        vocabulary: Subwords,
        generation: Any,
        layout: Layout,
        longest: int | None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder: nn.Module = network.decoder
        self.projection: nn.Module = getattr(network, "enc_to_dec_proj", nn.Identity())
        # In a tuple, for as a part of this module it would name every weight a second time.
        self._whole = (network,)
        self.vocabulary = vocabulary
        self.generation = generation
        self.layout = layout
        self.longest = longest
        ids, absent = vocabulary.numbering
        numbers = torch.zeros(max(ids) + 1, dtype=torch.long)
        for id_, number in vocabulary.numbering.numbers.items():
            numbers[id_] = number
        self.register_buffer("ids", torch.tensor(ids), persistent=False)
        self.register_buffer("numbers", numbers, persistent=False)
        self.register_buffer("absent", torch.tensor(sorted(absent)), persistent=False)

    @property
    def frozen(self) -> bool:
        return self.encoder.frozen

    @property
    def grid(self) -> tuple[int, int]:
        """Of the patches alone: the features have those of no place before theirs."""
        return self.layout.grid

    @torch.no_grad()
    def open(self, shape: tuple[int, int, int]) -> None:
        """Has sentences begin as the decoder begins them.

        Many were trained to say what their tokenizer puts before a text, after the token that starts them. Whether this
        one was is asked of it, with a grey image (C, H, W): one that was does nothing else.
        """
        opening = self.vocabulary.before()
        if not opening:
            return
        tokens = torch.tensor([[START, *opening, END]])
        first = self(torch.full((1, *shape), 0.5), tokens)[0, 0].softmax(-1)
        if first[opening[0]] > 0.5:
            self.vocabulary = replace(self.vocabulary, opening=opening)

    def encode(self, x: Tensor) -> Tensor:
        """Features (N, L, D) of pixels (N, C, H, W) in [0, 1]."""
        features: Tensor = self.encoder(x)
        return features

    def forward(self, x: Tensor, tokens: Tensor, of: Tensor | None = None) -> Tensor:
        """Teacher-forced logits (N, T, V) of ``tokens[:, 1:]``; x is pixels or features, of rows ``of``."""
        features = self._features(x)
        return self._logits(self._decoded(features if of is None else features[of], tokens))

    def objective(self, x: Tensor, tokens: Tensor, progress: float, of: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cross-entropy in nats a token, <end> counted and padding not, (N,), and the logits (N, T, V)."""
        logits = self(x, tokens, of)
        return task.loss(logits, tokens), logits

    @torch.no_grad()
    def generate(self, x: Tensor, *, beam: int, longest: int, length_penalty: float) -> Generated:
        """Captions of at most ``longest`` tokens by the search of transformers, greedy for ``beam`` 1.

        Attention is the last layer's over the patches, the mean of its heads; its rows are the words that the
        vocabulary makes of the tokens, each the mean of its pieces, then zeros. Log probability: of all tokens said.
        """
        self._check(longest)
        features = self._features(x)
        how = copy.deepcopy(self.generation)
        how.num_beams, how.length_penalty = beam, length_penalty
        how.max_new_tokens, how.max_length = longest, None
        how.do_sample, how.num_return_sequences, how.return_dict_in_generate = False, 1, False
        with quiet():
            said: Tensor = self._whole[0].generate(encoder_outputs=_encoded(features), generation_config=how)
        tokens = self._numbered(said)
        decoded = self._decoded(features, tokens, attention=True)
        chosen = decoded.logits.gather(-1, self.ids[tokens[:, 1:, None]]).squeeze(-1)
        nats = chosen - decoded.logits.logsumexp(-1)
        total = nats.masked_fill(tokens[:, 1:] == PAD, 0.0).sum(1)
        return Generated(tokens[:, 1:], self._looks(decoded, tokens[:, 1:]), total)

    def _numbered(self, said: Tensor) -> Tensor:
        """What transformers says under the harness's numbers, <start> first, <pad> behind <end>: (N, T + 1)."""
        tokens = self.numbers[said[:, 1:]]
        over = (tokens == END).cumsum(1) - (tokens == END).long() > 0
        return torch.cat([torch.full_like(tokens[:, :1], START), tokens.masked_fill(over, PAD)], 1)

    def _features(self, x: Tensor) -> Tensor:
        # Kept features may be of half precision.
        return self.encode(x) if x.ndim == 4 else x.to(next(self.decoder.parameters()).dtype)

    def _decoded(self, features: Tensor, tokens: Tensor, *, attention: bool = False) -> Any:
        self._check(tokens.shape[1] - 1)
        return self._whole[0](
            encoder_outputs=_encoded(features),
            decoder_input_ids=self.ids[tokens[:, :-1]],
            output_attentions=attention,
            use_cache=False,
        )

    def _check(self, length: int) -> None:
        if self.longest is not None and length > self.longest:
            raise BenchError(
                f"captioner: a caption of {length} tokens, its decoder has positions for {self.longest}; leave longer "
                "ones out (longest of the data set) and lower run.longest"
            )

    def _logits(self, decoded: Any) -> Tensor:
        """Under the harness's numbers: those of the special ids before those of all."""
        special = decoded.logits[..., self.ids[: len(SPECIAL)]]
        logits: Tensor = torch.cat([special, decoded.logits], -1)
        return logits.index_fill_(-1, self.absent, NEVER)

    def _looks(self, decoded: Any, tokens: Tensor) -> Tensor | None:
        """Where the words of each caption were looked for: (N, T, L of the grid), T at least the number of words."""
        if not decoded.cross_attentions or not self.layout.known:
            return None
        found: Tensor = decoded.cross_attentions[-1].mean(1)[..., self.layout.before :]
        places = [self.vocabulary.places(row) for row in tokens.tolist()]
        looks = found.new_zeros(len(found), max(tokens.shape[1], *map(len, places)), found.shape[2])
        for image, words in enumerate(places):
            for word, own in enumerate(words):
                looks[image, word] = found[image, own].mean(0)
        return looks


def _encoded(features: Tensor) -> Any:
    from transformers.modeling_outputs import BaseModelOutput

    return BaseModelOutput(last_hidden_state=features)
