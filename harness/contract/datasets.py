"""Rules of data sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness import locating
from harness.captioning.data import on_device as captions_on_device
from harness.captioning.text import LANGUAGES
from harness.contract.rule import Candidate, DoesNotApply, need, rule
from harness.data import on_device
from harness.material import CPU
from harness.types import CLASSIFICATION, Facts

SPLITS = ("train", "validation", "test")
FEW = 64


@rule("datasets", "it states its facts without reading an image")
def facts(candidate: Candidate) -> str:
    told: Facts = candidate.hooks.facts(roots=locating.roots(candidate.data))
    if told.task == CLASSIFICATION:
        need(len(told.classes) == len(set(told.classes)) >= 2, "classes: two or more different names are needed")
    else:
        need(not told.classes, f"classes: {len(told.classes)} of them, captions have none")
        need(told.language in LANGUAGES, f"language: {told.language!r}; {' or '.join(LANGUAGES)} is needed")
        need(told.minimum_count >= 1, f"minimum_count: {told.minimum_count}; 1 or more is needed")
    need(len(told.groups) in (0, len(told.classes)), f"groups: {len(told.groups)} for {len(told.classes)} classes")
    for name in ("licence", "citation", "source"):
        need(getattr(told, name), f"{name}: it is empty")
    return f"{told.task}, images {told.shape}, {len(told.classes)} classes, {dict(told.sizes)}"


@rule("datasets", "it names files that are there, or none where one is missing")
def files(candidate: Candidate) -> str:
    found = candidate.hooks.locate(roots=[])
    missing = [str(file) for file in found or () if not Path(file).is_file()]
    need(not missing, f"{', '.join(missing)}: no such file")
    return "nothing without a folder" if found is None else f"{len(found)} files without any folder"


def _located(candidate: Candidate) -> list[Path]:
    roots = locating.roots(candidate.data)
    found = candidate.hooks.locate(roots=roots)
    if found is None:
        raise DoesNotApply(f"it lies in none of {', '.join(map(str, roots))}")
    return list(found)


def _loaded(candidate: Candidate) -> tuple[Facts, Mapping[str, Any], Any]:
    """Facts, splits, and the splits on a device, which refuses shapes, types, labels and ids that do not fit."""
    told = candidate.hooks.facts(roots=locating.roots(candidate.data))
    splits = candidate.hooks.load(files=_located(candidate))
    load = on_device if told.task == CLASSIFICATION else captions_on_device
    return told, splits, load(told, splits, CPU, candidate.name)


@rule("datasets", "it loads what its facts say: sizes, classes, shapes, types", slow=True)
def contents(candidate: Candidate) -> str:
    told, splits, data = _loaded(candidate)
    for split in SPLITS:
        need(len(data.splits[split]) == told.sizes[split], f"{split}: {len(data.splits[split])}, said {told.sizes}")
        if told.task == CLASSIFICATION:
            classes = len(np.unique(splits[split].labels))
            need(classes == len(told.classes), f"{split}: {classes} classes, said {len(told.classes)}")
    figures = (*data.mean, *data.std)
    need(all(0 < figure < 1 for figure in figures), f"mean and standard deviation: {figures}; are these pixels?")
    return f"{sum(map(len, data.splits.values()))} images, mean {', '.join(f'{figure:.3f}' for figure in data.mean)}"


@rule("datasets", "no sample of the training split stands in the validation split", slow=True)
def splits_apart(candidate: Candidate) -> str:
    _, splits, _ = _loaded(candidate)
    both = set(splits["train"].ids.tolist()) & set(splits["validation"].ids.tolist())
    need(not both, f"{len(both)} ids stand in both, {min(both, default='')} first")
    return "ids of training and validation have none in common"


@rule("datasets", "it gives the same samples every time", slow=True)
def repeatable(candidate: Candidate) -> str:
    found = _located(candidate)
    first, again = (candidate.hooks.load(files=found) for _ in range(2))
    for split in first:
        for name, one, other in zip(first[split]._fields, first[split], again[split], strict=True):
            need(_alike(one, other), f"{split}: other {name} the second time")
    return "the same samples twice"


def _alike(one: Any, other: Any) -> bool:
    """Whether columns of two splits are the same; of images the first and the last, for some read them as asked."""
    if isinstance(one, tuple):
        return bool(one == other)
    n = len(one)
    parts = (slice(0, FEW), slice(max(0, n - FEW), n)) if np.ndim(one[:1]) > 1 else (slice(0, n),)
    return n == len(other) and all(np.array_equal(one[part], other[part]) for part in parts)
