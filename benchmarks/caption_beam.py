"""Beam search of a batch of images against beam search of one image after the other. Seconds.

Run: python -m benchmarks.caption_beam [--batch 32] [--beam 3] [--features 2560] [--repeats 7] [--threads 1].
Ours is ``plugins.captioning.decoding``; the plain form is the one that tutorials teach: an image's beams are a batch of
their own with copies of its features, which are projected anew for each word, and the batch narrows as they finish.
Both get encoded images and the same random weights, of the published size, with <end> as likely as makes captions of
about a dozen words. What has finished can lose its place in ours and cannot in the plain form, so that a few captions
may differ: how many are the same is printed.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks.caption_decoder import EMBED, HIDDEN, LOCATIONS, SIZE, WORDS, Plain
from benchmarks.caption_options import parser
from benchmarks.timing import interleaved, machine, ratio
from harness.captioning.vocabulary import END, PAD, START, UNKNOWN
from plugins.captioning.attention import Additive, Shape
from plugins.captioning.decoder import Decoder
from plugins.captioning.decoding import beam_search

LONGEST = 50


def main() -> None:
    asked = parser(__doc__, batch=32, beam=3, features=2560, repeats=7, threads=1).parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    attention = Additive(Shape(asked.features, HIDDEN, SIZE))
    decoder = Decoder(WORDS, asked.features, attention, embed=EMBED, hidden=HIDDEN, dropout=0.5).eval()
    with torch.no_grad():
        decoder.out.weight.mul_(12.0)  # a fresh decoder finds all words alike
        decoder.out.bias[END] += 15.0  # captions of about a dozen words
    features = torch.randn(asked.batch, LOCATIONS, asked.features)
    contenders = {
        "ours": partial(ours, decoder, features, asked.beam),
        "one by one": partial(one_by_one, Plain(decoder).eval(), features, asked.beam),
    }
    interleaved(contenders, 1)
    runs = interleaved(contenders, asked.repeats)
    captions = runs["ours"].last
    same = sum(a == b for a, b in zip(captions, runs["one by one"].last, strict=True))
    words = sum(map(len, captions)) / len(captions)
    print(f"batch {asked.batch}, beam {asked.beam}, {LOCATIONS} x {asked.features} features, {asked.threads} threads")
    print(f"{words:.1f} words a caption, {same} of {len(captions)} captions the same")
    for name, found in runs.items():
        print(f"  {name:11}{found}  {ratio(found, runs['ours']):.2f} x the time of ours")
    print(f"medians [extremes] of {asked.repeats} interleaved repetitions, one before them")
    print(machine(("torch",)))


def ours(decoder: Decoder, features: Tensor, beam: int) -> list[list[int]]:
    found = beam_search(decoder, features, beam, LONGEST, 0.0)
    return [[token for token in row if token != PAD] for row in found.tokens.tolist()]


@torch.no_grad()
def one_by_one(plain: Plain, features: Tensor, beam: int) -> list[list[int]]:
    return [_searched(plain, image[None], beam) for image in features]


def _searched(plain: Plain, image: Tensor, beam: int) -> list[int]:
    """The best caption of an image (1, L, D)."""
    features = image.expand(beam, -1, -1)
    h, c = plain.begin(features)
    sentences = torch.full((beam, 1), START)
    scores = torch.zeros(beam, 1)
    complete: list[tuple[float, list[int]]] = []
    for length in range(1, LONGEST + 1):
        logits, h, c, _ = plain.step(features, plain.ours.embedding(sentences[:, -1]), h, c)
        logits = logits.log_softmax(1)
        logits[:, [PAD, START, UNKNOWN]] = -torch.inf
        total = scores + logits
        best = (total[0] if length == 1 else total.flatten()).topk(beam)  # at first all beams are the same
        parent, word = best.indices.div(WORDS, rounding_mode="floor"), best.indices % WORDS
        sentences = torch.cat([sentences[parent], word[:, None]], 1)
        going = (word != END).nonzero().flatten()
        ended = (word == END).nonzero().flatten().tolist()
        complete += [(best.values[place].item(), sentences[place, 1:].tolist()) for place in ended]
        beam = len(going)
        if beam == 0:
            break
        sentences, scores = sentences[going], best.values[going, None]
        h, c, features = h[parent[going]], c[parent[going]], features[going]
    unfinished = [(score, row[1:]) for score, row in zip(scores.flatten().tolist(), sentences.tolist(), strict=True)]
    return max(complete or unfinished)[1]


if __name__ == "__main__":
    main()
