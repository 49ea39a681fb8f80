"""Features kept in a file, where attention points, and captions in the store."""

from __future__ import annotations

import math
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from harness import composition
from harness.artifacts import Artifacts
from harness.captioning.features import Features, digest, kept
from harness.captioning.pointing import pointing
from harness.errors import BenchError
from harness.store.records import CellRecord, RunRecord, ScoreRecord
from harness.store.store import open_store
from harness.types import Box, CaptionedSplit, CaptionOutcome, Corpus, Facts, Reason, Status, Verdict

# --- features


def pixels(rows: Any) -> torch.Tensor:
    return torch.from_numpy(rows).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 3)


def doubled(x: torch.Tensor) -> torch.Tensor:
    """(N, 1, 2, 3) -> (N, 6, 2)."""
    return torch.stack([x.flatten(1), 2 * x.flatten(1)], dim=2)


def test_features_come_back_by_row_whatever_the_order(tmp_path: Path) -> None:
    found = kept(Artifacts(tmp_path), "key", doubled, pixels, 10, 4)
    assert found.shape == (10, 6, 2)
    rows = np.array([7, 0, 7, 3])
    assert torch.equal(found.read(rows), doubled(pixels(rows)))
    assert np.load(found.path).dtype == np.float16


def test_features_are_made_once_and_again_where_the_file_is_not_whole(tmp_path: Path) -> None:
    artifacts, calls = Artifacts(tmp_path), list[int]()

    def encode(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return doubled(x)

    shares: list[float] = []
    found = kept(artifacts, "key", encode, pixels, 10, 4, shares.append)
    assert calls == [4, 4, 2]
    assert shares == [0.4, 0.8, 1.0]
    kept(artifacts, "key", encode, pixels, 10, 4)
    assert len(calls) == 3
    whole = found.path.read_bytes()
    found.path.write_bytes(whole[:-2])
    again = kept(artifacts, "key", encode, pixels, 10, 4)
    assert len(calls) == 6
    assert again.path.read_bytes() == whole


def test_a_run_that_is_stopped_leaves_no_file_of_features(tmp_path: Path) -> None:
    def stops(x: torch.Tensor) -> torch.Tensor:
        if float(x.amax()) > 5:
            raise KeyboardInterrupt
        return doubled(x)

    with pytest.raises(KeyboardInterrupt):
        kept(Artifacts(tmp_path), "key", stops, pixels, 10, 4)
    assert list(tmp_path.rglob("*.npy*")) == []


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_features_that_half_precision_does_not_hold_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(BenchError, match="half precision"):
        kept(Artifacts(tmp_path), "key", lambda x: doubled(x) * value + value, pixels, 4, 4)


def test_the_digest_tells_weights_statistics_and_settings_apart() -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    seen = {digest(encoder)}
    assert digest(encoder.train()) in seen
    with torch.no_grad():
        encoder[0].bias.add_(1)
    seen.add(digest(encoder))
    encoder[1].running_mean.add_(1)
    seen.add(digest(encoder))
    encoder[1].eps = 1e-2
    seen.add(digest(encoder))
    assert len(seen) == 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is asked of Linux")
def test_reading_a_large_file_does_not_fill_memory(tmp_path: Path) -> None:
    """600 MB of features, read whole in batches: far less stays resident."""
    path, shape = tmp_path / "features.npy", (2400, 49, 2560)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + 2 * math.prod(shape))
    features, order = Features(path), np.random.default_rng(0).permutation(shape[0])
    features.read(order[:32])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for rows in np.split(order, 75):
        features.read(rows)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


# --- where attention points


def at(row: int, column: int, grid: tuple[int, int] = (2, 4)) -> np.ndarray:
    weights = np.full(grid, 0.05, np.float32)
    weights[row, column] = 0.5
    return weights.ravel()


def test_a_peak_inside_the_named_box_counts_and_others_do_not() -> None:
    boxes = [Box("circle", 0.5, 0.0, 1.0, 0.5), Box("square", 0.0, 0.5, 0.25, 1.0)]
    words = ["a", "circle", "above", "a", "square"]
    maps = np.stack([at(0, 0), at(0, 3), at(0, 0), at(0, 0), at(0, 0)])
    assert pointing(words, maps, (2, 4), boxes) == (2, 1, pytest.approx((0.25 + 0.125) / 2, abs=1e-9))


def test_rows_and_columns_are_not_exchanged() -> None:
    box = [Box("circle", 0.75, 0.0, 1.0, 0.5)]  # to the right, above
    assert pointing(["circle"], at(0, 3)[None], (2, 4), box).pointed == 1
    assert pointing(["circle"], at(1, 3)[None], (2, 4), box).pointed == 0
    assert pointing(["circle"], at(0, 0)[None], (2, 4), box).pointed == 0


