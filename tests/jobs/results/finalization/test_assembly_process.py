"""Assembly of sweeps in a separate process: the same files, and what happens if the process dies."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from ampsweep.errors import EngineFailed, InvalidRequest, Unavailable
from jobs.planning.catalog import Catalog
from jobs.results.finalization import assembly_process
from jobs.results.finalization.assembly import assemble
from jobs.results.finalization.assembly_process import MAX_DEATHS, AssemblyProcesses, _AssemblyProcess
from jobs.results.finalization.partial import assemble_cells
from jobs.store.transitions import SweepState
from tests.jobs.results.sweep_runner import SEARCHED, SweepRunner

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[4]


@pytest.fixture
def runner(tmp_path: Path, catalog: Catalog) -> SweepRunner:
    return SweepRunner(tmp_path / "results", catalog)


@pytest.fixture
def processes(runner: SweepRunner) -> Iterator[AssemblyProcesses]:
    with closing(AssemblyProcesses(runner.results, 1, small=0)) as pool:
        yield pool


def test_a_process_assembles_the_same_as_the_calling_process(runner: SweepRunner, processes: AssemblyProcesses) -> None:
    sweep = runner.submit(**SEARCHED)
    rungs = 0
    while runner.store.get_sweep(sweep.id).state is not SweepState.COMPLETED:
        runner.compute()
        record, cells = runner.store.get_sweep(sweep.id), runner.store.list_cells(sweep.id, limit=1000).data
        assert processes(record, cells, 7) == assemble(runner.results, record, cells, 7)
        runner.finalize(sweep.id)
        rungs += 1
    assert rungs == 3


def test_a_process_that_cannot_be_started_is_started_by_the_next_call(
    runner: SweepRunner, processes: AssemblyProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: SpawnProcess) -> None:
        raise OSError(errno.EAGAIN, "too many processes")

    (process,) = processes._processes
    with monkeypatch.context() as patched:
        patched.setattr(SpawnProcess, "start", fail)
        with pytest.raises(OSError, match="too many processes"):
            process.start()
        process._end()  # no process was started
    sweep = runner.submit()
    runner.compute()
    assert processes(sweep, runner.store.list_cells(sweep.id).data, 1).files is not None


def test_only_a_sweep_of_few_samples_and_few_cells_needs_no_process(
    runner: SweepRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = runner.submit()
    runner.compute()
    cells = runner.store.list_cells(sweep.id).data
    samples = sum(record.rows or 0 for record in cells)
    for small, small_cells in [(samples, len(cells)), (samples - 1, len(cells)), (samples, len(cells) - 1)]:
        monkeypatch.setattr(assembly_process, "SMALL_CELLS", small_cells)
        with closing(AssemblyProcesses(runner.results, 1, small=small)) as pool:
            assert pool(sweep, cells, 1).files is not None
            assert (pool._processes[0]._process is None) == ((small, small_cells) == (samples, len(cells)))


def test_an_error_is_raised_in_the_calling_process(runner: SweepRunner, processes: AssemblyProcesses) -> None:
    sweep = runner.submit()
    runner.compute()
    wrong = replace(sweep, spec={**sweep.spec, "search": {"method": "guessing"}})
    with pytest.raises(InvalidRequest, match="guessing") as caught:
        processes(wrong, runner.store.list_cells(sweep.id).data, 1)
    assert "parse_spec" in caught.value.__notes__[0]


def test_a_process_that_dies_is_replaced_but_not_for_ever(
    runner: SweepRunner, processes: AssemblyProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, other = runner.submit(), runner.submit(name="other")
    runner.compute()
    cells = runner.store.list_cells(sweep.id).data
    start = _AssemblyProcess.start

    def start_and_kill(process: _AssemblyProcess) -> Connection:
        connection = start(process)
        assert process._process is not None
        process._process.kill()
        return connection

    with monkeypatch.context() as dying:
        dying.setattr(_AssemblyProcess, "start", start_and_kill)
        for death in range(1, MAX_DEATHS + 1):
            with pytest.raises(Unavailable if death < MAX_DEATHS else EngineFailed, match="out of memory"):
                processes(sweep, cells, death)
    assert processes(other, cells, 1).files is not None


def test_a_process_writes_the_same_partial_results_as_the_calling_process(
    runner: SweepRunner, processes: AssemblyProcesses, tmp_path: Path
) -> None:
    sweep = runner.submit()
    runner.compute()
    cells = runner.store.list_cells(sweep.id).data
    here, there = tmp_path / "here", tmp_path / "there"
    assert processes.assemble_cells(sweep, cells, there) == assemble_cells(runner.results, sweep, cells, here)
    assert processes._processes[0]._process is not None
    files = sorted(path.relative_to(here) for path in here.rglob("*.parquet"))
    assert len(files) == 2
    assert all((here / file).read_bytes() == (there / file).read_bytes() for file in files)


def test_partial_results_are_unavailable_if_the_process_dies(
    runner: SweepRunner, processes: AssemblyProcesses, tmp_path: Path
) -> None:
    sweep = runner.submit()
    runner.compute()
    processes.close()
    for _ in range(MAX_DEATHS + 1):  # which never fails the sweep
        with pytest.raises(Unavailable, match="the process that assembles the results died"):
            processes.assemble_cells(sweep, runner.store.list_cells(sweep.id).data, tmp_path / "partial")


PARENT = """
import sys, time
from pathlib import Path
from jobs.results.finalization.assembly_process import AssemblyProcesses
from jobs.results.writer import Results
from jobs.storage.local import LocalStorage

if __name__ == "__main__":
    processes = AssemblyProcesses(Results(LocalStorage(Path(sys.argv[1]))), 1)
    processes._processes[0].start()
    print(processes._processes[0]._process.pid, flush=True)
    time.sleep(60)
"""


def test_the_process_ends_with_a_server_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script), str(tmp_path / "results")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "the process outlived its server"
        time.sleep(0.05)
