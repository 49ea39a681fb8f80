"""The program's SQL: plain text that SQLite and PostgreSQL both understand."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from harness.errors import unknown
from harness.store.reading import Reader
from harness.store.records import CellState
from harness.types import Reason, Status, Verdict

CHUNK = 500  # keys in one IN list; databases limit how many


Columns = tuple[Any, ...]
"""One row as the database gives it."""


class StoredScore(NamedTuple):
    """One number of a cell with its 95 % interval and unit."""

    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    unit: str


class Row(NamedTuple):
    """One cell of the leaderboard: its coordinate, what became of it, its numbers and the doubts about them.

    ``norm`` and ``eps`` (pixel units) are None for an unperturbed attack. ``position`` is the cell's place in its run.
    A cell that its run has not reached is ``interrupted``. ``scores`` is empty unless ``status`` is ok. ``unmeasured``:
    metrics that failed, each with the reason.
    """

    profile: str
    dataset: str
    model: str
    defense: str
    attack: str
    norm: str | None
    eps: float | None
    seed: int
    position: int
    status: str
    verdict: str
    n: int
    reasons: tuple[Reason, ...]
    scores: tuple[StoredScore, ...]
    key: str
    run: str
    unmeasured: tuple[tuple[str, str], ...] = ()


# Every label, oldest run first. Which of them is newest is settled in Python, and scores and reasons are read apart: a
# window function and joins would take twice as long.
LABELS = """
SELECT rc.profile, rc.dataset, rc.model, rc.defense, rc.attack, rc.norm, rc.eps, rc.seed, rc.position,
    c.status, c.verdict, c.n, c.reason, rc.cell_key, rc.run_id
