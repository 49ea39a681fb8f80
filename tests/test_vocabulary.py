"""The words that a captioner knows: which are kept, in which order, and sentences as numbers and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.captioning.vocabulary import END, PAD, SPECIAL, START, UNKNOWN, Vocabulary

SENTENCES = st.lists(st.lists(st.sampled_from("abcdef"), max_size=6), max_size=6)
COUNTED = [["b", "a", "b"], ["a", "c", "b"], ["c"]]  # b 3, a 2, c 2


@pytest.mark.parametrize(("minimum", "kept"), [(0, "bac"), (1, "bac"), (2, "bac"), (3, "b"), (4, "")])
def test_words_that_stand_often_enough_are_kept_frequent_ones_first(minimum: int, kept: str) -> None:
    assert Vocabulary.of(COUNTED, minimum).words == (*SPECIAL, *kept)


@given(SENTENCES, st.randoms(use_true_random=False), st.integers(1, 3))
def test_the_order_of_sentences_does_not_count(sentences: list[list[str]], random: object, minimum: int) -> None:
    shuffled = [list(sentence) for sentence in sentences]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for sentence in shuffled:
        random.shuffle(sentence)  # type: ignore[attr-defined]
    assert Vocabulary.of(shuffled, minimum) == Vocabulary.of(sentences, minimum)


def test_words_of_equal_count_stand_by_letter() -> None:
    assert Vocabulary.of([["سگ", "b", "گربه", "a", "آب"]]).words == (*SPECIAL, "a", "b", "آب", "سگ", "گربه")


def test_sentences_are_read_once() -> None:
    assert Vocabulary.of(iter(COUNTED), 2) == Vocabulary.of(COUNTED, 2)


def test_special_words_have_their_own_numbers() -> None:
    assert (PAD, START, END, UNKNOWN) == (0, 1, 2, 3)
    assert SPECIAL == ("<pad>", "<start>", "<end>", "<unk>")
    assert Vocabulary.of([]).words == SPECIAL
    assert Vocabulary.of([["<end>", "a", "<unk>"]]).words == (*SPECIAL, "a")


def test_a_word_stands_once_and_the_special_ones_first() -> None:
    for word in ("a", *SPECIAL):
        with pytest.raises(ValueError, match=f"'{word}' stands twice"):
            Vocabulary((*SPECIAL, "a", word))
    for words in (("a", *SPECIAL), SPECIAL[:3], SPECIAL[::-1], ()):
        with pytest.raises(ValueError, match="begins with <pad> <start> <end> <unk>"):
            Vocabulary(words)


def test_a_word_of_another_split_has_the_number_of_unknown_words() -> None:
    vocabulary = Vocabulary.of([["a"]])
    assert vocabulary.encode(["a", "z"]) == [START, 4, UNKNOWN, END]
    assert ("a" in vocabulary, "z" in vocabulary, len(vocabulary)) == (True, False, 5)
    assert vocabulary.decode(vocabulary.encode(["a", "z"])) == ["a", "<unk>"]


def test_a_sentence_ends_at_its_first_end() -> None:
    vocabulary = Vocabulary.of([["a", "b"]])
    assert vocabulary.decode([START, 4, PAD, END, 5, END]) == ["a"]
    assert vocabulary.decode([4, 5]) == ["a", "b"]  # one that reaches no end
    assert vocabulary.decode([]) == []


def test_a_number_without_a_word_is_an_error() -> None:
    with pytest.raises(IndexError):
        Vocabulary.of([["a"]]).decode([5])


@given(SENTENCES, SENTENCES, st.integers(1, 3), st.integers(0, 3))
def test_a_sentence_comes_back_from_its_numbers(
    training: list[list[str]], test: list[list[str]], minimum: int, padding: int
) -> None:
    vocabulary = Vocabulary.of(training, minimum)
    for sentence in (*training, *test):
        tokens = [*vocabulary.encode(sentence), *[PAD] * padding]
        assert vocabulary.decode(tokens) == [word if word in vocabulary else "<unk>" for word in sentence]
        assert all(0 <= token < len(vocabulary) for token in tokens)


@given(SENTENCES, st.integers(1, 4))
def test_exactly_the_words_that_stand_often_enough_are_in_it(sentences: list[list[str]], minimum: int) -> None:
    flat = [word for sentence in sentences for word in sentence]
    vocabulary = Vocabulary.of(sentences, minimum)
    assert set(vocabulary.words) - set(SPECIAL) == {word for word in flat if flat.count(word) >= minimum}
    assert list(vocabulary.words[4:]) == sorted(vocabulary.words[4:], key=lambda word: (-flat.count(word), word))
