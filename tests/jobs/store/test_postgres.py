"""PostgreSQL with several processes: no cell twice, no event out of order, no stalled writer."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ampsweep.errors import NotFound, Unavailable
from jobs.clock import SystemClock
from jobs.store.records import CellOutcome, CellReport
from jobs.store.sql.store import SqlStore
from tests.jobs.cluster import a_cell
from tests.postgres import empty_store

ROOT = Path(__file__).parents[3]
WORKER = """
import sys
from jobs.clock import SystemClock
from jobs.store.records import CellFile, CellOutcome, CellReport
from jobs.store.sql.store import SqlStore

store = SqlStore(sys.argv[1], SystemClock())
print("ready", flush=True)
sys.stdin.readline()
while leases := store.lease_cells(sys.argv[2], models=["tiny"], limit=3, ttl=60):
    for lease in leases:
        file = CellFile(name=sys.argv[2], rows=1, sha256="s")
        late = store.report([CellReport(lease=lease, outcome=CellOutcome.COMPLETED, file=file)])
        print(lease.cell.id, len(late), flush=True)
"""
STALLED = """
import sys
from jobs.store.sql.database import open_database

with open_database(sys.argv[1]).writing():
    print("ready", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def process(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python code that says `ready` and waits for a line."""
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            yield running
        finally:
            running.kill()


@pytest.fixture
def store(postgres_url: str) -> Iterator[SqlStore]:
    new_store = empty_store(postgres_url, SystemClock())
    yield new_store
    new_store.close()


@pytest.mark.processes
def test_several_processes_lease_and_complete_each_cell_once_while_others_read(
    store: SqlStore, postgres_url: str
) -> None:
    sweeps = [
        store.create_sweep(name="n", spec={}, cells=[a_cell(index) for index in range(start, start + 60)])
        for start in (0, 30)
    ]
    with process(WORKER, postgres_url, "a") as one, process(WORKER, postgres_url, "b") as two:
        for worker in (one, two):
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        seen = dict.fromkeys((sweep.id for sweep in sweeps), 0)
        while not all(store.get_sweep(sweep.id).state.value == "finalizing" for sweep in sweeps):
            for sweep_id, last in seen.items():
                for event in store.events(sweep_id, after=last):
                    assert event.id == seen[sweep_id] + 1, "an event came late or was left out"
                    seen[sweep_id] = event.id
        done = [line.split() for worker in (one, two) for line in worker.stdout or ()]
    assert {late for _, late in done} == {"0"}
    assert len(done) == len({cell_id for cell_id, _ in done}) == 90
    assert {record.file for record in store.list_cells(sweeps[0].id, limit=100).data} <= {"a", "b"}


@pytest.mark.reliability
def test_a_writer_that_stalls_loses_the_lock_and_what_it_had_not_committed(store: SqlStore, postgres_url: str) -> None:
    with process(STALLED, postgres_url) as stalled:
        stalled.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        sweep = store.create_sweep(name="n", spec={}, cells=[a_cell(0)])
        assert 5 < time.monotonic() - begun < 20
        stalled.send_signal(signal.SIGCONT)
    assert store.get_sweep(sweep.id).request_counts.total == 1


@pytest.mark.processes
def test_nul_characters_that_the_server_cannot_store_are_replaced(store: SqlStore) -> None:
    sweep = store.create_sweep(name="a\0b", spec={"name": "a\0b"}, cells=[a_cell(0)])
    assert store.get_sweep(sweep.id).name == "a\N{REPLACEMENT CHARACTER}b"
    (lease,) = store.lease_cells("owner", models=["tiny"], limit=1, ttl=30)
    failed = CellReport(lease=lease, outcome=CellOutcome.REJECTED, error="the data has '\0'")
    store.report([failed])
    with pytest.raises(NotFound):
        store.get_sweep(f"{sweep.id}\0")


def test_a_server_that_cannot_be_reached_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="cannot be used"):
        SqlStore("postgresql://ampsweep@/postgres?host=/nowhere", SystemClock())
