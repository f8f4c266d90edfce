"""Cells and sweeps of one write transaction: read, changed and written back together.

There is only one writer at a time (see `jobs.store.database`), so no row changes between read and write. Each write
nevertheless names the state and epoch that were read; a mismatch ends the transaction with an error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from jobs.store.cell_state import CellEvent, CellStateMachine
from jobs.store.rows import SWEEP_STATE, Row, cell_columns, cell_state_of, sweep_state_columns, sweep_state_of
from jobs.store.sweep_state import CellCounts, SweepStateMachine
from jobs.store.tables import cells, events, sweep_cells, sweeps
from jobs.store.transitions import SWEEP_ACTIVE, CellState

CHUNK = 1000
"""Values in one condition, at most."""


def chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut a list into pieces that a condition can hold."""
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))


@cache
def _rewriting(table: sa.Table, same: tuple[str, ...], names: tuple[str, ...]) -> sa.Update:
    """Return the statement that gives columns their values `new_<name>` in the row whose others are `old_<name>`.

    It is made once: to put it together takes longer than to run it.
    """
    new = {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in names}
    return sa.update(table).where(*(table.c[name] == sa.bindparam(f"old_{name}") for name in same)).values(**new)


def _rewrite(db: sa.Connection, table: sa.Table, rows: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Write rows anew, each given by what it was found as and by its new values."""
    if not rows:
        return
    found, new = rows[0]
    statement = _rewriting(table, tuple(found), tuple(new))
    values = [
        {f"old_{name}": value for name, value in found.items()} | {f"new_{name}": value for name, value in new.items()}
        for found, new in rows
    ]
    done = db.execute(statement, values)
    assert done.rowcount == len(rows), "a row was changed by somebody else, though there is one writer at a time"


class Transaction:
    """State machines of cells and sweeps, each read once; `write` advances the sweeps and writes what has changed."""

    def __init__(self, db: sa.Connection, now: float) -> None:
        self.db = db
        self.now = now
        self._cells: dict[str, CellStateMachine] = {}
        self._read_as: dict[str, dict[str, Any]] = {}
        self._moved: dict[str, CellStateMachine] = {}
        self._sweep_states: dict[int, SweepStateMachine] = {}
        self._linked: dict[str, list[int]] = {}

    def cells(self, condition: sa.ColumnElement[bool], *, limit: int | None = None) -> list[CellStateMachine]:
        """Read the cells that meet a condition, the first `limit` by id."""
        rows = self.db.execute(sa.select(cells).where(condition).order_by(cells.c.id).limit(limit)).mappings()
        return [self._opened(row) for row in rows]

    def cells_by_id(self, ids: Sequence[str]) -> list[CellStateMachine]:
        """Read cells, in the order of `ids`; those unknown are left out."""
        new = [cell_id for cell_id in dict.fromkeys(ids) if cell_id not in self._cells]
        for some in chunks(new):
            self.cells(cells.c.id.in_(some))
        return [self._cells[cell_id] for cell_id in ids if cell_id in self._cells]

    def sweep_state(self, row: Row) -> SweepStateMachine:
        """Return the state machine of a sweep; `row` has at least the columns SWEEP_STATE."""
        return self._sweep_states.setdefault(row["seq"], sweep_state_of(row))

    def sweep_state_at(self, seq: int) -> SweepStateMachine:
        """Return the state machine of a sweep that was read before."""
        return self._sweep_states[seq]

    def sweep_states_of(self, moving: Iterable[CellStateMachine]) -> dict[str, list[SweepStateMachine]]:
        """Return for each cell the state machines of the active sweeps that need it, the oldest first."""
        ids = [state.cell.id for state in moving]
        for some in chunks([cell_id for cell_id in dict.fromkeys(ids) if cell_id not in self._linked]):
            self._link(some)
        return {cell_id: [self._sweep_states[seq] for seq in self._linked[cell_id]] for cell_id in ids}

    def move(self, moving: Sequence[CellStateMachine], change: Callable[[CellStateMachine], CellEvent | None]) -> None:
        """Change the state of cells, and update every sweep that needs them."""
        sweep_states = self.sweep_states_of(moving)
        for state in moving:
            before, event = state.counts, change(state)
            kind, data = event or (None, {})
            self._moved[state.cell.id] = state
            for sweep_state in sweep_states[state.cell.id]:
                sweep_state.cell_moved(before, state.counts, kind, self.now, cell_id=state.cell.id, **data)

    def cell_counts(self, seq: int) -> list[CellCounts]:
        """Return how all cells of a sweep stand."""
        query = sa.select(cells.c.state, cells.c.samples, cells.c.failed_samples).join(sweep_cells)
        rows = self.db.execute(query.where(sweep_cells.c.sweep_seq == seq))
        return [
            CellCounts(state=CellState(state), samples=samples, failed_samples=failed)
            for state, samples, failed in rows
        ]

    def write(self) -> None:
        """Advance the sweeps that were read, and write everything that has changed."""
        moved = [(self._read_as[cell_id], cell_columns(state)) for cell_id, state in self._moved.items()]
        _rewrite(self.db, cells, moved)
        sweep_states = sorted(self._sweep_states.items())
        for _, sweep_state in sweep_states:
            sweep_state.advance(self.now)
        _rewrite(
            self.db, sweeps, [({"seq": seq}, sweep_state_columns(sweep_state)) for seq, sweep_state in sweep_states]
        )
        pending_events = [
            {"sweep_seq": seq, "id": event.id, "type": event.type, "data": event.data, "created_at": event.created_at}
            for seq, sweep_state in sweep_states
            for event in sweep_state.pending_events
        ]
        if pending_events:
            self.db.execute(sa.insert(events), pending_events)

    def _opened(self, row: Row) -> CellStateMachine:
        if row["id"] not in self._cells:
            self._cells[row["id"]] = cell_state_of(row)
            self._read_as[row["id"]] = {name: row[name] for name in ("id", "state", "epoch")}
        return self._cells[row["id"]]

    def _link(self, ids: Sequence[str]) -> None:
        active = sweeps.c.state.in_(SWEEP_ACTIVE)
        query = sa.select(sweep_cells.c.cell_id, sweeps.c.seq).join(sweeps)
        found: dict[str, list[int]] = defaultdict(list)
        for cell_id, seq in self.db.execute(query.where(sweep_cells.c.cell_id.in_(ids), active)):
            found[cell_id].append(seq)
        self._linked |= {cell_id: sorted(found[cell_id]) for cell_id in ids}
        new = {seq for seqs in found.values() for seq in seqs} - set(self._sweep_states)
        if new:
            for row in self.db.execute(sa.select(*SWEEP_STATE).where(sweeps.c.seq.in_(new))).mappings():
                self.sweep_state(row)
