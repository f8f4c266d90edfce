"""Processes killed or stopped at each step of publishing a cell's file."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.results.retention import clean_up
from jobs.results.writer import Results
from jobs.storage.local import LocalStorage
from jobs.store.sql.store import SqlStore
from jobs.store.transitions import CellState
from tests.jobs.cluster import CountingIds, ManualClock, a_cell, a_sample, completed
from tests.postgres import empty_store

ROOT = Path(__file__).parents[2]
CELLS = 6
WRITERS = """
import os, signal, sys
from pathlib import Path
from jobs.results.writer import Results
from jobs.storage.local import LocalStorage
from jobs.store.sql.store import SqlStore
from tests.jobs.cluster import CountingIds, ManualClock, a_cell, a_sample, completed

def write(folder, point, at):
    written = 0

    def die_at(name):
        if name == point and written == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sync, replace = os.fsync, Path.replace

    def dying_sync(descriptor):
        die_at("temporary written")
        sync(descriptor)

    def dying_replace(self, target):
        die_at("synced")
        result = replace(self, target)
        die_at("renamed")
        return result

    os.fsync, Path.replace = dying_sync, dying_replace
    store = SqlStore(f"sqlite:///{folder}/store.db", ManualClock(), CountingIds())
    results = Results(LocalStorage(folder / "results"))
    for lease in store.lease_cells("w", models=["tiny"], limit=100, ttl=30):
        file = results.write_cell(
            lease.cell, epoch=lease.epoch, samples=[a_sample("a")], left_out=0, neurons=0, versions={}
        )
        die_at("not yet told")
        store.report([completed(lease, file)])
        written += 1

for line in sys.stdin:
    folder, point, at = line.rstrip().split("\t")
    if not (writer := os.fork()):
        write(Path(folder), point, int(at))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]), flush=True)
"""
POINTS = ["temporary written", "synced", "renamed", "not yet told"]


Writers = subprocess.Popen[str]
"""A process of which each line it reads makes a new writer, a process of its own."""


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    command = [sys.executable, "-c", WRITERS]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        yield running


def killed_at(writers: Writers, folder: Path, point: str, index: int) -> None:
    store = SqlStore(f"sqlite:///{folder}/store.db", ManualClock(), CountingIds())
    sweep = store.create_sweep(name="n", spec={}, cells=[a_cell(number) for number in range(CELLS)])
    store.close()
    assert writers.stdin is not None
    assert writers.stdout is not None
    print(folder, point, index, sep="\t", file=writers.stdin, flush=True)
    assert int(writers.stdout.readline()) == -signal.SIGKILL
    store = SqlStore(f"sqlite:///{folder}/store.db", ManualClock(), CountingIds())
    results = Results(LocalStorage(folder / "results"))
    clean_up(store, results, unfinished_after=0.0)
    records = store.list_cells(sweep.id).data
    assert [record.state for record in records] == [CellState.COMPLETED] * index + [CellState.PENDING] * (CELLS - index)
    assert sorted(path.name for path in (folder / "results").rglob("*") if path.is_file()) == sorted(
        record.file for record in records if record.file is not None
    )
    for lease in store.lease_cells("w", models=["tiny"], limit=100, ttl=30):
        file = results.write_cell(
            lease.cell, epoch=lease.epoch, samples=[a_sample("a")], left_out=0, neurons=0, versions={}
        )
        assert store.report([completed(lease, file)]) == []
    for record in store.list_cells(sweep.id).data:
        assert results.read_cell(record).table.num_rows == 1
    assert len(results.cell_names()) == CELLS
    assert store.finalizing() == [sweep.id]
    store.close()


@pytest.mark.processes
@pytest.mark.parametrize("point", POINTS)
def test_a_killed_writer_leaves_no_files(writers: Writers, tmp_path: Path, point: str) -> None:
    killed_at(writers, tmp_path, point, 2)


@pytest.mark.reliability
@pytest.mark.parametrize("point", POINTS)
def test_a_writer_killed_twenty_times_at_each_step_leaves_no_files(
    writers: Writers, tmp_path: Path, point: str
) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        killed_at(writers, folder, point, number % CELLS)


SLOW = """
import sys
from pathlib import Path
from jobs.clock import SystemClock
from jobs.results.writer import Results
from jobs.storage.local import LocalStorage
from jobs.store.sql.store import SqlStore
from tests.jobs.cluster import a_sample, completed

store = SqlStore(sys.argv[1], SystemClock())
results = Results(LocalStorage(Path(sys.argv[2])))
(lease,) = store.lease_cells("slow", models=["tiny"], limit=1, ttl=0.1)
print("leased", flush=True)
sys.stdin.readline()
file = results.write_cell(
    lease.cell, epoch=lease.epoch, samples=[a_sample("late")] * 9, left_out=0, neurons=0, versions={}
)
print(len(store.report([completed(lease, file)])), flush=True)
"""


@contextmanager
def slow_writer(url: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SLOW, url, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "leased\n"
            yield running
        finally:
            running.kill()


@pytest.mark.processes
def test_a_writer_stopped_past_its_lease_changes_nothing_when_it_goes_on(tmp_path: Path, postgres_url: str) -> None:
    clock = ManualClock(time=4e9)  # far ahead of the writer's own: its lease has run out
    store = empty_store(postgres_url, clock, CountingIds())
    results = Results(LocalStorage(tmp_path))
    sweep = store.create_sweep(name="n", spec={}, cells=[a_cell(0)])
    with slow_writer(postgres_url, tmp_path) as slow:
        slow.send_signal(signal.SIGSTOP)
        assert store.expire_leases() == 1
        (lease,) = store.lease_cells("fast", models=["tiny"], limit=1, ttl=30)
        file = results.write_cell(
            lease.cell, epoch=lease.epoch, samples=[a_sample("a")], left_out=0, neurons=0, versions={}
        )
        assert store.report([completed(lease, file)]) == []
        before = (store.list_cells(sweep.id), store.events(sweep.id))
        slow.send_signal(signal.SIGCONT)
        out, _ = slow.communicate("go\n")
        assert out == "1\n", "its lease had passed"
    assert (store.list_cells(sweep.id), store.events(sweep.id)) == before
    assert results.read_cell(store.list_cells(sweep.id).data[0]).table["doc_id"].to_pylist() == ["a"]
    assert clean_up(store, results, unfinished_after=60) == 1
    assert results.cell_names() == [file.name]
    store.close()
