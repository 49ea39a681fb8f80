"""A captioner as the harness uses it: encoder and decoder, what they are trained for, and captions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from harness.captioning.vocabulary import PAD
from harness.tasks import captioning as task
from harness.types import Generated
from plugins.captioning.decoder import Decoded, Decoder
from plugins.captioning.decoding import beam_search, greedy
from plugins.captioning.encoder import Encoder
from plugins.captioning.schedules import Schedule


class Weights(NamedTuple):
    """What counts how much in training. doubly_stochastic, entropy: weights of these terms, a word.

    reinforce: weight of the gradient through sampled locations. decay: of the moving average that it is held against.
    """

    doubly_stochastic: float = 0.0
    entropy: float = 0.002
    reinforce: float = 1.0
    decay: float = 0.9


class AttentiveCaptioner(nn.Module):
    """The module of a captioning model: ``harness.types.Captioner``."""

    baseline: Tensor  # (), what an objective is on average

    def __init__(self, encoder: Encoder, decoder: Decoder, weights: Weights, schedule: Schedule) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.weights = weights
        self.schedule = schedule
        self.register_buffer("baseline", torch.zeros(()))

    @property
    def frozen(self) -> bool:
        return self.encoder.frozen

    @property
    def grid(self) -> tuple[int, int]:
        return self.encoder.grid

    def encode(self, x: Tensor) -> Tensor:
        """Features (N, L, D) of pixels (N, C, H, W) in [0, 1]."""
        features: Tensor = self.encoder(x)
        return features

    def forward(self, x: Tensor, tokens: Tensor, of: Tensor | None = None) -> Tensor:
        """Teacher-forced logits (N, T, V) of ``tokens[:, 1:]``; x is pixels or features, of rows ``of``."""
        return self._decoded(x, tokens, of).logits

    def attention(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Where the decoder looks for each word of given captions: (N, T, L)."""
        return self._decoded(x, tokens).attention

    def objective(self, x: Tensor, tokens: Tensor, progress: float, of: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What training makes small, of each sample (N,), and the logits (N, T, V) that it comes from.

        Cross-entropy in nats a word, <end> counted, and the terms of the attention. Padding counts nowhere. In training
        mode words are sampled as the schedule has it at ``progress``, and an attention that samples gets its gradient
        by REINFORCE, against a moving average of the objective.
        """
        decoded = self._decoded(x, tokens, of, self.schedule.teacher(progress) if self.training else 1.0)
        loss = task.loss(decoded.logits, tokens)
        words = (tokens[:, 1:] != PAD).to(loss)
        if self.weights.doubly_stochastic:
            loss = loss + self.weights.doubly_stochastic * doubly_stochastic(decoded.attention, words)
        if decoded.log_probability is not None:
            loss = self._reinforced(loss, decoded.attention, decoded.log_probability, words)
        return loss, decoded.logits

    def generate(self, x: Tensor, *, beam: int, longest: int, length_penalty: float) -> Generated:
        """Captions of at most ``longest`` words: greedy for ``beam`` 1, else beam search. Raises ValueError.

        Hypotheses are compared by log probability / length ** length_penalty; 0 compares the log probabilities.
        """
        if beam < 1 or longest < 1 or length_penalty < 0:
            got = f"beam {beam}, longest {longest}, length_penalty {length_penalty}"
            raise ValueError(f"generate: got {got}; at least 1 beam, 1 word and a penalty of 0 or more are needed")
        with torch.no_grad():
            features = self._features(x)
        if beam == 1:
            return greedy(self.decoder, features, longest)
        return beam_search(self.decoder, features, beam, longest, length_penalty)

    def _features(self, x: Tensor) -> Tensor:
        # Kept features may be of half precision.
        return self.encode(x) if x.ndim == 4 else x.to(self.decoder.out.weight.dtype)

    def _decoded(self, x: Tensor, tokens: Tensor, of: Tensor | None = None, teacher: float = 1.0) -> Decoded:
        features, before = self._features(x), tokens[:, :-1]
        decoded: Decoded = self.decoder(features, before, of, teacher)
        return decoded

    def _reinforced(self, loss: Tensor, attention: Tensor, log_probability: Tensor, words: Tensor) -> Tensor:
        """With the gradient of the expected objective in the weights of the sampled locations: Xu et al., section 4.1.

        The term added is zero in value, so that what is reported stays the objective; the entropy term is not.
        """
        entropy = -torch.special.xlogy(attention, attention).sum(-1)  # (N, T)
        loss = loss - self.weights.entropy * (entropy * words).sum(1) / words.sum(1).clamp(min=1)
        advantage = loss.detach() - self.baseline
        sampled = (log_probability * words).sum(1)
        with torch.no_grad():
            # After its use: an average that knows this sample would bias its gradient.
            self.baseline.lerp_(loss.mean(), 1 - self.weights.decay)
        return loss + self.weights.reinforce * advantage * (sampled - sampled.detach())


def doubly_stochastic(attention: Tensor, words: Tensor) -> Tensor:
    """How far the attention of a caption is from seeing every location once: (N, T, L), words 0 or 1 (N, T) -> (N,).

    The sum over locations of (1 - the sum over words)^2: Xu et al., equation 14. (A mean over locations, which others
    use, is L times smaller.)
    """
    return (1 - (attention * words[..., None]).sum(1)).square().sum(1)
