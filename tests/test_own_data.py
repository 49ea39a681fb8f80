"""Anybody's data in one line: NumPy's files, and the library datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness import composition, locating, plan
from harness.boundary import bind
from harness.config import resolve
from harness.errors import BenchError
from harness.request import Options
from harness.types import Split
from plugins.datasets.hf_datasets import HFDatasets
from plugins.datasets.numpy_arrays import NumpyArrays

pytestmark = pytest.mark.usefixtures("workplace")

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (60, 8, 8), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (60, 3, 8, 10), dtype=np.uint8)
LABELS = np.arange(60) % 3


def loaded(component: Any) -> tuple[Any, Mapping[str, Split]]:
    """Facts and splits, as the harness asks for them and checks them."""
    hooks = bind("datasets", component)
    facts = hooks.facts(roots=[Path("data")])
    splits = hooks.load(files=hooks.locate(roots=[Path("data")]))
    composition.check("mine", facts, splits)
    assert {name: len(split.labels) for name, split in splits.items()} == facts.sizes
    ids = np.concatenate([split.ids for split in splits.values()])
    assert len(set(ids.tolist())) == len(ids)
    return facts, splits


def numpy_error(**arrays: Any) -> str:
    fields = arrays.pop("fields", {})
    np.savez("mine.npz", **arrays)
    with pytest.raises(BenchError) as caught:
        loaded(NumpyArrays("mine.npz", **fields))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("folder", [False, True])
def test_splits_that_are_there_are_taken_and_validation_is_held_out(folder: bool) -> None:
    arrays = {"x_train": COLOUR, "y_train": LABELS, "x_test": COLOUR[:9], "y_test": LABELS[:9]}
    if folder:
        Path("mine").mkdir()
        for name, array in arrays.items():
            np.save(f"mine/{name}.npy", array)
    else:
        np.savez("mine.npz", **arrays)
    facts, splits = loaded(NumpyArrays("mine" if folder else "mine.npz"))
    assert facts.sizes == {"train": 54, "validation": 6, "test": 9}
    assert facts.source.endswith(": NCHW, uint8")
    assert (facts.shape, facts.classes) == ((3, 8, 10), ("0", "1", "2"))
    assert np.array_equal(splits["test"].images, COLOUR[:9])
    assert np.bincount(splits["validation"].labels).tolist() == [2, 2, 2]
    kept = np.concatenate([splits["train"].ids, splits["validation"].ids])
    assert sorted(kept.tolist()) == list(range(60))
    assert np.array_equal(splits["train"].images, COLOUR[splits["train"].ids])


def test_of_one_split_validation_and_test_are_held_out_the_same_way_each_time() -> None:
    np.savez("mine.npz", X=GREY, y=LABELS)
    facts, splits = loaded(NumpyArrays("mine.npz"))
    assert facts.sizes == {"train": 42, "validation": 6, "test": 12}
    assert facts.shape == (1, 8, 8)
    again = loaded(NumpyArrays("mine.npz"))[1]
    assert all(np.array_equal(splits[name].ids, again[name].ids) for name in splits)
    assert not np.array_equal(splits["test"].ids, loaded(NumpyArrays("mine.npz", split_seed=1))[1]["test"].ids)


@pytest.mark.parametrize(
    ("images", "fields", "said"),
    [
        (COLOUR.transpose(0, 2, 3, 1), {}, "NHWC, uint8"),
        (COLOUR.astype(np.float32) / 255, {}, "NCHW, float32"),
        (COLOUR.transpose(0, 2, 3, 1) / 255, {"layout": "NHWC"}, "NHWC, float64"),
    ],
)
def test_layouts_and_types_give_the_same_pixels(images: Any, fields: dict[str, Any], said: str) -> None:
    np.savez("mine.npz", x=images, y=LABELS)
    facts, splits = loaded(NumpyArrays("mine.npz", **fields))
    assert facts.source.endswith(said)
    assert np.array_equal(splits["train"].images, COLOUR[splits["train"].ids])


@pytest.mark.parametrize(
    "labels", [LABELS[:, None], np.eye(3)[LABELS], LABELS.astype(float), np.array(list("abc"))[LABELS]]
)
def test_labels_are_numbers_rows_or_names(labels: Any) -> None:
    np.savez("mine.npz", x=GREY, y=labels)
    facts, splits = loaded(NumpyArrays("mine.npz"))
    assert facts.classes == (("a", "b", "c") if labels.dtype.kind == "U" else ("0", "1", "2"))
    assert np.array_equal(splits["train"].labels, LABELS[splits["train"].ids])


def test_classes_may_be_named() -> None:
    np.savez("mine.npz", x=GREY, y=LABELS)
    assert loaded(NumpyArrays("mine.npz", classes=("cat", "dog", "eel")))[0].classes == ("cat", "dog", "eel")


@pytest.mark.parametrize("form", ["x_{}/y_{}", "{}_images/{}_labels", "images_{}/labels_{}", "X_{}/Y_{}", "{}_x/{}_y"])
def test_the_usual_names_of_arrays_are_known(form: str) -> None:
    x, y = form.split("/")
    parts = {"train": slice(None), "val": slice(0, 6), "test": slice(0, 9)}
    arrays = {x.format(name): COLOUR[part] for name, part in parts.items()}
    arrays |= {y.format(name): LABELS[part, None] for name, part in parts.items()}  # (N, 1), as MedMNIST has them
    np.savez("mine.npz", **arrays)
    facts, splits = loaded(NumpyArrays("mine.npz"))
    assert facts.sizes == {"train": 60, "validation": 6, "test": 9}
    assert np.array_equal(splits["test"].images, COLOUR[:9])
    np.savez("alone.npz", images=COLOUR, labels=LABELS)
    assert loaded(NumpyArrays("alone.npz"))[0].sizes == {"train": 42, "validation": 6, "test": 12}


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": GREY}, "has x; x_train, y_train, x_test, y_test"),
        ({"x": GREY, "y": LABELS[:5]}, "60 images and 5 labels in train"),
        ({"x": GREY[:, 0], "y": LABELS}, "images of shape (60, 8); (N, C, H, W)"),
        ({"x": np.zeros((60, 3, 8, 3), np.uint8), "y": LABELS}, "both could be channels; set layout to NCHW or NHWC"),
        ({"x": np.zeros((60, 4, 8, 8), np.uint8), "y": LABELS}, "neither end has 1 or 3; set layout"),
        ({"x": GREY * 2.0, "y": LABELS}, "divide them by 255, or save them as uint8"),
        ({"x": GREY / 255 - 0.5, "y": LABELS}, "[0, 1] is needed: undo their normalisation"),
        ({"x": GREY.astype(np.int64), "y": LABELS}, "is int64; uint8, or floating point in [0, 1], is needed"),
        ({"x": np.full((60, 8, 8), np.nan), "y": LABELS}, "runs from nan to nan; [0, 1] is needed: leave out what is"),
        ({"x": GREY[:0], "y": LABELS[:0]}, "x is empty, of shape (0, 8, 8); leave it out or fill it"),
        ({"x": GREY, "y": LABELS * 50_000}, "labels run to 100000, of 60 images; number the classes from 0"),
        ({"x": GREY, "y": LABELS - 1}, "labels run from -1 to 1; numbers from 0 are needed"),
        ({"x": GREY, "y": LABELS + 0.5}, "whole numbers or names (N,)"),
        ({"x": GREY, "y": np.array([object()] * 60)}, "cannot be read"),
        ({"x": GREY, "y": LABELS, "fields": {"classes": ("a", "b")}}, "numbers from 0 of 2 classes are needed"),
        ({"x": GREY, "y": LABELS, "fields": {"test": 1.0}}, "a share between 0 and 1"),
        (
            {"x": GREY, "y": LABELS, "x_test": GREY[:, :4], "y_test": LABELS},
            "images of (4, 8) in test, (8, 8) in train",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_a_line(arrays: dict[str, Any], told: str) -> None:
    assert told in numpy_error(**arrays)


@pytest.mark.parametrize("path", ["", "nosuch.npz"])
def test_what_is_not_there_is_said(path: str) -> None:
    with pytest.raises(BenchError, match=r"no such file or folder|no path is set"):
        loaded(NumpyArrays(path))


def test_a_file_that_is_no_archive_is_refused() -> None:
    Path("mine.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(BenchError, match=r"mine.npz cannot be read"):
        loaded(NumpyArrays("mine.npz"))


def test_the_command_line_takes_them_and_a_path_is_no_part_of_the_key() -> None:
    np.savez("mine.npz", x=GREY, y=LABELS)
    Path("other").mkdir()
    np.savez("other/mine.npz", x=GREY, y=LABELS)

    def key(name: str) -> str:
        request = resolve(Options(models=["resnet_original"], datasets=[name], attacks=["clean"], defenses=["none"]))
        return plan.build(request, locating.roots(), download=False).cells[0].key

    assert key("numpy:mine.npz") == key("numpy:other/mine.npz")


# --- the library datasets

datasets = pytest.importorskip("datasets")


def table(n: int = 30, *, typed: bool = True, names: bool = False) -> Any:
    pixels = [Image.fromarray(RANDOM.integers(0, 256, (9, 12, 3), dtype=np.uint8)) for _ in range(n)]
    labels = [number % 3 for number in range(n)]
    rows = {"image": pixels, "label": ["xyz"[label] for label in labels] if names else labels}
    features = {"image": datasets.Image(), "label": datasets.Value("string" if names else "int64")}
    if typed:
        features["label"] = datasets.ClassLabel(names=["cat", "dog", "eel"])
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def test_a_saved_folder_of_splits() -> None:
    found = datasets.DatasetDict({"train": table(), "test": table(9)})
    found.save_to_disk("saved")
    facts, splits = loaded(HFDatasets("saved", size=8))
    assert (facts.shape, facts.classes) == ((3, 8, 8), ("cat", "dog", "eel"))
    assert facts.sizes == {"train": 27, "validation": 3, "test": 9}
    from plugins.datasets.squares import square

    assert np.array_equal(splits["test"].images[4], square(found["test"][4]["image"], 8))
    assert splits["test"].labels.tolist() == found["test"]["label"][:]


def test_train_and_validation_alone_are_train_and_test() -> None:
    datasets.DatasetDict({"train": table(), "validation": table(9)}).save_to_disk("saved")
    assert loaded(HFDatasets("saved", size=8))[0].sizes == {"train": 27, "validation": 3, "test": 9}


def test_one_table_is_split() -> None:
    table(typed=False, names=True).save_to_disk("saved")
    facts, _ = loaded(HFDatasets("saved", size=8))
    assert facts.sizes == {"train": 21, "validation": 3, "test": 6}
    assert facts.classes == ("x", "y", "z")


@pytest.mark.parametrize(
    "names", [("train-00000-of-00001", "test-00000-of-00001"), ("train", "test"), ("data_train", "data_test")]
)
def test_parquet_files_are_read_by_their_names(names: tuple[str, str]) -> None:
    Path("data").mkdir()
    for name, n in zip(names, (30, 9), strict=True):
        table(n, typed=False).to_parquet(f"data/{name}.parquet")
    facts, _ = loaded(HFDatasets("data", size=8))
    assert facts.sizes == {"train": 27, "validation": 3, "test": 9}
    assert facts.classes == ("0", "1", "2")
    facts, _ = loaded(HFDatasets(f"data/{names[0]}.parquet", size=8))
    assert sum(facts.sizes.values()) == 30


def test_what_was_fetched_once_is_found_by_its_name() -> None:
    table().save_to_disk("data/hf_datasets/somebody--pets")
    facts, _ = loaded(HFDatasets("somebody/pets", size=8))
    assert facts.source == "https://huggingface.co/datasets/somebody/pets"


@pytest.mark.slow
def test_a_name_that_cannot_be_fetched_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(BenchError) as caught:
        HFDatasets("somebody/nothing").download(root=Path("data"))
    assert "load_dataset('somebody/nothing').save_to_disk('FOLDER')" in str(caught.value)
    assert "give hf_datasets:FOLDER" in str(caught.value)
    assert HFDatasets("somebody/nothing").locate(roots=[Path("data")]) is None


def hf_error(path: str = "saved", **fields: Any) -> str:
    with pytest.raises(BenchError) as caught:
        loaded(HFDatasets(path, **{"size": 8, **fields}))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_wrong_with_a_table_is_said_in_a_line() -> None:
    assert "no path is set" in hf_error("")
    assert "./nosuch: no such file or folder" in hf_error("./nosuch")
    Path("empty").mkdir()
    assert "holds no .parquet and no .arrow file" in hf_error("empty")
    Path("bad.parquet").write_bytes(b"not one")
    assert "cannot be read" in hf_error("bad.parquet")
    table().save_to_disk("saved")
    assert "label_column: no such name 'lable'; did you mean label?" in hf_error(label_column="lable")
    assert "at least 1 pixel is needed" in hf_error(size=0)
    table().rename_column("label", "kind").cast_column("kind", datasets.Value("int64")).save_to_disk("unnamed")
    assert "which column is the label? there are image, kind; name it by label_column" in hf_error("unnamed")
    assert loaded(HFDatasets("unnamed", size=8, label_column="kind"))[0].sizes["train"] == 21
    hidden = table(9, typed=False).map(lambda row: {"label": -1})
    datasets.DatasetDict({"train": table(), "test": hidden}).save_to_disk("hidden")
    assert "labels of test run from -1 to -1" in hf_error("hidden")
    datasets.DatasetDict({"train": table(), "tset": table()}).save_to_disk("misspelt")
    assert "split: no such name 'tset'; did you mean test" in hf_error("misspelt")
