"""Owners and priorities of sweeps; progress, quarantine and expirations of cells; published files by name and hash."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_COLUMNS = {
    "sweeps": (
        sa.Column("owner", sa.String(), nullable=False, server_default=""),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("model", sa.String(), nullable=False, server_default=""),
        sa.Column("leased", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("samples", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("served_at", sa.Float(), nullable=False, server_default="0"),
        sa.Column("expired_at", sa.Float()),
        sa.Column("files", sa.JSON()),
    ),
    "cells": (
        sa.Column("suspect", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("lapses", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("samples", sa.Integer(), nullable=False, server_default="0"),
    ),
}


def upgrade() -> None:
    """Add the columns. The files of sweeps that have ended are assembled again when they are requested."""
    for table, columns in _COLUMNS.items():
        for column in columns:
            op.add_column(table, column)
    op.drop_index("ix_cells_state", "cells")
    op.create_index("ix_cells_state_suspect", "cells", ["state", "suspect"])
    op.execute("UPDATE cells SET samples = rows WHERE state = 'completed'")
    op.execute("""
        UPDATE sweeps SET (leased, samples, model) = (
            SELECT count(CASE WHEN cells.state = 'leased' THEN 1 END), coalesce(sum(cells.samples), 0),
                coalesce(min(cells.model), '')
            FROM cells JOIN sweep_cells ON cell_id = cells.id WHERE sweep_seq = sweeps.seq)
    """)
