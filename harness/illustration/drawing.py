"""``bench figures``: finds the finished cells of a request and writes their figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.artifacts import Artifacts
from harness.errors import BenchError, unknown
from harness.figures.library import library
from harness.report.layout import Reference
from harness.types import CAPTIONING, CLASSIFICATION, Status, Verdict

if TYPE_CHECKING:
    from harness.executors.local import Local
    from harness.illustration.book import Book, Page
    from harness.run import Places, Prospect

STORED = {
    "overview": "overviews",
    "confusion": "confusions",
    "classes": "class_accuracies",
    "superclasses": "superclass_accuracies",
    "reliability": "reliabilities",
    "training": "trainings",
    "eps": "eps_curves",
}
MODELLED = {"gallery": "galleries", "saliency": "saliencies", "landscape": "landscapes"}
CAPTIONED = {"attention": "attentions"}
KINDS = (*STORED, *MODELLED, *CAPTIONED)
_TASKS = dict.fromkeys(MODELLED, CLASSIFICATION) | dict.fromkeys(CAPTIONED, CAPTIONING)
"""Whose cells a kind that needs weights is drawn of."""


@dataclass(frozen=True)
class Wanted:
    """Which figures: kinds (all where there are none), samples of a gallery, classes of saliency panels, references."""

    kinds: Sequence[str] = ()
    samples: int = 10
    classes: Sequence[str] = ()
    references: Reference | None = None

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise unknown("--kind", kind, KINDS)
        if self.samples < 1:
            raise BenchError(f"--samples: got {self.samples}; 1 or more images are needed")


@dataclass(frozen=True)
class Drawn:
    """The files written, and what could not be drawn and why."""

    files: Sequence[Path]
    notes: Sequence[str]


def draw(found: Prospect, places: Places, wanted: Wanted, out: Path, told: Callable[[str], None]) -> Drawn:
    """Writes every figure that finished cells allow, PNG and PDF, and names each as it is written.

    Raises BenchError where nothing is finished, for a class that no data set has, and where matplotlib is missing.
    """
    library("matplotlib")
    from harness.figures.style import save
    from harness.illustration.book import Book
    from harness.store.store import open_store

    done = {key for key, state in found.states.items() if state.status is Status.OK}
    cells = [cell for cell in found.plan.cells if cell.key in done]
    if not cells:
        raise BenchError(
            f"none of the {len(found.plan.cells)} cells of this request is finished in {places.store}; "
            "give bench run the same options first"
        )
    _check_classes(found, wanted.classes)
    files: list[Path] = []
    with open_store(places.store) as store:
        book = Book(found.plan, cells, store, Artifacts(Path(places.artifacts)), wanted.references or {})
        _note_invalid(book, places.store)
        for page in _pages(found, book, wanted):
            try:
                written = save(page.figure, out, page.name)
            except OSError as error:
                raise BenchError(f"--out {out}: cannot be written ({error.strerror}); name another folder") from error
            files += written
            told(", ".join(map(str, written)))
    return Drawn(files, book.notes)


def _pages(found: Prospect, book: Book, wanted: Wanted) -> Iterator[Page]:
    from harness.illustration import stored

    kinds, books = wanted.kinds or KINDS, {task: book.of(task) for task in (CLASSIFICATION, CAPTIONING)}
    _note_unfit(book, wanted, books)
    for kind, name in STORED.items():
        fitting = book if kind == "training" else books[CLASSIFICATION]
        if kind in kinds and fitting.cells:
            yield from getattr(stored, name)(fitting)
    chosen = {kind: task for kind, task in _TASKS.items() if kind in kinds and books[task].cells}
    if not chosen:
        return
    if found.plan.request.run.domain != "pixels":
        book.note(f"{', '.join(chosen)}: drawn of pixels only; leave --domain out")
        return
    from harness.illustration import captioned, modelled

    executor = _executor(found, book)
    laboratories = {
        task: modelled.Laboratory(books[task], executor, wanted.samples, wanted.classes) for task in chosen.values()
    }
    for kind, task in chosen.items():
        drawing = modelled if kind in MODELLED else captioned
        yield from getattr(drawing, {**MODELLED, **CAPTIONED}[kind])(laboratories[task])


def _note_unfit(book: Book, wanted: Wanted, books: Mapping[str, Book]) -> None:
    """Kinds that were asked for by name and have no cell; what is drawn unasked is left out without a word."""
    for kind in wanted.kinds:
        task = _TASKS.get(kind, CLASSIFICATION)
        if kind != "training" and not books[task].cells:
            book.note(f"{kind}: drawn of {task} alone, and no such cell is finished")


def _note_invalid(book: Book, store: str) -> None:
    """A figure has no room for verdicts, but nobody should show a number that is not valid without knowing."""
    from harness.store.queries import cells_by_key
    from harness.store.reading import open_reader

    with open_reader(store) as reader:
        verdicts = {row.key: row.verdict for row in cells_by_key(reader, "")}
    invalid = [cell.label for cell in book.cells if verdicts[cell.key] == Verdict.INVALID]
    if invalid:
        book.note(f"invalid, bench show tells why: {', '.join(invalid)}")


def _executor(found: Prospect, book: Book) -> Local:
    import torch

    from harness import devices
    from harness.executors.local import Local
    from harness.progress import choose

    request = found.plan.request
    torch.set_num_threads(request.run.threads or devices.cores())
    quiet, device = choose(quiet=True), torch.device(found.device)
    return Local("", book.store, book.artifacts, quiet, found.estimate, device, request.run, request.metrics)


def _check_classes(found: Prospect, classes: Sequence[str]) -> None:
    known = {name for step in found.plan.data if step.facts for name in step.facts.classes}
    for name in classes:
        if name not in known:
            raise unknown("--classes", name, sorted(known))
