"""Augmentation: what each operation does to the pixels, how often, and that it follows the sample and not the batch.

Every AutoAugment operation is compared with torchvision v1 on PIL images, exactly: no level may differ.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CPU, images
from PIL import Image
from scipy.stats import binomtest, chisquare
from torch import Tensor
from torchvision import transforms as v1
from torchvision.transforms.autoaugment import _apply_op

from harness.augmenting import augment, augmented
from harness.autoaugment import SIGNED, applied, drawn, magnitudes, tables_for
from harness.data import Samples
from harness.errors import BenchError
from harness.randomness import SampleRandom
from harness.recipe import Recipe

torch.set_num_threads(1)

CROP, FLIP = Recipe(augment=("crop",), crop_padding=3), Recipe(augment=("flip",))
AUTO = Recipe(augment=("autoaugment",))
EVERYTHING = Recipe(augment=("crop", "flip", "autoaugment"), noise_variance=0.01)
SAMPLES = images(64)
POLICY = v1.AutoAugment(v1.AutoAugmentPolicy.CIFAR10)


def made(samples: Samples, recipe: Recipe, seed: int = 0, epoch: int = 0) -> Tensor:
    return augment(samples.images, samples.ids, recipe, seed, epoch)


@cache
def photographs() -> Tensor:
    """Real colour images: the 32 x 32 squares of scikit-learn's two photographs, uint8 (N, 3, 32, 32)."""
    from sklearn.datasets import load_sample_images

    whole = [torch.from_numpy(photo.copy()).permute(2, 0, 1) for photo in load_sample_images().images]
    squares = [photo.unfold(1, 32, 64).unfold(2, 32, 64).flatten(1, 2).transpose(0, 1) for photo in whole]
    return torch.cat(squares).contiguous()


def picture(image: Tensor) -> Image.Image:
    """uint8 (C, H, W) as PIL sees it."""
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def pixels(image: Image.Image) -> Tensor:
    array = np.array(image)
    return torch.from_numpy(array).view(*array.shape[:2], -1).permute(2, 0, 1)


# --- crop, flip, noise ---


def test_without_a_recipe_nothing_changes() -> None:
    assert torch.equal(made(SAMPLES, Recipe()), SAMPLES.images.float() / 255)


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    cropped = made(SAMPLES, CROP)
    padded = torch.nn.functional.pad(SAMPLES.images.float() / 255, [3] * 4)
    for image, whole in zip(cropped, padded, strict=True):
        assert any(torch.equal(image, whole[:, r : r + 8, c : c + 8]) for r in range(7) for c in range(7))


