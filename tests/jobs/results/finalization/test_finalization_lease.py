"""Finalization under a lease: each file is read once, results are reproducible, late writers change nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.planning.catalog import Catalog
from jobs.results.finalization.assembly import Assembled
from jobs.results.finalization.finalization import finalize
from jobs.results.retention import clean_up
from jobs.results.writer import Results
from jobs.storage.local import LocalStorage
from jobs.store.records import CellRecord, SweepLease, SweepRecord
from jobs.store.transitions import SweepState
from tests.jobs.results.sweep_runner import SEARCHED, SweepRunner, computed_sweep


@pytest.fixture
def runner(tmp_path: Path, catalog: Catalog) -> SweepRunner:
    return SweepRunner(tmp_path / "results", catalog)


class CountingStorage(LocalStorage):
    """Counts how often each file is read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.reads: Counter[str] = Counter()

    def read(self, name: str) -> bytes:
        self.reads[name] += 1
        return super().read(name)


@pytest.mark.parametrize("search", [False, True])
def test_each_cells_file_is_read_once_each_time(runner: SweepRunner, search: bool) -> None:
    sweep = runner.submit(**(SEARCHED if search else {}))
    while runner.store.get_sweep(sweep.id).state is not SweepState.COMPLETED:
        runner.compute()
        storage = CountingStorage(runner.folder)
        runner.results = Results(storage)
        cells = runner.store.list_cells(sweep.id, limit=1000).data
        runner.finalize(sweep.id)
        assert storage.reads == {f"cells/{record.file}": 1 for record in cells}


def test_finalizing_again_publishes_the_same_bytes_under_another_name(runner: SweepRunner) -> None:
    sweep = computed_sweep(runner)
    first = runner.finalize(sweep.id)
    content = [file.read() for file in (runner.results.samples_file(first), runner.results.summary_file(first))]
    runner.store.reopen_sweep(sweep.id, "doubted")
    second = runner.finalize(sweep.id)
    assert [
        file.read() for file in (runner.results.samples_file(second), runner.results.summary_file(second))
    ] == content
    assert first.files is not None
    assert second.files == replace(first.files, epoch=2)


def test_a_writer_whose_lease_has_expired_changes_nothing(runner: SweepRunner) -> None:
    sweep = computed_sweep(runner)
    late = runner.store.lease_sweep(sweep.id, "killed", ttl=0)
    assert late is not None
    ended = runner.finalize(sweep.id)
    assert ended.state is SweepState.COMPLETED
    for path in (runner.folder / "cells").iterdir():
        path.unlink()  # so that the late writer finds every cell lost
    events = runner.store.events(sweep.id)
    for assemble in (runner.assemble, lambda *_: Assembled(further=(runner.store.list_cells(sweep.id).data[0].cell,))):
        assert finalize(runner.store, late, assemble).files == ended.files
    runner.results.check_sweep(ended)
    reset = {event.type for event in runner.store.events(sweep.id)[len(events) :]}
    assert reset == set(), "an ended sweep gets no events of its cells"


def test_concurrent_writers_have_files_of_their_own(runner: SweepRunner) -> None:
    sweep = computed_sweep(runner)
    leases: list[SweepLease | None] = [runner.store.lease_sweep(sweep.id, "late", ttl=0)]

    def overtaken(record: SweepRecord, cells: Sequence[CellRecord], epoch: int) -> Assembled:
        leases.append(runner.store.lease_sweep(sweep.id, "other", ttl=9))
        assert leases[1] is not None
        ended = finalize(runner.store, leases[1], runner.assemble)
        assert ended.state is SweepState.COMPLETED
        return runner.assemble(record, cells, epoch)

    assert leases[0] is not None
    ended = finalize(runner.store, leases[0], overtaken)
    assert ended.files is not None
    assert ended.files.epoch == 2
    names = sorted(path.name for path in (runner.folder / "sweeps" / sweep.id).iterdir())
    assert names == ["results.1.parquet", "results.2.parquet", "summary.1.parquet", "summary.2.parquet"]
    assert clean_up(runner.store, runner.results, unfinished_after=60) == 2
    runner.results.check_sweep(ended)
