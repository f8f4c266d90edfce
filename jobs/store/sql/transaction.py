"""A write transaction that reads cells and sweeps, changes their state machines and writes them back.

There is only one writer at a time (see `jobs.store.sql.database`), so no row changes between read and write. As a
safeguard, each update still names the state and epoch that were read, and a mismatch aborts the transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

import sqlalchemy as sa

from jobs.cell import Cell
from jobs.clock import Clock
from jobs.store.cell_state import CellEvent, CellStateMachine
from jobs.store.sql.database import Database, JsonText
from jobs.store.sql.rows import SWEEP_STATE, Row, cell_columns, cell_state_of, sweep_state_columns, sweep_state_of
from jobs.store.sql.tables import cells, events, sweep_cells, sweeps
from jobs.store.sweep_state import CellCounts, SweepStateMachine
from jobs.store.transitions import SWEEP_ACTIVE, CellState

CHUNK = 1000
"""Maximum number of values in one IN condition, and of rows in one insertion."""


def chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split a list into parts that fit into one IN condition."""
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))


def insert(db: sa.Connection, table: sa.Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert rows in chunks, so that no single statement takes seconds."""
    iterator = iter(rows)
    while chunk := list(islice(iterator, CHUNK)):
        db.execute(sa.insert(table), chunk)


def cell_bodies(planned: Sequence[Cell]) -> list[JsonText]:
    """Return the JSON forms of cells. Takes seconds for those of a large sweep, so call it before the transaction."""
    return [JsonText(cell.to_json()) for cell in planned]


@cache
def _update_statement(table: sa.Table, key: tuple[str, ...], names: tuple[str, ...]) -> sa.Update:
    """Return an UPDATE that sets columns to the parameters `new_<name>` where other columns equal `old_<name>`.

    Cached, because building the statement takes longer than running it.
    """
    new = {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in names}
    return sa.update(table).where(*(table.c[name] == sa.bindparam(f"old_{name}") for name in key)).values(**new)


def _update(db: sa.Connection, table: sa.Table, rows: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Update rows, each given by the column values that identify it and by its new values."""
    if not rows:
        return
    key, new = rows[0]
    statement = _update_statement(table, tuple(key), tuple(new))
    values = [
        {f"old_{name}": value for name, value in key.items()} | {f"new_{name}": value for name, value in new.items()}
        for key, new in rows
    ]
    result = db.execute(statement, values)
    assert result.rowcount == len(rows), "a row was changed by another writer, though there is one writer at a time"


class Transaction:
    """The state machines of a transaction, each read once. `write` advances the sweeps and stores all changes."""

    def __init__(self, db: sa.Connection, now: float) -> None:
        self.db = db
        self.now = now
        self._cells: dict[str, CellStateMachine] = {}
        self._original_keys: dict[str, dict[str, Any]] = {}
        self._moved: dict[str, CellStateMachine] = {}
        self._sweep_states: dict[int, SweepStateMachine] = {}
        self._sweeps_of_cell: dict[str, list[int]] = {}

    def cells(self, condition: sa.ColumnElement[bool]) -> list[CellStateMachine]:
        """Return the cells that meet a condition, ordered by id."""
        rows = self.db.execute(sa.select(cells).where(condition).order_by(cells.c.id)).mappings()
        return [self._state_machine(row) for row in rows]

    def cells_by_id(self, ids: Sequence[str]) -> list[CellStateMachine]:
        """Return cells in the order of `ids`; unknown ids are left out."""
        new = [cell_id for cell_id in dict.fromkeys(ids) if cell_id not in self._cells]
        for chunk in chunks(new):
            self.cells(cells.c.id.in_(chunk))
        return [self._cells[cell_id] for cell_id in ids if cell_id in self._cells]

    def sweep_state(self, row: Row) -> SweepStateMachine:
        """Return the state machine of a sweep, given a row with at least the columns SWEEP_STATE."""
        return self._sweep_states.setdefault(row["seq"], sweep_state_of(row))

    def sweep_state_at(self, seq: int) -> SweepStateMachine:
        """Return the state machine of a sweep that this transaction has read."""
        return self._sweep_states[seq]

    def sweep_states_of(self, moving: Iterable[CellStateMachine]) -> dict[str, list[SweepStateMachine]]:
        """Return the state machines of the active sweeps that need each cell, oldest first, by cell id."""
        ids = [state.cell.id for state in moving]
        for chunk in chunks([cell_id for cell_id in dict.fromkeys(ids) if cell_id not in self._sweeps_of_cell]):
            self._read_sweeps(chunk)
        return {cell_id: [self._sweep_states[seq] for seq in self._sweeps_of_cell[cell_id]] for cell_id in ids}

    def move(self, moving: Sequence[CellStateMachine], change: Callable[[CellStateMachine], CellEvent | None]) -> None:
        """Apply a change to cells, and update every sweep that needs them."""
        sweep_states = self.sweep_states_of(moving)
        for state in moving:
            before, event = state.counts, change(state)
            kind, data = event or (None, {})
            self._moved[state.cell.id] = state
            for sweep_state in sweep_states[state.cell.id]:
                sweep_state.cell_moved(before, state.counts, kind, self.now, cell_id=state.cell.id, **data)

    def store_cells(self, requested: Sequence[Cell], bodies: Sequence[JsonText]) -> list[CellStateMachine]:
        """Insert the cells that are new and reset those that have failed; return the cells that were known.

        Args:
            requested: The cells.
            bodies: Their JSON forms (`cell_bodies`).
        """
        existing = self.cells_by_id([cell.id for cell in requested])
        self.move([cell for cell in existing if cell.has_failed], lambda cell: cell.reset(None))
        existing_by_id = {cell.cell.id: cell for cell in existing}
        for cell in requested:
            state = existing_by_id.get(cell.id)
            if state and state.state is CellState.PENDING and state.cell.model != cell.model:
                self._rename(state, cell)
        initial = cell_columns(CellStateMachine(cell=requested[0])) if requested else {}
        new_rows = (
            {"id": cell.id, "body": body, "model": cell.model, **initial}
            for cell, body in zip(requested, bodies, strict=True)
            if cell.id not in existing_by_id
        )
        insert(self.db, cells, new_rows)
        return existing

    def name_model(self, state: CellStateMachine, model: str) -> None:
        """Call the model of a pending cell `model`; servers may offer the same model under different names."""
        if state.cell.model != model:
            self._rename(state, replace(state.cell, model=model))

    def cell_counts(self, seq: int) -> list[CellCounts]:
        """Return what each cell of a sweep contributes to its counts."""
        query = sa.select(cells.c.state, cells.c.samples, cells.c.failed_samples).join(sweep_cells)
        rows = self.db.execute(query.where(sweep_cells.c.sweep_seq == seq))
        return [
            CellCounts(state=CellState(state), samples=samples, failed_samples=failed)
            for state, samples, failed in rows
        ]

    def write(self) -> None:
        """Advance the sweeps that were read, and write all changes and events."""
        moved = [(self._original_keys[cell_id], cell_columns(state)) for cell_id, state in self._moved.items()]
        _update(self.db, cells, moved)
        sweep_states = sorted(self._sweep_states.items())
        for _, sweep_state in sweep_states:
            sweep_state.advance(self.now)
        _update(
            self.db, sweeps, [({"seq": seq}, sweep_state_columns(sweep_state)) for seq, sweep_state in sweep_states]
        )
        pending_events = [
            {"sweep_seq": seq, "id": event.id, "type": event.type, "data": event.data, "created_at": event.created_at}
            for seq, sweep_state in sweep_states
            for event in sweep_state.pending_events
        ]
        if pending_events:
            self.db.execute(sa.insert(events), pending_events)

    def _rename(self, state: CellStateMachine, renamed: Cell) -> None:
        state.cell = renamed
        values = {"model": renamed.model, "body": renamed.to_dict()}
        self.db.execute(sa.update(cells).where(cells.c.id == renamed.id).values(**values))

    def _state_machine(self, row: Row) -> CellStateMachine:
        if row["id"] not in self._cells:
            self._cells[row["id"]] = cell_state_of(row)
            self._original_keys[row["id"]] = {name: row[name] for name in ("id", "state", "epoch")}
        return self._cells[row["id"]]

    def _read_sweeps(self, ids: Sequence[str]) -> None:
        active = sweeps.c.state.in_(SWEEP_ACTIVE)
        query = sa.select(sweep_cells.c.cell_id, sweeps.c.seq).join(sweeps)
        sweeps_of_cell: dict[str, list[int]] = defaultdict(list)
        for cell_id, seq in self.db.execute(query.where(sweep_cells.c.cell_id.in_(ids), active)):
            sweeps_of_cell[cell_id].append(seq)
        self._sweeps_of_cell |= {cell_id: sorted(sweeps_of_cell[cell_id]) for cell_id in ids}
        new = {seq for seqs in sweeps_of_cell.values() for seq in seqs} - set(self._sweep_states)
        if new:
            for row in self.db.execute(sa.select(*SWEEP_STATE).where(sweeps.c.seq.in_(new))).mappings():
                self.sweep_state(row)


@contextmanager
def write_transaction(database: Database, clock: Clock) -> Iterator[Transaction]:
    """Yield a transaction, whose changes a clean exit writes and commits."""
    with database.writing() as db:
        transaction = Transaction(db, clock.now())
        yield transaction
        transaction.write()
