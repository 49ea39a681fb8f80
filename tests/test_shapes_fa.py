"""Drawn scenes: what is said of them is true of the pixels, boxes hold what they name, no scene is in two splits."""

from __future__ import annotations

import colorsys
import hashlib
import itertools
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from harness.errors import BenchError
from harness.types import CAPTIONING, Box, CaptionedSplit
from plugins.captions import scenes
from plugins.datasets.shapes_fa import ShapesFa

if TYPE_CHECKING:
    from numpy.typing import NDArray

Splits = Mapping[str, CaptionedSplit]

# Told apart by eye and not by the tables that the scenes are drawn from: degrees of hue, and of each shape the share of
# its box that it fills and how many times as wide as high it is.
HUES = {
    "قرمز": (342, 372),
    "نارنجی": (18, 40),
    "زرد": (42, 62),
    "سبز": (115, 150),
    "آبی": (208, 238),
    "بنفش": (262, 298),
}
FILLED = {
    "دایره": (0.785, 1.0),
    "مربع": (1.0, 1.0),
    "مثلث": (0.5, 1.155),
    "ستاره": (0.37, 1.05),
    "لوزی": (0.5, 0.63),
    "مستطیل": (1.0, 2.15),
}
SIZES = {"بزرگ": (0.0445, 0.2), "کوچک": (0.01, 0.0445)}
"""Share of the picture that one thing covers."""
NUMBERS = {"یک": 1, "دو": 2, "سه": 3}


class Told(NamedTuple):
    """What a caption says: number, shape, colour, size of each thing, and how the first stands to the second."""

    things: tuple[tuple[int, str, str, str], ...]
    relation: str


def heard(caption: str) -> Told:
    """A caption understood word by word: a number begins a thing, which ends with its size."""
    words = caption.split()
    starts = [place for place, word in enumerate(words) if word in NUMBERS]
    things = tuple((NUMBERS[words[k]], words[k + 1], words[k + 2], words[k + 3]) for k in starts)
    between = words[starts[0] + 4 : starts[1]] if len(starts) > 1 else []
    return Told(things, " ".join(between))


