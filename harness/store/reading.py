"""The reading door: SQL in, dictionaries out, one consistent state of the store.

Where the store is a SQLite file this needs the standard library only; see ``harness/store/__init__.py`` for why.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.errors import BenchError
from harness.store.location import Location, check_place, locate, sqlite_trouble
from harness.store.revisions import Condition, judge_sqlite, open_sqlite


def open_if_any(location: str) -> Reader | None:
    """As ``open_reader``, but None where there are no results yet."""
    place = locate(location)
    if place.path is not None and not _exists(place.path):
        check_place(place.path)
        return None
    try:
        return open_reader(location)
    except NothingYet:
        return None


def open_reader(location: str) -> Reader:
    """Open a store to read it; an older one is migrated first. A context manager.

    The reader sees the store as it was when it was opened, whatever is written meanwhile. Works while a run writes, and
    on a folder that cannot be written. Raises BenchError where there are no results and for what is not a store.
    """
    place = locate(location)
    reader = _open(place)
    if reader is None:
        from harness.store.store import open_store  # only for the rare migration: this door stays light

        open_store(location).close()
        reader = _open(place)
    if reader is None:
        raise BenchError(f"results: {place.shown} could not be brought to the newest schema")
    return reader


class Reader(ABC):
    """Rows of SQL queries. ``:name`` parameters work with every database."""

    shown: str

    @abstractmethod
    def condition(self) -> Condition:
        """Whether the schema can be read as it is. Called once, first; the snapshot begins here. Raises BenchError."""

    @abstractmethod
    def rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        """All rows of a query, as dictionaries from column to value. Raises BenchError for a damaged store."""

    @abstractmethod
    def tuples(self, sql: str, **params: Any) -> Iterator[tuple[Any, ...]]:
        """The rows of a query one after the other, for the large ones. Raises BenchError for a damaged store."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class SqliteReader(Reader):
    """Through the standard library, for speed."""

    def __init__(self, place: Location, path: Path) -> None:
        if not _exists(path):
            raise _nothing_yet(place)
        check_place(path)
        self.shown = place.shown
        with _explained(self.shown):
            self._connection = open_sqlite(path)

    def condition(self) -> Condition:
        with _explained(self.shown):
            self._connection.execute("BEGIN")  # one snapshot for all queries
            return judge_sqlite(self._connection, self.shown)[0]

    def rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        with _explained(self.shown):
            cursor = self._connection.execute(sql, params)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def tuples(self, sql: str, **params: Any) -> Iterator[tuple[Any, ...]]:
        with _explained(self.shown):
            yield from self._connection.execute(sql, params)

    def close(self) -> None:
        self._connection.close()


class UrlReader(Reader):
    """Through SQLAlchemy, for every other database."""

    def __init__(self, place: Location) -> None:
        from harness.store.connecting import connect, explained

        self.shown = place.shown
        self._explained = partial(explained, place)
        with self._explained():
            engine = connect(place)
            options: dict[str, Any] = {}
            if engine.dialect.name == "postgresql":  # one snapshot for all queries
                options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            self._connection = engine.connect().execution_options(**options)

    def condition(self) -> Condition:
        from harness.store.connecting import condition

        with self._explained():
            return condition(self._connection, self.shown)[0]

    def rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        from sqlalchemy import text

        with self._explained():
            return [dict(row) for row in self._connection.execute(text(sql), params).mappings()]

    def tuples(self, sql: str, **params: Any) -> Iterator[tuple[Any, ...]]:
        from sqlalchemy import text

        with self._explained():
            yield from (tuple(row) for row in self._connection.execute(text(sql), params))

    def close(self) -> None:
        self._connection.close()
        self._connection.engine.dispose()


def _open(place: Location) -> Reader | None:
    """A reader, or None for an older schema."""
    reader: Reader = UrlReader(place) if place.path is None else SqliteReader(place, place.path)
    try:
        found = reader.condition()
    except BaseException:
        reader.close()
        raise
    if found is Condition.CURRENT:
        return reader
    reader.close()
    if found is Condition.EMPTY:
        raise _nothing_yet(place)
    return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError as error:
        raise BenchError(f"results: {path}: {error.strerror}; check its permissions") from None


class NothingYet(BenchError):
    """There is no store, or nothing in it."""


def _nothing_yet(place: Location) -> NothingYet:
    return NothingYet(f"no results yet at {place.shown}; run `bench run` first")


@contextmanager
def _explained(shown: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise sqlite_trouble(error, shown) or error from error
