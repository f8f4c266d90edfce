"""The tags of sweeps, and the time at which a sweep was deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the table. Existing sweeps have no tags, and none is deleted."""
    op.add_column("sweeps", sa.Column("deleted_at", sa.Float()))
    op.create_table(
        "sweep_tags",
        sa.Column("sweep_seq", sa.Integer(), nullable=False),
        sa.Column("tag", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sweep_seq", "tag", name="pk_sweep_tags"),
        sa.ForeignKeyConstraint(["sweep_seq"], ["sweeps.seq"], name="fk_sweep_tags_sweep_seq"),
    )
    op.create_index("ix_sweep_tags_tag", "sweep_tags", ["tag"])
