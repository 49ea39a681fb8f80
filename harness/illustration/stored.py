"""Figures that stored outcomes and telemetry tell by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.analysis import calibration, confusion
from harness.figures import class_accuracy, overview, reliability, robustness, training
from harness.figures.confusion import confusion_matrix
from harness.illustration.book import (
    Book,
    Page,
    attack_name,
    compared,
    defenses,
    facts_of,
    hardenings,
    model_title,
    seed_name,
)
from harness.steps import CellStep
from harness.types import Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusions(book: Book) -> Iterator[Page]:
    """A confusion matrix of every cell."""
    for cell in book.cells:
        facts, found = facts_of(cell), book.outcome(cell)
        counts = confusion.confusion_matrix(found.label, found.prediction, len(facts.classes))
        figure = confusion_matrix(counts, facts.classes, facts.groups, title=book.title(cell.label))
        yield Page(_name(book, "confusion", cell, cell.hardened.defense.name), figure)


def class_accuracies(book: Book) -> Iterator[Page]:
    """Accuracy of each class under each attack: of the first defense alone, or against each of the others."""
    for cells in book.models().values():
        first, *others = defenses(cells)
        for alike in compared(cells):
            for other in others or [""]:
                shown = [alike[name] for name in (first, other) if name in alike]
                if shown:
                    part = other if len(others) > 1 else ""
                    yield Page(_name(book, "classes", shown[0], part), _class_accuracy(book, shown))


def _class_accuracy(book: Book, shown: Sequence[CellStep]) -> Figure:
    """Of one cell, or of two that differ in the defense."""
    title = _subject(shown[0]) if len(shown) > 1 else shown[0].label
    first, second = (*(_per_class(book, cell) for cell in shown), None)[:2]
    names = (*(cell.hardened.defense.name for cell in shown), "")[:2]
    assert first is not None
    return class_accuracy.class_accuracy(
        first, facts_of(shown[0]).classes, second, labels=(names[0], names[1]), title=book.title(title)
    )


def _per_class(book: Book, cell: CellStep) -> list[Score]:
    found = book.outcome(cell)
    return confusion.per_class(found.label, found.prediction, len(facts_of(cell).classes))


def superclass_accuracies(book: Book) -> Iterator[Page]:
    """Super-class accuracy under each attack, a bar for each defense, of data that has super-classes."""
    for cells in book.models().values():
        groups, order = facts_of(cells[0]).groups, defenses(cells)
        if not groups:
            book.note(f"superclasses: {cells[0].hardened.data.config.name} has no super-classes")
            continue
        for alike in compared(cells):
            shown = [alike[name] for name in order if name in alike]
            series = {cell.hardened.defense.name: _per_group(book, cell) for cell in shown}
            title = _subject(shown[0]) if len(shown) > 1 else shown[0].label
            figure = class_accuracy.group_accuracy(series, title=book.title(title))
            yield Page(_name(book, "superclasses", shown[0]), figure)


def _per_group(book: Book, cell: CellStep) -> Mapping[str, Score]:
    found = book.outcome(cell)
    return confusion.per_group(found.label, found.prediction, facts_of(cell).groups)


def reliabilities(book: Book) -> Iterator[Page]:
    """Reliability diagrams of a model, a panel for each defense and attack."""
    for (model, seed), cells in book.models().items():
        found = {}
        for cell in cells:
            outcome = book.outcome(cell)
            if outcome.confidence is None:
                book.note(f"reliability: {cell.label} was stored without confidences; run it again with --fresh")
                continue
            label = f"{cell.hardened.defense.name} / {_on_two_lines(cell)}"
            found[label] = calibration.calibration(outcome.confidence, outcome.correct)
        if found:
            figure = reliability.reliability(found, title=book.title(model_title(model, seed)))
            yield Page(book.name("reliability", model, seed_name(seed)), figure)


def trainings(book: Book) -> Iterator[Page]:
    """Loss, accuracy and learning rate of every training of a model: its fit, and each hardening."""
    for (model, seed), cells in book.models().items():
        fit = cells[0].hardened.fit
        steps = {f"fit {step.model.name}": step for step in fit.chain}
        steps |= {f"harden by {h.defense.name}": h for h in hardenings(cells) if h.trains}  # type: ignore[misc]
        found = {label: book.history(step) for label, step in steps.items()}
        histories = {label: history for label, history in found.items() if history}
        missing = [label for label, history in found.items() if history is None]
        if missing:
            book.note(f"training: no telemetry of {model}: {', '.join(missing)}; its artifacts are not in this folder")
        if histories:
            figure = training.training_curves(histories, title=book.title(model_title(model, seed)))
            yield Page(book.name("training", model, seed_name(seed)), figure)


def eps_curves(book: Book) -> Iterator[Page]:
    """Accuracy against the budget, a figure for each model and norm, a curve for each defense and attack."""
    for (model, seed), cells in book.models().items():
        clean = {cell.hardened.key: book.accuracy(cell) for cell in cells if cell.threat is None}
        for norm in dict.fromkeys(cell.threat.norm for cell in cells if cell.threat):
            curves: dict[str, dict[float, Score]] = {}
            for cell in cells:
                if cell.threat and cell.threat.norm == norm:
                    label = f"{cell.hardened.defense.name} / {cell.attack.name}"
                    points = curves.setdefault(label, {})
                    if cell.hardened.key in clean:
                        points.setdefault(0.0, clean[cell.hardened.key])
                    points[cell.threat.eps] = book.accuracy(cell)
            chance = 1 / len(facts_of(cells[0]).classes)
            points_of = {label: list(points.items()) for label, points in curves.items()}
            figure = robustness.accuracy_against_eps(
                points_of, norm, chance=chance, title=book.title(model_title(model, seed))
            )
            yield Page(book.name("eps", model, norm, seed_name(seed)), figure)


def overviews(book: Book) -> Iterator[Page]:
    """All models under all attacks: by the first defense alone, or beside each of the others, and published values."""
    first, *others = defenses(book.cells)
    for seed in dict.fromkeys(cell.seed for cell in book.cells):
        for other in others or [""]:
            labels = (first, other) if other else (first,)
            entries = list(_entries(book, seed, first, other))
            if entries:
                figure = overview.overview(entries, labels=labels, title=book.title())
                part = other if len(others) > 1 else ""
                yield Page(book.name("overview", part, seed_name(seed)), figure)


def _entries(book: Book, seed: int, first: str, other: str) -> Iterator[overview.Entry]:
    for (model, of_seed), cells in book.models().items():
        for alike in compared(cells) if of_seed == seed else ():
            pair = [alike.get(name) for name in (first, other)]
            known = [cell for cell in pair if cell]
            if known:
                before, after = (None if cell is None else book.accuracy(cell) for cell in pair)
                published = [_published(book, model, cell) for cell in pair]
                yield overview.Entry(model, _on_two_lines(known[0]), before, after, *published)


def _published(book: Book, model: str, cell: CellStep | None) -> float | None:
    if cell is None:
        return None
    percent = book.references.get(model, {}).get(cell.hardened.defense.name, {}).get(cell.attack.name)
    return None if percent is None else percent / 100


def _on_two_lines(cell: CellStep) -> str:
    """The attack above its budget, so that neither is cut off for the other."""
    return f"{cell.attack.name}\n{cell.threat}" if cell.threat else cell.attack.name


def _subject(cell: CellStep) -> str:
    """What two cells that differ in the defense have in common."""
    parts = [cell.hardened.model.name, attack_name(cell)]
    return model_title(" / ".join(parts), cell.seed)


def _name(book: Book, kind: str, cell: CellStep, defense: str = "") -> str:
    return book.name(kind, cell.hardened.model.name, defense, attack_name(cell), seed_name(cell.seed))
