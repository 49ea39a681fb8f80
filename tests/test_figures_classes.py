"""Figures by class: what they show, and that it can be read at 10, 20, 100 and 102 classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawings import answers, assert_legible, names, words

from harness.analysis.confusion import confusion_matrix as counted
from harness.analysis.confusion import per_class, per_group
from harness.figures.class_accuracy import class_accuracy, group_accuracy
from harness.figures.confusion import confusion_matrix
from harness.types import Score

SIZES = [2, 10, 20, pytest.param(100, marks=pytest.mark.slow), pytest.param(102, marks=pytest.mark.slow)]


def groups(classes: int) -> list[str]:
    """Twenty super-classes whose members are not neighbours, one with a long name."""
    return [f"group {k * 7 % 20}" if k * 7 % 20 else "large omnivores and herbivores" for k in range(classes)]


@pytest.mark.parametrize("classes", SIZES)
def test_a_confusion_matrix_can_be_read(classes: int) -> None:
    figure = confusion_matrix(counted(*answers(classes), classes), names(classes), title="resnet_original, test")
    assert_legible(figure)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == names(classes)


@pytest.mark.slow
def test_a_grouped_confusion_matrix_can_be_read() -> None:
    figure = confusion_matrix(counted(*answers(100), 100), names(100), groups(100))
    assert_legible(figure)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == sorted(set(groups(100)))


def test_few_classes_have_their_counts_in_the_cells() -> None:
    counts = counted(*answers(10), 10)
    figure = confusion_matrix(counts, names(10))
    cells = {text.get_position(): int(text.get_text()) for text in figure.axes[0].texts}
    assert cells == {(c, r): counts[r, c] for r in range(10) for c in range(10) if counts[r, c]}


def test_colours_are_shares_of_the_true_class() -> None:
    counts = np.array([[3, 1, 0], [0, 0, 0], [1, 0, 1]])
    shown = confusion_matrix(counts, ["a", "b", "c"]).axes[0].images[0].get_array()
    np.testing.assert_allclose(shown, [[0.75, 0.25, 0], [0, 0, 0], [0.5, 0, 0.5]])


def test_classes_are_sorted_by_super_class_with_lines_between() -> None:
    counts = np.diag([1, 2, 3, 4])
    counts[0, 2] = 5
    figure = confusion_matrix(counts, ["a", "b", "c", "d"], ["y", "x", "y", "x"])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "d", "a", "c"]
    assert axes.images[0].get_array()[2, 3] == 5 / 6
    assert sorted(line.get_ydata()[0] for line in axes.lines if line.get_ydata()[0] == line.get_ydata()[1]) == [1.5]


@pytest.mark.parametrize("classes", SIZES)
def test_accuracy_per_class_can_be_read(classes: int) -> None:
    before = per_class(*answers(classes), classes)
    after = per_class(*answers(classes, accuracy=0.3, seed=1), classes)
    figure = class_accuracy(before, names(classes), after, labels=("original", "hardened"), title="clean images")
    assert_legible(figure)
    assert sum(len(axes.get_yticklabels()) for axes in figure.axes) == classes


def test_classes_are_sorted_and_linked_to_what_became_of_them() -> None:
    before = [Score(0.2, 0.1, 0.3, 50), Score(0.9, 0.8, 1.0, 50), Score(math.nan, None, None, 0)]
    after = [Score(0.4, 0.3, 0.5, 50), Score(0.5, 0.4, 0.6, 50), Score(0.1, 0.0, 0.2, 50)]
    axes = class_accuracy(before, ["low", "high", "unseen"], after).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["high", "low", "unseen"]
    marks = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 3]
    np.testing.assert_array_equal(marks, [[0.9, 0.2, math.nan], [0.5, 0.4, 0.1]])
    links = axes.collections[0].get_segments()
    np.testing.assert_allclose(links[0], [[0.9, 0], [0.5, 0]])
    whiskers = axes.collections[1].get_segments()
    np.testing.assert_allclose(whiskers[0], [[0.8, 0], [1.0, 0]])


def test_the_legend_gives_the_means() -> None:
    scores = [Score(0.2, None, None, 1), Score(0.6, None, None, 1)]
    assert "mean 40.0 %" in words(class_accuracy(scores, ["a", "b"]))


@pytest.mark.parametrize("models", [1, 2, 4])
def test_accuracy_per_super_class_can_be_read(models: int) -> None:
    kinds = groups(100)
    found = {f"model {m}": per_group(*answers(100, accuracy=0.3 + 0.1 * m, seed=m), kinds) for m in range(models)}
    figure = group_accuracy(found, title="CIFAR-100")
    assert_legible(figure)
    axes = figure.axes[0]
    assert len(axes.patches) == 20 * models
    widths = [bar.get_width() for bar in axes.patches[:20]]
    assert widths == sorted(widths, reverse=True)
    assert sorted(widths) == pytest.approx(sorted(score.value for score in found["model 0"].values()))