def test_any_thing_of_that_name_will_do_and_covered_is_their_union() -> None:
    boxes = [Box("star", 0.0, 0.0, 0.5, 1.0), Box("star", 0.25, 0.0, 0.75, 1.0)]
    found = pointing(["star"], at(0, 2)[None], (2, 4), boxes)
    assert found == (1, 1, pytest.approx(0.75))


def test_where_nothing_is_named_there_is_no_chance() -> None:
    found = pointing(["a"], at(0, 0)[None], (2, 4), [Box("star", 0, 0, 1, 1)])
    assert found[:2] == (0, 0)
    assert math.isnan(found.covered)


@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_a_box_around_the_peak_is_hit(rows: int, columns: int, data: st.DataObject) -> None:
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    box = Box("x", column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
    assert pointing(["x"], at(row, column, (rows, columns))[None], (rows, columns), [box]).pointed == 1


# --- the store

CORPUS = Corpus(frozenset(), frozenset(), {}, 2)
REFERENCES = {7: ("one two", "three"), 3: ("چهار",)}


def outcome(**changes: Any) -> CaptionOutcome:
    numbers = {name: np.array([0.5, 1.5]) for name in ("loss", "linf", "l2", "forwards", "backwards", "proposal_size")}
    common: dict[str, Any] = {
        "ids": np.array([7, 3]),
        "references": tuple(REFERENCES.values()),
        "clean_caption": ("one", "می‌رود"),
        "caption": ("two", ""),
        "corpus": CORPUS,
        "seconds": 2.5,
        "notes": [Reason("odd", Verdict.SUSPECT, "odd")],
        "facts": {"a": 1},
    }
    return CaptionOutcome(**{**common, **numbers, **changes})


@pytest.mark.parametrize("pointed", [True, False])
def test_captions_come_back_as_they_were_saved(tmp_path: Path, pointed: bool) -> None:
    boxes = {"named": np.array([2, 0]), "pointed": np.array([1, 0]), "covered": np.array([0.25, np.nan])}
    aimed = {"target": ("سه", "پنج"), "bleu_counts": np.arange(20.0).reshape(2, 10)}
    saved = outcome(l1=np.array([3.0, 4.0]), **(boxes | aimed if pointed else {}))
    with open_store(str(tmp_path / "results.db")) as store:
        store.begin_run(RunRecord("run", "bench run", "tiny", "cpu"))
        cell = CellRecord("cell", "run", Status.OK, "cpu", "subject", "clean", n=2)
        store.save_cell(cell, saved, [ScoreRecord("bleu4", "m", 0.5, None, None, 2, "fraction")], [])
        found = store.captions("cell", REFERENCES, CORPUS)
        with pytest.raises(KeyError):
            store.captions("cell", {7: ("one",)}, CORPUS)
        store.save_cell(cell, saved, [], [])  # replaced, and its captions with it
    for name, value in vars(saved).items():
        got = getattr(found, name)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(got, value)
            assert got.dtype == value.dtype
        else:
            assert got == value


# --- what a data set of captions must be

FACTS = Facts((1, 2, 2), (), {}, "", "", "", task="captioning", language="en")


def split(**changes: Any) -> CaptionedSplit:
    made = CaptionedSplit(np.zeros((2, 1, 2, 2), np.uint8), (("a b",), ("c", "d")), np.array([1, 2]))
    return made._replace(**changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"captions": (("a",), ())}, "1 images have no caption, the first with id 2"),
        ({"captions": (("a",),)}, "2 images, 1 lists of captions, 2 ids"),
        ({"ids": np.array([1, 1])}, "not unique"),
        ({"objects": ((),)}, "1 lists of boxes for 2 images"),
        ({"images": np.zeros((2, 3, 2, 2), np.uint8)}, "images are"),
    ],
)
def test_captions_that_do_not_fit_their_images_are_refused(changes: dict[str, Any], text: str) -> None:
    splits = {name: split() for name in composition.SPLITS} | {"test": split(**changes)}
    with pytest.raises(BenchError, match=text):
        composition.check("scenes", FACTS, splits)


def test_the_composition_counts_the_captions_of_each_image(tmp_path: Path) -> None:
    splits = {name: split() for name in composition.SPLITS}
    found = composition.settled(Artifacts(tmp_path), "key", "scenes", FACTS, splits)
    assert found.counts["train"].tolist() == [1, 2]
    again = composition.settled(Artifacts(tmp_path), "key", "scenes", FACTS, splits)
    assert again.counts["train"].tolist() == [1, 2]
    changed = {**splits, "train": split(captions=(("a",), ("c",)))}
    with pytest.raises(BenchError, match="its splits are not those kept"):
        composition.settled(Artifacts(tmp_path), "key", "scenes", FACTS, changed)
