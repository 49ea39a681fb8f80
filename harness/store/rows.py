"""Records to table rows, and rows back to an Outcome."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.store.records import CellRecord, RunRecord, RunStatus, ScoreRecord, StepRecord
from harness.types import CaptionOutcome, Corpus, Outcome, Reason, Status, Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy import Row as DatabaseRow

INTEGERS = ("label", "clean_prediction", "prediction")
FLOATS = ("linf", "l2", "forwards", "backwards", "proposal_size")
OPTIONAL_INTEGERS = ("quantised_prediction", "target", "proposal_prediction", "label_rank")
OPTIONAL_FLOATS = ("l1", "zero_gradients", "confidence")
CAPTION_TEXTS = ("clean_caption", "caption")
CAPTION_FLOATS = ("loss", *FLOATS)
CAPTION_OPTIONAL = {"l1": "float64", "named": "int64", "pointed": "int64", "covered": "float64"}


def to_json(value: Any) -> str:
    """Canonical JSON text. NaN and infinities, which JSON lacks, become "nan", "inf", "-inf": ``float`` reads them."""
    return json.dumps(_finite(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()  # numpy's scalars are no JSON
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def run_row(run: RunRecord) -> dict[str, Any]:
    row = _columns(run, "versions", "hardware", "seeds", "settings")
    return row | {"status": RunStatus.RUNNING.value, "finished": None}


def step_row(step: StepRecord) -> dict[str, Any]:
    return _columns(step, "document", "history") | {"status": Status(step.status).value}


def cell_row(cell: CellRecord, outcome: Outcome | CaptionOutcome | None, reasons: Sequence[Reason]) -> dict[str, Any]:
    """The row of ``cells``. Its verdict is the worst of its own reasons; a cell without numbers is invalid."""
    status = Status(cell.status)
    row = _columns(cell, "stronger_than", "document")
    return row | {
        "status": status.value,
        "verdict": (worst(reasons) if status is Status.OK else Verdict.INVALID).value,
        "seconds": cell.seconds if outcome is None else outcome.seconds,
        "proposal_low": None if outcome is None else outcome.proposal_low,
        "proposal_high": None if outcome is None else outcome.proposal_high,
        "notes": to_json([] if outcome is None else [tuple(note) for note in outcome.notes]),
        "facts": to_json({} if outcome is None else outcome.facts),
    }


def _columns(record: Any, *documents: str) -> dict[str, Any]:
    return {name: to_json(value) if name in documents else value for name, value in vars(record).items()}


def worst(reasons: Sequence[Reason]) -> Verdict:
    """The worst verdict among reasons; ok without any."""
    order = list(Verdict)
    return max((Verdict(reason.verdict) for reason in reasons), key=order.index, default=Verdict.OK)


def score_row(cell_key: str, score: ScoreRecord) -> dict[str, Any]:
    """The row of ``scores``. Raises ValueError for NaN and infinities: a number that is none is a failed cell."""
    numbers = [None if number is None else float(number) for number in (score.value, score.low, score.high)]
    if not all(math.isfinite(number) for number in numbers if number is not None):
        raise ValueError(f"score {score.metric!r} of cell {cell_key} is not finite: {score}")
    # numpy scalars would reach the database as blobs
    return {"cell_key": cell_key, **score._asdict(), **dict(zip(("value", "low", "high"), numbers, strict=True))}


def reason_rows(cell_key: str, scope: str, reasons: Sequence[Reason]) -> list[dict[str, Any]]:
    head = {"cell_key": cell_key, "scope": scope}
    return [
        {**head, "position": position, "code": code, "verdict": Verdict(verdict).value, "text": text}
        for position, (code, verdict, text) in enumerate(reasons)
    ]


def outcome_rows(cell_key: str, outcome: Outcome) -> list[dict[str, Any]]:
    """One row a sample, numbered in the order of the arrays. Raises ValueError unless all arrays have length N."""
    names = ("sample_id", *INTEGERS, *FLOATS, *OPTIONAL_INTEGERS, *OPTIONAL_FLOATS)
    columns = [outcome.ids.tolist(), *(getattr(outcome, name).tolist() for name in INTEGERS + FLOATS)]
    columns += [_optional(outcome, name) for name in OPTIONAL_INTEGERS + OPTIONAL_FLOATS]
    return [
        {"cell_key": cell_key, "position": position, **dict(zip(names, values, strict=True))}
        for position, values in enumerate(zip(*columns, strict=True))
    ]


def _optional(outcome: Outcome | CaptionOutcome, name: str) -> list[Any]:
    """A column that need not have been measured. NaN becomes NULL in every database, not in SQLite alone."""
    values = getattr(outcome, name)
    if values is None:
        return [None] * len(outcome.ids)
    return [None if math.isnan(value) else value for value in values.tolist()]


def caption_rows(cell_key: str, outcome: CaptionOutcome) -> list[dict[str, Any]]:
    """The same of a cell with captions. References belong to the data set and are not kept, but what they decide is."""
    counts: Sequence[Any] = [None] * len(outcome.ids)
    if outcome.bleu_counts is not None:
        counts = [" ".join(str(int(count)) for count in row) for row in outcome.bleu_counts]
    names = ("sample_id", *CAPTION_TEXTS, *CAPTION_FLOATS, *CAPTION_OPTIONAL, "target", "bleu_counts")
    columns: list[Sequence[Any]] = [outcome.ids.tolist(), *(getattr(outcome, name) for name in CAPTION_TEXTS)]
    columns += [getattr(outcome, name).tolist() for name in CAPTION_FLOATS]
    columns += [_optional(outcome, name) for name in CAPTION_OPTIONAL]
    columns += [outcome.target or [None] * len(outcome.ids), counts]
    return [
        {"cell_key": cell_key, "position": position, **dict(zip(names, values, strict=True))}
        for position, values in enumerate(zip(*columns, strict=True))
    ]


def to_captions(
    cell: DatabaseRow[Any],
    samples: Sequence[DatabaseRow[Any]],
    references: Mapping[int, tuple[str, ...]],
    corpus: Corpus,
) -> CaptionOutcome:
    """Rebuild what ``caption_rows`` and ``cell_row`` took apart. Raises KeyError where a sample has no references."""
    import numpy as np

    arrays: dict[str, Any] = {name: tuple(getattr(row, name) for row in samples) for name in CAPTION_TEXTS}
    for name in CAPTION_FLOATS:
        arrays[name] = np.array([_float(getattr(row, name)) for row in samples], np.float64)
    for name, kind in CAPTION_OPTIONAL.items():
        arrays[name] = _optional_array([getattr(row, name) for row in samples], kind)
    ids = [row.sample_id for row in samples]
    targets, counts = tuple(row.target for row in samples), [row.bleu_counts for row in samples]
    return CaptionOutcome(
        ids=np.array(ids, np.int64),
        references=tuple(references[number] for number in ids),
        corpus=corpus,
        target=targets if targets and targets[0] is not None else None,
        bleu_counts=None if None in counts else np.array([row.split() for row in counts], np.float64),
        **arrays,
        **_of_cell(cell),
    )


def to_outcome(cell: DatabaseRow[Any], samples: Sequence[DatabaseRow[Any]]) -> Outcome:
    """Rebuild what ``outcome_rows`` and ``cell_row`` took apart; ``samples`` in order of position.

    An optional array that has no number for any sample comes back as None.
    """
    import numpy as np

    arrays: dict[str, Any] = {name: np.array([getattr(row, name) for row in samples], np.int64) for name in INTEGERS}
    arrays |= {name: np.array([_float(getattr(row, name)) for row in samples], np.float64) for name in FLOATS}
    for name in OPTIONAL_INTEGERS + OPTIONAL_FLOATS:
        kind = "int64" if name in OPTIONAL_INTEGERS else "float64"
        arrays[name] = _optional_array([getattr(row, name) for row in samples], kind)
    return Outcome(ids=np.array([row.sample_id for row in samples], np.int64), **arrays, **_of_cell(cell))


def _of_cell(cell: DatabaseRow[Any]) -> dict[str, Any]:
    """What an outcome has beside its samples."""
    return {
        "proposal_low": _float(cell.proposal_low),
        "proposal_high": _float(cell.proposal_high),
        "seconds": cell.seconds,
        "notes": [Reason(code, Verdict(verdict), text) for code, verdict, text in json.loads(cell.notes)],
        "facts": json.loads(cell.facts),
    }


def _optional_array(values: Sequence[Any], kind: str) -> NDArray[Any] | None:
    import numpy as np

    return None if all(value is None for value in values) else np.array(values, kind)  # None becomes NaN


def _float(value: float | None) -> float:
    return math.nan if value is None else value  # SQLite keeps NaN as NULL
