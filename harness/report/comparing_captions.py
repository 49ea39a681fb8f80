"""Two cells of captioners on the images that both attack: what their captions are worth, and whether that differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import BenchError
from harness.report.columns import columns
from harness.report.layout import number_text, p_text
from harness.report.selecting import name
from harness.store.details import paired_counts
from harness.store.queries import Row
from harness.store.reading import Reader

if TYPE_CHECKING:
    from harness.captioning.scores import Difference
    from harness.types import Score

LEVEL = 0.05
UNITS = {"bleu4": "fraction"}


class Figure(NamedTuple):
    """One metric of both cells on the shared images, and a - b by a paired bootstrap over them."""

    a: Score
    b: Score
    difference: Difference


class Said(NamedTuple):
    """Two cells with what their captions are worth by metric. ``bleu4`` decides whether they differ."""

    a: Row
    b: Row
    shared: int
    figures: Mapping[str, Figure]

    @property
    def different(self) -> bool:
        return self.figures["bleu4"].difference.p_value < LEVEL


def said(reader: Reader, a: Row, b: Row) -> Said:
    """Reads and tests. Raises BenchError where no image is shared."""
    from harness.captioning.scores import bleu_of, paired, scored

    counts = paired_counts(reader, a.key, b.key)
    shared = len(counts[0])
    if not shared:
        raise BenchError(
            f"{name(a)} and {name(b)} share no image whose caption was held against its references; attack the same "
            "ones (--limit), those of an older store with --fresh, and compare again"
        )
    score = bleu_of(4)
    bleu = Figure(scored(counts[0], score), scored(counts[1], score), paired(*counts, score))
    return Said(a, b, shared, {"bleu4": bleu})


# --- text and JSON


def as_text(found: Said) -> str:
    """For people."""
    return "\n\n".join(_parts(found))


def _parts(found: Said) -> Iterator[str]:
    rows = [("", "cell", "key", "verdict")]
    for letter, row in zip("AB", (found.a, found.b), strict=True):
        names = name(row) + (f" seed {row.seed}" if found.a.seed != found.b.seed else "")
        rows.append((letter, names, row.key[:12], row.verdict))
    yield columns(rows)
    if (found.a.n, found.b.n) != (found.shared, found.shared):
        yield (f"Only the {found.shared} images that both attack are compared; A has {found.a.n}, B has {found.b.n}.")
    table = [("metric", "A", "B", "A - B", "p")]
    for metric, figure in found.figures.items():
        unit = UNITS[metric]
        cells = [_interval(number_text(s.value, unit), s.low, s.high, unit) for s in (figure.a, figure.b)]
        p = p_text(figure.difference.p_value).removeprefix("= ")
        table.append((metric, cells[0], cells[1], _difference(figure.difference, unit), p))
    yield columns(table) + f"\n\nn = {found.shared} images; 95 % intervals and p by paired bootstrap (1000 resamples)"
    yield "\n".join(_verdict(found))


def _verdict(found: Said) -> Iterator[str]:
    difference = found.figures["bleu4"].difference
    if found.different:
        better = "A" if difference.value > 0 else "B"
        yield f"They can be told apart: {better} has the higher BLEU-4 on the same images."
    else:
        yield f"They cannot be told apart by BLEU-4 with {found.shared} images."
    doubted = [letter for letter, row in zip("AB", (found.a, found.b), strict=True) if row.verdict != "ok"]
    if doubted:
        yield f"But {' and '.join(doubted)} cannot be trusted as it stands; see `bench show`."


def _interval(value: str, low: float | None, high: float | None, unit: str) -> str:
    return value if low is None or high is None else f"{value} [{number_text(low, unit)}, {number_text(high, unit)}]"


def _difference(found: Difference, unit: str) -> str:
    def signed(value: float) -> str:
        return ("+" if value > 0 else "") + number_text(value, unit)

    if found.low is None or found.high is None:
        return signed(found.value)
    return f"{signed(found.value)} [{signed(found.low)}, {signed(found.high)}]"


def as_object(found: Said) -> dict[str, Any]:
    """For programs."""
    shown = ("profile", "dataset", "model", "defense", "attack", "norm", "eps", "seed", "verdict", "key", "run")
    return {
        "a": {field: getattr(found.a, field) for field in shown},
        "b": {field: getattr(found.b, field) for field in shown},
        "n": found.shared,
        "metrics": {
            metric: {"a": figure.a._asdict(), "b": figure.b._asdict(), "difference": figure.difference._asdict()}
            for metric, figure in found.figures.items()
        },
        "different": found.different,
    }
