"""The lease of a finalizing sweep, held by the server that assembles its results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns of the lease; no sweep is leased."""
    op.add_column("sweeps", sa.Column("finalizer", sa.String()))
    op.add_column("sweeps", sa.Column("finalizer_epoch", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("sweeps", sa.Column("finalizer_expires_at", sa.Float()))
