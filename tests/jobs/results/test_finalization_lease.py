"""The end of a sweep under a lease: each file read once, the same bytes again, nothing of a late writer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.planning.catalog import Catalog
from jobs.results.assembly import Assembled
from jobs.results.finalization import finalize
from jobs.results.retention import clean_up
from jobs.results.writer import Results
from jobs.storage.local import LocalStorage
from jobs.store.records import CellRecord, SweepLease, SweepRecord
from jobs.store.transitions import SweepState
from tests.jobs.results.test_finalization import SEARCHED, Bench, worked


@pytest.fixture
def bench(tmp_path: Path, catalog: Catalog) -> Bench:
    return Bench(tmp_path / "results", catalog)


class CountingStorage(LocalStorage):
    """Counts how often each file is read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.reads: Counter[str] = Counter()

    def read(self, name: str) -> bytes:
        self.reads[name] += 1
        return super().read(name)


@pytest.mark.parametrize("search", [False, True])
def test_each_cells_file_is_read_once_each_time(bench: Bench, search: bool) -> None:
    sweep = bench.send(**(SEARCHED if search else {}))
    while bench.store.get_sweep(sweep.id).state is not SweepState.COMPLETED:
        bench.work()
        storage = CountingStorage(bench.folder)
        bench.results = Results(storage)
        cells = bench.store.list_cells(sweep.id, limit=1000).data
        bench.end(sweep.id)
        assert storage.reads == {f"cells/{record.file}": 1 for record in cells}


def test_finalizing_again_gives_the_same_bytes_under_another_name(bench: Bench) -> None:
    sweep = worked(bench)
    first = bench.end(sweep.id)
    content = [file.read() for file in (bench.results.samples_file(first), bench.results.summary_file(first))]
    bench.store.reopen_sweep(sweep.id, "doubted")
    second = bench.end(sweep.id)
    assert [file.read() for file in (bench.results.samples_file(second), bench.results.summary_file(second))] == content
    assert first.files is not None
    assert second.files == replace(first.files, epoch=2)


def test_one_whose_lease_has_passed_changes_nothing_however_late_it_writes(bench: Bench) -> None:
    sweep = worked(bench)
    late = bench.store.lease_sweep(sweep.id, "killed", ttl=0)
    assert late is not None
    ended = bench.end(sweep.id)
    assert ended.state is SweepState.COMPLETED
    for path in (bench.folder / "cells").iterdir():
        path.unlink()  # so that the late one finds every cell lost
    events = bench.store.events(sweep.id)
    for assembling in (bench.assemble, lambda *_: Assembled(further=(bench.store.list_cells(sweep.id).data[0].cell,))):
        assert finalize(bench.store, late, assembling).files == ended.files
    bench.results.check_sweep(ended)
    reset = {event.type for event in bench.store.events(sweep.id)[len(events) :]}
    assert reset == set(), "an ended sweep hears nothing of its cells"


def test_two_that_write_at_once_have_files_of_their_own(bench: Bench) -> None:
    sweep = worked(bench)
    leases: list[SweepLease | None] = [bench.store.lease_sweep(sweep.id, "late", ttl=0)]

    def overtaken(record: SweepRecord, cells: Sequence[CellRecord], epoch: int) -> Assembled:
        leases.append(bench.store.lease_sweep(sweep.id, "other", ttl=9))
        assert leases[1] is not None
        ended = finalize(bench.store, leases[1], bench.assemble)
        assert ended.state is SweepState.COMPLETED
        return bench.assemble(record, cells, epoch)

    assert leases[0] is not None
    ended = finalize(bench.store, leases[0], overtaken)
    assert ended.files is not None
    assert ended.files.epoch == 2
    names = sorted(path.name for path in (bench.folder / "sweeps" / sweep.id).iterdir())
    assert names == ["results.1.parquet", "results.2.parquet", "summary.1.parquet", "summary.2.parquet"]
    assert clean_up(bench.store, bench.results, unfinished_after=60) == 2
    bench.results.check_sweep(ended)
