"""Which schema a store has, and whether this program can use it. Imports nothing heavy: both doors ask here."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from enum import Enum
from pathlib import Path

from harness.errors import BenchError
from harness.store.location import sqlite_trouble

REVISIONS: tuple[str, ...] = ("0001", "0002", "0003", "0004", "0005", "0006")
"""Every schema revision, oldest first; a test keeps it equal to the files in ``migrations/versions``."""

HEAD = REVISIONS[-1]
BASE = "base"
"""Alembic's name for the revision before the first: its version table is there and empty."""


class Condition(Enum):
    """What there is to do before a store can be used."""

    EMPTY = "no tables yet: migrate"
    OLDER = "an older schema: copy, then migrate"
    CURRENT = "ready"


def judge(tables: Collection[str], versions: Sequence[str], shown: str) -> tuple[Condition, str]:
    """The condition and the revision of a database with these tables and rows of ``alembic_version``.

    Raises BenchError for the database of another program and for one written by a newer bench.
    """
    if not tables:
        return Condition.EMPTY, BASE
    if "alembic_version" not in tables or (not versions and len(tables) > 1):
        raise BenchError(f"results: {shown} is another program's database (no bench schema in it); give another path")
    revision = versions[0] if versions else BASE
    if revision == HEAD:
        return Condition.CURRENT, revision
    if revision == BASE or revision in REVISIONS:
        return Condition.OLDER, revision
    raise BenchError(f"results: {shown} has schema {revision!r}, this bench knows up to {HEAD!r}; upgrade bench")


def open_sqlite(path: Path) -> sqlite3.Connection:
    """A connection that can change nothing, on a file that exists; it begins its snapshot with the first query.

    Read-write mode with ``query_only`` rather than read-only mode, which would leave ``-wal`` and ``-shm`` files
    behind; SQLite itself falls back where the file cannot be written. Raises sqlite3.Error.
    """
    try:
        return _connect(path, "mode=rw")
    except sqlite3.OperationalError as error:
        wal = path.with_name(path.name + "-wal")
        # Where the folder cannot be written SQLite cannot set up a WAL's shared memory. Without a WAL there is
        # nothing beside the file and it can be read as it lies; with one, that would hide committed results.
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY or (wal.exists() and wal.stat().st_size):
            raise
        return _connect(path, "immutable=1")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=30.0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def sqlite_condition(path: Path, shown: str) -> tuple[Condition, str]:
    """``judge`` for a SQLite file that exists. Raises BenchError, also for a file that is not a database."""
    try:
        with closing(open_sqlite(path)) as connection:
            return judge_sqlite(connection, shown)
    except sqlite3.Error as error:
        raise sqlite_trouble(error, shown) or error from None


def judge_sqlite(connection: sqlite3.Connection, shown: str) -> tuple[Condition, str]:
    """``judge`` for an open SQLite connection. Raises BenchError and sqlite3.Error."""
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    has_version = "alembic_version" in tables
    versions = [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")] if has_version else []
    return judge(tables, versions, shown)
