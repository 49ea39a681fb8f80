"""What captions are made of, against counts by hand and by the plainest code."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.captioning.text import cleaned
from harness.captioning.vocabulary import SPECIAL, Vocabulary
from harness.captioning.wording import Wording, wording

TRAINING = [["a", "dog"], ["a", "cat", "and", "a", "dog"], ["dogs"], ["a", "cat"]]
SENTENCES = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=8)


def test_a_few_captions_are_counted() -> None:
    others = {"validation": [["a", "horse"], ["a", "dog", "dog", "horse"]], "test": [["a"]]}
    written = ["A dog!", "a  cat and a dog", "dogs", "a cat"]
    assert wording(TRAINING, Vocabulary.of(TRAINING, 2), others, most=3, written=written) == Wording(
        captions=4,
        written=7,
        unique=5,
        known=3,
        frequent=(("a", 4), ("cat", 2), ("dog", 2)),
        lengths={1: 1, 2: 2, 5: 1},
        unknown={"validation": 2 / 6, "test": 0.0},
    )


def test_lengths_begin_with_the_shortest() -> None:
    assert list(wording([["a"] * n for n in (5, 1, 3, 1)], Vocabulary.of([])).lengths.items()) == [
        (1, 2),
        (3, 1),
        (5, 1),
    ]


def test_captions_that_can_be_read_once_are_enough() -> None:
    vocabulary = Vocabulary.of(TRAINING)
    once = wording(iter(TRAINING), vocabulary, {"test": iter(TRAINING)})
    assert once == wording(TRAINING, vocabulary, {"test": TRAINING})


def test_nothing_is_counted_of_nothing() -> None:
    found = wording([], Vocabulary.of([]), {"test": [[]]})
    assert (found.captions, found.unique, found.known, found.frequent, found.lengths) == (0, 0, 0, (), {})
    assert math.isnan(found.unknown["test"])


def test_a_special_word_is_not_known() -> None:
    captions = [["<unk>", "a"]]
    found = wording(captions, Vocabulary.of(captions), {"test": captions})
    assert (found.known, found.unknown["test"]) == (1, 0.5)


def test_no_negative_number_of_frequent_words() -> None:
    assert wording(TRAINING, Vocabulary.of([]), most=0).frequent == ()
    with pytest.raises(ValueError, match="is -1; 0 or more"):
        wording(TRAINING, Vocabulary.of([]), most=-1)


@given(SENTENCES, SENTENCES, st.integers(1, 4))
def test_the_parts_add_up(training: list[list[str]], test: list[list[str]], minimum: int) -> None:
    vocabulary = Vocabulary.of(training, minimum)
    found = wording(training, vocabulary, {"train": training, "test": test}, most=100)
    assert sum(found.lengths.values()) == found.captions == len(training)
    assert sum(n * count for n, count in found.lengths.items()) == sum(count for _, count in found.frequent)
    assert dict(found.frequent) == Counter(word for caption in training for word in caption)
    assert found.known == len(vocabulary) - len(SPECIAL) <= found.unique == len(found.frequent)
    assert tuple(word for word, _ in found.frequent[: found.known]) == vocabulary.words[len(SPECIAL) :]
    words = [word for caption in test for word in caption]
    if words:
        assert found.unknown["test"] == sum(word not in vocabulary for word in words) / len(words)
    if minimum == 1 and found.unique:
        assert found.unknown["train"] == 0


@pytest.mark.slow
def test_persian_captions_are_counted(shared_data: Path) -> None:
    pairs = json.loads((shared_data / "coco-fa" / "text_only_val2017.json").read_text())
    captions = list(cleaned((pair["fa"] for found in pairs.values() for pair in found), "fa"))
    training, test = captions[:18000], captions[18000:]
    found = wording(training, Vocabulary.of(training, 3), {"test": test})
    assert (found.captions, len(found.frequent)) == (18000, 20)
    assert found.frequent[0][0] == "یک"
    assert 0 < found.unknown["test"] < 0.1
    assert found.known < found.unique
