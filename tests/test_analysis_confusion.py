"""Confusion and super-classes against scikit-learn and against a recomputation from coarse labels."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

from harness.analysis.confusion import (
    by_row,
    confusion_matrix,
    group_accuracy,
    group_confusion,
    grouping,
    per_class,
    per_group,
    ranks,
    top_k,
)
from harness.statistics import rate

K = 12
GROUPS = [f"group {k % 4}" for k in range(K)]


def answers(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    label = random.integers(0, K, n)
    return label, np.where(random.random(n) < 0.6, label, random.integers(0, K, n))


def test_counts_are_those_of_scikit_learn() -> None:
    label, prediction = answers()
    counts = confusion_matrix(label, prediction, K)
    assert (counts == sklearn.metrics.confusion_matrix(label, prediction, labels=range(K))).all()
    np.testing.assert_allclose(
        by_row(counts), sklearn.metrics.confusion_matrix(label, prediction, labels=range(K), normalize="true")
    )


def test_accuracy_of_each_class_is_its_recall() -> None:
    label, prediction = answers()
    recall = sklearn.metrics.recall_score(label, prediction, labels=range(K), average=None)
    scores = per_class(label, prediction, K)
    np.testing.assert_allclose([score.value for score in scores], recall)
    hits, n = int(((label == 3) & (prediction == 3)).sum()), int((label == 3).sum())
    assert scores[3] == rate(hits, n)


def test_a_class_without_samples_has_no_accuracy() -> None:
    score = per_class([0, 0], [0, 1], 3)[2]
    assert np.isnan(score.value)
    assert score[1:] == (None, None, 0)
    assert by_row(confusion_matrix([0, 0], [0, 1], 3))[2].tolist() == [0, 0, 0]


def test_super_class_accuracy_is_that_of_the_coarse_labels() -> None:
    label, prediction = answers()
    right = np.array([GROUPS[a] == GROUPS[b] for a, b in zip(label, prediction, strict=True)])
    assert group_accuracy(label, prediction, GROUPS) == rate(int(right.sum()), len(right))
    assert group_confusion(label, prediction, GROUPS).sum() == len(label)
    for name, score in per_group(label, prediction, GROUPS).items():
        mine = np.array([GROUPS[k] == name for k in label])
        assert score == rate(int(right[mine].sum()), int(mine.sum()))


def test_super_classes_are_in_alphabetical_order() -> None:
    names, of_class = grouping(["people", "fish", "people", "insects"])
    assert names == ("fish", "insects", "people")
    assert of_class.tolist() == [2, 0, 2, 1]


@pytest.mark.slow
def test_super_classes_of_cifar100_are_its_coarse_labels(cifar_root: Path) -> None:
    from plugins.datasets.cifar100 import CIFAR100

    with (cifar_root / "cifar-100-python" / "test").open("rb") as file:
        test = pickle.load(file, encoding="latin1")
    fine, coarse = np.array(test["fine_labels"]), np.array(test["coarse_labels"])
    groups = CIFAR100().facts().groups
    assert (grouping(groups).of_class[fine] == coarse).all()
    prediction = np.random.default_rng(0).permutation(fine)
    coarse_of = dict(zip(fine.tolist(), coarse.tolist(), strict=True))
    right = sum(coarse_of[p] == c for p, c in zip(prediction.tolist(), coarse.tolist(), strict=True))
    assert group_accuracy(fine, prediction, groups) == rate(right, len(fine))


def test_top_k_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    logits, label = random.normal(size=(300, K)), random.integers(0, K, 300)
    rank = ranks(logits, label)
    for k in (1, 3, 5, K - 1):
        score = top_k(rank, k)
        wanted = sklearn.metrics.top_k_accuracy_score(label, logits, k=k, labels=range(K))
        assert score.value == pytest.approx(wanted)
    assert top_k(rank, 1).value == (logits.argmax(1) == label).mean()


def test_equal_logits_and_nan_do_not_count_as_right() -> None:
    assert ranks([[1.0, 1.0, 0.0]], [0]).tolist() == [2]
    assert ranks([[np.nan, np.nan, np.nan]], [0]).tolist() == [3]


@pytest.mark.parametrize(("label", "prediction"), [([0, 1], [0]), ([0], [K]), ([-1], [0])])
def test_what_are_no_answers_is_refused(label: list[int], prediction: list[int]) -> None:
    with pytest.raises(ValueError):
        confusion_matrix(label, prediction, K)


@pytest.mark.parametrize(("rank", "k"), [([0], 1), ([1], 0)])
def test_ranks_count_from_one(rank: list[int], k: int) -> None:
    with pytest.raises(ValueError):
        top_k(rank, k)
