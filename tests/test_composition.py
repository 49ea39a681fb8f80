"""What splits are made of: measured exactly, kept once, and never able to change a result in silence."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from harness import composition
from harness.artifacts import Artifacts, read_tensors
from harness.composition import Composition, imbalance, kept, measured, settled
from harness.errors import BenchError
from harness.types import Facts, Split

KEY = "ab" * 32
FACTS = Facts((3, 4, 4), ("cat", "dog"), {"train": 150, "validation": 5, "test": 6}, "none", "nobody", "nowhere")
SIZES = {"train": 150, "validation": 5, "test": 6}


def splits(seed: int = 0) -> dict[str, Split]:
    generator, first = np.random.default_rng(seed), 0
    found = {}
    for name, n in SIZES.items():
        pixels = generator.integers(0, 256, (n, 3, 4, 4), dtype=np.uint8)
        found[name] = Split(pixels, np.arange(n) % 2, np.arange(first, first + n))
        first += n
    return found


def dark(of: Mapping[str, Split]) -> dict[str, Split]:
    """The same samples with other pixels: whoever reads what is kept does not notice."""
    return {name: split._replace(images=split.images // 2) for name, split in of.items()}


def settle(artifacts: Artifacts, of: Mapping[str, Split], *, key: str = KEY, fresh: bool = False) -> Composition:
    return settled(artifacts, key, "pets", FACTS, of, fresh=fresh)


def test_counts_ids_mean_and_deviation_are_those_of_the_splits() -> None:
    given = splits()
    found = measured(FACTS, given)
    pixels = given["train"].images / 255
    assert found.mean == pytest.approx(pixels.mean((0, 2, 3)), rel=1e-14)
    assert found.std == pytest.approx(pixels.std((0, 2, 3)), rel=1e-14)
    assert {name: counts.tolist() for name, counts in found.counts.items()} == {
        "train": [75, 75],
        "validation": [3, 2],
        "test": [3, 3],
    }
    assert all(found.ids[name].tolist() == split.ids.tolist() for name, split in given.items())


@given(images=arrays.arrays(np.uint8, arrays.array_shapes(min_dims=4, max_dims=4, max_side=9)))
@settings(deadline=None)
def test_the_statistics_are_numpys(images: np.ndarray) -> None:
    n = len(images)
    facts = Facts(images.shape[1:], ("a",), {}, "", "", "")
    found = measured(facts, {"train": Split(images, np.zeros(n, dtype=np.int64), np.arange(n))})
    assert found.mean == pytest.approx((images / 255).mean((0, 2, 3)), rel=1e-12, abs=1e-15)
    assert found.std == pytest.approx(np.maximum((images / 255).std((0, 2, 3)), 1e-6), rel=1e-9, abs=1e-12)


def test_what_is_kept_is_read_and_not_measured_again(tmp_path: Path) -> None:
    artifacts, given = Artifacts(tmp_path), splits()
    first = settle(artifacts, given)
    again = settle(artifacts, dark(given))
    assert (again.mean, again.std) == (first.mean, first.std)  # the very bits
    assert list(again.counts) == list(again.ids) == list(SIZES)
    assert again.counts["train"].dtype == again.ids["test"].dtype == np.int64
    assert measured(FACTS, dark(given)).mean != first.mean


def test_a_fresh_run_measures_again_and_keeps_that(tmp_path: Path) -> None:
    artifacts, given = Artifacts(tmp_path), splits()
    first = settle(artifacts, given)
    fresh = settle(artifacts, dark(given), fresh=True)
    assert fresh.mean != first.mean
    assert settle(artifacts, given).mean == fresh.mean


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["weights.safetensors", "step.json"])
@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda p: p.write_bytes(p.read_bytes()[:40])])
def test_what_is_damaged_is_measured_again_and_mended(
    tmp_path: Path, file: str, damage: Callable[[Path], object]
) -> None:
    artifacts, given = Artifacts(tmp_path), splits()
    first = settle(artifacts, given)
    path = artifacts.folder(composition.KIND, KEY) / file
    whole = path.read_bytes()
    damage(path)
    if (file, damage) != ("step.json", flip):  # the last letters of the record are no part of what counts
        assert kept(artifacts, KEY) is None
    assert settle(artifacts, given).mean == first.mean
    assert kept(artifacts, KEY) is not None
    if file == "weights.safetensors":
        assert path.read_bytes() == whole


def test_what_was_kept_for_other_data_is_not_taken(tmp_path: Path) -> None:
    artifacts, given = Artifacts(tmp_path), splits()
    settle(artifacts, given)
    other = "cd" * 32
    shutil.copytree(artifacts.folder(composition.KIND, KEY), artifacts.folder(composition.KIND, other))
    assert kept(artifacts, other) is None
    assert settle(artifacts, dark(given), key=other).mean == measured(FACTS, dark(given)).mean


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s._replace(ids=s.ids[::-1].copy()),
        lambda s: s._replace(labels=1 - s.labels),
        lambda s: Split(s.images[1:], s.labels[1:], s.ids[1:]),
    ],
)
def test_other_splits_under_the_same_key_are_an_error(tmp_path: Path, change: Callable[[Split], Split]) -> None:
    artifacts, given = Artifacts(tmp_path), splits()
    settle(artifacts, given)
    with pytest.raises(BenchError, match=r"^dataset pets: its splits are not those kept in .* --fresh") as caught:
        settle(artifacts, {**given, "validation": change(given["validation"])})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("counts", "ratio"), [([5, 5], 1.0), ([3, 12], 4.0), ([0, 4], math.inf), ([0, 0], math.inf)])
def test_imbalance_is_the_largest_class_by_the_smallest(counts: list[int], ratio: float) -> None:
    assert imbalance(np.array(counts)) == ratio


@pytest.mark.slow
def test_a_run_keeps_it_and_info_and_the_next_run_take_it(bench: Callable[..., Any], workplace: Path) -> None:
    one = ["--models", "resnet_original", "--attacks", "clean", "--defenses", "none"]
    quick = ["--set", "models.resnet_original.training.epochs=1"]
    assert bench("run", *one, *quick).returncode == 0
    (folder,) = (workplace / "artifacts" / "data").iterdir()
    artifacts = Artifacts(workplace / "artifacts")
    found = kept(artifacts, folder.name)
    assert found
    assert {name: len(ids) for name, ids in found.ids.items()} == {"train": 1168, "validation": 180, "test": 449}

    told = bench("info", "datasets", "digits")
    assert "mean 0.3055; std 0.3761" in told.stdout
    assert told.stderr == ""  # it says so when it reads images

    # What the next run normalises with is what is kept, which is changed here by other means than its own.
    composition.keep(artifacts, folder.name, "digits", Composition(found.ids, found.counts, (0.75,), (0.5,)))
    shutil.rmtree(workplace / "artifacts" / "fit")
    assert bench("run", *one, "--set", "models.resnet_original.training.epochs=2").returncode == 0
    (fit,) = (workplace / "artifacts" / "fit").iterdir()
    weights = read_tensors(fit / "weights.safetensors")[0]
    assert (float(weights["mean"]), float(weights["std"])) == (0.75, 0.5)
