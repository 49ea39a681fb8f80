"""The data sets on real data: what ``facts`` promises is what ``load`` gives, and the pixels are the official ones."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import registry
from harness.errors import BenchError
from harness.types import Split
from plugins.datasets.cifar100 import CIFAR100
from plugins.datasets.digits import Digits
from plugins.datasets.flowers102 import CLASSES, Flowers102

Splits = Mapping[str, Split]


def check_promise(dataset: Any, splits: Splits) -> None:
    """Sizes, shape, types and ids as ``facts`` and ``Split`` promise them."""
    facts = dataset.facts()
    assert {name: len(split.ids) for name, split in splits.items()} == dict(facts.sizes)
    assert list(splits) == ["train", "validation", "test"]
    for images, labels, ids in splits.values():
        assert images.dtype == np.uint8
        assert labels.dtype == ids.dtype == np.int64
        assert images.shape == (len(ids), *facts.shape)
        assert labels.shape == ids.shape
        assert images.flags.c_contiguous
        assert len(set(ids.tolist())) == len(ids)
        assert set(labels.tolist()) == set(range(len(facts.classes)))
    assert not set(splits["train"].ids.tolist()) & set(splits["validation"].ids.tolist())


def fingerprint(splits: Splits) -> dict[str, str]:
    """A short hash of the ids of each split: splits must stay the same for good, or old results lose their meaning."""
    return {name: hashlib.sha256(split.ids.tobytes()).hexdigest()[:12] for name, split in splits.items()}


def row_of(split: Split, sample: int) -> int:
    return int(np.flatnonzero(split.ids == sample)[0])


@pytest.mark.parametrize("name", ["digits", "cifar100", "flowers102"])
def test_every_hook_passes_the_boundary(name: str) -> None:
    hooks = registry.bind("datasets", registry.load("datasets", name)())
    assert all(registry.offers(hooks, hook) for hook in ("facts", "locate", "download", "load"))


def test_planning_imports_nothing_heavy() -> None:
    program = """
import sys
from pathlib import Path
from plugins.datasets.cifar100 import CIFAR100
from plugins.datasets.digits import Digits
from plugins.datasets.flowers102 import Flowers102
from harness import locating
for dataset in (CIFAR100(), Digits(), Flowers102()):
    dataset.facts()
locating.digest(Digits().locate())
CIFAR100().locate([Path("nowhere")]), Flowers102().locate([Path("nowhere")])
print(*sorted({"numpy", "sklearn", "scipy", "torch", "torchvision", "PIL"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


# digits


@pytest.fixture(scope="module")
def digits() -> Splits:
    return Digits().load(Digits().locate() or [])


def test_digits_are_those_of_scikit_learn(digits: Splits) -> None:
    from sklearn.datasets import load_digits

    official = load_digits()
    check_promise(Digits(), digits)
    ids = np.concatenate([split.ids for split in digits.values()])
    assert sorted(ids) == list(range(1797))
    for images, labels, rows in digits.values():
        assert (labels == official.target[rows]).all()
        assert (images[:, 0] == np.rint(official.images[rows] * 255 / 16)).all()
    assert digits["train"].images.max() == 255


def test_digits_splits_are_stratified_and_stay_the_same(digits: Splits) -> None:
    for split in digits.values():
        shares = np.bincount(split.labels) / len(split.labels)
        everything = np.bincount(np.concatenate([s.labels for s in digits.values()])) / 1797
        assert np.abs(shares - everything).max() < 1.5 / len(split.labels)
    assert fingerprint(digits) == DIGITS_SPLITS
    other = Digits(split_seed=1)
    assert fingerprint(other.load(other.locate() or [])) != DIGITS_SPLITS


def test_digits_can_be_few_and_of_some_classes(digits: Splits) -> None:
    few = Digits(classes=(7, 1, 3), train=30)
    splits = few.load(few.locate() or [])
    check_promise(few, splits)
    assert few.facts().classes == ("7", "1", "3")
    assert np.bincount(splits["train"].labels).tolist() == [10, 10, 10]
    digit_of = {int(i): int(y) for split in digits.values() for i, y in zip(split.ids, split.labels, strict=True)}
    for split in splits.values():
        assert [few.classes[label] for label in split.labels] == [digit_of[int(i)] for i in split.ids]


def test_a_cap_on_training_leaves_the_other_splits_alone(digits: Splits) -> None:
    capped = Digits(train=105).load(Digits().locate() or [])
    check_promise(Digits(train=105), capped)
    assert sorted(np.bincount(capped["train"].labels)) == [10] * 5 + [11] * 5
    for name in ("validation", "test"):
        assert capped[name].ids.tolist() == digits[name].ids.tolist()
    assert Digits(train=10_000).facts().sizes == Digits().facts().sizes


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"classes": (1, 1)}, "different digits"),
        ({"classes": (3, 10)}, "different digits"),
        ({"classes": (3,)}, "at least two"),
        ({"train": 9}, "train would hold 9 images for 10 classes"),
        ({"validation": 0.6, "test": 0.6}, "train would hold"),
        ({"test": 0.001}, "test would hold 2"),
        ({"test": 1.5}, "between 0 and 1"),
        ({"split_seed": -1}, "split_seed=-1"),
    ],
)
def test_digits_refuses_what_cannot_be(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(BenchError, match=text):
        Digits(**fields)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-100], lambda data: b"no gzip", lambda data: data[:40] + data[44:]]
)
def test_a_damaged_digits_file_is_named(damage: Any, tmp_path: Path) -> None:
    (original,) = Digits().locate() or []
    file = tmp_path / original.name
    file.write_bytes(damage(original.read_bytes()))
    with pytest.raises(BenchError, match=r"digits: .*digits\.csv\.gz"):
        Digits().load([file])


