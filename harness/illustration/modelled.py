"""Figures that need weights: galleries, saliency, sharpness. What is computed for them is kept under a content key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.analysis import saliency as explaining
from harness.analysis import sharpness
from harness.attacking import propose
from harness.executors.local import Local
from harness.figures import gallery as gallery_figure
from harness.figures import landscape
from harness.figures.saliency import Panel, saliency_panels
from harness.illustration.book import (
    Book,
    Page,
    attack_name,
    facts_of,
    hardenings,
    name_of,
    seed_name,
    title_of,
)
from harness.plan import CellStep, HardenStep, TrainingStep, key_of
from harness.randomness import seed_generators
from harness.tasks import classification as task
from harness.types import Batch
from harness.undisturbed import undisturbed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

Arrays = dict[str, "NDArray[Any]"]

VERSION = 1
"""Of the analyses: raise it when one of them gives other numbers."""

POSITIONS = tuple(round(-1 + 0.1 * step, 1) for step in range(21))
"""Where along a direction the loss is measured, in lengths of the filters."""

DIRECTIONS = 2
SUBSETS, SUBSET = 3, 128
"""Training images that curvature and loss curve are measured on: so many sets of so many."""


@dataclass
class Laboratory:
    """Models with their weights.

    samples: shown in a gallery. classes: shown in saliency panels, by name; three where there are none.
    """

    book: Book
    executor: Local
    samples: int = 10
    classes: Sequence[str] = ()

    def trained(self, step: HardenStep) -> bool:
        """Whether all weights of a model are at hand; notes which are not."""
        steps: list[TrainingStep] = [*step.fit.chain, *([step] if step.trains else [])]
        missing = [s.label for s in steps if not self.book.artifacts.has(s.kind, s.key)]
        if missing:
            where = self.book.artifacts.root
            self.book.note(f"{missing[0]}: no weights in {where}; bench run with the same options makes them again")
        return not missing

    def kept(self, document: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """The arrays of an analysis: from the artifacts, or made now and kept."""
        document = {"kind": "analysis", "version": VERSION, **document}
        key = key_of(document)
        found = self.book.artifacts.load_arrays("analysis", key)
        if found is not None:
            return found[0]
        with torch.random.fork_rng(devices=[]):
            seed_generators(0)
            made = make()
        self.book.artifacts.save_arrays("analysis", key, made, {"kind": "analysis", "key": key, "document": document})
        return made


def galleries(lab: Laboratory) -> Iterator[Page]:
    """Samples beside what each attack made of them, with what the model says."""
    for cell in lab.book.cells:
        if cell.threat is None or not lab.trained(cell.hardened):
            continue
        ids = _shown(lab, cell)
        found = lab.kept({"analysis": "examples", "cell": cell.key, "ids": ids}, partial(_examples, lab, cell, ids))
        clean, adversarial = (
            gallery_figure.Answers(found[f"{which}_prediction"], found[f"{which}_confidence"])
            for which in ("clean", "adversarial")
        )
        figure = gallery_figure.gallery(
            found["clean"],
            found["adversarial"],
            found["label"],
            clean,
            adversarial,
            facts_of(cell).classes,
            title=title_of(cell),
        )
        parts = (cell.hardened.model.name, cell.hardened.defense.name, attack_name(cell), seed_name(cell.seed))
        yield Page(name_of("gallery", *parts), figure)


def saliencies(lab: Laboratory) -> Iterator[Page]:
    """Where a model looks on a sample of each chosen class, clean and attacked, before and after hardening."""
    for (model, seed), cells in lab.book.models().items():
        attacked = [cell for cell in cells if cell.threat]
        if not attacked:
            continue
        last = (attacked[-1].attack.name, attacked[-1].threat)
        shown = [cell for cell in attacked if (cell.attack.name, cell.threat) == last and lab.trained(cell.hardened)]
        if not shown:
            continue
        ids = _of_classes(lab, shown[0])
        rows = [_saliency_row(lab, cell, ids) for cell in shown]
        classes = facts_of(shown[0]).classes
        columns = [f"{classes[int(y)]}, {which}" for y in rows[0]["label"] for which in ("clean", "attacked")]
        panels = [_panels(row, classes) for row in rows]
        names = [cell.hardened.defense.name for cell in shown]
        figure = saliency_panels(panels, names, columns, title=f"{model}: {rows[0]['method'].tobytes().decode()}")
        yield Page(name_of("saliency", model, attack_name(shown[0]), seed_name(seed)), figure)


def _saliency_row(lab: Laboratory, cell: CellStep, ids: list[int]) -> Arrays:
    document = {"analysis": "saliency", "cell": cell.key, "ids": ids}
    return lab.kept(document, lambda: _explained(lab, cell, ids))


def _explained(lab: Laboratory, cell: CellStep, ids: list[int]) -> Arrays:
    found = _examples(lab, cell, ids)
    module = lab.executor.hardened_module(cell.hardened)
    for which in ("clean", "adversarial"):
        images = torch.from_numpy(found[which]).to(lab.executor.device)
        found[f"{which}_heat"] = explaining.saliency(module, images).maps
    method = "attention roll-out" if explaining.has_attention(module) else "Grad-CAM"
    return found | {"method": np.frombuffer(method.encode(), np.uint8).copy()}


def _panels(row: Arrays, classes: Sequence[str]) -> list[Panel | None]:
    made: list[Panel | None] = []
    for n, label in enumerate(row["label"]):
        for which in ("clean", "adversarial"):
            prediction, confidence = row[f"{which}_prediction"][n], row[f"{which}_confidence"][n]
            text = f"{classes[int(prediction)]} {confidence:.0%}"
            made.append(Panel(row[which][n], row[f"{which}_heat"][n], text, bool(prediction == label)))
    return made


def landscapes(lab: Laboratory) -> Iterator[Page]:
    """Loss along filter-normalised directions and the largest curvature, for the models of one data set together."""
    by_data: dict[tuple[str, int], dict[str, HardenStep]] = {}
    for (model, seed), cells in lab.book.models().items():
        for step in hardenings(cells):
            if lab.trained(step):
                by_data.setdefault((step.data.config.name, seed), {})[f"{model} / {step.defense.name}"] = step
    for (data, seed), steps in by_data.items():
        curves: dict[str, list[sharpness.LossCurve]] = {}
        bars: dict[str, dict[str, list[float]]] = {}
        for label, step in steps.items():
            found = lab.kept({"analysis": "landscape", "weights": _weights(step)}, partial(_landscape, lab, step))
            curves[label] = [
                sharpness.LossCurve(np.array(POSITIONS), found["losses"][d], found["accuracies"][d])
                for d in range(DIRECTIONS)
            ]
            bars.setdefault(step.model.name, {})[step.defense.name] = [float(v) for v in found["eigenvalues"]]
            if not found["converged"].all():
                lab.book.note(f"eigenvalue: {label}: the power iteration did not settle; its values are lower bounds")
        yield Page(name_of("landscape", data, seed_name(seed)), landscape.loss_along_direction(curves, title=data))
        yield Page(name_of("eigenvalue", data, seed_name(seed)), landscape.eigenvalue_bars(bars, title=data))


def _landscape(lab: Laboratory, step: HardenStep) -> Arrays:
    module = lab.executor.hardened_module(step)
    train = lab.executor.load(step.data).splits["train"].limited(SUBSETS * SUBSET)
    batch = train.take(torch.arange(len(train), device=train.labels.device))
    walks = [sharpness.loss_curve(module, batch.x, batch.y, POSITIONS, seed=seed) for seed in range(DIRECTIONS)]
    places = torch.arange(len(train), device=batch.y.device)
    sets = [batch.select(index) for index in torch.split(places, SUBSET)]
    sharp = [sharpness.largest_eigenvalue(module, part.x, part.y) for part in sets]
    return {
        "losses": np.stack([walk.losses for walk in walks]),
        "accuracies": np.stack([walk.accuracies for walk in walks]),
        "eigenvalues": np.array([found.eigenvalue for found in sharp]),
        "converged": np.array([found.converged for found in sharp]),
    }


def _weights(step: HardenStep) -> str:
    return step.key if step.trains else step.fit.key


def _examples(lab: Laboratory, cell: CellStep, ids: list[int]) -> Arrays:
    """Images as they are and attacked, with what the model says of both. The attack is that of the cell."""
    module = lab.executor.hardened_module(cell.hardened)
    batch = _batch(lab, cell, ids)
    with undisturbed(module):
        seed_generators(0)
        attacked = _attacked(lab, cell, module, batch)
        found: Arrays = {"label": batch.y.cpu().numpy()}
        for which, x in (("clean", batch.x), ("adversarial", attacked)):
            with torch.no_grad():
                logits = module(x)
            found[which] = x.cpu().numpy()
            found[f"{which}_prediction"] = task.predict(logits).cpu().numpy()
            found[f"{which}_confidence"] = task.confidence(logits).cpu().double().numpy()
    return found


def _attacked(lab: Laboratory, cell: CellStep, module: nn.Module, batch: Batch) -> Tensor:
    """By the cell's attack; of an ensemble by the first member that fools."""
    assert cell.threat is not None
    x_adv = batch.x.clone()
    standing = torch.arange(len(batch.y), device=batch.y.device)
    for part in cell.attack.parts:
        if not len(standing):
            break
        left = batch.select(standing)
        made = propose(module, lab.executor.assault(cell, part), left)
        if getattr(part.component, "minimum_norm", False):
            inside = cell.threat.size(made - left.x) <= cell.threat.eps * (1 + 1e-6)
            made = made.where(inside.view(-1, 1, 1, 1), left.x)
        x_adv[standing] = cell.threat.project(made, left.x)
        with torch.no_grad():
            standing = standing[task.predict(module(x_adv[standing])) == left.y]
    return x_adv


