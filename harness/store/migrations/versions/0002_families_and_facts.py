"""Families of cells, what an attack may see, facts of a cell, and what is measured only sometimes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CELLS = {"family": "", "access": "", "facts": "{}"}
OUTCOMES: dict[str, type[sa.Double[float]] | type[sa.BigInteger]] = {
    "l1": sa.Double,
    "zero_gradients": sa.Double,
    "quantised_prediction": sa.BigInteger,
    "target": sa.BigInteger,
    "proposal_prediction": sa.BigInteger,
}

# Columns are added and dropped in place. Batch mode would build the table anew, and dropping the old one would take
# every outcome, score and reason with it.


def upgrade() -> None:
    for name, default in CELLS.items():
        op.add_column("cells", sa.Column(name, sa.Text(), nullable=False, server_default=default))
    op.create_index("ix_cells_family", "cells", ["family"])
    for name, kind in OUTCOMES.items():
        op.add_column("outcomes", sa.Column(name, kind(), nullable=True))


def downgrade() -> None:
    for name in OUTCOMES:
        op.drop_column("outcomes", name)
    op.drop_index("ix_cells_family", "cells")
    for name in CELLS:
        op.drop_column("cells", name)
