"""The class-distribution figure, and `bench info` of a data set that is at hand."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawings import assert_legible, texts
from PIL import Image

from harness.errors import BenchError
from harness.figures.distribution import NAMED, ROWS, class_distribution
from harness.report.catalogue import description, figures
from plugins.datasets.cifar100 import FINE
from plugins.datasets.flowers102 import CLASSES as FLOWERS

LONG = "a class with a name that is longer than any axis has room for"


def counts_of(classes: int) -> list[int]:
    """From balanced to very long-tailed, in no order."""
    falling = np.maximum(1, 20_000 / np.arange(1, classes + 1) ** 1.3).astype(int)
    return np.random.default_rng(0).permutation(falling).tolist()


@pytest.mark.parametrize(
    "classes",
    [
        ("cat", "dog"),
        tuple("0123456789"),
        *(pytest.param(classes, marks=pytest.mark.slow) for classes in (FINE, FLOWERS)),
        tuple(f"{LONG} {n}" for n in range(ROWS)),
        (LONG, "b"),
    ],
    ids=len,
)
@pytest.mark.parametrize("even", [False, True])
def test_every_class_stands_there_with_its_count_and_can_be_read(classes: tuple[str, ...], even: bool) -> None:
    counts = [450] * len(classes) if even else counts_of(len(classes))
    title = (
        f"{'d' * 50}, validation\n6,000,000 images, {len(classes)} classes, 12,345 to 23,456 each, imbalance 1.23e+03"
    )
    figure = class_distribution(counts, classes, title=title)
    assert_legible(figure)
    found = [
        (int(label.get_text().replace(",", "")), tick.get_text().rstrip("…"), bar.get_width())
        for axes in figure.axes
        for label, tick, bar in zip(axes.texts, axes.get_yticklabels(), axes.patches, strict=True)
    ]
    assert [count for count, _, _ in found] == sorted(counts, reverse=True)
    assert all(bar == count for count, _, bar in found)
    expected = sorted(zip(counts, classes, strict=True), key=lambda pair: -pair[0])  # equal ones in their order
    assert all(whole.startswith(shown) for (_, shown, _), (_, whole) in zip(found, expected, strict=True))
    assert all(axes.get_xlim()[0] == 0 for axes in figure.axes)
    assert len({axes.get_xlim() for axes in figure.axes}) == 1


def test_a_class_without_images_is_shown_as_that() -> None:
    figure = class_distribution([3, 0], ["some", "none"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["3", "0"]
    assert_legible(figure)
    assert_legible(class_distribution([0, 0], ["neither", "none"]))


def test_more_classes_than_a_page_has_lines_become_a_curve() -> None:
    classes = [f"{LONG} {n}" for n in range(NAMED + 1)]
    counts = counts_of(len(classes))
    figure = class_distribution(counts, classes, title="many")
    assert_legible(figure)
    (panel,) = figure.axes
    assert panel.patches[0].get_data().values.tolist() == sorted(counts, reverse=True)
    words = " ".join(text.get_text() for text in texts(figure))
    assert f"({max(counts):,})" in words
    assert f"mean {np.mean(counts):,.1f}" in words


# --- bench info


@pytest.mark.usefixtures("workplace")
def test_info_counts_the_classes_of_each_split() -> None:
    rows = [line.split() for line in description("datasets", "digits", "tiny", None, ()).splitlines()]
    assert ["split", "images", "classes", "min", "median", "max", "imbalance"] in rows
    assert ["train", "1,168", "10", "112", "117.5", "119", "1.06"] in rows
    assert ["validation", "180", "10", "18", "18", "18", "1"] in rows
    few = description("datasets", "digits", "tiny", None, ["datasets.digits.classes=[3, 5]", "datasets.digits.train=9"])
    assert ["train", "9", "2", "4", "4.5", "5", "1.25"] in [line.split() for line in few.splitlines()]
    assert not Path("artifacts").exists()


def test_info_takes_from_the_artifacts_what_it_once_read(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "kept").mkdir()
    first = description("datasets", "digits", "tiny", None, (), artifacts="kept")
    assert "reading the images of digits" in capsys.readouterr().err
    assert description("datasets", "digits", "tiny", None, (), artifacts="kept") == first
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("workplace")
def test_info_of_data_that_is_not_at_hand_says_how_to_get_it() -> None:
    text = description("datasets", "cifar100", "tiny", None, ())
    assert "citation: A. Krizhevsky" in text
    assert "100 classes in 20 groups" in text
    assert text.splitlines()[-1].startswith("data: not found in data, ")
    assert text.endswith("name the folder that holds it with --data PATH or BENCH_DATA")
    assert "data: image_folder: no path is set" in description("datasets", "image_folder", "tiny", None, ())


def test_info_of_damaged_data_still_tells_the_rest(workplace: Path) -> None:
    folder = workplace / "data" / "cifar-100-python"
    folder.mkdir(parents=True)
    for name in ("train", "test", "meta"):
        (folder / name).write_bytes(b"half of it")
    text = description("datasets", "cifar100", "tiny", None, ())
    assert "citation: A. Krizhevsky" in text
    assert "data: cifar100: " in text
    assert "is damaged (wrong md5)" in text


@pytest.mark.slow
def test_info_finds_data_where_it_is_told(cifar_root: Path) -> None:
    text = description(
        "datasets", "cifar100", "tiny", None, ["datasets.cifar100.stratified=true"], data=[str(cifar_root)]
    )
    assert ["validation", "5,000", "100", "50", "50", "50", "1"] in [line.split() for line in text.splitlines()]
    assert "mean 0.50" in text


@pytest.mark.slow
def test_figures_are_written_of_each_split(bench: Callable[..., Any], workplace: Path) -> None:
    ended = bench("info", "datasets", "digits", "--figures", "--out", "drawn")
    assert ended.returncode == 0, ended.stderr
    written = [workplace / line for line in ended.stdout.splitlines()]
    assert [path.name for path in written] == [
        f"digits-{split}.{ending}" for split in ("train", "validation", "test") for ending in ("png", "pdf")
    ]
    assert sorted(written) == sorted((workplace / "drawn").iterdir())
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert min(image.size) > 500
                assert np.asarray(image.convert("L")).std() > 20
        else:
            assert path.read_bytes().startswith(b"%PDF")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("attacks", "pgd", "--figures: attacks have no figures; bench info datasets NAME --figures"),
        ("datasets", "cifar100", "dataset cifar100: not found in data, .*--data PATH"),
        ("datasets", "image_folder", "image_folder: no path is set"),
        ("datasets", "digit", "no such name 'digit'; did you mean digits"),
    ],
)
def test_figures_that_cannot_be_drawn_are_refused(kind: str, name: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        figures(kind, name, "tiny", None, (), out=Path("drawn"))
    assert not Path("drawn").exists()


def test_without_matplotlib_one_line_says_what_to_install(workplace: Path) -> None:
    program = (
        "import sys; sys.modules['matplotlib'] = None; sys.argv = ['bench', *sys.argv[1:]]; import cli; cli.main()"
    )
    command = [sys.executable, "-c", program, "info", "datasets", "digits", "--figures"]
    ended = subprocess.run(command, cwd=workplace, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert re.fullmatch(r"bench: error: .*pip install 'adversarial-bench\[figures\]'\n", ended.stderr)
    assert list(workplace.iterdir()) == []
