"""Sweeps, cells, their links, events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "sweeps",
        sa.Column("seq", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("idempotency_key", sa.String()),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("reused", sa.Integer(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float()),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("seq", name="pk_sweeps"),
        sa.UniqueConstraint("id", name="uq_sweeps_id"),
        sa.UniqueConstraint("idempotency_key", name="uq_sweeps_idempotency_key"),
    )
    op.create_index("ix_sweeps_state", "sweeps", ["state"])
    op.create_table(
        "cells",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String()),
        sa.Column("expires_at", sa.Float()),
        sa.Column("error", sa.Text()),
        sa.Column("file", sa.String()),
        sa.Column("rows", sa.Integer()),
        sa.Column("sha256", sa.String()),
        sa.PrimaryKeyConstraint("id", name="pk_cells"),
    )
    op.create_index("ix_cells_state", "cells", ["state"])
    op.create_table(
        "sweep_cells",
        sa.Column("sweep_seq", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("cell_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sweep_seq", "position", name="pk_sweep_cells"),
        sa.ForeignKeyConstraint(["sweep_seq"], ["sweeps.seq"], name="fk_sweep_cells_sweep_seq"),
        sa.ForeignKeyConstraint(["cell_id"], ["cells.id"], name="fk_sweep_cells_cell_id"),
    )
    op.create_index("ix_sweep_cells_cell_id", "sweep_cells", ["cell_id"])
    op.create_table(
        "events",
        sa.Column("sweep_seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("sweep_seq", "id", name="pk_events"),
        sa.ForeignKeyConstraint(["sweep_seq"], ["sweeps.seq"], name="fk_events_sweep_seq"),
    )
