"""What ``bench info`` says and draws of a data set that is at hand: what each split is made of."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import composition, locating, registry
from harness.artifacts import Artifacts
from harness.composition import Composition
from harness.config import Configured
from harness.figures.library import library
from harness.plan import DataStep, data_step
from harness.report.columns import columns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Contents:
    """A data set at hand and the composition of its splits."""

    step: DataStep
    composition: Composition


def contents(config: Configured, data: Sequence[str], artifacts: str) -> Contents | None:
    """What the splits are made of, or None where the data is not at hand.

    Taken from what a run has kept in the folder of artifacts; else the images are read, and the answer is kept where
    there is such a folder. Raises BenchError for damaged data.
    """
    roots = locating.roots(data)
    if registry.bind("datasets", config.component).locate(roots=roots) is None:
        return None
    step = data_step(config, roots, download=False)
    keeping = Artifacts(Path(artifacts)) if Path(artifacts).is_dir() else None
    found = composition.kept(keeping, step.key) if keeping else None
    return Contents(step, found or _read(step, keeping))


def lines(found: Contents) -> list[str]:
    """Counts per class of each split, and mean and deviation of the training images."""
    rows: list[tuple[str, ...]] = [("split", "images", "classes", "min", "median", "max", "imbalance")]
    rows += [(split, *_row(counts)) for split, counts in found.composition.counts.items()]
    mean, std = (", ".join(f"{value:.4f}" for value in v) for v in (found.composition.mean, found.composition.std))
    return [columns(rows), f"training pixels in [0, 1], by channel: mean {mean}; std {std}"]


def draw(found: Contents, folder: Path) -> list[Path]:
    """Writes the class distribution of each split as PNG and PDF. Raises BenchError where matplotlib is missing."""
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


def _read(step: DataStep, keeping: Artifacts | None) -> Composition:
    name, facts = step.config.name, step.facts
    assert facts is not None
    print(f"bench info: reading the images of {name}", file=sys.stderr)
    splits = registry.bind("datasets", step.config.component).load(files=step.files)
    composition.check(name, facts, splits)
    if keeping is None:
        return composition.measured(facts, splits)
    return composition.settled(keeping, step.key, name, facts, splits)


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