def strength(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How coloured each pixel is beside the ground, which is pale: (3, H, W) -> (H, W)."""
    levels = image.astype(np.int64)
    found = levels.max(0) - levels.min(0)
    return found - found[0, 0]


def part(box: Box, size: int) -> tuple[slice, slice]:
    """The pixels of a box and one more on each side, for edges fall between pixels."""
    rows = slice(max(0, round(box.top * size) - 1), round(box.bottom * size) + 1)
    return rows, slice(max(0, round(box.left * size) - 1), round(box.right * size) + 1)


def area(image: NDArray[np.uint8], box: Box) -> float:
    """Share of the picture that is drawn over in a box; a pixel at an edge counts as far as it is coloured."""
    size = image.shape[1]
    found = strength(image)
    full = found[centre(box, size)]
    return float((found[part(box, size)] / full).clip(0, 1).sum()) / size**2


def centre(box: Box, size: int) -> tuple[int, int]:
    return int((box.top + box.bottom) / 2 * size), int((box.left + box.right) / 2 * size)


def hue(image: NDArray[np.uint8], box: Box) -> float:
    row, column = centre(box, image.shape[1])
    turn = colorsys.rgb_to_hsv(*(image[:, row, column] / 255))[0] * 360
    return turn + 360 if turn < 12 else turn


def middle(box: Box) -> tuple[float, float]:
    return (box.left + box.right) / 2, (box.top + box.bottom) / 2


def digest(splits: Splits) -> str:
    total = hashlib.sha256()
    for split in splits.values():
        total.update(split.images.tobytes() + split.ids.tobytes() + repr((split.captions, split.objects)).encode())
    return total.hexdigest()


@pytest.fixture(scope="module")
def splits() -> Splits:
    return ShapesFa().load()


@pytest.fixture(scope="module")
def shown(splits: Splits) -> list[tuple[NDArray[np.uint8], tuple[str, ...], tuple[Box, ...]]]:
    """Images, captions and boxes of validation and test."""
    both = [splits["validation"], splits["test"]]
    return [item for part in both for item in zip(part.images, part.captions, part.objects, strict=True)]


# --- what the data set is


def test_it_is_what_its_facts_say(splits: Splits) -> None:
    dataset = ShapesFa()
    facts = dataset.facts()
    assert (facts.task, facts.language, facts.minimum_count, facts.classes) == (CAPTIONING, "fa", 1, ())
    assert facts.sizes == {"train": 2000, "validation": 200, "test": 400}
    assert list(splits) == list(facts.sizes)
    for name, split in splits.items():
        assert split.images.dtype == np.uint8
        assert split.images.shape == (facts.sizes[name], *facts.shape)
        assert split.ids.dtype == np.int64
        assert len(split.captions) == len(split.objects) == facts.sizes[name]
        assert {len(captions) for captions in split.captions} == {3}
    assert np.concatenate([split.ids for split in splits.values()]).tolist() == list(range(2600))
    assert all(file.is_file() for file in dataset.locate())


def test_no_scene_and_no_caption_is_in_two_splits(splits: Splits) -> None:
    said = {name: {text for captions in split.captions for text in captions} for name, split in splits.items()}
    for one, other in itertools.combinations(said.values(), 2):
        assert not one & other
    images = [image.tobytes() for split in splits.values() for image in split.images]
    assert len(set(images)) == len(images)


def test_a_scene_of_two_comes_once_and_no_caption_is_frequent(splits: Splits) -> None:
    counts = Counter(captions[0] for split in splits.values() for captions in split.captions)
    assert max(counts[text] for text in counts if heard(text).relation) == 1
    assert max(counts.values()) <= 5
    assert sum(count for text, count in counts.items() if heard(text).relation) == round(2600 * 0.7)


def test_words_are_balanced(splits: Splits) -> None:
    """No shape, colour, relation or number is so frequent that guessing it would pay."""
    told = [heard(captions[0]) for captions in splits["train"].captions]
    things = [thing for one in told for thing in one.things]
    for place, kinds in ((1, 6), (2, 6)):
        counts = Counter(thing[place] for thing in things)
        assert len(counts) == kinds
        assert max(counts.values()) < 1.25 * min(counts.values())
    relations = Counter(one.relation for one in told if one.relation)
    assert set(relations) == {"بالای", "زیر", "سمت راست", "سمت چپ"}
    numbers = Counter(one.things[0][0] for one in told if not one.relation)
    for counts in (relations, numbers):
        assert max(counts.values()) < 1.3 * min(counts.values())


def test_the_seed_decides_everything() -> None:
    few = {"train": 60, "validation": 20, "test": 30, "size": 32}
    first = digest(ShapesFa(**few).load())
    assert digest(ShapesFa(**few).load()) == first
    assert digest(ShapesFa(**few, seed=1).load()) != first


def test_the_first_scenes_stay_the_same_for_good(splits: Splits) -> None:
    """Recorded from the first version."""
    assert [captions[0] for captions in splits["train"].captions[:3]] == [
        "یک لوزی قرمز بزرگ سمت راست یک مستطیل قرمز کوچک قرار دارد",
        "در این تصویر یک ستاره سبز کوچک دیده می\u200cشود",
        "یک مستطیل زرد بزرگ سمت چپ یک ستاره نارنجی کوچک قرار دارد",
    ]


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 1, 3), (5, 40, 2), (6600, 200, 200)])
def test_splits_may_be_of_any_size(sizes: tuple[int, int, int]) -> None:
    train, validation, test = sizes
    chosen = ShapesFa(train, validation, test)._scenes(np.random.RandomState(0))
    assert tuple(map(len, chosen.values())) == sizes
    for one, other in itertools.combinations(chosen.values(), 2):
        assert not set(one) & set(other)


# --- what is said


def test_every_caption_is_true_of_the_picture(
    shown: Sequence[tuple[NDArray[np.uint8], tuple[str, ...], tuple[Box, ...]]],
) -> None:
    for image, captions, boxes in shown:
        told = heard(captions[0])
        assert {heard(text) for text in captions} == {told}  # the same facts in other words
        kinds = [(shape, colour, size) for number, shape, colour, size in told.things for _ in range(number)]
        assert [box.word for box in boxes] == [shape for shape, _, _ in kinds]
        for box, (_, colour, large) in zip(boxes, kinds, strict=True):
            low, high = HUES[colour]
            assert low <= hue(image, box) <= high, captions[0]
            least, most = SIZES[large]
            assert least < area(image, box) < most, captions[0]
        if told.relation:
            (x, y), (to_x, to_y) = map(middle, boxes)
            right, below = x - to_x, y - to_y
            apart = {"بالای": -below, "زیر": below, "سمت راست": right, "سمت چپ": -right}[told.relation]
            assert apart > 2 * min(abs(right), abs(below))  # nobody would call it otherwise


def test_words_are_few_whole_and_right_in_number(splits: Splits) -> None:
    lengths = set()
    for split in splits.values():
        for captions in split.captions:
            assert len(set(captions)) == 3
            lengths |= {len(text.split()) for text in captions}
    assert (min(lengths), max(lengths)) == (8, 14)


@pytest.mark.slow
def test_cleaning_leaves_captions_and_names_as_they_are(splits: Splits) -> None:
    pytest.importorskip("hazm")
    from harness.captioning.text import cleaned, foreign

    texts = [text for split in splits.values() for captions in split.captions for text in captions]
    assert [" ".join(words) for words in cleaned(texts, "fa")] == texts
    assert not foreign(texts, "fa")
    assert all(unicodedata.is_normalized("NFC", text) for text in texts)
    assert list(cleaned(scenes.SHAPES, "fa")) == [[name] for name in scenes.SHAPES]


# --- what is drawn


def test_boxes_hold_everything_that_is_drawn_and_little_else(
    shown: Sequence[tuple[NDArray[np.uint8], tuple[str, ...], tuple[Box, ...]]],
) -> None:
    for image, _, boxes in shown:
        left = strength(image) > 60
        for box in boxes:
            assert 0 <= box.left < box.right <= 1
            assert 0 <= box.top < box.bottom <= 1
            rows, columns = part(box, image.shape[1])
            inside = left[rows, columns]
            for edge in (inside[:4], inside[-4:], inside[:, :4], inside[:, -4:]):
                assert edge.any()  # what is drawn reaches every side of its box
            left[rows, columns] = False
        assert not left.any()


@pytest.mark.slow
def test_a_shape_looks_like_its_name() -> None:
    """By the share of its box that is filled and the box's sides, on pictures large enough to measure them."""
    split = ShapesFa(train=300, validation=1, test=1, size=192).load()["train"]
    seen = set()
    for image, boxes in zip(split.images, split.objects, strict=True):
        for box in boxes:
            width, height = box.right - box.left, box.bottom - box.top
            filled, wide = FILLED[box.word]
            assert area(image, box) / (width * height) == pytest.approx(filled, abs=0.05), box.word
            assert width / height == pytest.approx(wide, rel=0.05), box.word
            seen.add(box.word)
    assert seen == set(FILLED)


def test_edges_are_smooth(splits: Splits) -> None:
    """Between ground and thing there are pixels of neither colour."""
    levels = [len(np.unique(image.reshape(3, -1), axis=1).T) for image in splits["test"].images[:50]]
    assert min(levels) > 4


# --- errors


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train": 0}, "train=0; at least 1 is needed"),
        ({"validation": -1}, "validation=-1; at least 1 is needed"),
        ({"minimum_count": 0}, "minimum_count=0; at least 1 is needed"),
        ({"train": 7000}, "are 7600 images; at most 7000 are possible"),
        ({"size": 8}, "size=8; 32 to 512 pixels are needed"),
        ({"references": 4}, "references=4; 1 to 3 captions of an image are needed"),
        ({"seed": -1}, "seed=-1; a whole number from 0 to"),
    ],
)
def test_a_wrong_field_is_refused_in_one_line(fields: dict[str, int], message: str) -> None:
    with pytest.raises(BenchError) as caught:
        ShapesFa(**fields)
    assert str(caught.value).startswith("shapes_fa: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
