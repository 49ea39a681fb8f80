"""The decoder: an LSTM that looks at the image before each word, and a deep output layer.

Xu et al., "Show, attend and tell", ICML 2015: equations 1 to 7, with the gate of section 4.2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from plugins.captioning.attention import Attention, Glance, View

Layer = Callable[[Tensor], Tensor]


class Memory(NamedTuple):
    """What the decoder knows between two words: images as it sees them; hidden and cell state, (N, M, H) each."""

    view: View
    hidden: Tensor
    cell: Tensor


class Decoded(NamedTuple):
    """Logits (N, T, V), attention (N, T, L), log probability of the sampled locations (N, T) where there are any."""

    logits: Tensor
    attention: Tensor
    log_probability: Tensor | None


class Decoder(nn.Module):
    """Words from features: p = L_o(E y + L_h h + L_z z), all biased; y the word before, z the gated context.

    The state begins as the tanh of one linear layer of the mean feature each. Dropout is on what goes into L_o.
    What does not depend on the state is computed for all words at once, before the loop or after it.
    """

    def __init__(
        self, words: int, features: int, attention: Attention, *, embed: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embed)
        self.attention = attention
        self.first_hidden = nn.Linear(features, hidden)
        self.first_cell = nn.Linear(features, hidden)
        self.gate = nn.Linear(hidden, features)
        # The LSTM's input and recurrent weights, the input in its two parts: of the word and of the context.
        self.of_word = nn.Linear(embed, 4 * hidden)
        self.of_context = nn.Linear(features, 4 * hidden, bias=False)
        self.of_hidden = nn.Linear(hidden, 4 * hidden)
        self.hidden_out = nn.Linear(hidden, embed)
        self.context_out = nn.Linear(features, embed)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(embed, words)
        for layer in (self.of_word, self.of_context, self.of_hidden):
            for weight in layer.parameters():  # torch's LSTM begins so, whatever the width of its input
                nn.init.uniform_(weight, -(hidden**-0.5), hidden**-0.5)

    def begin(self, features: Tensor) -> Memory:
        """Before the first word: (N, L, D) -> the memory of one hypothesis an image."""
        mean = features.mean(1, keepdim=True)
        hidden, cell = torch.tanh(self.first_hidden(mean)), torch.tanh(self.first_cell(mean))
        return Memory(self.attention.view(features), hidden, cell)

    def step(self, memory: Memory, tokens: Tensor) -> tuple[Tensor, Memory, Glance]:
        """One word of each hypothesis: the words before (N, M) -> logits of the next (N, M, V)."""
        embedded = self.embedding(tokens)
        memory, glance = self._advance(memory, self.of_word(embedded), self._looped)
        return self._output(embedded, memory.hidden, glance.context), memory, glance

    def forward(self, features: Tensor, tokens: Tensor) -> Decoded:
        """Teacher-forced: features (N, L, D), the words before, (N, T) from <start> on."""
        memory = self.begin(features)
        embedded = self.embedding(tokens)
        # In training alone: the weights' gradient that comes so cannot be differentiated again.
        layers = [Later(layer, *tokens.shape) for layer in self._looped] if self.training else self._looped
        hidden, glances = [], []
        for of_word in self.of_word(embedded).unbind(1):
            of_word = of_word[:, None]
            memory, glance = self._advance(memory, of_word, layers)
            hidden.append(memory.hidden)
            glances.append(glance)
        seen = _joined(glances)
        return Decoded(self._output(embedded, torch.cat(hidden, 1), seen.context), seen.attention, seen.log_probability)

    def mixed(self, features: Tensor, tokens: Tensor, teacher: float) -> Decoded:
        """As ``forward``, each word before being the true one with the probability ``teacher``, else one sampled.

        Sampled by the decoder's own probabilities, for each image for itself; no gradient passes through the sample.
        Scheduled sampling: Bengio et al., NeurIPS 2015.
        """
        memory = self.begin(features)
        logits: list[Tensor] = []
        glances: list[Glance] = []
        for before in torch.split(tokens, 1, dim=1):
            if logits:
                own = logits[-1].detach().squeeze(1).softmax(-1).multinomial(1)
                before = torch.where(torch.rand(before.shape, device=before.device) < teacher, before, own)
            found, memory, glance = self.step(memory, before)
            logits.append(found)
            glances.append(glance)
        seen = _joined(glances)
        return Decoded(torch.cat(logits, 1), seen.attention, seen.log_probability)

    @property
    def _looped(self) -> Sequence[nn.Linear]:
        return self.gate, self.of_hidden, self.of_context

    def _advance(self, memory: Memory, of_word: Tensor, layers: Sequence[Layer]) -> tuple[Memory, Glance]:
        """The state after one look and one word, whose part of the LSTM's input is (N, M, 4 H); the gated glance.

        layers: ``_looped``, or what stands for them.
        """
        view, hidden, cell = memory
        gate, of_hidden, of_context = layers
        glance = self.attention(view, hidden)
        context = torch.sigmoid(gate(hidden)) * glance.context
        gates = of_word + of_hidden(hidden) + of_context(context)
        into, forget, new, out = gates.chunk(4, dim=-1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(into) * torch.tanh(new)
        return Memory(view, torch.sigmoid(out) * torch.tanh(cell), cell), glance._replace(context=context)

    def _output(self, embedded: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        logits: Tensor = self.out(self.dropout(embedded + self.hidden_out(hidden) + self.context_out(context)))
        return logits


class Later:
    """A linear layer called once a word, (N, 1, in) -> (N, 1, out), T times; its weight's gradient is taken at once.

    One product over all words instead of one a word, each of which would be added to the last.
    """

    def __init__(self, layer: nn.Linear, n: int, words: int) -> None:
        self.layer, self.weight = layer, layer.weight.detach()
        self.inputs: list[Tensor] = []
        self.nothing = iter(_Nothing.apply(layer.weight, self.inputs, n, words).split(1, 1))

    def __call__(self, x: Tensor) -> Tensor:
        self.inputs.append(x.detach())
        return F.linear(x, self.weight, self.layer.bias) + next(self.nothing)


class _Nothing(torch.autograd.Function):
    """Zeros (N, T, out), whose gradient is that of what they are added to: with the inputs it gives the weight's."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, inputs: list[Tensor], n: int, words: int) -> Tensor:
        ctx.inputs = inputs
        return weight.new_zeros(1, 1, 1).expand(n, words, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        inputs = torch.cat(ctx.inputs, 1).flatten(0, 1)
        return gradient.flatten(0, 1).t().to(inputs.dtype) @ inputs, None, None, None


def _joined(glances: list[Glance]) -> Glance:
    """The looks of single words as those of a sentence: (N, T, ...)."""
    context, attention = (torch.cat([glance[k] for glance in glances], 1) for k in (0, 1))  # type: ignore[misc]
    sampled = [glance.log_probability for glance in glances if glance.log_probability is not None]
    return Glance(context, attention, torch.cat(sampled, 1) if sampled else None)
