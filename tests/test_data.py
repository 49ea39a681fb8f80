"""Loading, batches and subsets: what arrives is what was given, and what does not fit is refused by name."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from networks import CPU, images

from harness.data import on_device
from harness.errors import BenchError
from harness.types import Batch, Facts, Split

torch.set_num_threads(1)

FACTS = Facts((3, 8, 8), ("a", "b"), {"train": 20, "validation": 5, "test": 5}, "none", "nobody", "nowhere")


def splits() -> dict[str, Split]:
    generator = np.random.default_rng(0)

    def part(n: int, start: int) -> Split:
        pixels = generator.integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)
        return Split(pixels, generator.integers(0, 2, n), np.arange(start, start + n))

    return {"train": part(20, 0), "validation": part(5, 20), "test": part(5, 25)}


# --- loading ---


def test_splits_arrive_unchanged_with_mean_and_deviation_of_the_training_images() -> None:
    given = splits()
    data = on_device(FACTS, given, CPU, "made")
    for name, part in given.items():
        moved = data.splits[name]
        assert moved.images.dtype == torch.uint8
        assert np.array_equal(moved.images.numpy(), part.images)
        assert np.array_equal(moved.labels.numpy(), part.labels)
        assert np.array_equal(moved.ids.numpy(), part.ids)
    pixels = given["train"].images / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)))
    assert data.std == pytest.approx(pixels.std((0, 2, 3)))


def test_a_constant_channel_does_not_divide_by_zero() -> None:
    given = splits()
    given["train"].images[:, 1] = 7
    assert on_device(FACTS, given, CPU, "made").std[1] > 0


def change(**columns: Callable[[Any], Any]) -> Callable[[Split], Split]:
    return lambda part: part._replace(**{name: how(getattr(part, name)) for name, how in columns.items()})


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (change(images=lambda a: a.astype(np.float32)), "images are float32"),
        (change(images=lambda a: a.transpose(0, 2, 3, 1)), r"images are uint8 \(5, 8, 8, 3\)"),
        (change(images=lambda a: a[:, :1]), r"uint8 \(N, 3, 8, 8\) is needed"),
        (change(images=lambda a: a[:4]), "4 images, 5 labels, 5 ids"),
        (change(ids=lambda a: a[:4]), "5 images, 5 labels, 4 ids"),
        (change(images=lambda a: a[:0], labels=lambda a: a[:0], ids=lambda a: a[:0]), "at least one"),
        (change(labels=lambda a: a + 1), "labels run from 1 to 2; 0 to 1 is needed"),
        (change(labels=lambda a: a - 1), "labels run from -1"),
        (change(labels=lambda a: a.astype(np.float64)), "labels are float64; int64 is needed"),
        (change(labels=lambda a: a.astype(np.int32)), "labels are int32"),
        (change(ids=lambda a: a.astype(np.uint64)), "ids are uint64"),
        (change(ids=np.zeros_like), "ids are not unique"),
    ],
)
def test_a_split_that_does_not_fit_is_refused_by_name(how: Callable[[Split], Split], reason: str) -> None:
    given = splits()
    given["test"] = how(given["test"])
    given["test"].labels[:1] = 1  # so that the largest label does not hang on chance
    with pytest.raises(BenchError, match=f"dataset made, split test: .*{reason}"):
        on_device(FACTS, given, CPU, "made")


@pytest.mark.parametrize("missing", ["train", "validation", "test"])
def test_a_missing_split_is_refused_by_name(missing: str) -> None:
    given = splits()
    del given[missing]
    with pytest.raises(BenchError, match=f"dataset made: no split {missing}"):
        on_device(FACTS, given, CPU, "made")


# --- batches and subsets ---


def test_batches_hold_every_sample_once_as_pixels() -> None:
    samples = images(10)
    batches = list(samples.batches(4))
    assert [len(batch.y) for batch in batches] == [4, 4, 2]
    whole = Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
    assert torch.equal((whole.x * 255).round().to(torch.uint8), samples.images)
    assert torch.equal(whole.ids, samples.ids)
    assert torch.equal(whole.y, samples.labels)
    assert whole.x.dtype == torch.float32


def test_smaller_limits_lie_inside_larger_ones_and_keep_the_order() -> None:
    samples = images(50)
    chosen = [samples.limited(limit).ids.tolist() for limit in (1, 7, 20, 49)]
    for small, large in itertools.pairwise(chosen):
        assert set(small) < set(large)
    for limit, ids in zip((1, 7, 20, 49), chosen, strict=True):
        assert len(ids) == limit
        assert ids == sorted(ids)
    assert samples.limited(7).ids.tolist() == chosen[1]
    assert chosen[2] != samples.ids[:20].tolist()  # random, for a file may be sorted by class
    part = samples.limited(7)
    places = [(samples.ids == i).nonzero().item() for i in part.ids]
    assert torch.equal(part.images, samples.images[places])
    assert torch.equal(part.labels, samples.labels[places])


def test_a_limit_beyond_the_split_is_the_split() -> None:
    samples = images(5)
    assert samples.limited(None) is samples
    assert samples.limited(5) is samples
    assert samples.limited(500) is samples
