"""Figures that need weights: galleries, saliency, sharpness. What is computed for them is kept under a content key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.analysis import saliency as explaining
from harness.analysis import sharpness
from harness.assault import Assault
from harness.attacking import attack
from harness.building import build_module
from harness.data import Samples
from harness.errors import BenchError
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
    model_title,
    seed_name,
)
from harness.keys import key_of
from harness.randomness import seed_generators
from harness.request import AttackConfig
from harness.standing import Fresh
from harness.steps import CellStep, FitStep, HardenStep, TrainingStep
from harness.subject import Subject, examine
from harness.tasks import classification as task
from harness.types import Batch
from harness.undisturbed import undisturbed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

Arrays = dict[str, "NDArray[Any]"]

VERSION = 2
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
    _whole: dict[str, bool] = field(default_factory=dict)

    def kept(
        self, document: Mapping[str, Any], needed: Sequence[TrainingStep], make: Callable[[], Arrays]
    ) -> Arrays | None:
        """The arrays of an analysis: from the artifacts, or made now and kept; None where weights needed are missing.

        What is kept needs no weights. Nothing is ever trained for a figure.
        """
        document = {"kind": "analysis", "version": VERSION, **document}
        key = key_of(document)
        found = self.book.artifacts.load_arrays("analysis", key)
        if found is not None:
            return found[0]
        if not all(self._at_hand(step) for step in needed):
            return None
        with torch.random.fork_rng(devices=[]):
            seed_generators(0)
            made = make()
        self.book.artifacts.save_arrays("analysis", key, made, {"kind": "analysis", "key": key, "document": document})
        return made

    def _at_hand(self, step: TrainingStep) -> bool:
        """Whether the weights of a step are there and whole; notes it where they are not."""
        if step.key not in self._whole:
            self._whole[step.key] = self.book.artifacts.load(step.kind, step.key) is not None
        if not self._whole[step.key]:
            where = self.book.artifacts.root
            self.book.note(f"{step.label}: no weights in {where}; bench run --fresh with the same options makes them")
        return self._whole[step.key]

    def fitted(self, step: FitStep) -> nn.Module:
        """An undefended model whose weights are at hand, in evaluation mode and frozen."""
        loaded, found = self.executor.load(step.data), self.book.artifacts.load(step.kind, step.key)
        assert found is not None
        module = build_module(step, loaded.mean, loaded.std).to(self.executor.device)
        module.load_state_dict(found[0])
        return module.eval().requires_grad_(False)


def needed(cell: CellStep) -> list[TrainingStep]:
    """Steps whose weights the images of a cell are made with."""
    return [_last(cell.hardened), *([cell.surrogate] if cell.surrogate else ())]


def _last(step: HardenStep) -> TrainingStep:
    return step if step.trains else step.fit


def galleries(lab: Laboratory) -> Iterator[Page]:
    """Samples beside what each attack made of them, with what the model says."""
    for cell in lab.book.cells:
        if cell.threat is None:
            continue
        ids = _shown(lab, cell)
        if not ids:
            lab.book.note(f"gallery: {cell.label}: no sample is right without the attack, so there is nothing to show")
            continue
        document = {"analysis": "examples", "cell": cell.key, "ids": ids}
        found = lab.kept(document, needed(cell), partial(_examples, lab, cell, ids))
        if found is None:
            continue
        _compare(lab, cell, ids, found)
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
            title=lab.book.title(cell.label),
        )
        parts = (cell.hardened.model.name, cell.hardened.defense.name, attack_name(cell), seed_name(cell.seed))
        yield Page(lab.book.name("gallery", *parts), figure)


def _compare(lab: Laboratory, cell: CellStep, ids: list[int], found: Arrays) -> None:
    """Notes where the images are not those of the run: attacks with a loop of their own may draw by the batch."""
    outcome = lab.book.outcome(cell)
    place = {int(sample): row for row, sample in enumerate(outcome.ids)}
    stored = outcome.prediction[[place[sample] for sample in ids]]
    differing = int((found["adversarial_prediction"] != stored).sum())
    if differing:
        text = f"{differing} of {len(ids)} images, made again, are classified otherwise than in the run"
        lab.book.note(f"gallery: {cell.label}: {text}")


def saliencies(lab: Laboratory) -> Iterator[Page]:
    """Where a model looks on a sample of each chosen class, clean and attacked, before and after hardening."""
    for (model, seed), cells in lab.book.models().items():
        attacked = [cell for cell in cells if cell.threat]
        if not attacked:
            continue
        last = attack_name(attacked[-1])
        alike = [cell for cell in attacked if attack_name(cell) == last]
        ids = _of_classes(lab, alike[0])
        found = {cell.hardened.defense.name: _saliency_row(lab, cell, ids) for cell in alike}
        rows = {name: row for name, row in found.items() if row is not None}
        if not rows:
            continue
        classes, first = facts_of(alike[0]).classes, next(iter(rows.values()))
        columns = [f"{classes[int(y)]}, {which}" for y in first["label"] for which in ("clean", "attacked")]
        panels = [_panels(row, classes) for row in rows.values()]
        title = f"{model_title(f'{model} / {last}', seed)}: {first['method'].tobytes().decode()}"
        figure = saliency_panels(panels, list(rows), columns, title=lab.book.title(title))
        yield Page(lab.book.name("saliency", model, last, seed_name(seed)), figure)


def _saliency_row(lab: Laboratory, cell: CellStep, ids: list[int]) -> Arrays | None:
    """None, with a note, without weights, and for a network of which no saliency can be told."""
    document = {"analysis": "saliency", "cell": cell.key, "ids": ids}
    try:
        return lab.kept(document, needed(cell), lambda: _explained(lab, cell, ids))
    except BenchError as error:
        lab.book.note(f"saliency: {cell.label}: {error}")
        return None


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
            text = f"{classes[int(prediction)]} {100 * confidence:.0f} %"
            made.append(Panel(row[which][n], row[f"{which}_heat"][n], text, bool(prediction == label)))
    return made


def landscapes(lab: Laboratory) -> Iterator[Page]:
    """The loss around the weights of the models of each data set, and its largest curvature."""
    by_data: dict[tuple[str, int], dict[str, tuple[HardenStep, Arrays]]] = {}
    for (model, seed), cells in lab.book.models().items():
        for step in hardenings(cells):
            found = lab.kept(
                {"analysis": "landscape", "hardened": step.key}, [_last(step)], partial(_landscape, lab, step)
            )
            if found is not None:
                of_data = by_data.setdefault((step.data.config.name, seed), {})
                of_data[f"{model} / {step.defense.name}"] = step, found
    for (data, seed), steps in by_data.items():
        title = lab.book.title(model_title(data, seed))
        curves = {label: _curves(found) for label, (_, found) in steps.items()}
        bars: dict[str, dict[str, list[float]]] = {}
        for label, (step, found) in steps.items():
            bars.setdefault(step.model.name, {})[step.defense.name] = [float(v) for v in found["eigenvalues"]]
            if not found["converged"].all():
                lab.book.note(f"eigenvalue: {label}: the power iteration did not settle; its values are lower bounds")
        name = lab.book.name("landscape", data, seed_name(seed))
        yield Page(name, landscape.loss_along_direction(curves, title=title))
        yield Page(lab.book.name("eigenvalue", data, seed_name(seed)), landscape.eigenvalue_bars(bars, title=title))


def _curves(found: Arrays) -> list[sharpness.LossCurve]:
    positions = np.array(POSITIONS)
    walks = zip(found["losses"], found["accuracies"], strict=True)
    return [sharpness.LossCurve(positions, losses, accuracies) for losses, accuracies in walks]


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


def _examples(lab: Laboratory, cell: CellStep, ids: list[int]) -> Arrays:
    """Images as they are and attacked, with what the model says of both. The attack is that of the cell."""
    module, samples = lab.executor.hardened_module(cell.hardened), _samples(lab, cell)
    batch = _batch(samples, ids)
    with undisturbed(module):
        seed_generators(0)
        found: Arrays = {"label": batch.y.cpu().numpy()}
        for which, x in (("clean", batch.x), ("adversarial", _attacked(lab, cell, module, samples, batch))):
            logits = _logits(module, x)
            found[which] = x.cpu().numpy()
            found[f"{which}_prediction"] = task.predict(logits).cpu().numpy()
            found[f"{which}_confidence"] = task.confidence(logits).cpu().double().numpy()
    return found


def _attacked(lab: Laboratory, cell: CellStep, module: nn.Module, samples: Samples, batch: Batch) -> Tensor:
    """As the judge has it: each part of the attack, and before it each smaller budget, on what still stands."""
    subject = examine(module, samples)
    crafting = examine(lab.fitted(cell.surrogate), samples) if cell.surrogate else subject
    x_adv = batch.x.clone()
    last_counts = lab.executor.settings.final_iterate
    standing = _right(module, batch) if not last_counts else torch.ones_like(batch.y, dtype=torch.bool)
    for one in _chain(cell):
        for part in one.attack.parts:
            places = standing.nonzero().squeeze(1)
            if not len(places):
                return x_adv
            left = batch.select(places)
            x_adv[places] = _counted(lab, one, part, crafting, module, left)
            standing[places] = _right(module, left._replace(x=x_adv[places]))
    return x_adv


def _chain(cell: CellStep) -> list[CellStep]:
    """The cells of smaller budgets whose fooled samples are fooled here, and the cell itself."""
    return [*(_chain(cell.before) if cell.before else ()), cell]


def _counted(
    lab: Laboratory, cell: CellStep, part: AttackConfig, crafting: Subject, module: nn.Module, batch: Batch
) -> Tensor:
    """The images that count: (N, C, H, W), inside budget and box."""
    assert cell.threat is not None
    assault = lab.executor.assault(cell, part)
    assault = replace(
        assault,
        inside_suffices=assault.minimum_norm and len(cell.attack.parts) > 1,
        final_iterate=assault.final_iterate or cell.surrogate is not None,
    )
    made = _made(crafting, assault, batch)
    if assault.minimum_norm:  # an image that fools nobody, or is too far away, is none
        inside = cell.threat.size(made - batch.x) <= cell.threat.eps * (1 + 1e-6)
        fooling = inside & ~_right(module, batch._replace(x=made))
        return made.where(fooling.view(-1, 1, 1, 1), batch.x)
    return cell.threat.project(made, batch.x)


def _made(crafting: Subject, assault: Assault, batch: Batch) -> Tensor:
    """What the attack proposes, in the batch's order."""
    module = crafting.fast if assault.only_asks else crafting.module
    places = torch.arange(len(batch.y), device=batch.y.device)
    fresh = Fresh(batch, places, _logits(module, batch.x) if assault.needs_clean else None)
    made = torch.empty_like(batch.x)
    for finished in attack(module, assault, [fresh], len(places), crafting.classes):
        made[finished.place] = finished.x_adv
    return made


def _logits(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = module(x)
    return logits


def _right(module: nn.Module, batch: Batch) -> Tensor:
    return task.predict(_logits(module, batch.x)) == batch.y


def _samples(lab: Laboratory, cell: CellStep) -> Samples:
    return lab.executor.load(cell.hardened.data).splits["test"].limited(cell.n)


def _batch(samples: Samples, ids: list[int]) -> Batch:
    place = {sample: row for row, sample in enumerate(samples.ids.tolist())}
    return samples.take(torch.tensor([place[sample] for sample in ids], device=samples.labels.device))


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
