"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

CELL_STATUS = "status IN ('ok', 'failed', 'skipped', 'interrupted')"
VERDICT = "verdict IN ('ok', 'suspect', 'invalid')"


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _double(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _big(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=f"pk_{table}")


def _run(table: str, ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=f"fk_{table}_run_id", ondelete=ondelete)


def _cell(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["cell_key"], ["cells.key"], name=f"fk_{table}_cell_key", ondelete="CASCADE")


def _check(table: str, name: str, condition: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(condition, name=op.f(f"ck_{table}_{name}"))


def upgrade() -> None:
    _create_runs_and_steps()
    _create_cells()
    _create_parts_of_cells()


def _create_runs_and_steps() -> None:
    op.create_table(
        "runs",
        _text("id"),
        _text("started"),
        _text("finished", nullable=True),
        *(_text(name) for name in ("status", "command", "profile", "device", "git_revision")),
        *(_text(name) for name in ("versions", "hardware", "seeds", "settings")),
        _integer("pid"),
        _text("host"),
        _key("runs", "id"),
        _check("runs", "status", "status IN ('running', 'ok', 'failed', 'interrupted')"),
    )
    op.create_table(
        "steps",
        *(_text(name) for name in ("key", "kind", "label", "status")),
        _text("reason", nullable=True),
        _double("seconds"),
        _double("passes"),
        *(_text(name) for name in ("device", "run_id", "created", "document", "history")),
        _key("steps", "key"),
        _run("steps"),
        _check("steps", "status", CELL_STATUS),
    )
    op.create_index("ix_steps_rate", "steps", ["kind", "label", "device", "created"])


def _create_cells() -> None:
    op.create_table(
        "cells",
        *(_text(name) for name in ("key", "run_id", "status")),
        _text("reason", nullable=True),
        _text("verdict"),
        _integer("n"),
        _double("seconds"),
        _double("passes"),
        *(_text(name) for name in ("device", "subject", "attack")),
        _text("norm", nullable=True),
        *(_double(name, nullable=True) for name in ("eps", "proposal_low", "proposal_high")),
        *(_text(name) for name in ("stronger_than", "notes", "created", "document")),
        _key("cells", "key"),
        _run("cells"),
        _check("cells", "status", CELL_STATUS),
        _check("cells", "verdict", VERDICT),
    )
    op.create_index("ix_cells_subject", "cells", ["subject"])
    op.create_index("ix_cells_run_id", "cells", ["run_id"])
    op.create_table(
        "run_cells",
        _text("run_id"),
        _integer("position"),
        *(_text(name) for name in ("cell_key", "profile", "dataset", "model", "defense", "attack")),
        _text("norm", nullable=True),
        _double("eps", nullable=True),
        _big("seed"),
        _key("run_cells", "run_id", "position"),
        _run("run_cells", "CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_run_cells_cell_key", "run_cells", ["cell_key"])
    coordinate = ["profile", "dataset", "model", "defense", "attack", "norm", "eps", "seed"]
    op.create_index("ix_run_cells_coordinate", "run_cells", coordinate)


def _create_parts_of_cells() -> None:
    op.create_table(
        "scores",
        *(_text(name) for name in ("cell_key", "metric", "metric_key")),
        _double("value", nullable=True),
        _double("low", nullable=True),
        _double("high", nullable=True),
        _integer("n"),
        _text("unit"),
        _key("scores", "cell_key", "metric"),
        _cell("scores"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outcomes",
        _text("cell_key"),
        _big("sample_id"),
        _integer("position"),
        *(_big(name) for name in ("label", "clean_prediction", "prediction")),
        *(_double(name, nullable=True) for name in ("linf", "l2", "forwards", "backwards", "proposal_size")),
        _key("outcomes", "cell_key", "sample_id"),
        _cell("outcomes"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reasons",
        *(_text(name) for name in ("cell_key", "scope")),
        _integer("position"),
        *(_text(name) for name in ("code", "verdict", "text")),
        _key("reasons", "cell_key", "scope", "position"),
        _cell("reasons"),
        _check("reasons", "scope", "scope IN ('own', 'siblings')"),
        _check("reasons", "verdict", VERDICT),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    for table in ("reasons", "outcomes", "scores", "run_cells", "cells", "steps", "runs"):
        op.drop_table(table)
