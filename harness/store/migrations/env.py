"""Alembic's entry: runs the migrations on the connection, and in the transaction, that ``migrating.py`` hands over."""

from __future__ import annotations

from alembic import context

from harness.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by building it anew
    transactional_ddl=True,  # SQLite can, once the driver's own transactions are off
)
with context.begin_transaction():
    context.run_migrations()
