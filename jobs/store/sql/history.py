"""What the store says about cells that were computed before: which there are, and how fast sweeps were."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from jobs.store.sql.database import Database
from jobs.store.sql.tables import cells, events, sweep_cells, sweeps
from jobs.store.sql.transaction import chunks
from jobs.store.transitions import CellState, SweepState

RECENT_SWEEPS = 10
"""How many of a model's last sweeps a rate is taken from."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast items were computed in earlier sweeps: `items` of `sweeps` sweeps in `seconds`."""

    items: int
    seconds: float
    sweeps: int

    @property
    def items_per_second(self) -> float:
        """The rate."""
        return self.items / self.seconds


class History:
    """Reads the cells and events of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def completed(self, cell_ids: Sequence[str]) -> set[str]:
        """Return those cells that a new sweep would not compute again."""
        has_answer = sa.or_(cells.c.samples == 0, cells.c.failed_samples < cells.c.samples)
        known: set[str] = set()
        with self._database.reading() as db:
            for chunk in chunks(cell_ids):
                query = sa.select(cells.c.id).where(
                    cells.c.id.in_(chunk), cells.c.state == CellState.COMPLETED, has_answer
                )
                known.update(db.execute(query).scalars())
        return known

    def rate(self, model: str, *, engine: str, dtype: str, tasks: Collection[str]) -> Rate | None:
        """Return the rate of the last sweeps of a model that have at least one of the tasks.

        It is measured between the first and the last cell that a sweep completed, so that neither the identification
        of neurons nor the start of an engine counts.

        Returns:
            The rate over the sweeps together; None if there are none on such an engine.
        """
        total, seconds, count = 0, 0.0, 0
        recent = (
            sa.select(sweeps.c.seq, sweeps.c.spec)
            .where(sweeps.c.model == model, sweeps.c.state == SweepState.COMPLETED, sweeps.c.deleted_at.is_(None))
            .order_by(sweeps.c.seq.desc())
            .limit(RECENT_SWEEPS)
        )
        with self._database.reading() as db:
            for seq, spec in db.execute(recent).all():
                if not {task["name"] for task in spec.get("tasks", ())} & set(tasks):
                    continue
                body = db.execute(_FIRST_CELL, {"seq": seq}).scalar()
                if body is None or (body["engine"], body["dtype"]) != (engine, dtype):
                    continue
                ends = [db.execute(query, {"seq": seq}).first() for query in (_FIRST_END, _LAST_END)]
                (first, began), (last, ended) = ((row[0]["samples"], row[1]) if row else (0, 0.0) for row in ends)
                if ended > began:
                    total, seconds, count = total + last - first, seconds + ended - began, count + 1
        return Rate(items=total, seconds=seconds, sweeps=count) if total > 0 else None


_ENDS = sa.select(events.c.data, events.c.created_at).where(
    events.c.sweep_seq == sa.bindparam("seq"), events.c.type == "cell.completed"
)
_FIRST_END, _LAST_END = _ENDS.order_by(events.c.id).limit(1), _ENDS.order_by(events.c.id.desc()).limit(1)
_FIRST_CELL = (
    sa.select(cells.c.body)
    .join_from(sweep_cells, cells)
    .where(sweep_cells.c.sweep_seq == sa.bindparam("seq"))
    .order_by(sweep_cells.c.position)
    .limit(1)
)
