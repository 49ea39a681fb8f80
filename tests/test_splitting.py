from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import splitting
from harness.errors import BenchError

LABELS = np.repeat(np.arange(4), [10, 20, 30, 41])


def test_halves_are_a_partition_that_follows_the_seed() -> None:
    kept, held = splitting.hold_out(100, 10, seed=3)
    assert len(held) == 10
    assert sorted([*kept, *held]) == list(range(100))
    assert held.tolist() == splitting.hold_out(100, 10, seed=3).held.tolist()
    assert held.tolist() != splitting.hold_out(100, 10, seed=4).held.tolist()


@given(held=st.integers(0, len(LABELS)), seed=st.integers(0, 2**32 - 1))
def test_a_stratified_hold_out_is_exact_and_in_proportion(held: int, seed: int) -> None:
    halves = splitting.hold_out_stratified(LABELS, held, seed)
    assert sorted([*halves.kept, *halves.held]) == list(range(len(LABELS)))
    assert len(halves.held) == held
    exact = np.bincount(LABELS) * held / len(LABELS)
    assert np.abs(np.bincount(LABELS[halves.held], minlength=4) - exact).max() < 1


def test_a_cap_takes_from_the_classes_in_turn_and_larger_ones_contain_smaller_ones() -> None:
    chosen = [splitting.first_of_each_class(LABELS, count, seed=0) for count in range(len(LABELS) + 1)]
    assert np.bincount(LABELS[chosen[22]]).tolist() == [6, 6, 5, 5]
    assert np.bincount(LABELS[chosen[50]]).tolist() == [10, 14, 13, 13]  # the smallest class is used up
    assert all(set(small) < set(large) for small, large in itertools.pairwise(chosen))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(BenchError, match=r"digits: test=.*between 0 and 1"):
        splitting.check_share("digits", "test", share)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_numpy_refuses_is_refused_with_the_field_named(seed: int) -> None:
    with pytest.raises(BenchError, match="split_seed"):
        splitting.check_seed("digits", seed)
