"""The data sets on real data: what ``facts`` promises is what ``load`` gives, and the pixels are the official ones."""

from __future__ import annotations

import dataclasses
import gzip
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

from harness import boundary, plan, registry
from harness.errors import BenchError
from harness.request import Configured
from harness.types import Split
from plugins.datasets import fashion_mnist
from plugins.datasets.cifar10 import CIFAR10
from plugins.datasets.cifar100 import CIFAR100
from plugins.datasets.digits import Digits
from plugins.datasets.fashion_mnist import FashionMNIST
from plugins.datasets.flowers102 import CLASSES, Flowers102
from plugins.datasets.squares import square

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


@pytest.mark.parametrize("name", registry.names("datasets"))
def test_every_hook_passes_the_boundary(name: str) -> None:
    hooks = boundary.bind("datasets", boundary.load("datasets", name)())
    assert all(hooks.offers(hook) for hook in ("facts", "locate", "download", "load"))


def test_planning_imports_nothing_heavy(workplace: Path) -> None:
    program = """
import sys
from pathlib import Path
from plugins.datasets.cifar10 import CIFAR10
from plugins.datasets.cifar100 import CIFAR100
from plugins.datasets.digits import Digits
from plugins.datasets.fashion_mnist import FashionMNIST
from plugins.datasets.flowers102 import Flowers102
from plugins.datasets.image_folder import ImageFolder
from harness import locating
for name in ("a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png", "b/3.png"):
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).touch()
own = ImageFolder(".", validation=0.3, test=0.3)
for dataset in (CIFAR10(), CIFAR100(), Digits(), FashionMNIST(), Flowers102(), own):
    dataset.facts()
locating.digest(Digits().locate())
locating.digest(own.locate())
for dataset in (CIFAR10(), CIFAR100(), FashionMNIST(), Flowers102()):
    dataset.locate([Path("nowhere")])
print(*sorted({"numpy", "sklearn", "scipy", "torch", "torchvision", "PIL"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=workplace, capture_output=True, text=True, check=True)
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


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["fine", "coarse"])
def test_cifar_is_stratified_where_that_is_asked(labels: Any, cifar_root: Path) -> None:
    dataset = CIFAR100(labels=labels, stratified=True)
    splits = dataset.load(dataset.locate([cifar_root]) or [])
    check_promise(dataset, splits)
    assert set(np.bincount(splits["validation"].labels)) == {5_000 // len(dataset.facts().classes)}
    assert fingerprint(splits) == CIFAR_STRATIFIED


@pytest.mark.parametrize(("fields", "text"), [({"labels": "corse"}, "coarse"), ({"validation": 0}, "validation=0")])
def test_cifar_refuses_what_cannot_be(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(BenchError, match=text):
        CIFAR100(**fields)


# CIFAR-10


@pytest.fixture
def cifar10_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of the official form and size with random labels and few different pixels, whose md5 are taken as official.

    The real ones could not be had here. What reads them is torchvision's own code.
    """
    from torchvision.datasets import CIFAR10 as Official  # noqa: N811

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number, (name, _) in enumerate([*Official.train_list, *Official.test_list]):
        labels = np.random.default_rng(number).permutation(np.arange(10_000) % 10)
        pixels = np.zeros((10_000, 3, 32, 32), dtype=np.uint8)
        pixels[:, 0, 0, :3] = np.stack([labels, np.arange(10_000) // 256, np.arange(10_000) % 256], axis=1)
        pixels[:, 2, 31, 31] = number
        rows = {"data": pixels.reshape(10_000, -1), "labels": labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(rows))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR10().facts().classes)}))

    def md5(name: str) -> str:
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    for part in ("train_list", "test_list"):
        monkeypatch.setattr(Official, part, [[name, md5(name)] for name, _ in getattr(Official, part)])
    monkeypatch.setitem(Official.meta, "md5", md5("batches.meta"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("stratified", [False, True])
def test_cifar10_is_torchvisions(cifar10_root: Path, stratified: bool) -> None:
    from torchvision.datasets import CIFAR10 as Official  # noqa: N811
    from torchvision.transforms.functional import pil_to_tensor

    dataset = CIFAR10(stratified=stratified)
    splits = dataset.load(dataset.locate([cifar10_root]) or [])
    check_promise(dataset, splits)
    assert (set(np.bincount(splits["validation"].labels)) == {500}) == stratified
    for name in splits:
        official, split = Official(cifar10_root, train=name != "test"), splits[name]
        assert tuple(official.classes) == dataset.facts().classes
        for row in range(0, len(split.ids), len(split.ids) // 50):
            image, label = official[int(split.ids[row])]
            assert label == split.labels[row]
            assert (pil_to_tensor(image).numpy() == split.images[row]).all()


@pytest.mark.slow
def test_a_damaged_cifar10_file_is_named(cifar10_root: Path) -> None:
    with (cifar10_root / "cifar-10-batches-py" / "data_batch_3").open("r+b") as file:
        file.write(b"X")
    with pytest.raises(BenchError, match=r"^cifar10: [^ ,]*data_batch_3 is damaged \(wrong md5\).*cifar-10-python"):
        CIFAR10().load(CIFAR10().locate([cifar10_root]) or [])


def test_cifar10_is_missing_until_all_its_files_are_there(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"]
    for name in names:
        assert CIFAR10().locate([tmp_path]) is None
        (folder / name).touch()
    assert CIFAR10().locate([tmp_path]) == [folder / name for name in names]


# Fashion-MNIST


@pytest.fixture(scope="module")
def fashion_files() -> list[Path]:
    """The official files, packed, as Debian has them."""
    files = [fashion_mnist.DEBIAN / f"{name}.gz" for name in FASHION_NAMES]
    if not all(file.is_file() for file in files):
        pytest.skip("Fashion-MNIST is not installed; apt-get install dataset-fashion-mnist")
    return files


@pytest.fixture(scope="module")
def fashion_raw(fashion_files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked files as torchvision keeps them."""
    root = tmp_path_factory.mktemp("fashion")
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in fashion_files:
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("stratified", [False, True])
def test_fashion_mnist_is_torchvisions_packed_or_not(
    fashion_files: list[Path], fashion_raw: Path, stratified: bool
) -> None:
    from torchvision.datasets import FashionMNIST as Official

    dataset = FashionMNIST(stratified=stratified)
    splits = dataset.load(fashion_files)
    check_promise(dataset, splits)
    assert dataset.facts().classes == tuple(Official.classes)
    unpacked = dataset.load(dataset.locate([fashion_raw]) or [])
    for name, split in splits.items():
        official = Official(fashion_raw, train=name != "test")
        assert (split.images[:, 0] == official.data.numpy()[split.ids]).all()
        assert (split.labels == official.targets.numpy()[split.ids]).all()
        assert all((one == other).all() for one, other in zip(split, unpacked[name], strict=True))
    assert (set(np.bincount(splits["validation"].labels)) == {600}) == stratified
    assert sorted([*splits["train"].ids, *splits["validation"].ids]) == list(range(60_000))
    assert fingerprint(splits) == (FASHION_STRATIFIED if stratified else FASHION_SPLITS)


def test_fashion_mnist_is_found_where_torchvision_debian_or_a_user_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian" / "fashion-mnist")
    places = [tmp_path / "debian/fashion-mnist", tmp_path / "fashion-mnist", tmp_path / "FashionMNIST/raw"]
    for folder in places:  # the later ones win
        folder.mkdir(parents=True)
        for name in FASHION_NAMES[:3]:
            (folder / f"{name}.gz").touch()
            assert (FashionMNIST().locate([tmp_path]) or [tmp_path])[0].parent != folder
        (folder / FASHION_NAMES[3]).touch()  # one packed, another not
        files = FashionMNIST().locate([tmp_path])
        assert [file.relative_to(folder).name.removesuffix(".gz") for file in files or []] == FASHION_NAMES
    assert FashionMNIST().locate([tmp_path / "FashionMNIST"]) == files


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"no gzip", lambda data: gzip.compress(b"")])
def test_a_damaged_fashion_mnist_file_is_named(fashion_files: list[Path], tmp_path: Path, damage: Any) -> None:
    half = tmp_path / fashion_files[3].name
    half.write_bytes(damage(fashion_files[3].read_bytes()))
    with pytest.raises(BenchError, match=r"^fashion_mnist: .*t10k-labels-idx1-ubyte.gz is damaged") as caught:
        FashionMNIST().load([*fashion_files[:3], half])
    assert "\n" not in str(caught.value)


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
def test_images_of_any_size_are_cut_as_torchvision_cuts(shape: tuple[int, int], size: int) -> None:
    from PIL import Image
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize
    from torchvision.transforms.functional import pil_to_tensor

    pixels = np.random.RandomState(0).randint(0, 256, (shape[1], shape[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    official = Compose([Resize(size, InterpolationMode.BICUBIC, antialias=True), CenterCrop(size)])
    assert (square(image, size) == pil_to_tensor(official(image)).numpy()).all()


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


@pytest.mark.parametrize("kind", [CIFAR10, FashionMNIST])
@pytest.mark.parametrize(("fields", "text"), [({"validation": 1.0}, "validation=1.0"), ({"split_seed": -1}, "seed=-1")])
def test_a_share_or_a_seed_that_cannot_be_is_refused(kind: Any, fields: dict[str, Any], text: str) -> None:
    with pytest.raises(BenchError, match=text):
        kind(**fields)


def test_digits_need_not_be_stratified(digits: Splits) -> None:
    plain = Digits(stratified=False)
    splits = plain.load(plain.locate() or [])
    check_promise(plain, splits)
    assert np.ptp(np.bincount(splits["test"].labels)) > np.ptp(np.bincount(digits["test"].labels))


@pytest.mark.parametrize(
    ("component", "decides"),
    [
        (CIFAR100(), {"validation": 0.1, "split_seed": 0, "labels": "fine"}),
        (CIFAR100(stratified=True), {"validation": 0.1, "split_seed": 0, "labels": "fine", "stratified": True}),
        (Digits(), {"classes": (), "train": None, "validation": 0.1, "test": 0.25, "split_seed": 0}),
        (Flowers102(), {"size": 64}),
    ],
)
def test_what_came_later_changes_no_content_key_by_its_default(component: Any, decides: dict[str, Any]) -> None:
    """These parameters are those of the first version: results that are stored under their key must stay theirs."""
    values = {field.name: getattr(component, field.name) for field in dataclasses.fields(component)}
    config = Configured("datasets", "any", "any", "adversarial-bench", "0", component, values)
    assert plan.deciding(config) == decides


# Hashes of the ids, recorded from the first version.
DIGITS_SPLITS = {"train": "93588b301ed7", "validation": "3939afd874eb", "test": "d50255552b74"}
CIFAR_SPLITS = {"train": "76f303ae786d", "validation": "7580bdab922d", "test": "9e1c19b3fdc1"}
FLOWERS_SPLITS = {"train": "eeed0b148421", "validation": "2e0f2fc8a8e0", "test": "dc222e0c7b63"}
CIFAR_STRATIFIED = {"train": "72ea4cdaa0a7", "validation": "e4a911d661fe", "test": "9e1c19b3fdc1"}
FASHION_SPLITS = {"train": "4154257faf37", "validation": "e0aca1a0f5fb", "test": "9e1c19b3fdc1"}
FASHION_STRATIFIED = {"train": "1741c99fb635", "validation": "2f6d582105c0", "test": "9e1c19b3fdc1"}
FASHION_NAMES = [f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