def test_the_place_of_a_crop_is_uniform_in_rows_and_columns_together() -> None:
    """Each pixel tells its own place, so the middle one tells the shift."""
    places = torch.arange(1, 82).to(torch.uint8).view(1, 1, 9, 9).expand(9800, -1, -1, -1)
    samples = Samples(places, torch.zeros(9800, dtype=torch.int64), torch.arange(9800))
    middle = (made(samples, CROP)[:, 0, 4, 4] * 255).round().long() - 1
    counts = Counter(zip((middle // 9).tolist(), (middle % 9).tolist(), strict=True))
    assert set(counts) == set(itertools.product(range(1, 8), repeat=2))
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_a_flip_mirrors_half_of_the_images_and_leaves_the_others() -> None:
    samples = images(4000)
    x, flipped = made(samples, Recipe()), made(samples, FLIP)
    mirrored = (flipped == x.flip(3)).flatten(1).all(1)
    same = (flipped == x).flatten(1).all(1)
    assert (mirrored ^ same).all()
    assert binomtest(int(mirrored.sum()), 4000).pvalue > 1e-3


def test_crop_and_flip_together_mirror_a_window_and_each_for_itself() -> None:
    both = made(SAMPLES, Recipe(augment=("crop", "flip"), crop_padding=3))
    cropped = made(SAMPLES, CROP)
    mirrored = (both == cropped.flip(3)).flatten(1).all(1)
    assert (mirrored | (both == cropped).flatten(1).all(1)).all()
    assert 0 < int(mirrored.sum()) < 64


def test_noise_has_its_variance_and_stays_in_the_box() -> None:
    grey = replace(SAMPLES, images=torch.full_like(SAMPLES.images, 51))
    noise = made(grey, Recipe(noise_variance=0.001)) - 0.2
    assert float(noise.var()) == pytest.approx(0.001, rel=0.05)
    assert float(noise.mean().abs()) < 0.001
    loud = made(SAMPLES, Recipe(noise_variance=1.0))
    assert 0 <= float(loud.min()) < float(loud.max()) <= 1


# --- AutoAugment's operations ---


def looks() -> dict[str, Tensor]:
    """Images of every kind that an operation could trip over: uint8 (N, C, H, W)."""
    ramp = torch.arange(32 * 32).view(1, 1, 32, 32) // 4
    narrow = ramp % 40 + 90
    ties = torch.tensor([3, 4]).repeat(512).view(1, 1, 32, 32)  # a mean half way between two levels
    made = torch.cat([ramp, narrow, ties, torch.full_like(ramp, 7), 255 * (ramp % 2)]).to(torch.uint8)
    turned = torch.cat([made, made.mT.contiguous(), made.flip(2)], dim=1)
    return {
        "photographs": photographs()[::4],
        "made": turned,
        "grey": made,
        "noise of odd size": images(9, shape=(3, 20, 31)).images,
        "digits": images(5, shape=(1, 8, 8)).images,
        "tiny": images(3, shape=(3, 2, 2)).images,
    }


OPERATIONS = sorted({name for policy in POLICY.policies for name, _, _ in policy})


@pytest.mark.parametrize("look", looks())
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_that_of_pil_to_the_last_level(operation: str, look: str) -> None:
    """At each magnitude of the policy, in both directions."""
    given = looks()[look]
    tables = tables_for(given.shape[2], given.shape[3], CPU)
    found = [(number, size) for number, (name, size) in enumerate(tables.steps) if name == operation]
    assert found
    for number, size in found:
        changed = applied(given, torch.full((len(given),), number), tables)
        for image, ours in zip(given, changed, strict=True):
            theirs = _apply_op(picture(image), operation, size, v1.InterpolationMode.NEAREST, None)
            assert torch.equal(ours, pixels(theirs)), (operation, size)


@pytest.mark.parametrize("size", [(32, 32), (20, 31), (224, 224)])
def test_magnitudes_and_directions_are_those_of_torchvision(size: tuple[int, int]) -> None:
    theirs = POLICY._augmentation_space(10, size)
    ours = magnitudes(*size)
    assert {name: steps.tolist() for name, (steps, _) in theirs.items() if steps.ndim} == ours
    assert {name for name, (_, signed) in theirs.items() if signed} == set(SIGNED)


def test_images_of_a_batch_take_each_their_own_step() -> None:
    given = photographs()[:54]
    tables = tables_for(32, 32, CPU)
    assert len(tables.steps) == 54
    order = torch.randperm(54, generator=torch.Generator().manual_seed(0))
    changed = applied(given, order, tables)
    for image, step, ours in zip(given, order.tolist(), changed, strict=True):
        name, size = tables.steps[step]
        theirs = _apply_op(picture(image), name or "Identity", size, v1.InterpolationMode.NEAREST, None)
        assert torch.equal(ours, pixels(theirs)), name


@pytest.mark.parametrize("channels", [2, 4])
def test_images_that_are_neither_grey_nor_coloured_are_refused(channels: int) -> None:
    with pytest.raises(BenchError, match=rf"autoaugment takes images of 1 or 3 channels, got {channels}"):
        made(images(4, shape=(channels, 8, 8)), AUTO)


# --- how often ---


def expected() -> dict[tuple[Any, Any], float]:
    """Probability of each pair of steps, from torchvision's table: sub-policy, chance, sign, each independent."""
    space = POLICY._augmentation_space(10, (32, 32))

    def outcomes(name: str, chance: float, bin_: int | None) -> list[tuple[float, tuple[str, float]]]:
        steps, signed = space[name]
        size = float(steps[bin_]) if bin_ is not None else 0.0
        sizes = [size, -size] if signed else [size]
        return [(1 - chance, ("", 0.0)), *((chance / len(sizes), (name, each + 0.0)) for each in sizes)]

    found: Counter[tuple[Any, Any]] = Counter()
    for first, second in POLICY.policies:
        for (p, one), (q, other) in itertools.product(outcomes(*first), outcomes(*second)):
            found[one, other] += p * q / 25
    return {pair: p for pair, p in found.items() if p > 0}


@pytest.mark.slow
def test_policies_chances_and_directions_are_drawn_as_often_as_torchvision_says() -> None:
    """All pairs of operations at once: a sub-policy too often, a wrong chance or a leaning sign would show."""
    n, tables = 40_000, tables_for(32, 32, CPU)
    pairs = drawn(tables, SampleRandom(0, torch.arange(n))).tolist()
    seen = Counter((tables.steps[a], tables.steps[b]) for a, b in pairs)
    wanted = expected()
    assert set(seen) <= set(wanted)
    frequent = [pair for pair, p in wanted.items() if n * p >= 5]
    rest = n - sum(seen[pair] for pair in frequent), n * (1 - sum(wanted[pair] for pair in frequent))
    counts = [seen[pair] for pair in frequent], [n * wanted[pair] for pair in frequent]
    if rest[1] > 1:
        counts = [*counts[0], rest[0]], [*counts[1], rest[1]]
    assert len(frequent) > 100
    assert chisquare(*counts).pvalue > 1e-3


@pytest.mark.parametrize("operation", [None, *OPERATIONS])
def test_each_operation_comes_as_often_as_the_table_has_it(operation: str | None) -> None:
    """None: an image that neither operation touches."""
    n, tables = 20_000, tables_for(32, 32, CPU)
    names = [name for name, _ in tables.steps]
    pairs = drawn(tables, SampleRandom(1, torch.arange(n))).tolist()
    hit = lambda one, other: operation in (one, other) if operation else one == other == ""  # noqa: E731
    seen = sum(hit(names[a], names[b]) for a, b in pairs)
    chance = sum(p for (one, other), p in expected().items() if hit(one[0], other[0]))
    assert binomtest(seen, n, chance).pvalue > 1e-3


@pytest.mark.slow
def test_mean_and_variance_are_those_of_the_pil_pipeline() -> None:
    """Of all pixels of an image, after crop, flip and AutoAugment: 20 draws for each of 140 photographs, both ways.

    The difference of two means of n numbers has the deviation sqrt((a + b) / n); four of them are allowed.
    """
    steps = [v1.RandomCrop(32, padding=4), v1.RandomHorizontalFlip(), POLICY, v1.ToTensor()]
    pipeline = v1.Compose(steps)
    photos = photographs()
    given = photos.repeat(20, 1, 1, 1)
    ours = augment(given, torch.arange(len(given)), replace(EVERYTHING, noise_variance=0.0), 0, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.stack([pipeline(picture(image)) for image in given])
    moments: dict[str, Callable[[Tensor], Tensor]] = {
        "mean": lambda x: x.flatten(1).mean(1),
        "variance": lambda x: x.flatten(1).var(1),
        "left column": lambda x: x[..., 0].flatten(1).mean(1),
        "difference of red and blue": lambda x: (x[:, 0] - x[:, 2]).abs().flatten(1).mean(1),
        "difference of neighbours": lambda x: x.diff(dim=3).abs().flatten(1).mean(1),
    }
    plain = given.float() / 255
    for name, moment in moments.items():
        a, b, neither = (moment(x).double() for x in (ours, theirs, plain))
        error = ((a.var() + b.var()) / len(a)).sqrt()
        assert abs(float(a.mean() - b.mean())) < 4 * float(error), name
        if name != "difference of red and blue":
            assert abs(float(b.mean() - neither.mean())) > 4 * float(error), name  # the comparison could tell


# --- whose numbers ---


@pytest.mark.parametrize("channels", [1, 3])
def test_autoaugment_draws_a_policy_for_each_image(channels: int) -> None:
    same = images(1, shape=(channels, 8, 8)).images.expand(64, -1, -1, -1)
    changed = made(replace(SAMPLES, images=same), AUTO)
    assert len({tuple(image.flatten().tolist()) for image in changed}) > 15


@pytest.mark.parametrize(
    "recipe", [CROP, FLIP, AUTO, Recipe(noise_variance=0.1)], ids=["crop", "flip", "autoaugment", "noise"]
)
def test_augmentation_follows_seed_and_epoch(recipe: Recipe) -> None:
    found = made(SAMPLES, recipe, seed=1, epoch=2)
    assert torch.equal(made(SAMPLES, recipe, seed=1, epoch=2), found)
    assert not torch.equal(made(SAMPLES, recipe, seed=1, epoch=3), found)
    assert not torch.equal(made(SAMPLES, recipe, seed=2, epoch=2), found)


@given(
    order=st.lists(st.integers(0, 47), min_size=1, max_size=48, unique=True),
    shape=st.sampled_from([(3, 8, 8), (1, 5, 7), (3, 11, 6)]),
    epoch=st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_a_sample_is_augmented_alike_in_any_batch(order: list[int], shape: tuple[int, int, int], epoch: int) -> None:
    """To the bit, in any company, in any order and alone."""
    samples = images(48, shape=shape)
    part = Samples(samples.images[order], samples.labels[order], samples.ids[order])
    assert torch.equal(made(part, EVERYTHING, 5, epoch), made(samples, EVERYTHING, 5, epoch)[order])


def test_batches_are_the_same_however_many_are_augmented_at_once() -> None:
    recipe = replace(EVERYTHING, batch_size=12)
    places = list(torch.randperm(64, generator=torch.Generator().manual_seed(1)).split(12))
    all_of_them = made(SAMPLES, EVERYTHING, 3, 4)
    for at_once in (0, 12 * 3 * 64, 40 * 3 * 64, 2**22):
        batches = list(augmented(SAMPLES, places, recipe, 3, 4, at_once))
        assert len(batches) == len(places)
        for place, batch in zip(places, batches, strict=True):
            assert torch.equal(batch.x, all_of_them[place])
            assert torch.equal(batch.y, SAMPLES.labels[place])
            assert torch.equal(batch.ids, SAMPLES.ids[place])


@pytest.mark.parametrize("channels_last", [True, False])
def test_batches_lie_in_memory_as_the_recipe_says(channels_last: bool) -> None:
    recipe = replace(EVERYTHING, batch_size=32, channels_last=channels_last)
    for batch in augmented(SAMPLES, list(torch.arange(64).split(32)), recipe, 0, 0):
        assert batch.x.is_contiguous(memory_format=torch.channels_last) == channels_last
        assert batch.x.is_contiguous() == (not channels_last)


def test_augmentation_neither_draws_from_the_global_generator_nor_writes_into_its_input() -> None:
    state, before = torch.get_rng_state(), SAMPLES.images.clone()
    made(SAMPLES, EVERYTHING)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(SAMPLES.images, before)
