"""Philox against published vectors, its streams against their distributions, and a sample's numbers in any batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.randomness import SampleRandom, derive, philox

IDS = torch.arange(40) * 2**31 + 5  # the upper word of an id counts too


# kat_vectors of the Random123 distribution, philox 4x32 with 10 rounds.
@pytest.mark.parametrize(
    ("counter", "key", "wanted"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_known_answers(counter: str, key: str, wanted: str) -> None:
    words = philox(_words(counter), _words(key))
    assert [f"{int(word):08x}" for word in words] == wanted.split()


def test_philox_of_many_counters_is_philox_of_each() -> None:
    blocks = torch.tensor([0, 1, 0xFFFFFFFF])
    together = philox((blocks, 2, 3, 4), (5, 6))
    for place, block in enumerate(blocks.tolist()):
        assert [int(w[place]) for w in together] == [int(w) for w in philox((block, 2, 3, 4), (5, 6))]


@pytest.mark.parametrize("stream", ["one sample", "first draw of many samples", "one draw a step"])
def test_uniform_and_normal_have_their_distributions(stream: str) -> None:
    def numbers(kind: str) -> torch.Tensor:
        if stream == "one sample":
            random, shape = SampleRandom(3, torch.tensor([11])), (20_000,)
            return random.uniform(-2, 5, shape) if kind == "uniform" else random.normal(shape)
        if stream == "first draw of many samples":
            random = SampleRandom(3, torch.arange(20_000))
            return random.uniform(-2, 5, ()) if kind == "uniform" else random.normal(())
        random = SampleRandom(3, torch.arange(100))
        steps = [random.at(step=step) for step in range(200)]
        return torch.cat([r.uniform(-2, 5, ()) if kind == "uniform" else r.normal(()) for r in steps])

    assert stats.kstest(numbers("uniform").flatten().numpy(), stats.uniform(-2, 7).cdf).pvalue > 1e-3
    assert stats.kstest(numbers("normal").flatten().numpy(), stats.norm.cdf).pvalue > 1e-3


def test_streams_of_neighbouring_samples_seeds_steps_restarts_and_draws_do_not_correlate() -> None:
    def draw(seed: int = 0, sample: int = 0, step: int = 0, restart: int = 0, skip: int = 0) -> torch.Tensor:
        random = SampleRandom(seed, torch.tensor([sample])).at(restart, step)
        for _ in range(skip):
            random.uniform(0, 1, (1,))
        return random.uniform(0, 1, (20_000,))[0]

    streams = [draw(), draw(seed=1), draw(sample=1), draw(step=1), draw(restart=1), draw(skip=1), draw(2**40)]
    correlation = torch.corrcoef(torch.stack(streams)) - torch.eye(len(streams))
    assert float(correlation.abs().max()) < 0.03  # four standard errors of an independent pair


@given(order=st.permutations(range(len(IDS))), kept=st.integers(1, len(IDS)), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=50, deadline=None)
def test_a_sample_gets_the_same_numbers_in_any_batch(order: list[int], kept: int, seed: int) -> None:
    index = torch.tensor(order[:kept])
    whole, part = SampleRandom(seed, IDS).at(1, 2), SampleRandom(seed, IDS[index]).at(1, 2)
    assert torch.equal(whole.normal((2, 3))[index], part.normal((2, 3)))
    selected = whole.select(index)  # in the middle of a stream: the next draw must be the next one of the part too
    assert torch.equal(selected.uniform(0, 1, (5,)), part.uniform(0, 1, (5,)))
    assert torch.equal(selected.integers(0, 100, (5,)), part.integers(0, 100, (5,)))


def test_a_step_does_not_depend_on_what_was_drawn_before() -> None:
    random = SampleRandom(0, IDS)
    expected = random.at(0, 4).normal((3,))
    random.normal((100,))
    assert torch.equal(random.at(0, 4).normal((3,)), expected)
    assert not torch.equal(random.at(0, 4).normal((3,)), random.at(1, 4).normal((3,)))


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    SampleRandom(0, IDS).normal((3, 8, 8))
    assert torch.equal(torch.get_rng_state(), before)


def test_integers_reach_both_ends_of_their_range_and_no_further() -> None:
    drawn = SampleRandom(0, IDS).integers(-2, 3, (200,))
    assert drawn.dtype == torch.int64
    assert sorted(drawn.unique().tolist()) == [-2, -1, 0, 1, 2]
    assert stats.chisquare(torch.bincount(drawn.flatten() + 2).numpy()).pvalue > 1e-3


def test_derived_seeds_differ_by_seed_and_by_every_name() -> None:
    seeds = [derive(0), derive(1), derive(0, "a"), derive(0, "b"), derive(0, "a", "b"), derive(0, "a", 1)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive(0, "a", 1) == derive(0, "a", 1)


def test_the_streams_are_those_that_stored_numbers_were_made_with() -> None:
    """Another order of counter or key would change every number under keys that say nothing has changed."""
    random = SampleRandom(3, torch.tensor([0, 7])).at(1, 2)
    assert random.integers(0, 2**32, (2,)).tolist() == [[694542944, 473498608], [68149302, 2557966855]]
    assert random.uniform(0, 1, (2,))[1].tolist() == pytest.approx([0.7898441553115845, 0.4569564461708069], abs=1e-7)


def _words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]
