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
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from harness.captioning.vocabulary import END, PAD
from plugins.captioning.attention import Attention, Glance, View

Layer = Callable[[Tensor], Tensor]


class Memory(NamedTuple):
    """What the decoder knows between two words: images as it sees them; hidden and cell state, (N, M, H) each."""

    view: View
    hidden: Tensor
    cell: Tensor

    def first(self, n: int) -> Memory:
        """Of the first n images."""
        if n == len(self.hidden):
            return self
        view = View(*(None if part is None else part[:n] for part in self.view))  # type: ignore[arg-type]
        return Memory(view, self.hidden[:n], self.cell[:n])


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

    def begin(self, features: Tensor, of: Tensor | None = None) -> Memory:
        """Before the first word: the memory of one hypothesis about each of rows ``of`` (N,) of features (U, L, D)."""
        of = torch.arange(len(features), device=features.device) if of is None else of
        mean = features.mean(1, keepdim=True)
        hidden, cell = torch.tanh(self.first_hidden(mean)), torch.tanh(self.first_cell(mean))
        return Memory(self.attention.view(features, of), hidden[of], cell[of])

    def step(self, memory: Memory, tokens: Tensor) -> tuple[Tensor, Memory, Glance]:
        """One word of each hypothesis: the words before (N, M) -> logits of the next (N, M, V)."""
        embedded = self.embedding(tokens)
        memory, glance = self._advance(memory, self.of_word(embedded), self._looped)
        return self._output(embedded, memory.hidden, glance.context), memory, glance

    def forward(self, features: Tensor, tokens: Tensor, of: Tensor | None = None, teacher: float = 1.0) -> Decoded:
        """The words before, (N, T) from <start> on, about rows ``of`` of features (U, L, D); zeros after <end>.

        Each word before is the true one with the probability ``teacher``, else one sampled by the decoder's own
        probabilities, for each image for itself; no gradient passes through the sample. Scheduled sampling: Bengio et
        al., NeurIPS 2015. Captions are gone through in the order of falling length, so that no word is computed that
        nobody asks for.
        """
        lengths = ((tokens != PAD) & (tokens != END)).sum(1)
        words = pack_padded_sequence(tokens, lengths.cpu(), batch_first=True, enforce_sorted=False)
        memory = self.begin(features, words.sorted_indices if of is None else of[words.sorted_indices])
        if teacher >= 1.0:
            logits, seen = self._forced(memory, words)
        else:
            logits, seen = self._mixed(memory, words, teacher)

        def whole(of_words: Tensor) -> Tensor:
            padded, _ = pad_packed_sequence(
                words._replace(data=of_words), batch_first=True, total_length=tokens.shape[1]
            )
            return padded

        sampled = seen.log_probability
        return Decoded(whole(logits), whole(seen.attention), None if sampled is None else whole(sampled))

    def _forced(self, memory: Memory, words: PackedSequence) -> tuple[Tensor, Glance]:
        """Logits (S, V) of all words in the order of ``words``, and what each of them saw."""
        sizes = words.batch_sizes.tolist()
        embedded = self.embedding(words.data)
        # In training alone: the weights' gradient that comes so cannot be differentiated again.
        layers = [Later(layer, sizes) for layer in self._looped] if self.training else self._looped
        hidden, glances = [], []
        for of_word in torch.split(self.of_word(embedded), sizes):
            memory, glance = self._advance(memory.first(len(of_word)), of_word[:, None], layers)
            hidden.append(memory.hidden)
            glances.append(glance)
        seen = _joined(glances)
        return self._output(embedded, torch.cat(hidden)[:, 0], seen.context), seen

    def _mixed(self, memory: Memory, words: PackedSequence, teacher: float) -> tuple[Tensor, Glance]:
        logits: list[Tensor] = []
        glances: list[Glance] = []
        for before in torch.split(words.data, words.batch_sizes.tolist()):
            if logits:
                own = logits[-1][: len(before)].detach().softmax(-1).multinomial(1)[:, 0]
                before = torch.where(torch.rand(len(before), device=before.device) < teacher, before, own)
            found, memory, glance = self.step(memory.first(len(before)), before[:, None])
            logits.append(found[:, 0])
            glances.append(glance)
        return torch.cat(logits), _joined(glances)

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
    """A linear layer called once a word, (N, 1, in) -> (N, 1, out); its weight's gradient is taken at once.

    sizes: N of each time. One product over all words instead of one a word, each of which would be added to the last.
    """

    def __init__(self, layer: nn.Linear, sizes: Sequence[int]) -> None:
        self.layer, self.weight = layer, layer.weight.detach()
        self.inputs: list[Tensor] = []
        self.nothing = iter(_Nothing.apply(layer.weight, self.inputs, sum(sizes)).split(list(sizes)))

    def __call__(self, x: Tensor) -> Tensor:
        self.inputs.append(x.detach())
        return F.linear(x, self.weight, self.layer.bias) + next(self.nothing)


class _Nothing(torch.autograd.Function):
    """Zeros (S, 1, out), whose gradient is that of what they are added to: with the inputs it gives the weight's."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, inputs: list[Tensor], words: int) -> Tensor:
        ctx.inputs = inputs
        return weight.new_zeros(1, 1, 1).expand(words, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        inputs = torch.cat(ctx.inputs).flatten(0, 1)
        return gradient.flatten(0, 1).t().to(inputs.dtype) @ inputs, None, None


def _joined(glances: list[Glance]) -> Glance:
    """The looks of single words, of one hypothesis an image, in a row: (S, ...)."""
    context, attention = (torch.cat([glance[k] for glance in glances])[:, 0] for k in (0, 1))  # type: ignore[misc]
    sampled = [glance.log_probability for glance in glances if glance.log_probability is not None]
    return Glance(context, attention, torch.cat(sampled)[:, 0] if sampled else None)
