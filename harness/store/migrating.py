"""Bring a store to the newest schema. Imports alembic (about a second), so only when there is something to do.

To add a revision: change ``schema.py``, then ``python -m harness.store.migrating 0003 "what changes"``, read the file
it wrote, and append ``"0003"`` to ``REVISIONS``.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine

from harness.store.revisions import HEAD, open_sqlite


def configuration(connection: Connection) -> Config:
    """Alembic's settings for an open connection; there is no ``alembic.ini``."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection, revision: str = HEAD) -> None:
    """Migrate inside the transaction that ``connection`` is in: all of it or nothing."""
    command.upgrade(configuration(connection), revision)


def back_up(path: Path, revision: str) -> Path:
    """Copy a SQLite store, changes still in its WAL included, to ``<name>.bak-<revision>``. Raises sqlite3.Error."""
    target = path.with_name(f"{path.name}.bak-{revision}")
    unfinished = target.with_name(target.name + ".part")
    with closing(open_sqlite(path)) as source, closing(sqlite3.connect(unfinished)) as copy:
        source.backup(copy)
    os.replace(unfinished, target)
    return target


def write_revision(revision: str, message: str) -> None:
    """Write the migration from the newest revision to what ``schema.py`` says now, for a person to read and correct."""
    with create_engine("sqlite://").begin() as connection:
        upgrade(connection)
        command.revision(configuration(connection), message, autogenerate=True, rev_id=revision)


if __name__ == "__main__":
    write_revision(*sys.argv[1:3])
