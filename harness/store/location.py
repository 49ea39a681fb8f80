"""Where a store is: a path or a database URL, and what to tell the user when it cannot be used."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import NamedTuple

from harness.errors import BenchError

# What the user can do about each primary SQLite result code. Any other code is a bug and keeps its traceback.
ADVICE = {
    sqlite3.SQLITE_PERM: "access was refused; check its permissions",
    sqlite3.SQLITE_BUSY: "another process has held it locked for too long; wait for that process and run again",
    sqlite3.SQLITE_READONLY: "it cannot be written; make the file and its folder writable or give another path",
    sqlite3.SQLITE_IOERR: "the disk reported an error; check the file system",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore a copy of it or give another path",
    sqlite3.SQLITE_FULL: "the disk is full; free some space and run again",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check the path and its permissions",
    sqlite3.SQLITE_NOTADB: "this is not a SQLite database; give another path",
}


class Location(NamedTuple):
    """A store's address. ``path`` is None unless it is a SQLite file; ``shown`` is for messages, without a password."""

    url: str
    path: Path | None
    shown: str


def locate(location: str) -> Location:
    """Read a path or a URL (``sqlite:///results.db``, ``postgresql+psycopg://host/name``).

    Any URL of SQLAlchemy is taken; tested are SQLite and PostgreSQL. Raises BenchError for a database in memory.
    """
    if "://" not in location:
        path = Path(location).expanduser()
        return Location(f"sqlite:///{path}", path, str(path))
    scheme, rest = location.split("://", 1)
    shown = re.sub(r"://([^:/@]*):[^/]*@", r"://\1:***@", location)
    if scheme in ("sqlite", "sqlite+pysqlite"):
        name = rest.removeprefix("/").split("?")[0]
        if not name or name == ":memory:":
            raise BenchError(f"results: {shown} is a database in memory; give a file, such as sqlite:///results.db")
        return Location(location, Path(name), name)
    return Location(location, None, shown)


def sqlite_trouble(error: sqlite3.Error, shown: str) -> BenchError | None:
    """The line for the user, or None where the error is the program's own fault."""
    code = getattr(error, "sqlite_errorcode", None)
    advice = None if code is None else ADVICE.get(code & 0xFF)  # the low byte is the primary code
    return BenchError(f"results: {shown}: {advice}") if advice else None


def check_place(path: Path) -> None:
    """Refuse what can never become a store: a folder, or a file in a folder that does not exist. Raises BenchError."""
    try:
        if path.is_dir():
            raise BenchError(f"results: {path} is a folder; give the path of a file")
        if not path.parent.is_dir():
            raise BenchError(f"results: the folder {path.parent} does not exist; create it or give another path")
    except PermissionError:
        raise BenchError(f"results: {path}: {ADVICE[sqlite3.SQLITE_PERM]}") from None
