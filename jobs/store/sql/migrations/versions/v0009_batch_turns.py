"""When each batch was last leased, by which users and batches take turns."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Batches that were leased before count as never leased."""
    op.add_column("batches", sa.Column("leased_at", sa.Float()))
