"""What ``bench info`` says and draws of a data set that is at hand: what each split is made of, and its words."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import boundary, composition, locating
from harness.artifacts import Artifacts
from harness.captioning.wording import Wording
from harness.composition import Composition, Splits
from harness.figures.library import library
from harness.plan import data_step
from harness.report.columns import columns
from harness.request import Configured
from harness.steps import DataStep
from harness.types import CAPTIONING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Contents:
    """A data set at hand, the composition of its splits, and of captions their words."""

    step: DataStep
    composition: Composition
    words: Wording | None = None


def contents(config: Configured, data: Sequence[str], artifacts: str) -> Contents | None:
    """What the splits are made of, or None where the data is not at hand.

    Taken from what a run has kept in the folder of artifacts; else the images are read, and the answer is kept where
    there is such a folder. Captions are read each time. Raises BenchError for damaged data.
    """
    roots = locating.roots(data)
    if boundary.bind("datasets", config.component).locate(roots=roots) is None:
        return None
    step = data_step(config, roots, download=False)
    keeping = Artifacts(Path(artifacts)) if Path(artifacts).is_dir() else None
    found = composition.kept(keeping, step.key) if keeping else None
    captions = step.facts is not None and step.facts.task == CAPTIONING
    if found and not captions:
        return Contents(step, found)
    splits = _read(step, "captions" if found else "images and captions" if captions else "images")
    found = found or _settled(step, keeping, splits)
    return Contents(step, found, _counted(step, splits) if captions else None)


def lines(found: Contents) -> list[str]:
    """Counts per class or image of each split, mean and deviation of the training images, and the words of captions."""
    if found.words is None:
        head: tuple[str, ...] = ("split", "images", "classes", "min", "median", "max", "imbalance")
        rows = [head, *((split, *_row(counts)) for split, counts in found.composition.counts.items())]
    else:
        head = ("split", "images", "captions", "per image: min", "median", "max")
        rows = [head, *((split, *_captioned(counts)) for split, counts in found.composition.counts.items())]
    mean, std = (", ".join(f"{value:.4f}" for value in v) for v in (found.composition.mean, found.composition.std))
    told = [columns(rows), f"training pixels in [0, 1], by channel: mean {mean}; std {std}"]
    if found.words is not None and found.step.facts is not None:
        from harness.report import words

        told += ["", *words.lines(found.words, found.step.facts)]
    return told


def as_data(found: Contents) -> dict[str, Any]:
    """The same for JSON."""
    told: dict[str, Any] = {"key": found.step.key, "mean": found.composition.mean, "std": found.composition.std}
    counts = found.composition.counts.items()
    if found.words is None:
        told["splits"] = {split: {"images": int(c.sum()), "images_by_class": c.tolist()} for split, c in counts}
    else:
        from harness.report import words

        told["splits"] = {split: {"images": len(c), "captions": int(c.sum())} for split, c in counts}
        told["words"] = words.as_data(found.words)
    return told


def draw(found: Contents, folder: Path) -> list[Path]:
    """Writes the class distribution of each split, or the words of captions, as PNG and PDF.

    Raises BenchError where matplotlib is missing.
    """
    if found.words is not None:
        from harness.report import words

        return words.draw(found.words, found.step.config.name, folder)
    from harness.figures.distribution import class_distribution
    from harness.figures.style import save, shortened

    assert found.step.facts is not None
    written = []
    for split, counts in found.composition.counts.items():
        name = found.step.config.name
        images, classes, low, _, high, ratio = _row(counts)
        about = f"{images} images, {classes} classes, {low} to {high} each, imbalance {ratio}"
        title = f"{shortened(name, 50)}, {split}\n{about}"
        figure = class_distribution(counts.tolist(), found.step.facts.classes, title=title)
        written += save(figure, folder, f"{name}-{split}")
    return written


def check_drawing() -> None:
    """Raises BenchError where matplotlib is missing: before images are read for nothing."""
    library("matplotlib")


def _read(step: DataStep, what: str) -> Splits:
    name, facts = step.config.name, step.facts
    assert facts is not None
    print(f"bench info: reading the {what} of {name}", file=sys.stderr)
    splits: Splits = boundary.bind("datasets", step.config.component).load(files=step.files)
    composition.check(name, facts, splits)
    return splits


def _settled(step: DataStep, keeping: Artifacts | None, splits: Splits) -> Composition:
    name, facts = step.config.name, step.facts
    assert facts is not None
    if keeping is None:
        return composition.measured(facts, splits)
    return composition.settled(keeping, step.key, name, facts, splits)


def _counted(step: DataStep, splits: Any) -> Wording:
    from harness.report import words

    assert step.facts is not None
    return words.counted(splits, step.facts)


def _captioned(counts: NDArray[np.int64]) -> tuple[str, ...]:
    """Images, captions, and fewest, median and most captions of an image."""
    import numpy as np

    figures = (len(counts), int(counts.sum()), int(counts.min()), float(np.median(counts)), int(counts.max()))
    return tuple(f"{figure:,.10g}" for figure in figures)


def _row(counts: NDArray[np.int64]) -> tuple[str, ...]:
    """Images, classes that have any, fewest, median and most images of a class, and their ratio."""
    import numpy as np

    ratio = composition.imbalance(counts)
    figures = (
        int(counts.sum()),
        int((counts > 0).sum()),
        int(counts.min()),
        float(np.median(counts)),
        int(counts.max()),
    )
    return (*(f"{figure:,.10g}" for figure in figures), f"{ratio:.3g}")
