"""A finalizing sweep is leased to the server that puts its results together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the lease; nobody has one yet."""
    op.add_column("sweeps", sa.Column("finalizer", sa.String()))
    op.add_column("sweeps", sa.Column("finalizer_epoch", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("sweeps", sa.Column("finalizer_expires_at", sa.Float()))