def _batch(lab: Laboratory, cell: CellStep, ids: list[int]) -> Batch:
    test = lab.executor.load(cell.hardened.data).splits["test"].limited(cell.n)
    place = {sample: row for row, sample in enumerate(test.ids.tolist())}
    return test.take(torch.tensor([place[sample] for sample in ids], device=test.labels.device))


def _shown(lab: Laboratory, cell: CellStep) -> list[int]:
    """Ids of the first samples that are right without the attack: those that it fools, and then those that stand."""
    found = lab.book.outcome(cell)
    right = np.flatnonzero(found.clean_correct)
    order = np.argsort(found.correct[right], kind="stable")
    return [int(sample) for sample in found.ids[right[order][: lab.samples]]]


def _of_classes(lab: Laboratory, cell: CellStep) -> list[int]:
    """Ids of one sample of each chosen class, one that is right without the attack if there is one."""
    facts, found = facts_of(cell), lab.book.outcome(cell)
    count = len(facts.classes)
    known = [facts.classes.index(name) for name in lab.classes if name in facts.classes]
    chosen = known or sorted({0, count // 2, count - 1})
    ids = []
    for number in chosen:
        rows = np.flatnonzero(found.label == number)
        if len(rows):
            ids.append(int(found.ids[rows[np.argsort(~found.clean_correct[rows], kind="stable")[0]]]))
    return ids or [int(found.ids[0])]
