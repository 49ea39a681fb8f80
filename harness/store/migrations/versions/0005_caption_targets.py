"""What a targeted attack wanted of each image, and what its caption is worth, so that captioners can be compared."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("captions", sa.Column("target", sa.Text(), nullable=True))
    op.add_column("captions", sa.Column("bleu_counts", sa.Text(), nullable=True))


def downgrade() -> None:
    for name in ("bleu_counts", "target"):
        op.drop_column("captions", name)
