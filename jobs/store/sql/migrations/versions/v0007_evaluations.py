"""Evaluations of sweeps, which servers lease, and the ratings of their judges."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "evaluations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("sweep_seq", sa.Integer(), nullable=False),
        sa.Column("samples", sa.String(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("judge", sa.String()),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("expirations", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String()),
        sa.Column("available_at", sa.Float()),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float()),
        sa.Column("ended_at", sa.Float()),
        sa.Column("error", sa.Text()),
        sa.Column("groups", sa.JSON()),
        sa.Column("left_out", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
        sa.ForeignKeyConstraint(["sweep_seq"], ["sweeps.seq"], name="fk_evaluations_sweep_seq"),
    )
    op.create_index("ix_evaluations_sweep_seq", "evaluations", ["sweep_seq"])
    op.create_index("ix_evaluations_state", "evaluations", ["state"])
    op.create_table(
        "ratings",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("judge", sa.String(), nullable=False),
        sa.Column("score", sa.Integer()),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_ratings"),
    )
