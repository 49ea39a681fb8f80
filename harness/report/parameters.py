"""What ``bench info`` says of a model's size: its parameters, group by group, counted without weights."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import boundary, locating
from harness.errors import BenchError
from harness.layers import dotted
from harness.report.columns import columns
from harness.request import Configured, ModelConfig
from harness.types import CAPTIONING, CLASSIFICATION, Facts, Preparation

if TYPE_CHECKING:
    from torch import nn

    from harness.analysis.parameters import Group
    from harness.captioning.vocabulary import Vocabulary

SIDE = 224
"""Of the images that a captioner is counted for where its data set does not tell."""


def counted(model: ModelConfig, dataset: Configured | None, data: Sequence[str]) -> tuple[list[Group], str]:
    """The groups of a model's parameters, and what they are counted for: image, classes or words.

    Nothing is trained, no weights are read or fetched, and no data is read but the captions that a captioner's number
    of words depends on, where it is not set. Raises BenchError where it cannot be told, saying what to set.
    """
    from harness.analysis.parameters import groups

    if dataset is None:
        raise BenchError(f"depend on the data set; name one by --set {_dataset_of(model)} (bench list datasets)")
    task = getattr(model.component, "task", CLASSIFICATION)
    roots = locating.roots(data)
    facts, vocabulary = _facts(model, dataset, task, roots), None
    words = getattr(model.component, "vocabulary_size", None)
    if task == CAPTIONING and words is None:
        vocabulary = _vocabulary(model, dataset, roots)
        words = len(vocabulary)
    channels = facts.shape[0]
    # What the images are normalised by has no part in their number.
    prepared = Preparation(facts, (0.5,) * channels, (0.25,) * channels, vocabulary, outline=True)
    answers = f"{words:,} words, the special ones among them" if task == CAPTIONING else f"{len(facts.classes)} classes"
    return groups(_outline(model, prepared)), f"images of {' x '.join(map(str, facts.shape))}, {answers}"


def _dataset_of(model: ModelConfig) -> str:
    key = f"{dotted('models', model.name, 'dataset')}=NAME"
    return f"'{key}'" if '"' in key else key


def lines(found: Sequence[Group], of: str) -> list[str]:
    """A row for each group, trainable parameters and all, and their sums."""
    whole = [group for group in found if not group.level]
    numbers = [("all", "trainable")]
    numbers += [(f"{group.count:,}", f"{group.trainable:,}" if group.trainable else "frozen") for group in found]
    numbers += [(f"{sum(group.count for group in whole):,}", f"{sum(group.trainable for group in whole):,}")]
    widths = [max(map(len, column)) for column in zip(*numbers, strict=True)]
    names = [("parameters", "layer"), *(("  " * (group.level + 1) + group.name, group.kind) for group in found)]
    names += [("  total", "")]
    rows = [
        (*name, *(text.rjust(width) for text, width in zip(texts, widths, strict=True)))
        for name, texts in zip(names, numbers, strict=True)
    ]
    return [columns(rows), f"for {of}"]


def as_data(found: Sequence[Group], of: str) -> Mapping[str, Any]:
    """The same for JSON. A group of a higher level is part of the last one of the level below that stands before it."""
    whole = [group for group in found if not group.level]
    return {
        "all": sum(group.count for group in whole),
        "trainable": sum(group.trainable for group in whole),
        "for": of,
        "groups": [
            {
                "name": group.name,
                "layer": group.kind,
                "level": group.level,
                "all": group.count,
                "trainable": group.trainable,
            }
            for group in found
        ],
    }


def _facts(model: ModelConfig, dataset: Configured, task: str, roots: Sequence[Path]) -> Facts:
    """What the data set states; for a captioner, which needs no classes, its ``size`` where it states nothing."""
    if dataset.fault:
        raise BenchError(dataset.fault)
    try:
        facts: Facts = boundary.bind("datasets", dataset.component).facts(roots=roots)
    except BenchError:
        if task != CAPTIONING:
            raise
        side = getattr(dataset.component, "size", SIDE)
        return Facts((3, side, side), (), {}, "", "", "", task=CAPTIONING)
    if facts.task != task:
        raise BenchError(
            f"a model for {task}, its dataset {dataset.name} is one for {facts.task}; name another one by "
            f"--set models.{model.name}.dataset=NAME"
        )
    return facts


def _vocabulary(model: ModelConfig, dataset: Configured, roots: Sequence[Path]) -> Vocabulary:
    from harness.report.words import vocabulary

    hooks = boundary.bind("datasets", dataset.component)
    try:
        files = hooks.locate(roots=roots)
        if files is None:
            raise BenchError(f"{dataset.name} is not found in {', '.join(map(str, roots))}")
        print(f"bench info: reading the captions of {dataset.name}", file=sys.stderr)
        return vocabulary(hooks.load(files=files), hooks.facts(roots=roots))
    except BenchError as error:
        raise BenchError(
            f"depend on how many words the captions of {dataset.name} have ({error}); set it by "
            f"--set models.{model.name}.vocabulary_size=N, the 4 special words counted"
        ) from error


def _outline(model: ModelConfig, prepared: Preparation) -> nn.Module:
    """The module, of torch's meta device where it can be built there: with shapes and without values."""
    import torch

    hooks = boundary.bind("models", model.component)
    try:
        with torch.device("meta"):
            module: nn.Module = hooks.build(preparation=prepared)
    except Exception:  # foreign code, which may look at values while it builds; and errors are told of the real one
        module = hooks.build(preparation=prepared)
    return module
