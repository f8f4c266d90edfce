"""Statistics of the SQL store, counted by the database."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from jobs.store.records import StoreStats
from jobs.store.tables import cells, sweeps
from jobs.store.transitions import CellState, SweepState


def collect_stats(db: sa.Connection) -> StoreStats:
    """Count sweeps, cells and leases; the cells by an index that has their states."""
    at = sweeps.c
    waits = sa.and_(at.state == SweepState.IN_PROGRESS, at.total > at.completed + at.failed + at.leased)
    served = sa.case((at.served_at > at.created_at, at.served_at), else_=at.created_at)
    oldest, unserved = db.execute(sa.select(sa.func.min(at.created_at), sa.func.min(served)).where(waits)).one()
    asked, reused = db.execute(sa.select(sa.func.sum(at.total), sa.func.sum(at.reused))).one()
    leased = cells.c.state == CellState.LEASED
    return StoreStats(
        sweeps=_counted(db, sa.select(at.state, sa.func.count()).group_by(at.state)),
        cells=_counted(db, sa.select(cells.c.state, sa.func.count()).group_by(cells.c.state)),
        leases=_counted(db, sa.select(cells.c.owner, sa.func.count()).where(leased).group_by(cells.c.owner)),
        cells_asked=int(asked or 0),
        cells_reused=int(reused or 0),
        oldest_waiting=oldest,
        longest_unserved=unserved,
    )


def _counted(db: sa.Connection, query: sa.Select[Any]) -> dict[str, int]:
    return {row[0]: row[1] for row in db.execute(query)}
