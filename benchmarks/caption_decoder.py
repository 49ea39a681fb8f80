"""One training step of the captioner's decoder: forward and backward of a batch, teacher-forced. Seconds.

Run: python -m benchmarks.caption_decoder [--batch 32] [--features 2560] [--repeats 7] [--threads 1].
Ours against the plain form that tutorials teach, with the same layers and the same weights: sentences sorted by
length, the batch shrinking as they end; at each word the features projected anew, one LSTM cell on the word and the
context side by side, and the output layer. Lengths are those of captions, 10 to 14 words; 49 locations, random
features, which need no gradient, as where they are kept. Both losses are printed: they must be the same.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.caption_options import parser
from benchmarks.timing import interleaved, machine, ratio
from harness.captioning.vocabulary import PAD
from plugins.captioning.attention import Additive, Shape
from plugins.captioning.decoder import Decoder

WORDS, EMBED, HIDDEN, SIZE, LOCATIONS = 3992, 256, 512, 256, 49


class Plain(nn.Module):
    """The decoder as tutorials write it, with the weights of ours."""

    def __init__(self, ours: Decoder) -> None:
        super().__init__()
        self.ours = ours
        self.cell = nn.LSTMCell(EMBED + ours.of_context.in_features, HIDDEN)
        with torch.no_grad():
            self.cell.weight_ih.copy_(torch.cat([ours.of_word.weight, ours.of_context.weight], 1))
            self.cell.bias_ih.copy_(ours.of_word.bias)
            self.cell.weight_hh.copy_(ours.of_hidden.weight)
            self.cell.bias_hh.copy_(ours.of_hidden.bias)

    def begin(self, features: Tensor) -> tuple[Tensor, Tensor]:
        mean = features.mean(1)
        return torch.tanh(self.ours.first_hidden(mean)), torch.tanh(self.ours.first_cell(mean))

    def step(self, features: Tensor, before: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits (N, V), state and attention of one word; features (N, L, D), the embedded word before (N, E)."""
        ours, attention = self.ours, self.ours.attention
        assert isinstance(attention, Additive)
        both = torch.tanh(attention.features(features) + attention.hidden(h).unsqueeze(1))
        alpha = attention.score(both).squeeze(2).softmax(1)
        context = (features * alpha.unsqueeze(2)).sum(1)
        context = torch.sigmoid(ours.gate(h)) * context
        h, c = self.cell(torch.cat([before, context], 1), (h, c))
        return ours.out(ours.dropout(before + ours.hidden_out(h) + ours.context_out(context))), h, c, alpha

    def forward(self, features: Tensor, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, T, V) and attention (N, T, L) of sentences in the order of falling length; zero after each."""
        longest = int(lengths.max())
        h, c = self.begin(features)
        logits = features.new_zeros(len(tokens), longest, WORDS)
        alphas = features.new_zeros(len(tokens), longest, features.shape[1])
        embedded = self.ours.embedding(tokens)
        for t in range(longest):
            n = int((lengths > t).sum())
            found, h, c, alpha = self.step(features[:n], embedded[:n, t], h[:n], c[:n])
            logits[:n, t], alphas[:n, t] = found, alpha
        return logits, alphas


def main() -> None:
    asked = parser(__doc__, batch=32, features=2560, repeats=7, threads=1).parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    attention = Additive(Shape(asked.features, HIDDEN, SIZE))
    ours = Decoder(WORDS, asked.features, attention, embed=EMBED, hidden=HIDDEN, dropout=0.0)
    features = torch.randn(asked.batch, LOCATIONS, asked.features)
    lengths = torch.randint(10, 15, (asked.batch,)).sort(descending=True).values
    tokens = torch.randint(4, WORDS, (asked.batch, int(lengths.max()) + 1))
    tokens[torch.arange(tokens.shape[1]) > lengths[:, None]] = PAD
    contenders = {"ours": partial(by_ours, ours, features, tokens)}
    contenders["plain"] = partial(by_plain, Plain(ours), features, tokens, lengths)
    interleaved(contenders, 1)
    runs = interleaved(contenders, asked.repeats)
    print(
        f"batch {asked.batch}, {LOCATIONS} x {asked.features} features, {lengths.sum()} words, {asked.threads} threads"
    )
    for name, found in runs.items():
        print(f"  {name:6}{found}  {ratio(found, runs['ours']):.2f} x the time of ours, loss {found.last:.6f}")
    print(f"medians [extremes] of {asked.repeats} interleaved repetitions, one before them")
    print(machine(("torch",)))


def by_ours(decoder: Decoder, features: Tensor, tokens: Tensor) -> float:
    decoder.zero_grad()
    return _backward(decoder(features, tokens[:, :-1]).logits, tokens)


def by_plain(plain: Plain, features: Tensor, tokens: Tensor, lengths: Tensor) -> float:
    plain.zero_grad()
    return _backward(plain(features, tokens, lengths)[0], tokens)


def _backward(logits: Tensor, tokens: Tensor) -> float:
    """The loss, a mean over all words; gradients of it are in the weights then."""
    loss = F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], ignore_index=PAD)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item()


if __name__ == "__main__":
    main()
