"""The position of each sweep's first pending cell, so that a long plan is not searched again and again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; every plan begins at its first cell."""
    op.add_column("sweeps", sa.Column("first_pending", sa.Integer(), nullable=False, server_default="0"))
