"""Cells and sweeps count their failed samples; a cell keeps the reason of the first one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. How many samples of the cells known already failed was not counted; they begin at none."""
    op.add_column("sweeps", sa.Column("failed_samples", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("cells", sa.Column("failed_samples", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("cells", sa.Column("sample_error", sa.Text()))
