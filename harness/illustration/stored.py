"""Figures that stored outcomes and telemetry tell by themselves."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis import calibration, confusion
from harness.figures import class_accuracy, overview, reliability, robustness, training
from harness.figures.confusion import confusion_matrix
from harness.illustration.book import (
    Book,
    Page,
    attack_name,
    facts_of,
    hardenings,
    name_of,
    paired,
    seed_name,
    title_of,
)
from harness.plan import CellStep
from harness.types import Score


def confusions(book: Book) -> Iterator[Page]:
    """A confusion matrix of every cell."""
    for cell in book.cells:
        facts, found = facts_of(cell), book.outcome(cell)
        counts = confusion.confusion_matrix(found.label, found.prediction, len(facts.classes))
        figure = confusion_matrix(counts, facts.classes, facts.groups, title=title_of(cell))
        yield Page(_name("confusion", cell), figure)


def class_accuracies(book: Book) -> Iterator[Page]:
    """Accuracy of each class under each attack, before against after hardening."""
    for cells in book.models().values():
        for before, after in paired(cells):
            classes = facts_of(before).classes
            first, second = (None if cell is None else _per_class(book, cell) for cell in (before, after))
            assert first is not None
            labels = (before.hardened.defense.name, after.hardened.defense.name if after else "")
            figure = class_accuracy.class_accuracy(first, classes, second, labels=labels, title=_subject(before))
            yield Page(_name("classes", before, defense=False), figure)


def _per_class(book: Book, cell: CellStep) -> list[Score]:
    found = book.outcome(cell)
    return confusion.per_class(found.label, found.prediction, len(facts_of(cell).classes))


def superclass_accuracies(book: Book) -> Iterator[Page]:
    """Super-class accuracy under each attack, before and after hardening, of data that has super-classes."""
    for cells in book.models().values():
        for before, after in paired(cells):
            groups = facts_of(before).groups
            if not groups:
                book.note(f"superclasses: {before.hardened.data.config.name} has no super-classes")
                continue
            series = {}
            for cell in (before, after):
                if cell is not None:
                    found = book.outcome(cell)
                    series[cell.hardened.defense.name] = confusion.per_group(found.label, found.prediction, groups)
            figure = class_accuracy.group_accuracy(series, title=_subject(before))
            yield Page(_name("superclasses", before, defense=False), figure)


def reliabilities(book: Book) -> Iterator[Page]:
    """Reliability diagrams of a model, a panel for each defense and attack."""
    for (model, seed), cells in book.models().items():
        found = {}
        for cell in cells:
            outcome = book.outcome(cell)
            if outcome.confidence is None:
                book.note(f"reliability: {title_of(cell)} was stored without confidences; run it again with --fresh")
                continue
            label = f"{cell.hardened.defense.name} / {attack_name(cell)}"
            found[label] = calibration.calibration(outcome.confidence, outcome.correct)
        if found:
            yield Page(name_of("reliability", model, seed_name(seed)), reliability.reliability(found, title=model))


def trainings(book: Book) -> Iterator[Page]:
    """Loss, accuracy and learning rate of every training of a model: its fit, and each hardening."""
    for (model, seed), cells in book.models().items():
        fit = cells[0].hardened.fit
        steps = {f"fit {step.model.name}": step for step in fit.chain}
        steps |= {f"harden by {h.defense.name}": h for h in hardenings(cells) if h.trains}  # type: ignore[misc]
        histories = {label: history for label, step in steps.items() if (history := book.history(step))}
        missing = [label for label in steps if label not in histories]
        if missing:
            book.note(f"training: no telemetry of {model}: {', '.join(missing)}; its artifacts are not in this folder")
        if histories:
            figure = training.training_curves(histories, title=model)
            yield Page(name_of("training", model, seed_name(seed)), figure)


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
            figure = robustness.accuracy_against_eps(points_of, norm, chance=chance, title=model)
            yield Page(name_of("eps", model, norm, seed_name(seed)), figure)


def overviews(book: Book) -> Iterator[Page]:
    """All models under all attacks, before and after hardening, with published values where there are such."""
    for seed in dict.fromkeys(cell.seed for cell in book.cells):
        entries, defended = [], "after"
        for (model, of_seed), cells in book.models().items():
            if of_seed != seed:
                continue
            for before, after in paired(cells):
                published = [_published(book, model, cell) for cell in (before, after)]
                second = None if after is None else book.accuracy(after)
                defended = defended if after is None else after.hardened.defense.name
                name = attack_name(before)
                entries.append(overview.Entry(model, name, book.accuracy(before), second, *published))
        if entries:
            figure = overview.overview(entries, labels=("undefended", defended))
            yield Page(name_of("overview", seed_name(seed)), figure)


def _published(book: Book, model: str, cell: CellStep | None) -> float | None:
    if cell is None:
        return None
    percent = book.references.get(model, {}).get(cell.hardened.defense.name, {}).get(cell.attack.name)
    return None if percent is None else percent / 100


def _subject(cell: CellStep) -> str:
    return f"{cell.hardened.model.name} / {attack_name(cell)}"


def _name(kind: str, cell: CellStep, *, defense: bool = True) -> str:
    defended = cell.hardened.defense.name if defense else ""
    return name_of(kind, cell.hardened.model.name, defended, attack_name(cell), seed_name(cell.seed))
