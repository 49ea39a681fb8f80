"""The tables, as SQLAlchemy Core. Reading goes through ``queries.py``; a change here needs a migration.

JSON is kept as text, so that both doors see the same strings; times are ISO 8601 text in UTC.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Double, ForeignKey, Index, Integer, MetaData, Table, Text

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

CELL_STATUS = "status IN ('ok', 'failed', 'skipped', 'interrupted')"
VERDICT = "verdict IN ('ok', 'suspect', 'invalid')"


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _text_with_default(name: str, default: str) -> Column[str]:
    """For columns that older stores lack: their rows get the default."""
    return Column(name, Text, nullable=False, server_default=default)


def _number(name: str) -> Column[float]:
    return Column(name, Double, nullable=False)


def _cell_key() -> Column[str]:
    return Column("cell_key", Text, ForeignKey("cells.key", ondelete="CASCADE"), primary_key=True)


runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    _text("started"),
    Column("finished", Text),
    _text("status"),
    _text("command"),
    _text("profile"),
    _text("device"),
    _text("git_revision"),
    _text("versions"),
    _text("hardware"),
    _text("seeds"),
    _text("settings"),
    Column("pid", Integer, nullable=False),
    _text("host"),
    CheckConstraint("status IN ('running', 'ok', 'failed', 'interrupted')", name="status"),
)

# Long JSON stands last in a row, so that reading the short columns does not walk through it.
steps = Table(
    "steps",
    metadata,
    Column("key", Text, primary_key=True),
    _text("kind"),
    _text("label"),
    _text("status"),
    Column("reason", Text),
    _number("seconds"),
    _number("passes"),
    _text("device"),
    Column("run_id", Text, ForeignKey("runs.id"), nullable=False),
    _text("created"),
    _text("document"),
    _text("history"),
    CheckConstraint(CELL_STATUS, name="status"),
    Index("ix_steps_rate", "kind", "label", "device", "created"),
)

cells = Table(
    "cells",
    metadata,
    Column("key", Text, primary_key=True),
    Column("run_id", Text, ForeignKey("runs.id"), nullable=False),
    _text("status"),
    Column("reason", Text),
    _text("verdict"),
    Column("n", Integer, nullable=False),
    _number("seconds"),
    _number("passes"),
    _text("device"),
    _text("subject"),
    _text("attack"),
    Column("norm", Text),
    Column("eps", Double),
    Column("proposal_low", Double),
    Column("proposal_high", Double),
    _text("stronger_than"),
    _text("notes"),
    _text("created"),
    _text("document"),
    _text_with_default("family", ""),
    _text_with_default("access", ""),
    _text_with_default("facts", "{}"),
    CheckConstraint(CELL_STATUS, name="status"),
    CheckConstraint(VERDICT, name="verdict"),
    Index("ix_cells_subject", "subject"),
    Index("ix_cells_family", "family"),
    Index("ix_cells_run_id", "run_id"),
)

# No foreign key to cells: a run labels all its cells at its start, before the first of them exists.
run_cells = Table(
    "run_cells",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    _text("cell_key"),
    _text("profile"),
    _text("dataset"),
    _text("model"),
    _text("defense"),
    _text("attack"),
    Column("norm", Text),
    Column("eps", Double),
    Column("seed", BigInteger, nullable=False),
    Index("ix_run_cells_cell_key", "cell_key"),
    Index("ix_run_cells_coordinate", "profile", "dataset", "model", "defense", "attack", "norm", "eps", "seed"),
    sqlite_with_rowid=False,
)

scores = Table(
    "scores",
    metadata,
    _cell_key(),
    Column("metric", Text, primary_key=True),
    _text("metric_key"),
    Column("value", Double),
    Column("low", Double),
    Column("high", Double),
    Column("n", Integer, nullable=False),
    _text("unit"),
    _text_with_default("reason", ""),
    sqlite_with_rowid=False,
)

# The floats may be NaN, which SQLite keeps as NULL. The columns from l1 on are NULL for a whole cell in which they were
# not measured. Without row ids the key is not stored a second time: this is by far the largest table.
outcomes = Table(
    "outcomes",
    metadata,
    _cell_key(),
    Column("sample_id", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, nullable=False),
    Column("label", BigInteger, nullable=False),
    Column("clean_prediction", BigInteger, nullable=False),
    Column("prediction", BigInteger, nullable=False),
    Column("linf", Double),
    Column("l2", Double),
    Column("forwards", Double),
    Column("backwards", Double),
    Column("proposal_size", Double),
    Column("l1", Double),
    Column("zero_gradients", Double),
    Column("quantised_prediction", BigInteger),
    Column("target", BigInteger),
    Column("proposal_prediction", BigInteger),
    Column("confidence", Double),
    Column("label_rank", BigInteger),
    sqlite_with_rowid=False,
)

# What came of images that a sentence is asked of. NULL: not measured. References are the data set's; what they decide
# of each image is kept, so that cells can be compared without the data.
captions = Table(
    "captions",
    metadata,
    _cell_key(),
    Column("sample_id", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, nullable=False),
    _text("clean_caption"),
    _text("caption"),
    Column("loss", Double),
    Column("linf", Double),
    Column("l2", Double),
    Column("forwards", Double),
    Column("backwards", Double),
    Column("proposal_size", Double),
    Column("l1", Double),
    Column("named", BigInteger),
    Column("pointed", BigInteger),
    Column("covered", Double),
    Column("target", Text),
    Column("bleu_counts", Text),
    sqlite_with_rowid=False,
)

reasons = Table(
    "reasons",
    metadata,
    _cell_key(),
    Column("scope", Text, primary_key=True),
    Column("position", Integer, primary_key=True),
    _text("code"),
    _text("verdict"),
    _text("text"),
    CheckConstraint("scope IN ('own', 'siblings')", name="scope"),
    CheckConstraint(VERDICT, name="verdict"),
    sqlite_with_rowid=False,
)
