"""Leases and epochs under any order of events: the SQL store and its twin never differ, and no cell is done twice."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ampsweep.errors import AmpsweepError
from jobs.store.memory import MemoryStore
from jobs.store.protocol import Store
from jobs.store.records import CellFile, Lease
from jobs.store.states import CellState, SweepState
from tests.jobs.world import CountingIds, ManualClock, a_cell, quick_sql_store

CELLS = [a_cell(number) for number in range(4)]
ENDED = {CellState.COMPLETED, CellState.FAILED}


class StoreMachine(RuleBasedStateMachine):
    """Drives both stores with the same calls; keeps every lease that was ever given, also the stale ones."""

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.clock = ManualClock()
        sql = quick_sql_store(self.folder, self.clock)
        self.stores: list[Store] = [sql, MemoryStore(self.clock, CountingIds())]
        self.leases: list[Lease] = []
        self.sweeps: list[str] = []
        self.published = 0

    def both(self, method: str, *args: object, **more: object) -> object:
        """Call both stores; what they return, or how they refuse, must be the same."""
        answers: list[object] = []
        for store in self.stores:
            try:
                answers.append(getattr(store, method)(*args, **more))
            except AmpsweepError as error:
                answers.append((type(error), error.message))
        assert answers[0] == answers[1]
        return answers[0]

    @rule(chosen=st.lists(st.sampled_from(range(len(CELLS))), min_size=1, unique=True))
    def send(self, chosen: list[int]) -> None:
        self.both("create_sweep", name="n", spec={}, cells=[CELLS[at] for at in chosen])
        self.sweeps = [sweep.id for sweep in self.stores[1].list_sweeps(limit=100).data]

    @rule(owner=st.sampled_from("ab"), limit=st.integers(1, 3))
    def lease(self, owner: str, limit: int) -> None:
        found = self.both("lease_cells", owner, models=["tiny"], limit=limit, ttl=10.0)
        assert isinstance(found, list)
        self.leases += found

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), what=st.sampled_from(["complete", "retry", "fail", "release", "heartbeat"]))
    def write(self, data: st.DataObject, what: str) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        if what == "complete":
            self.published += 1
            answer = self.both("complete_cell", lease, CellFile(name=f"{self.published}", rows=1, sha256="s"))
            newest = max(held.epoch for held in self.leases if held.cell.id == lease.cell.id)
            assert answer is not None or lease.epoch == newest, "a stale writer got through"
        elif what == "heartbeat":
            self.both("heartbeat", lease, ttl=10.0)
        elif what == "release":
            self.both("release", lease)
        else:
            self.both("fail_cell", lease, "no", retry=what == "retry")

    @rule(seconds=st.sampled_from([1.0, 6.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.clock.time += seconds
        self.both("expire_leases")

    @precondition(lambda self: self.sweeps)
    @rule(data=st.data(), what=st.sampled_from(["cancel_sweep", "finish_sweep"]))
    def end(self, data: st.DataObject, what: str) -> None:
        self.both(what, data.draw(st.sampled_from(self.sweeps)))

    @precondition(lambda self: self.sweeps)
    @rule(at=st.sampled_from(range(len(CELLS))))
    def damage(self, at: int) -> None:
        self.both("reset_cell", CELLS[at].id, "lost")

    @invariant()
    def books_are_right(self) -> None:
        for sweep_id in getattr(self, "sweeps", ()):
            for question in ("get_sweep", "list_cells", "events"):
                self.both(question, sweep_id)
            ids = [event.id for event in self.stores[1].events(sweep_id)]
            assert ids == list(range(1, len(ids) + 1))
            record = self.stores[1].get_sweep(sweep_id)
            states = [cell.state for cell in self.stores[1].list_cells(sweep_id).data]
            if record.state in (SweepState.IN_PROGRESS, SweepState.FINALIZING, SweepState.CANCELLING):
                assert record.request_counts.completed == states.count(CellState.COMPLETED)
                assert record.request_counts.failed == states.count(CellState.FAILED)
            if record.state is SweepState.IN_PROGRESS:
                assert not set(states) <= ENDED
            if record.state is SweepState.FINALIZING:
                assert set(states) <= ENDED

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            for store in self.stores:
                store.close()
            shutil.rmtree(self.folder)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=10, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