# CIFAR-100


@pytest.fixture(scope="module")
def cifar(cifar_root: Path) -> Splits:
    files = CIFAR100().locate([cifar_root])
    assert files
    return CIFAR100().load(files)


@pytest.mark.slow
def test_cifar_is_torchvisions(cifar: Splits, cifar_root: Path) -> None:
    from torchvision.datasets import CIFAR100 as Official  # noqa: N811
    from torchvision.transforms.functional import pil_to_tensor

    check_promise(CIFAR100(), cifar)
    for name, official in {
        "train": Official(cifar_root, train=True),
        "validation": Official(cifar_root, train=True),
        "test": Official(cifar_root, train=False),
    }.items():
        split = cifar[name]
        for row in range(0, len(split.ids), len(split.ids) // 50):
            image, label = official[int(split.ids[row])]
            assert label == split.labels[row]
            assert (pil_to_tensor(image).numpy() == split.images[row]).all()


@pytest.mark.slow
def test_cifar_splits_are_those_of_the_study_and_stay_the_same(cifar: Splits) -> None:
    assert {name: len(split.ids) for name, split in cifar.items()} == {
        "train": 45_000,
        "validation": 5_000,
        "test": 10_000,
    }
    assert sorted([*cifar["train"].ids, *cifar["validation"].ids]) == list(range(50_000))
    assert cifar["test"].ids.tolist() == list(range(10_000))
    assert fingerprint(cifar) == CIFAR_SPLITS


@pytest.mark.slow
def test_cifar_names_and_groups_are_those_of_the_files(cifar: Splits, cifar_root: Path) -> None:
    folder = cifar_root / "cifar-100-python"
    meta = pickle.loads((folder / "meta").read_bytes(), encoding="latin1")
    test = pickle.loads((folder / "test").read_bytes(), encoding="latin1")
    fine, coarse = CIFAR100().facts(), CIFAR100(labels="coarse").facts()
    assert list(fine.classes) == meta["fine_label_names"]
    assert list(coarse.classes) == meta["coarse_label_names"]
    assert coarse.groups == ()
    assert [fine.groups[label] for label in cifar["test"].labels] == [
        meta["coarse_label_names"][group] for group in test["coarse_labels"]
    ]

    files = CIFAR100().locate([folder])
    assert files
    splits = CIFAR100(labels="coarse").load(files)
    check_promise(CIFAR100(labels="coarse"), splits)
    assert splits["test"].labels.tolist() == test["coarse_labels"]
    assert fingerprint(splits) == CIFAR_SPLITS


def test_cifar_is_missing_until_all_its_files_are_there(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test", "meta"):
        assert CIFAR100().locate([tmp_path / "nowhere", tmp_path]) is None
        (folder / name).touch()
    files = [folder / name for name in ("train", "test", "meta")]
    assert CIFAR100().locate([tmp_path]) == CIFAR100().locate([folder]) == files


def test_a_damaged_cifar_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test", "meta"):
        (folder / name).write_bytes(b"half of it")
    with pytest.raises(
        BenchError, match=r"^cifar100: .*train, .*test, .*meta is damaged \(wrong md5\); delete"
    ) as caught:
        CIFAR100().load(CIFAR100().locate([tmp_path]) or [])
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_only_the_damaged_one_of_cifars_files_is_named(cifar_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    shutil.copytree(cifar_root / folder.name, folder)
    with (folder / "meta").open("r+b") as file:
        file.write(b"X")
    with pytest.raises(BenchError, match=r"^cifar100: [^ ,]*meta is damaged"):
        CIFAR100().load(CIFAR100().locate([tmp_path]) or [])


@pytest.mark.parametrize(("fields", "text"), [({"labels": "corse"}, "coarse"), ({"validation": 0}, "validation=0")])
def test_cifar_refuses_what_cannot_be(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(BenchError, match=text):
        CIFAR100(**fields)


# Flowers-102


@pytest.fixture(scope="module")
def flowers(flowers_root: Path) -> Splits:
    files = Flowers102().locate([flowers_root])
    assert files
    return Flowers102().load(files)


@pytest.mark.slow
def test_flowers_are_torchvisions(flowers: Splits, flowers_root: Path) -> None:
    from torchvision.datasets import Flowers102 as Official
    from torchvision.transforms.functional import pil_to_tensor

    check_promise(Flowers102(), flowers)
    ids = np.concatenate([split.ids for split in flowers.values()])
    assert sorted(ids) == list(range(1, 8190))
    assert fingerprint(flowers) == FLOWERS_SPLITS
    assert list(CLASSES) == Official.classes
    for name, official_name in {"train": "train", "validation": "val", "test": "test"}.items():
        official = Official(flowers_root, official_name)
        for row in range(0, len(official), len(official) // 20):
            image, label = official[row]
            assert label == flowers[name].labels[row]
            assert (pil_to_tensor(image).numpy() == flowers[name].images[row]).all()


@pytest.mark.parametrize("shape", [(500, 667), (667, 500), (501, 500), (64, 64), (64, 91), (40, 33)])
@pytest.mark.parametrize("size", [64, 33])
def test_flowers_of_any_size_are_cut_as_torchvision_cuts(shape: tuple[int, int], size: int) -> None:
    from PIL import Image
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize
    from torchvision.transforms.functional import pil_to_tensor

    pixels = np.random.RandomState(0).randint(0, 256, (shape[1], shape[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    official = Compose([Resize(size, InterpolationMode.BICUBIC, antialias=True), CenterCrop(size)])
    assert (Flowers102(size)._square(image) == pil_to_tensor(official(image)).numpy()).all()


def test_flowers_are_missing_until_all_their_files_are_there(flowers_root: Path, tmp_path: Path) -> None:
    whole = flowers_root / "flowers-102"
    folder = tmp_path / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    assert Flowers102().locate([tmp_path]) is None
    for name in sorted(os.listdir(whole / "jpg"))[1:]:
        (folder / "jpg" / name).symlink_to(whole / "jpg" / name)
    for name in ("setid.mat", "imagelabels.mat"):
        assert Flowers102().locate([tmp_path]) is None
        (folder / name).symlink_to(whole / name)
    assert Flowers102().locate([tmp_path]) is None
    (folder / "jpg" / "image_00001.jpg").symlink_to(whole / "jpg" / "image_00001.jpg")
    assert len(Flowers102().locate([folder]) or []) == 8191


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["setid.mat", "jpg/image_00005.jpg"])
def test_a_damaged_flowers_file_is_named(flowers_root: Path, tmp_path: Path, damaged: str) -> None:
    whole, folder = flowers_root / "flowers-102", tmp_path / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    for path in [*whole.glob("*.mat"), *whole.glob("jpg/*")]:
        (folder / path.relative_to(whole)).symlink_to(path)
    half = (folder / damaged).read_bytes()[:700]
    (folder / damaged).unlink()
    (folder / damaged).write_bytes(half)
    with pytest.raises(BenchError, match=rf"^flowers102: .*{Path(damaged).name}.* is damaged") as caught:
        Flowers102().load(Flowers102().locate([tmp_path]) or [])
    assert "\n" not in str(caught.value)


def test_flowers_refuses_a_size_of_nothing() -> None:
    with pytest.raises(BenchError, match="size=0"):
        Flowers102(size=0)


def test_digits_cannot_be_downloaded() -> None:
    with pytest.raises(BenchError, match="install scikit-learn"):
        Digits().download()


# Hashes of the ids, recorded from the first version.
DIGITS_SPLITS = {"train": "93588b301ed7", "validation": "3939afd874eb", "test": "d50255552b74"}
CIFAR_SPLITS = {"train": "76f303ae786d", "validation": "7580bdab922d", "test": "9e1c19b3fdc1"}
FLOWERS_SPLITS = {"train": "eeed0b148421", "validation": "2e0f2fc8a8e0", "test": "dc222e0c7b63"}
