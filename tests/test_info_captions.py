"""`bench info datasets` of a captioned data set: its captions, its words, and both drawn."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawings import assert_legible, texts
from PIL import Image

from harness.figures.style import look, shown
from harness.figures.wording import caption_lengths, frequent_words
from harness.report.catalogue import as_json, description
from plugins.datasets.shapes_fa import ShapesFa

SMALL = ["datasets.shapes_fa.train=20", "datasets.shapes_fa.validation=3", "datasets.shapes_fa.test=4"]
CAPTIONS = {
    "train": ["سـگ سیاه", "سگ سیاه!", "گربه می‌دود", "سگ  می‌دود"],
    "validation": ["سگ سفید"],
    "test": ["سگ سیاه", "پرنده"],
}


@pytest.fixture
def photographs(workplace: Path) -> list[str]:
    """A folder of small images with the captions above, one each; the settings that name it."""
    entries = [(split, text) for split, captions in CAPTIONS.items() for text in captions]
    listed = []
    for number, (split, text) in enumerate(entries):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(workplace / f"{number}.png")
        listed.append({"image": f"{number}.png", "captions_fa": [text], "split": split})
    (workplace / "captions.json").write_text(json.dumps(listed))
    return [f"datasets.coco_fa.path={workplace}", "datasets.coco_fa.size=8", "datasets.coco_fa.minimum_count=2"]


def test_captions_are_counted_by_split_and_as_words(photographs: list[str]) -> None:
    text = description("datasets", "coco_fa", "tiny", None, photographs)
    rows = [line.split() for line in text.splitlines()]
    assert "images 3 x 8 x 8, captions in Persian, train 4, validation 1, test 2" in text
    assert ["train", "4", "4", "1", "1", "1"] in rows
    assert ["test", "2", "2", "1", "1", "1"] in rows
    assert "words of the 4 training captions" in text
    # As written the first and second caption share no word; dog, black and running come twice, cat once.
    assert (
        "6 as written, between spaces; 4 cleaned; 3 in the vocabulary (2 times or more), 7 with the 4 special" in text
    )
    assert "unknown  50.0 % of the words of validation, 33.3 % of the words of test" in text
    assert "lengths  2 to 2 words, mean 2.0" in text
    assert "captions by words: 2: 4" in text
    assert [row for row in rows if row[1:] == ["سگ"]] == [["3", "سگ"]]
    assert "classes" not in text.partition("images 3 x")[2]


def test_json_has_the_same(photographs: list[str]) -> None:
    told = json.loads(as_json("datasets", "coco_fa", "tiny", None, photographs))
    assert told["facts"]["language"] == "fa"
    assert told["contents"]["splits"]["train"] == {"images": 4, "captions": 4}
    words = told["contents"]["words"]
    assert (words["captions"], words["unique_as_written"], words["unique_cleaned"], words["in_vocabulary"]) == (
        4,
        6,
        4,
        3,
    )
    assert words["unknown"] == {"validation": 0.5, "test": 1 / 3}
    assert words["lengths"] == {"2": 4}
    assert words["frequent"][0] == {"word": "سگ", "count": 3}


@pytest.mark.usefixtures("workplace")
def test_the_words_are_those_of_the_drawn_scenes() -> None:
    words = json.loads(as_json("datasets", "shapes_fa", "tiny", None, SMALL))["contents"]["words"]
    training = ShapesFa(train=20, validation=3, test=4).load()["train"].captions
    texts_ = [text.split() for captions in training for text in captions]  # which are written as cleaned ones are
    counts = Counter(word for text in texts_ for word in text)
    assert words["captions"] == 60
    assert words["unique_as_written"] == words["unique_cleaned"] == words["in_vocabulary"] == len(counts)
    assert {item["word"]: item["count"] for item in words["frequent"]}.items() <= counts.items()
    assert {int(k): v for k, v in words["lengths"].items()} == Counter(map(len, texts_))


def test_what_a_run_has_kept_is_taken_and_the_captions_read(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "kept").mkdir()
    first = description("datasets", "shapes_fa", "tiny", None, SMALL, artifacts="kept")
    assert capsys.readouterr().err == "bench info: reading the images and captions of shapes_fa\n"
    assert description("datasets", "shapes_fa", "tiny", None, SMALL, artifacts="kept") == first
    assert capsys.readouterr().err == "bench info: reading the captions of shapes_fa\n"


@pytest.mark.usefixtures("workplace")
def test_without_a_path_the_rest_is_told() -> None:
    assert "data: coco_fa: no path is set" in description("datasets", "coco_fa", "tiny", None, ())
    told = json.loads(as_json("datasets", "coco_fa", "tiny", None, ()))
    assert "coco-fa is not found in data, " in told["facts"]["fault"]
    assert told["contents"]["fault"].startswith("not found in data, ")
    assert told["facts"]["fault"].startswith("coco_fa: no path is set")


@pytest.mark.slow
def test_words_and_lengths_are_drawn(bench: Callable[..., Any], workplace: Path, photographs: list[str]) -> None:
    settings = [part for setting in photographs for part in ("--set", setting)]
    ended = bench("info", "datasets", "coco_fa", *settings, "--figures", "--out", "drawn")
    assert ended.returncode == 0, ended.stderr
    names = [f"coco_fa-{what}.{ending}" for what in ("words", "lengths") for ending in ("png", "pdf")]
    assert [Path(line).name for line in ended.stdout.splitlines()] == names
    assert sorted(path.name for path in (workplace / "drawn").iterdir()) == sorted(names)
    with Image.open(workplace / "drawn" / "coco_fa-words.png") as image:
        assert np.asarray(image.convert("L")).std() > 20


def test_two_answers_at_once_are_refused(bench: Callable[..., Any]) -> None:
    ended = bench("info", "datasets", "digits", "--figures", "--json")
    assert ended.returncode == 2
    assert ended.stderr == "bench: error: --figures and --json: got both; give one of them\n"


def test_frequent_words_stand_in_their_order_with_their_counts() -> None:
    frequent = [("یک", 30_061), ("می‌شود", 912), ("a-very-long-word-that-has-no-room", 7)]
    figure = frequent_words(frequent, title="words")
    assert_legible(figure)
    panel: Any = figure.axes[0]
    assert [text.get_text() for text in panel.texts] == ["30,061", "912", "7"]
    assert [bar.get_width() for bar in panel.patches] == [30_061, 912, 7]
    assert "یک" in panel.get_yticklabels()[0].get_text()
    assert panel.get_xlabel() == "times in the captions"


def test_every_length_has_its_bar_and_the_mean_its_line() -> None:
    figure = caption_lengths({3: 5, 4: 10, 9: 1}, title="lengths")
    assert_legible(figure)
    panel: Any = figure.axes[0]
    assert {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in panel.patches} == {3: 5, 4: 10, 9: 1}
    assert math.isclose(np.asarray(panel.lines[0].get_xdata())[0], 64 / 16)
    assert any(text.get_text() == "mean 4.0" for text in texts(figure))


@pytest.mark.parametrize(
    ("text", "rightwards"),
    [("سگ سیاه", True), ("<unk> سگ", True), ("۱۲ سگ", True), ("a dog", False), ("<unk>", False), ("", False)],
)
def test_a_caption_runs_in_the_direction_of_its_letters(text: str, rightwards: bool) -> None:
    assert shown(text) == (f"\u2067{text}\u2069" if rightwards else text)


def inked(text: str) -> np.ndarray:
    """What matplotlib draws of a text, cut to its ink."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with look():
        figure = Figure(figsize=(4, 0.5), dpi=100)
        figure.text(0.5, 0.3, text, ha="center", fontsize=14)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        dark = np.asarray(canvas.buffer_rgba())[..., 0] < 128
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    return dark[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def test_letters_are_joined_and_ordered() -> None:
    apart = "\u200c".join("سیب")  # each letter in its own form
    assert inked(shown("سیب")).shape[1] < 0.8 * inked(apart).shape[1]
    backwards = inked("<unk> سگ")
    assert inked(shown("<unk> سگ")).shape != backwards.shape or (inked(shown("<unk> سگ")) != backwards).any()
    assert (inked(shown("سگ")) == inked("سگ")).all()


@pytest.mark.filterwarnings("error")
def test_a_dollar_is_no_formula_and_no_letter_is_missing() -> None:
    assert inked(shown("$x$ 5")).shape[1] > 1.1 * inked("$x$ 5").shape[1]
    assert re.sub(r"[\u2067\u2069]", "", shown("سگ می‌دود")) == "سگ می‌دود"
    assert inked(shown("سگ می‌دود")).any()
