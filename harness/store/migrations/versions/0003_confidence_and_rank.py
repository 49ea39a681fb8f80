"""How sure the model is of each answer, and where the true class stands among its logits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outcomes", sa.Column("confidence", sa.Double(), nullable=True))
    op.add_column("outcomes", sa.Column("label_rank", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("outcomes", "label_rank")
    op.drop_column("outcomes", "confidence")
