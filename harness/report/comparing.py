"""``bench compare A B``: two cells on the samples that both attack, and whether they can be told apart."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from harness.errors import BenchError, unknown
from harness.report.against import LEVEL
from harness.report.columns import columns
from harness.report.comparing_captions import Said, as_object, as_text, said
from harness.report.layout import p_text, points_text
from harness.report.pairs import coordinates, doubted, only_shared, side_by_side
from harness.report.selecting import name
from harness.statistics import Discordance, mcnemar_of_counts, paired_difference, rate, samples_needed
from harness.store.details import Paired, cell_details, paired
from harness.store.queries import Row, captioning_datasets
from harness.store.reading import Reader
from harness.types import Score, Status

FORMATS = ("rich", "json")


class Comparison(NamedTuple):
    """Two cells, their accuracies on the shared samples, the paired difference a - b, and McNemar's test."""

    a: Row
    b: Row
    counts: Paired
    scores: tuple[Score, Score]
    difference: Score
    test: Discordance
    needed: int | None

    @property
    def different(self) -> bool:
        return self.test.p_value < LEVEL


def compare(reader: Reader, a: Row, b: Row) -> Comparison | Said:
    """Reads and tests. Raises BenchError for a cell without numbers and where no sample is shared."""
    for row in (a, b):
        if row.status != Status.OK:
            raise BenchError(f"{name(row)} is {row.status} and has no samples; see `bench show {row.key[:12]}`")
    captioned = captioning_datasets(reader)
    if a.dataset in captioned and b.dataset in captioned:
        if a.dataset != b.dataset and _data_key(reader, a) != _data_key(reader, b):
            raise _other_data(a, b)
        return said(reader, a, b)
    counts = paired(reader, a.key, b.key)
    _check_samples(reader, a, b, counts)
    n = counts.shared
    rates = rate(counts.both + counts.a_only, n), rate(counts.both + counts.b_only, n)
    test = mcnemar_of_counts(counts.a_only, counts.b_only)
    needed = samples_needed(counts.a_only / n, counts.b_only / n)
    return Comparison(a, b, counts, rates, _difference(counts), test, needed)


def report(found: Comparison | Said, format: str) -> str:
    """A comparison as text for people (``rich``) or as one JSON object. Raises BenchError for another format."""
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if isinstance(found, Said):
        return json.dumps(as_object(found), indent=2, ensure_ascii=False) if format == "json" else as_text(found)
    return json.dumps(_object(found), indent=2, ensure_ascii=False) if format == "json" else _text(found)


def _check_samples(reader: Reader, a: Row, b: Row, counts: Paired) -> None:
    """Numbers of samples mean the same images only within one data set."""
    if a.dataset != b.dataset and _data_key(reader, a) != _data_key(reader, b):
        raise _other_data(a, b)
    if not counts.shared:
        raise BenchError(f"{name(a)} and {name(b)} share no sample; attack the same ones (--limit) and compare again")
    if counts.relabelled:
        raise BenchError(
            f"{name(a)} and {name(b)}: {counts.relabelled} of {counts.shared} shared samples have other labels, so the "
            "data differ; cells on the same data are needed"
        )


def _other_data(a: Row, b: Row) -> BenchError:
    return BenchError(f"{name(a)} attacks {a.dataset}, {name(b)} {b.dataset}; cells on the same data are needed")


def _data_key(reader: Reader, row: Row) -> object:
    """The content key of the data, or where that is not stored something that equals no other."""
    details = cell_details(reader, row.key)
    samples = json.loads(details["document"]).get("samples", {}) if details else {}
    return samples.get("data") or object()


def _difference(counts: Paired) -> Score:
    """From the counts: the order of the samples changes nothing."""
    same = counts.both + counts.neither
    a_right = [1.0] * counts.a_only + [0.0] * counts.b_only + [0.0] * same
    b_right = [0.0] * counts.a_only + [1.0] * counts.b_only + [0.0] * same
    return paired_difference(a_right, b_right)


# --- text


def _text(found: Comparison) -> str:
    parts = [
        side_by_side(found.a, found.b, "accuracy (%)", [(_percent(score),) for score in found.scores]),
        *only_shared(found.a, found.b, found.counts.shared, "samples"),
        *(_differences(found), _square(found.counts), _tested(found.test)),
    ]
    return "\n\n".join([*parts, "\n".join([_told_apart(found), *doubted(found.a, found.b)])])


def _differences(found: Comparison) -> str:
    score = found.difference
    interval = "" if score.low is None or score.high is None else f" [{_points(score.low)}, {_points(score.high)}]"
    return f"A - B = {_points(score.value)} points{interval}, n = {score.n} (95 % interval, paired bootstrap)"


def _square(counts: Paired) -> str:
    rows = [
        ("", "B right", "B wrong"),
        ("A right", str(counts.both), str(counts.a_only)),
        ("A wrong", str(counts.b_only), str(counts.neither)),
    ]
    return columns([(head, left.rjust(7), right.rjust(7)) for head, left, right in rows])


def _tested(test: Discordance) -> str:
    how = "exact binomial" if test.exact else "chi-squared with continuity correction"
    return f"McNemar's test on the {test.a_only + test.b_only} samples that differ: p {p_text(test.p_value)} ({how})"


def _told_apart(found: Comparison) -> str:
    if found.different:
        better = "A" if found.difference.value > 0 else "B"
        return f"They can be told apart: {better} is right more often on the same samples."
    if found.needed is None:
        return "They cannot be told apart: each is right as often as the other."
    # With a handful of samples the exact test can miss what the formula takes to be found.
    count = f"about {found.needed}" if found.needed > found.counts.shared else "a few more"
    return (
        f"They cannot be told apart with {found.counts.shared} samples; a difference of this size needs {count} "
        "(power 80 %, level 5 %)."
    )


def _percent(score: Score) -> str:
    return f"{100 * score.value:.1f} [{100 * (score.low or 0):.1f}, {100 * (score.high or 0):.1f}]"


def _points(fraction: float) -> str:
    return points_text(100 * fraction)


# --- JSON


def _object(found: Comparison) -> dict[str, Any]:
    counts, test = found.counts, found.test
    return {
        "a": {**coordinates(found.a), "accuracy": found.scores[0]._asdict()},
        "b": {**coordinates(found.b), "accuracy": found.scores[1]._asdict()},
        "n": counts.shared,
        "difference": found.difference._asdict(),
        "both": counts.both,
        "a_only": counts.a_only,
        "b_only": counts.b_only,
        "neither": counts.neither,
        "p_value": test.p_value,
        "exact": test.exact,
        "different": found.different,
        "samples_needed": found.needed,
    }
