"""Database connections through SQLAlchemy, set up so that a crash or a second process cannot spoil the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from harness.errors import BenchError
from harness.store.location import Location, sqlite_trouble
from harness.store.revisions import Condition, judge


def connect(place: Location) -> Engine:
    """The engine for a store. Raises BenchError for a URL or driver that cannot be used."""
    try:
        if place.path is None:
            return create_engine(place.url)
        engine = create_engine(URL.create("sqlite", database=str(place.path)))
    except ModuleNotFoundError as error:
        raise BenchError(f"results: {place.shown} needs the package {error.name}; install it") from None
    except (ArgumentError, NoSuchModuleError) as error:
        raise BenchError(f"results: {place.shown} is not a database URL: {error}") from None
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # the driver would begin transactions late, and not at all around DDL
    connection.execute("PRAGMA busy_timeout = 30000")  # milliseconds
    connection.execute("PRAGMA journal_mode = WAL")  # readers and one writer do not wait for each other
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later can fail with "locked" whatever the timeout: take the lock first.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def reading(engine: Engine, place: Location) -> Iterator[Connection]:
    """A transaction that sees one state of the store. Raises BenchError when the database cannot be used."""
    with explained(place), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine, place: Location, lock: str) -> Iterator[Connection]:
    """A transaction that is kept as a whole or not at all; writers with the same ``lock`` wait for each other."""
    with explained(place), engine.connect().execution_options(writes=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))"), {"lock": lock})
        yield connection


@contextmanager
def explained(place: Location) -> Iterator[None]:
    """Turn what the user can do something about (locked, read-only, damaged, no server) into a BenchError."""
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise sqlite_trouble(error.orig, place.shown) or error from error
        if isinstance(error, OperationalError):
            first = str(error.orig).strip().partition("\n")[0]
            raise BenchError(f"results: {place.shown}: {first}; check the URL and that the server runs") from error
        raise


def condition(connection: Connection, shown: str) -> tuple[Condition, str]:
    """``revisions.judge`` for an open connection. Raises BenchError."""
    tables = inspect(connection).get_table_names()
    versions: list[str] = []
    if "alembic_version" in tables:
        versions = [row[0] for row in connection.execute(text("SELECT version_num FROM alembic_version"))]
    return judge(tables, versions, shown)
