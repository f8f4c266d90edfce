"""The number of failed samples of cells and sweeps, and the reason of a cell's first one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. Failed samples of existing cells were not counted; their number starts at 0."""
    op.add_column("sweeps", sa.Column("failed_samples", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("cells", sa.Column("failed_samples", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("cells", sa.Column("sample_error", sa.Text()))