FROM runs r JOIN run_cells rc ON rc.run_id = r.id LEFT JOIN cells c ON c.key = rc.cell_key
{where}
ORDER BY r.started, r.id, rc.position
"""
COORDINATE, STATUS = 8, 9  # columns of LABELS: the coordinate ends before its place in the run, then the status

SCORES = "SELECT cell_key, metric, value, low, high, n, unit FROM scores {where} ORDER BY cell_key, metric"
UNMEASURED = "SELECT cell_key, metric, reason FROM scores {where} ORDER BY cell_key, metric"
REASONS = "SELECT cell_key, code, verdict, text FROM reasons {where} ORDER BY cell_key, scope, position"
LABELLED = "cell_key IN (SELECT rc.cell_key FROM run_cells rc {where})"

# The newest measurement of each kind of step.
STEP_RATES = """
SELECT kind, label, device, seconds / passes AS rate FROM (
    SELECT kind, label, device, seconds, passes, ROW_NUMBER() OVER (
        PARTITION BY kind, label, device ORDER BY created DESC, key
    ) AS age
    FROM steps WHERE status = 'ok' AND passes > 0
) AS measured WHERE age = 1
"""

# All cells that the newest measuring run attacked itself: one cell alone would be mostly fixed costs.
ATTACK_RATES = """
SELECT model, device, rate FROM (
    SELECT model, device, SUM(seconds) / SUM(passes) AS rate, ROW_NUMBER() OVER (
        PARTITION BY model, device ORDER BY MAX(created) DESC, run_id
    ) AS age
    FROM (
        SELECT DISTINCT rc.profile || '/' || rc.model AS model,
            c.device, c.run_id, c.key, c.seconds, c.passes, c.created
        FROM cells c JOIN run_cells rc ON rc.run_id = c.run_id AND rc.cell_key = c.key
        WHERE c.status = 'ok' AND c.passes > 0
    ) AS attacked GROUP BY model, device, run_id
) AS measured WHERE age = 1
"""


def leaderboard(
    reader: Reader,
    *,
    profile: str | None = None,
    run: str | None = None,
    metric: str | None = None,
    dataset: str | None = None,
    model: str | None = None,
    defense: str | None = None,
    attack: str | None = None,
) -> list[Row]:
    """The newest cell of each coordinate, oldest run first and in the run's own order.

    Every argument but ``metric`` keeps the cells with that label; ``metric`` keeps one score of each cell.
    Raises BenchError for a run that does not exist.
    """
    if run is not None:
        _check_run(reader, run)
    wanted = {"profile": profile, "run_id": run, "dataset": dataset, "model": model}
    wanted |= {"defense": defense, "attack": attack}
    labels = {name: value for name, value in wanted.items() if value is not None}
    return _rows(reader, _where(f"rc.{name} = :{name}" for name in labels), labels, metric, _newest)


def captioning_datasets(reader: Reader) -> frozenset[str]:
    """The labels of the data sets that captions were generated for."""
    query = (
        "SELECT DISTINCT rc.dataset FROM run_cells rc WHERE EXISTS "
        "(SELECT 1 FROM captions c WHERE c.cell_key = rc.cell_key)"
    )
    return frozenset(row["dataset"] for row in reader.rows(query))


def cells_by_key(reader: Reader, beginning: str) -> list[Row]:
    """Every label, oldest first, of the cells whose content key begins so (hexadecimal: no character is special)."""
    return _rows(reader, _where(["rc.cell_key LIKE :beginning"]), {"beginning": f"{beginning}%"}, None, list)


def check_names(reader: Reader, *, profile: str | None, metric: str | None) -> None:
    """Raises BenchError for a profile or a metric that a store with results has none of."""
    for what, name, table in (("profile", profile, "run_cells"), ("metric", metric, "scores")):
        known = {row[what] for row in reader.rows(f"SELECT DISTINCT {what} FROM {table}")} if name else set()
        if name and known and name not in known:
            raise unknown(f"--{what}", name, known)


def rates(reader: Reader) -> dict[tuple[str, str, str], float]:
    """Seconds per pass by (kind, label, device), by the newest measurement.

    The kinds are those of the steps and "attack"; labels are PROFILE/MODEL.
    """
    found = {(row["kind"], row["label"], row["device"]): row["rate"] for row in reader.rows(STEP_RATES)}
    return found | {("attack", row["model"], row["device"]): row["rate"] for row in reader.rows(ATTACK_RATES)}


def _rows(
    reader: Reader,
    where: str,
    labels: Mapping[str, Any],
    metric: str | None,
    chosen: Callable[[Iterable[Columns]], Iterable[Columns]],
) -> list[Row]:
    """Labelled cells with their doubts and scores; ``where`` is about ``rc``, its parameters are ``labels``."""
    labelled = [LABELLED.format(where=where)] if where else []
    cells = chosen(reader.tuples(LABELS.format(where=where), **labels))
    doubts = _reasons(reader.tuples(REASONS.format(where=_where(labelled)), **labels))
    if metric is not None:
        labelled, labels = ["metric = :metric", *labelled], {**labels, "metric": metric}
    # A metric that does not apply is stored and not shown.
    scores = _scores(reader.tuples(SCORES.format(where=_where(["value IS NOT NULL", *labelled])), **labels))
    failed = _unmeasured(reader.tuples(UNMEASURED.format(where=_where(["reason <> ''", *labelled])), **labels))
    rows = [_row(cell, scores, doubts) for cell in cells]
    return [row._replace(unmeasured=tuple(failed[row.key])) if row.key in failed else row for row in rows]


def _check_run(reader: Reader, run: str) -> None:
    if not reader.rows("SELECT id FROM runs WHERE id = :run", run=run):
        raise unknown("run", run, (row["id"] for row in reader.rows("SELECT id FROM runs")))


def _where(conditions: Iterable[str]) -> str:
    # Only conditions that are asked for: PostgreSQL cannot tell the type of a parameter that is NULL.
    joined = " AND ".join(conditions)
    return f"WHERE {joined}" if joined else ""


def _newest(labels: Iterable[Columns]) -> Iterable[Columns]:
    """The newest result of each coordinate; where no run has reached it yet, its newest label, so that it is no gap."""
    newest: dict[Columns, Columns] = {}
    for cell in labels:
        coordinate = cell[:COORDINATE]
        older = newest.get(coordinate)
        if older is None:
            newest[coordinate] = cell
        elif cell[STATUS] is not None or older[STATUS] is None:
            del newest[coordinate]  # so that it takes its place among the cells of its own run
            newest[coordinate] = cell
    return newest.values()


def _scores(found: Iterable[Columns]) -> Mapping[str, list[StoredScore]]:
    by_cell: dict[str, list[StoredScore]] = {}
    for row in found:
        by_cell.setdefault(row[0], []).append(StoredScore._make(row[1:]))
    return by_cell


def _unmeasured(found: Iterable[Columns]) -> Mapping[str, list[tuple[str, str]]]:
    by_cell: dict[str, list[tuple[str, str]]] = {}
    for key, metric, reason in found:
        by_cell.setdefault(key, []).append((metric, reason))
    return by_cell


def _reasons(found: Iterable[Columns]) -> Mapping[str, list[Reason]]:
    by_cell: defaultdict[str, list[Reason]] = defaultdict(list)
    for key, code, verdict, text in found:
        by_cell[key].append(Reason(code, Verdict(verdict), text))
    return by_cell


def _row(cell: Columns, scores: Mapping[str, list[StoredScore]], doubts: Mapping[str, list[Reason]]) -> Row:
    status, verdict, judged, reason, key, run = cell[STATUS:]
    if status is None:
        status, verdict, judged, reason = Status.INTERRUPTED.value, Verdict.INVALID.value, 0, "not reached by its run"
    why = [] if status == "ok" else [Reason(status, Verdict.INVALID, reason or status)]
    reasons = tuple(why + doubts[key]) if key in doubts else tuple(why)
    return Row._make((*cell[:STATUS], status, verdict, judged, reasons, tuple(scores.get(key, ())), key, run, ()))


def cell_states(reader: Reader, keys: Sequence[str]) -> dict[str, CellState]:
    """Status, the scores' content keys by the metric's name, and whether verified, of those cells that exist.

    A score that failed is none.
    """
    status: dict[str, tuple[Status, bool]] = {}
    measured: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for begin in range(0, len(keys), CHUNK):
        chunk = {f"k{i}": key for i, key in enumerate(keys[begin : begin + CHUNK])}
        names = ", ".join(f":{name}" for name in chunk)
        rows = reader.rows(f"SELECT key, status, facts FROM cells WHERE key IN ({names})", **chunk)
        status.update((row["key"], (Status(row["status"]), _verified(row["facts"]))) for row in rows)
        query = f"SELECT cell_key, metric, metric_key FROM scores WHERE reason = '' AND cell_key IN ({names})"
        for row in reader.rows(query, **chunk):
            measured[row["cell_key"]][row["metric"]] = row["metric_key"]
    return {key: CellState(value, measured[key], verified) for key, (value, verified) in status.items()}


def _verified(facts: str) -> bool:
    return json.loads(facts).get("verified") is True
