"""Cells whose model answers with a sentence: what it said of each image, and of what the attack made of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NUMBERS = ("loss", "linf", "l2", "forwards", "backwards", "proposal_size", "l1")


def upgrade() -> None:
    op.create_table(
        "captions",
        sa.Column("cell_key", sa.Text(), nullable=False),
        sa.Column("sample_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("clean_caption", sa.Text(), nullable=False),
        sa.Column("caption", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=True) for name in NUMBERS),
        sa.Column("named", sa.BigInteger(), nullable=True),
        sa.Column("pointed", sa.BigInteger(), nullable=True),
        sa.Column("covered", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["cell_key"], ["cells.key"], name="fk_captions_cell_key", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("cell_key", "sample_id", name="pk_captions"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("captions")
