"""Captions from a decoder: greedy, and beam search of a batch against beam search of one image by lists."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_captioner import WORDS, build, decoder_of, features_of, searched
from torch import Tensor, nn

from harness.captioning.vocabulary import END, PAD, START, UNKNOWN
from harness.tasks import captioning
from harness.types import Generated
from plugins.captioning.decoder import Decoder, Memory
from plugins.captioning.decoding import beam_search, greedy

torch.set_num_threads(1)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    beam=st.integers(1, 5),
    longest=st.integers(1, 7),
    penalty=st.sampled_from([0.0, 0.6, 1.0]),
    kind=st.sampled_from(["additive", "scaled_dot", "none"]),
)
def test_a_batch_is_searched_as_each_image_for_itself(
    seed: int, beam: int, longest: int, penalty: float, kind: str
) -> None:
    decoder, features = decoder_of(kind, seed).double(), features_of(3, seed).double()
    found = beam_search(decoder, features, beam, longest, penalty)
    for n, image in enumerate(features):
        plain = searched(decoder, image, beam, longest, penalty)
        words = found.tokens[n].tolist()
        assert words == plain.words + [PAD] * (len(words) - len(plain.words))
        assert float(found.log_probability[n]) == pytest.approx(plain.score, abs=1e-9)
        if found.attention is not None:
            looks = torch.stack(plain.looks)
            assert torch.allclose(found.attention[n, : len(looks)], looks, atol=1e-9)
            assert (found.attention[n, len(looks) :] == 0).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), longest=st.integers(1, 9), penalty=st.sampled_from([0.0, 1.0]))
def test_greedy_is_a_beam_of_one(seed: int, longest: int, penalty: float) -> None:
    decoder, features = decoder_of(seed=seed), features_of(4, seed)
    one, other = greedy(decoder, features, longest), beam_search(decoder, features, 1, longest, penalty)
    assert one.tokens.equal(other.tokens)
    assert torch.allclose(one.log_probability, other.log_probability, atol=1e-5)
    assert one.attention is not None
    assert other.attention is not None
    assert torch.allclose(one.attention, other.attention, atol=1e-6)


def test_a_wider_beam_finds_what_is_likelier() -> None:
    decoder, features = decoder_of(seed=3), features_of(40)
    narrow, wide = greedy(decoder, features, 6), beam_search(decoder, features, 5, 6, 0.0)
    assert wide.log_probability.mean() > narrow.log_probability.mean()
    assert not wide.tokens.equal(narrow.tokens)


@pytest.mark.parametrize("beam", [1, 3])
def test_the_log_probability_is_the_teacher_forced_one(beam: int) -> None:
    decoder, features = decoder_of(seed=1), features_of(8)
    found = beam_search(decoder, features, beam, 7, 0.0)
    tokens = torch.cat([torch.full((8, 1), START), found.tokens], 1)
    words = (found.tokens != PAD).sum(1)
    with torch.no_grad():
        decoded = decoder(features, tokens[:, :-1])
    assert torch.allclose(-captioning.loss(decoded.logits, tokens) * words, found.log_probability, atol=1e-4)
    assert found.attention is not None
    assert torch.allclose(decoded.attention[found.tokens != PAD], found.attention[found.tokens != PAD], atol=1e-5)


@pytest.mark.parametrize("beam", [1, 3, 200])
@pytest.mark.parametrize("longest", [1, 4])
def test_it_is_well_formed(beam: int, longest: int) -> None:
    decoder = decoder_of(seed=2)
    with torch.no_grad():
        decoder.out.bias[[PAD, START, UNKNOWN]] = 50.0  # what a caption must not have, however likely
    found = beam_search(decoder, features_of(6), beam, longest, 0.0)
    tokens, looks = found.tokens, found.attention
    assert tokens.dtype == torch.int64
    assert 1 <= tokens.shape[1] <= longest
    assert not ((tokens == START) | (tokens == UNKNOWN)).any()
    after = (tokens == END).cumsum(1) - (tokens == END).long() > 0
    assert after.equal(tokens == PAD)
    assert looks is not None
    assert torch.allclose(looks.sum(2)[~after], torch.ones(()))
    assert (looks[after] == 0).all()
    assert found.log_probability.isfinite().all()


def test_what_has_no_end_is_a_caption_too() -> None:
    decoder = decoder_of()
    with torch.no_grad():
        decoder.out.bias[END] = -1e4
    for found in (greedy(decoder, features_of(3), 5), beam_search(decoder, features_of(3), 3, 5, 0.0)):
        assert found.tokens.shape == (3, 5)
        assert (found.tokens > END).all()


class Counted(nn.Module):
    """A decoder that counts its steps."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder, self.steps = decoder, 0

    def __getattr__(self, name: str) -> object:
        return super().__getattr__(name) if name == "decoder" else getattr(self.decoder, name)

    def step(self, memory: Memory, tokens: Tensor) -> object:
        self.steps += 1
        assert len(memory.view.projected) == len(tokens)  # an image's beams share what was made of it
        return self.decoder.step(memory, tokens)


@pytest.mark.parametrize("beam", [1, 3])
def test_it_stops_when_all_have_ended(beam: int) -> None:
    decoder = decoder_of()
    with torch.no_grad():
        decoder.out.bias[END] = 20.0
    counted = Counted(decoder)
    search = greedy(counted, features_of(4), 50) if beam == 1 else beam_search(counted, features_of(4), beam, 50, 0.0)  # type: ignore[arg-type]
    assert search.tokens.tolist() == [[END]] * 4
    assert counted.steps == 1


def test_long_captions_are_favoured_by_the_penalty() -> None:
    decoder, features = decoder_of(seed=5), features_of(60)
    with torch.no_grad():
        decoder.out.bias[END] = 3.0
    words = [(beam_search(decoder, features, 4, 9, p).tokens != PAD).sum().item() for p in (0.0, 2.0)]
    assert words[1] > words[0]


@pytest.mark.parametrize("how", [{"beam": 0}, {"longest": 0}, {"length_penalty": -1.0}])
def test_senseless_questions_are_refused(how: dict[str, float]) -> None:
    asked = {"beam": 1, "longest": 3, "length_penalty": 0.0} | how
    with pytest.raises(ValueError, match="generate: got"):
        build().generate(features_of(1), **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("beam", [1, 2])
def test_without_attention_there_is_none_to_show(beam: int) -> None:
    module = build((3, 8, 8), attention="none")
    found: Generated = module.generate(torch.rand(2, 3, 8, 8), beam=beam, longest=4, length_penalty=0.0)
    assert found.attention is None
    assert found.tokens.max() < WORDS


def test_images_are_captioned_alike_in_any_batch() -> None:
    decoder, features = decoder_of(seed=4), features_of(7)
    whole = beam_search(decoder, features, 3, 6, 0.0)
    for n in range(7):
        alone = beam_search(decoder, features[n : n + 1], 3, 6, 0.0).tokens[0]
        assert whole.tokens[n, : len(alone)].equal(alone)
        assert (whole.tokens[n, len(alone) :] == PAD).all()
