"""The writing door. Every method is one transaction: after a crash it has happened as a whole or not at all."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, Row, Table, delete, insert, select, text, update

from harness.errors import BenchError
from harness.store.connecting import condition, connect, reading, writing
from harness.store.location import Location, check_place, locate, sqlite_trouble
from harness.store.records import CellLabel, CellRecord, RunRecord, RunStatus, ScoreRecord, StepRecord, now
from harness.store.revisions import Condition, sqlite_condition
from harness.store.rows import (
    caption_rows,
    cell_row,
    outcome_rows,
    reason_rows,
    run_row,
    score_row,
    step_row,
    to_captions,
    to_outcome,
)
from harness.store.schema import captions, cells, outcomes, reasons, run_cells, runs, scores, steps
from harness.store.verdicts import Relate, judge_group
from harness.types import CaptionOutcome, Corpus, Outcome, Reason, Status


def open_store(location: str) -> Store:
    """Open a store for writing; create it where it is missing, migrate it where it is older.

    ``location`` is a path or a URL (sqlite:///, postgresql://). An older SQLite store is first copied to
    ``<name>.bak-<revision>``. Raises BenchError, before anything is changed, for a store that a newer bench wrote, for
    what is not a store, and for a place that cannot be written.
    """
    place = locate(location)
    if place.path is not None:
        check_place(place.path)
        # Looked at before SQLAlchemy connects, which would turn another program's file into a WAL database.
        if _has_content(place):
            found, revision = sqlite_condition(place.path, place.shown)
            if found is Condition.OLDER:
                _back_up(place, revision)
    engine = connect(place)
    try:
        _bring_to_head(engine, place)
    except BaseException:
        engine.dispose()
        raise
    return Store(engine, place)


def _has_content(place: Location) -> bool:
    try:
        return place.path is not None and place.path.exists() and place.path.stat().st_size > 0
    except PermissionError as error:
        raise BenchError(f"results: {place.shown}: {error.strerror}; check its permissions") from None


def _back_up(place: Location, revision: str) -> None:
    from harness.store.migrating import back_up  # alembic costs a second

    assert place.path is not None
    try:
        back_up(place.path, revision)
    except sqlite3.Error as error:
        raise sqlite_trouble(error, place.shown) or error from error


def _bring_to_head(engine: Engine, place: Location) -> None:
    with writing(engine, place, lock="bench schema") as connection:
        found, _ = condition(connection, place.shown)  # again, now that no other process can change it
        if found is not Condition.CURRENT:
            from harness.store.migrating import upgrade  # alembic costs a second

            upgrade(connection)
        # A read-only file is noticed only by a write: let that be now and not after the first attack.
        connection.execute(text("UPDATE alembic_version SET version_num = version_num"))


class Store:
    """An open store; ``open_store`` makes it. A context manager. Safe to share between threads, not across a fork.

    Every method raises BenchError when the database cannot be used (locked for 30 s, read-only, disk full, gone).
    """

    def __init__(self, engine: Engine, place: Location) -> None:
        self._engine = engine
        self._place = place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    def begin_run(self, run: RunRecord) -> None:
        """Record a run as running."""
        with writing(self._engine, self._place, run.id) as connection:
            connection.execute(insert(runs), run_row(run))

    def finish_run(self, run_id: str, status: RunStatus | str) -> None:
        """Record how a run ended, and that it ended now. Raises ValueError for an unknown run."""
        statement = update(runs).where(runs.c.id == run_id)
        with writing(self._engine, self._place, run_id) as connection:
            done = connection.execute(statement.values(status=RunStatus(status).value, finished=now()))
            if done.rowcount != 1:
                raise ValueError(f"no run {run_id!r} to finish")

    def reap(self) -> list[str]:
        """Mark this machine's running runs whose process is gone as interrupted; the ids of those."""
        mine = (runs.c.status == RunStatus.RUNNING.value) & (runs.c.host == socket.gethostname())
        with writing(self._engine, self._place, "reap") as connection:
            found = connection.execute(select(runs.c.id, runs.c.pid).where(mine)).all()
            dead = [run_id for run_id, pid in found if not _alive(pid)]
            ended = {"status": RunStatus.INTERRUPTED.value, "finished": now()}
            for run_id in dead:
                connection.execute(update(runs).where(runs.c.id == run_id).values(ended))
        return dead

    def label_cells(self, run_id: str, labels: Sequence[CellLabel]) -> None:
        """Record under which names a run shows its cells; the cells themselves may come later."""
        with writing(self._engine, self._place, run_id) as connection:
            _insert(connection, run_cells, [{"run_id": run_id, **label._asdict()} for label in labels])

    def save_cell(
        self,
        cell: CellRecord,
        outcome: Outcome | CaptionOutcome | None,
        scores: Sequence[ScoreRecord],
        reasons: Sequence[Reason],
        relate: Relate | None = None,
    ) -> None:
        """Replace a whole cell, then let ``relate`` judge all ok cells of its subject that have an accuracy.

        An older row under the same key goes away with its samples, scores and reasons. Raises ValueError for numbers
        on a cell that is not ok, for an ok cell without samples, and for a score that is NaN or infinite.
        """
        _check_numbers(cell, outcome, scores)
        parts = _parts(cell, outcome, scores, reasons)
        with writing(self._engine, self._place, cell.subject) as connection:
            connection.execute(delete(cells).where(cells.c.key == cell.key))
            for table, rows in parts.items():
                _insert(connection, table, rows)
            if relate is not None:
                judge_group(connection, cell.subject, relate)

    def save_scores(self, cell_key: str, records: Sequence[ScoreRecord]) -> None:
        """Add scores to a finished cell, or replace those of the same metric.

        Raises ValueError for NaN, infinity, and a cell that is missing or not ok.
        """
        rows = [score_row(cell_key, record) for record in records]
        replaced = scores.c.metric.in_([record.metric for record in records])
        with writing(self._engine, self._place, cell_key) as connection:
            status = connection.execute(select(cells.c.status).where(cells.c.key == cell_key)).scalar()
            if status != Status.OK.value:
                raise ValueError(f"cell {cell_key} is {status or 'missing'} and cannot have scores")
            connection.execute(delete(scores).where(scores.c.cell_key == cell_key, replaced))
            _insert(connection, scores, rows)

    def outcome(self, cell_key: str) -> Outcome:
        """What the judge saw of an ok cell, samples in the order they were saved. Raises ValueError for another."""
        return to_outcome(*self._finished(cell_key, outcomes))

    def captions(self, cell_key: str, references: Mapping[int, tuple[str, ...]], corpus: Corpus) -> CaptionOutcome:
        """The same of a cell with captions; ``references`` by sample id and ``corpus`` are the data set's."""
        return to_captions(*self._finished(cell_key, captions), references, corpus)

    def _finished(self, cell_key: str, table: Table) -> tuple[Row[Any], Sequence[Row[Any]]]:
        samples = select(table).where(table.c.cell_key == cell_key).order_by(table.c.position)
        with reading(self._engine, self._place) as connection:
            cell = connection.execute(select(cells).where(cells.c.key == cell_key)).one_or_none()
            if cell is None or cell.status != Status.OK.value:
                raise ValueError(f"cell {cell_key} is {cell.status if cell else 'missing'} and has no outcome")
            return cell, connection.execute(samples).all()

    def finished_in_family(self, family: str) -> str | None:
        """The key of an ok cell of a family, the newest; None where there is none and for the empty name of none."""
        of_family = (cells.c.family == family) & (cells.c.status == Status.OK.value)
        query = select(cells.c.key).where(of_family).order_by(cells.c.created.desc(), cells.c.key).limit(1)
        with reading(self._engine, self._place) as connection:
            found: str | None = connection.execute(query).scalar() if family else None
            return found

    def save_step(self, step: StepRecord) -> None:
        """Record a fit or hardening; an older row under the same key is replaced."""
        with writing(self._engine, self._place, step.key) as connection:
            connection.execute(delete(steps).where(steps.c.key == step.key))
            connection.execute(insert(steps), step_row(step))


def _check_numbers(cell: CellRecord, outcome: Outcome | CaptionOutcome | None, scores: Sequence[ScoreRecord]) -> None:
    if cell.status != Status.OK:
        if outcome is not None or scores or cell.n:
            raise ValueError(f"cell {cell.key} is {cell.status}: it carries no samples and no scores")
        if not cell.reason:
            raise ValueError(f"cell {cell.key} is {cell.status} without a reason")
    elif outcome is None or len(outcome.ids) != cell.n:
        raise ValueError(f"cell {cell.key} is ok with n = {cell.n} but without that many samples")


def _parts(
    cell: CellRecord,
    outcome: Outcome | CaptionOutcome | None,
    score_records: Sequence[ScoreRecord],
    own: Sequence[Reason],
) -> Mapping[Table, list[dict[str, Any]]]:
    return {
        cells: [cell_row(cell, outcome, own)],
        outcomes: outcome_rows(cell.key, outcome) if isinstance(outcome, Outcome) else [],
        captions: caption_rows(cell.key, outcome) if isinstance(outcome, CaptionOutcome) else [],
        scores: [score_row(cell.key, record) for record in score_records],
        reasons: reason_rows(cell.key, "own", own),
    }


def _insert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:  # an empty list would insert one row of defaults
        connection.execute(insert(table), rows)


def _alive(pid: int) -> bool:
    if os.name != "posix":
        return True  # on Windows signal 0 ends the process instead of asking for it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, so alive
    return True
