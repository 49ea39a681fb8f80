"""What may be given as data, and what is said of what may not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from harness.api.samples import gathered, split
from harness.errors import BenchError

RNG = np.random.default_rng(0)
LEVELS = RNG.integers(0, 256, (12, 3, 5, 4), dtype=np.uint8)
LABELS = RNG.integers(0, 4, 12)


class Photographs(Dataset[Any]):
    """PIL images and plain numbers, as torchvision's data sets have them."""

    read = 0

    def __len__(self) -> int:
        return len(LEVELS)

    def __getitem__(self, place: int) -> tuple[Image.Image, int]:
        self.read += 1
        return Image.fromarray(LEVELS[place].transpose(1, 2, 0)), int(LABELS[place])


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return zip(torch.from_numpy(LEVELS), LABELS.tolist(), strict=True)


FLOATS = torch.from_numpy(LEVELS).float() / 255


@pytest.mark.parametrize(
    "source",
    [
        (LEVELS, LABELS),
        [torch.from_numpy(LEVELS), torch.from_numpy(LABELS)],
        (FLOATS, LABELS.tolist()),
        (FLOATS.double().numpy(), LABELS.astype(np.uint8)),
        (LEVELS.transpose(0, 2, 3, 1), LABELS),
        Photographs(),
        Stream(),
        DataLoader(TensorDataset(FLOATS, torch.from_numpy(LABELS)), 5),
        DataLoader(TensorDataset(FLOATS, torch.from_numpy(LABELS)), 5, shuffle=True),
        DataLoader(Stream(), 5),
    ],
    ids=lambda source: type(source).__name__,
)
def test_all_forms_give_the_same_bytes(source: Any) -> None:
    found = split(source, "test")
    assert found.images.dtype == np.uint8
    assert found.images.flags.c_contiguous
    assert np.array_equal(found.images, LEVELS)
    assert found.labels.dtype == found.ids.dtype == np.int64
    assert np.array_equal(found.labels, LABELS)
    assert np.array_equal(found.ids, np.arange(12))


def test_grey_photographs_get_a_channel() -> None:
    found = split([(Image.fromarray(LEVELS[0, 0]), 1), (Image.fromarray(LEVELS[1, 0]), 0)].__iter__(), "test")
    assert np.array_equal(found.images, LEVELS[:2, :1])


def test_a_loader_with_an_order_of_its_own_is_read_as_it_gives() -> None:
    data = TensorDataset(FLOATS, torch.from_numpy(LABELS))
    found = split(DataLoader(data, 4, sampler=[3, 1, 7]), "test")
    assert np.array_equal(found.images, LEVELS[[3, 1, 7]])


def test_of_a_data_set_no_more_is_read_than_is_attacked() -> None:
    photographs = Photographs()
    found = split(photographs, "test", limit=5)
    assert photographs.read == len(found.labels) == 5
    assert np.array_equal(found.images, LEVELS[found.ids])


def test_floats_between_the_levels_stay_what_they_are() -> None:
    x = FLOATS.clone()
    x[0] += 0.3 / 255
    given = gathered(((LEVELS, LABELS), (x.clamp(0, 1), LABELS)))
    assert {part.images.dtype for part in given.splits.values()} == {np.dtype(np.float32)}
    assert np.array_equal(given.splits["test"].images, x.clamp(0, 1).numpy())
    assert np.allclose(given.splits["validation"].images * 255, LEVELS[given.splits["validation"].ids])


def test_training_images_are_parted_and_test_images_alone_train_nothing() -> None:
    pair = gathered(((LEVELS, LABELS), (LEVELS[:3], LABELS[:3])))
    assert pair.trains
    assert {name: len(part.labels) for name, part in pair.splits.items()} == {"train": 11, "validation": 1, "test": 3}
    assert not set(pair.splits["train"].ids) & set(pair.splits["validation"].ids)
    named = gathered({"train": (LEVELS, LABELS), "validation": (LEVELS[:4], LABELS[:4]), "test": Photographs()})
    assert [len(named.splits[name].labels) for name in ("train", "validation", "test")] == [12, 4, 12]
    alone = gathered((LEVELS, LABELS))
    assert not alone.trains
    assert alone.classes == 4


def test_ids_say_which_sample_it_is() -> None:
    assert np.array_equal(split((LEVELS, LABELS, np.arange(12) * 3), "test").ids, np.arange(12) * 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (42, "data: got int for test; "),
        ("digits", "data: got str for test; "),
        ({"tset": (LEVELS, LABELS)}, "data: split: no such name 'tset'; did you mean test"),
        ({"train": (LEVELS, LABELS)}, "data: no split test among train"),
        ((LEVELS.astype(np.int64), LABELS), "data, test: x: int64; uint8, or floats in"),
        ((FLOATS * float("nan"), LABELS), "data, test: x: 12 of 12 images hold NaN"),
        ((FLOATS * float("inf"), LABELS), r"data, test: x: (pixels run|\d+ of 12 images hold NaN)"),
        ((FLOATS * 255, LABELS), "x: pixels run from 0 to 255; .* divide by 255, or give uint8"),
        ((FLOATS * 3 - 1, LABELS), r"normalisation belongs in the model: give mean= and std="),
        ((FLOATS.clone().requires_grad_(), LABELS), r"requires a gradient, .* x.detach"),
        ((FLOATS.permute(0, 2, 3, 1), LABELS), r"has its channels last; give x.permute\(0, 3, 1, 2\)"),
        ((FLOATS[:, 0], LABELS), r"x: shape \(12, 5, 4\); .* add the channel: x\[:, None\]"),
        ((FLOATS[:0], LABELS[:0]), "with one image or more is needed"),
        ((FLOATS, LABELS[:5]), r"y: shape \(5,\) for 12 images; \(12,\) is needed"),
        ((FLOATS, np.eye(4)[LABELS]), r"y: shape \(12, 4\) for 12 images; .* give y.argmax\(1\)"),
        ((FLOATS, LABELS - 9), "whole numbers from 0, the classes' numbers, are needed"),
        ((FLOATS, LABELS + 0.5), "y: float64, .* whole numbers from 0"),
        ((FLOATS, LABELS, np.zeros(12, np.int64)), "ids: int64 .* 12 different whole numbers are needed"),
        (
            ((LEVELS, LABELS), (LEVELS[:, :1], LABELS)),
            r"data, train: images of \(3, 5, 4\), those of test are \(1, 5, 4\)",
        ),
        (((LEVELS[:1], LABELS[:1]), (LEVELS, LABELS)), "data, train: one image; two or more are needed"),
        (iter([3]), r"data, test: gives int; pairs \(image, label\) are needed"),
        (iter([]), "data, test: is empty"),
        (iter([(FLOATS[0], 1), (FLOATS[0, :, :3], 1)]), "one size is needed, resize them"),
        (([[1], [1, 2]], LABELS), "no array can be made of it"),
    ],
)
def test_what_is_no_data_is_one_line(data: Any, message: str) -> None:
    with pytest.raises(BenchError, match=message) as told:
        gathered(data)
    assert "\n" not in str(told.value)
