"""Random sequences of events: the store never differs from the reference, and no cell completes twice."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ampsweep.errors import AmpsweepError
from jobs.store.protocol import Store
from jobs.store.records import CellFile, CellOutcome, Heartbeat, Lease, SweepFiles, SweepLease
from jobs.store.transitions import SWEEP_ACTIVE, SWEEP_RUNNING, CellState, SweepState
from tests.jobs.cluster import CountingIds, ManualClock, a_cell, completed, ended, quick_sql_store
from tests.jobs.store.reference_store import ReferenceStore
from tests.postgres import empty_store

CELLS = [a_cell(number) for number in range(4)]
MODELS = ["tiny", "its-other-name"]
MEMORY = Path("/dev/shm")  # each walk begins with a new database; none need outlast a power cut
FILES = SweepFiles(samples="1", summary="2")
STEPS_A_WALK = 25
SLOW = (pytest.mark.reliability, pytest.mark.timeout(900))
ENDED = {CellState.COMPLETED, CellState.FAILED}


class StoreMachine(RuleBasedStateMachine):
    """Drives the store and the reference with the same calls; keeps every lease ever given, also the stale ones."""

    def open_sql(self) -> Store:
        return quick_sql_store(self.folder, self.clock)

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.clock = ManualClock()
        self.stores: list[Store] = [self.open_sql(), ReferenceStore(self.clock, CountingIds())]
        self.leases: list[Lease] = []
        self.sweep_leases: list[SweepLease] = []
        self.sweeps: list[str] = []
        self.deleted: list[str] = []
        self.published = 0
        self.pruned = False

    def both(self, method: str, *args: object, **more: object) -> object:
        """Call both stores; what they return, or how they refuse, must be the same."""
        answers: list[object] = []
        for store in self.stores:
            try:
                answers.append(getattr(store, method)(*args, **more))
            except AmpsweepError as error:
                answers.append((type(error), error.param))
        assert answers[0] == answers[1]
        return answers[0]

    @rule(
        chosen=st.lists(st.sampled_from(range(len(CELLS))), min_size=1, unique=True),
        owner=st.sampled_from("xy"),
        priority=st.integers(0, 1),
        model=st.sampled_from(MODELS),
    )
    def send(self, chosen: list[int], owner: str, priority: int, model: str) -> None:
        cells = [a_cell(index, model=model) for index in chosen]
        self.both("create_sweep", name="n", spec={}, cells=cells, owner=owner, priority=priority)
        self.sweeps = [sweep.id for sweep in self.stores[1].list_sweeps(limit=100).data]

    @rule(
        owner=st.sampled_from("ab"),
        models=st.sampled_from([MODELS, MODELS[:1], MODELS[1:]]),
        limit=st.integers(1, 3),
        exclusive=st.integers(0, 1),
    )
    def lease(self, owner: str, models: list[str], limit: int, exclusive: int) -> None:
        leases = self.both("lease_cells", owner, models=models, limit=limit, ttl=10.0, exclusive=exclusive)
        assert isinstance(leases, list)
        assert sum(lease.exclusive for lease in leases) <= exclusive
        self.leases += leases

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), endings=st.lists(st.sampled_from(CellOutcome), min_size=1, max_size=3))
    def report(self, data: st.DataObject, endings: list[CellOutcome]) -> None:
        reports = []
        for lease, ending in zip(data.draw(st.permutations(self.leases)), endings, strict=False):
            self.published += 1
            failed = self.published % 3  # of the first two all samples, of others some or none
            file = CellFile(name=f"{self.published}", rows=self.published, sha256="s", failed_samples=failed)
            done = completed(lease, file)
            reports.append(done if ending is CellOutcome.COMPLETED else ended(lease, ending, "no"))
        late = self.both("report", reports)
        assert isinstance(late, list)
        for report in reports:
            newest = max(held.epoch for held in self.leases if held.cell.id == report.lease.cell.id)
            assert report.lease in late or report.lease.epoch == newest, "a stale writer got through"

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), samples=st.lists(st.integers(0, 9), min_size=1, max_size=3))
    def heartbeat(self, data: st.DataObject, samples: list[int]) -> None:
        chosen = data.draw(st.permutations(self.leases))  # several epochs of one cell among them
        heartbeats = [Heartbeat(lease=lease, samples=done) for lease, done in zip(chosen, samples, strict=False)]
        self.both("heartbeat", heartbeats, ttl=10.0)

    @rule(seconds=st.sampled_from([1.0, 6.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.clock.time += seconds
        self.both("expire_leases")

    @precondition(lambda self: self.sweeps)
    @rule(data=st.data(), what=st.sampled_from(["cancel_sweep", "pause_sweep", "resume_sweep"]))
    def steer(self, data: st.DataObject, what: str) -> None:
        self.both(what, data.draw(st.sampled_from(self.sweeps)))

    @precondition(lambda self: self.sweeps)
    @rule(data=st.data(), owner=st.sampled_from("ab"))
    def lease_sweep(self, data: st.DataObject, owner: str) -> None:
        """Lease one that is finalizing, if there is one; any other is refused."""
        some = self.both("finalizing") or self.sweeps
        assert isinstance(some, list)
        sweep_lease = self.both("lease_sweep", data.draw(st.sampled_from(some)), owner, ttl=10.0)
        if isinstance(sweep_lease, SweepLease):
            assert sweep_lease.epoch == 1 + sum(lease.sweep_id == sweep_lease.sweep_id for lease in self.sweep_leases)
            self.sweep_leases.append(sweep_lease)

    @precondition(lambda self: self.sweep_leases)
    @rule(data=st.data(), error=st.sampled_from([None, "no"]))
    def finish(self, data: st.DataObject, error: str | None) -> None:
        self.both("finish_sweep", data.draw(st.sampled_from(self.sweep_leases)), files=FILES, error=error)

    @precondition(lambda self: self.sweep_leases)
    @rule(data=st.data(), index=st.sampled_from(range(len(CELLS))))
    def extend_sweep(self, data: st.DataObject, index: int) -> None:
        lease = data.draw(st.sampled_from(self.sweep_leases))
        if lease.sweep_id in self.deleted:
            self.both("extend_sweep", lease, [CELLS[index]])
            return
        cell_ids = [record.id for record in self.stores[1].list_cells(lease.sweep_id).data]
        if CELLS[index].id not in cell_ids:
            self.both("extend_sweep", lease, [CELLS[index]])

    @precondition(lambda self: self.sweep_leases)
    @rule(data=st.data(), ttl=st.sampled_from([0.0, 10.0]))
    def extend_leases(self, data: st.DataObject, ttl: float) -> None:
        self.both("extend_sweep_leases", data.draw(st.permutations(self.sweep_leases))[:2], ttl=ttl)

    @precondition(lambda self: self.sweeps)
    @rule(data=st.data())
    def reopen(self, data: st.DataObject) -> None:
        self.both("reopen_sweep", data.draw(st.sampled_from(self.sweeps)), "damaged")

    @precondition(lambda self: self.sweeps)
    @rule(
        data=st.data(),
        name=st.sampled_from([None, "Renamed", "Überblick"]),
        tags=st.none() | st.lists(st.sampled_from(["a", "b", "ä"]), unique=True),
    )
    def update(self, data: st.DataObject, name: str | None, tags: list[str] | None) -> None:
        self.both("update_sweep", data.draw(st.sampled_from(self.sweeps)), name=name, tags=tags)

    @rule(
        tags=st.lists(st.sampled_from(["a", "ä"]), max_size=2),
        text=st.sampled_from(["", "named", "SWEEP_1", "%", "üBER"]),
    )
    def search(self, tags: list[str], text: str) -> None:
        self.both("list_sweeps", tags=tags, text=text)

    @precondition(lambda self: self.sweeps)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """Delete one that has ended; any other is refused."""
        sweep_id = data.draw(st.sampled_from(self.sweeps))
        if self.both("delete_sweep", sweep_id) is None:
            self.sweeps.remove(sweep_id)
            self.deleted.append(sweep_id)
            self.both("get_sweep", sweep_id)

    @rule()
    def erase(self) -> None:
        self.both("erase_deleted")
        self.both("cell_files", [cell.id for cell in CELLS])
        self.both("sweep_files", self.deleted)
        self.both("list_sweeps", after=self.deleted[0] if self.deleted else None)
        self.both("stats")

    @rule(age=st.sampled_from([0.0, 5.0]))
    def expire(self, age: float) -> None:
        self.both("expire_results", self.clock.time - age)
        self.both("cell_files", [cell.id for cell in CELLS])
        self.both("sweep_files", self.sweeps)

    @rule(age=st.sampled_from([0.0, 5.0]))
    def prune(self, age: float) -> None:
        self.pruned |= bool(self.both("prune_events", self.clock.time - age))

    @precondition(lambda self: self.sweeps)
    @rule(index=st.sampled_from(range(len(CELLS))))
    def damage(self, index: int) -> None:
        self.both("reset_cell", CELLS[index].id, "lost")

    @invariant()
    def state_is_consistent(self) -> None:
        self.both("first_reasons", list(getattr(self, "sweeps", ())))
        for sweep_id in getattr(self, "sweeps", ()):
            for question in ("get_sweep", "list_cells", "events"):
                self.both(question, sweep_id)
            ids = [event.id for event in self.stores[1].events(sweep_id)]
            assert ids == (sorted(ids) if self.pruned else list(range(1, len(ids) + 1)))
            record = self.stores[1].get_sweep(sweep_id)
            cells = self.stores[1].list_cells(sweep_id).data
            states = [cell.state for cell in cells]
            if record.state in SWEEP_ACTIVE:
                assert record.request_counts.completed == states.count(CellState.COMPLETED)
                assert record.request_counts.failed == states.count(CellState.FAILED)
                assert record.samples == sum(cell.samples for cell in cells)
            if record.state in SWEEP_RUNNING:
                assert not set(states) <= ENDED
            if record.state is SweepState.FINALIZING:
                assert set(states) <= ENDED

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            for store in self.stores:
                store.close()
            shutil.rmtree(self.folder)


def walk(machine: type[StoreMachine], steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=steps // STEPS_A_WALK,
            stateful_step_count=STEPS_A_WALK,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


STEPS = pytest.mark.parametrize("steps", [100, pytest.param(2500, marks=SLOW)])


@STEPS
def test_sqlite_and_the_reference_never_differ(steps: int) -> None:
    walk(StoreMachine, steps)


@pytest.mark.processes
@STEPS
def test_postgresql_and_the_reference_never_differ(postgres_url: str, steps: int) -> None:
    class PostgresMachine(StoreMachine):
        def open_sql(self) -> Store:
            return empty_store(postgres_url, self.clock, CountingIds())

    walk(PostgresMachine, steps)
