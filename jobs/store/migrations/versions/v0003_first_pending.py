"""Sweeps remember from where on cells can be leased, so that none of a long plan is looked through again and again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Begin every plan at its first cell."""
    op.add_column("sweeps", sa.Column("first_pending", sa.Integer(), nullable=False, server_default="0"))
