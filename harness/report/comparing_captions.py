"""Two cells of captioners on the images that both attack: what their captions are worth, and whether that differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import BenchError
from harness.report.against import LEVEL
from harness.report.layout import number_text, p_text, points_text
from harness.report.pairs import coordinates, doubted, only_shared, side_by_side
from harness.report.selecting import name
from harness.store.details import paired_counts
from harness.store.queries import Row
from harness.store.reading import Reader

if TYPE_CHECKING:
    from harness.captioning.scores import Difference
    from harness.types import Score


class Said(NamedTuple):
    """Two cells, BLEU-4 of their captions on the shared images, and a - b by a paired bootstrap over these."""

    a: Row
    b: Row
    shared: int
    scores: tuple[Score, Score]
    difference: Difference

    @property
    def different(self) -> bool:
        return self.difference.p_value < LEVEL


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
    return Said(a, b, shared, (scored(counts[0], score), scored(counts[1], score)), paired(*counts, score))


# --- text and JSON


def as_text(found: Said) -> str:
    """For people."""
    cells = [(_interval(score, signed=False),) for score in found.scores]
    return "\n\n".join(
        [
            side_by_side(found.a, found.b, "BLEU-4 (%)", cells),
            *only_shared(found.a, found.b, found.shared, "images"),
            f"A - B = {_interval(found.difference, signed=True)} points, n = {found.shared} (95 % interval, paired "
            f"bootstrap), p {p_text(found.difference.p_value)}",
            "\n".join([_told_apart(found), *doubted(found.a, found.b)]),
        ]
    )


def _told_apart(found: Said) -> str:
    if not found.different:
        return f"They cannot be told apart by BLEU-4 with {found.shared} images."
    better = "A" if found.difference.value > 0 else "B"
    return f"They can be told apart: {better} has the higher BLEU-4 on the same images."


def _interval(found: Score | Difference, *, signed: bool) -> str:
    def text(value: float) -> str:
        return points_text(100 * value) if signed else number_text(value, "fraction")

    if found.low is None or found.high is None:
        return text(found.value)
    return f"{text(found.value)} [{text(found.low)}, {text(found.high)}]"


def as_object(found: Said) -> dict[str, Any]:
    """For programs."""
    sides = zip("ab", (found.a, found.b), found.scores, strict=True)
    return {
        **{letter: {**coordinates(row), "bleu4": score._asdict()} for letter, row, score in sides},
        "n": found.shared,
        "difference": found.difference._asdict(),
        "different": found.different,
    }
