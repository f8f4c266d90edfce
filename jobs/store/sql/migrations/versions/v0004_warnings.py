"""The warnings of each sweep's plan."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; existing sweeps have no warnings."""
    op.add_column("sweeps", sa.Column("warnings", sa.JSON(), nullable=False, server_default="[]"))
