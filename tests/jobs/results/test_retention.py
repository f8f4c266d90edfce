from __future__ import annotations

from pathlib import Path

import pytest

from jobs.results.retention import clean_up
from jobs.results.writer import Results
from jobs.storage.local import LocalStorage
from jobs.store.records import CellOutcome, Lease, SweepFiles
from tests.jobs.cluster import ManualClock, a_cell, a_sample, completed, ended, quick_sql_store


class Desk:
    """A store, and a folder of results written under its leases."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.folder = folder
        self.clock = clock
        self.store = quick_sql_store(folder.with_name("store"), clock)
        self.results = Results(LocalStorage(folder))

    def send(self, *numbers: int) -> str:
        return self.store.create_sweep(name="n", spec={}, cells=[a_cell(number) for number in numbers]).id

    def lease(self) -> Lease:
        (lease,) = self.store.lease_cells("w", models=["tiny"], limit=1, ttl=30)
        return lease

    def write(self, lease: Lease, *, told: bool) -> str:
        file = self.results.write_cell(
            lease.cell, epoch=lease.epoch, samples=[a_sample("a")], left_out=0, neurons=0, versions={}
        )
        if told:
            assert self.store.report([completed(lease, file)]) == []
        return file.name

    def end(self, sweep_id: str) -> None:
        for name in ("results", "summary"):
            path = self.folder / "sweeps" / sweep_id / f"{name}.1.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        lease = self.store.lease_sweep(sweep_id, "w", ttl=30)
        assert lease is not None
        self.store.finish_sweep(lease, files=SweepFiles(samples="1", summary="2", epoch=lease.epoch))

    def clean_up(self, *, ended_before: float | None = None) -> int:
        return clean_up(self.store, self.results, unfinished_after=60, ended_before=ended_before)


@pytest.fixture
def desk(tmp_path: Path, clock: ManualClock) -> Desk:
    return Desk(tmp_path / "results", clock)


def test_what_the_store_knows_and_what_it_may_soon_be_told_of_stays(desk: Desk) -> None:
    desk.send(1, 2)
    names = [desk.write(desk.lease(), told=True), desk.write(desk.lease(), told=False)]
    assert desk.clean_up() == 0
    assert desk.results.cell_names() == sorted(names)


def test_a_late_writers_file_goes(desk: Desk, clock: ManualClock) -> None:
    desk.send(1)
    late = desk.lease()
    clock.time += 31
    desk.store.expire_leases()
    kept = desk.write(desk.lease(), told=True)
    desk.write(late, told=False)
    assert desk.clean_up() == 1
    assert desk.results.cell_names() == [kept]


def test_a_file_whose_lease_was_given_back_goes(desk: Desk) -> None:
    desk.send(1)
    lease = desk.lease()
    desk.write(lease, told=False)
    desk.store.report([ended(lease, CellOutcome.RELEASED)])
    assert desk.clean_up() == 1
    assert desk.results.cell_names() == []


def test_a_damaged_cells_file_goes_once_it_is_computed_again(desk: Desk) -> None:
    desk.send(1)
    desk.write(desk.lease(), told=True)
    desk.store.reset_cell(a_cell(1).id, "damaged")
    assert desk.clean_up() == 1


def test_the_files_of_another_database_are_not_ours(desk: Desk) -> None:
    cells = desk.folder / "cells"
    cells.mkdir(parents=True)
    (cells / f"{a_cell(9).id}.1.parquet").write_bytes(b"theirs")
    (cells / "notes.txt").write_text("mine")
    desk.send(1)
    (cells / f"{a_cell(1).id}.5.parquet").write_bytes(b"of a later epoch than any that this store gave")
    assert desk.clean_up() == 0
    assert len(desk.results.cell_names()) == 3


def test_what_was_begun_goes_once_it_is_old_enough(desk: Desk) -> None:
    cells = desk.folder / "cells"
    cells.mkdir(parents=True)
    (cells / ".cell_1.1.parquet.abc.tmp").write_bytes(b"half a fi")
    assert desk.clean_up() == 0
    assert clean_up(desk.store, desk.results, unfinished_after=0.0) == 1
    assert list(cells.iterdir()) == []


def test_old_results_go_and_with_them_the_cells_that_only_they_had(desk: Desk, clock: ManualClock) -> None:
    old = desk.send(1, 2)
    for _ in range(2):
        desk.write(desk.lease(), told=True)
    desk.end(old)
    clock.time += 100
    desk.send(2, 3)
    assert desk.clean_up(ended_before=clock.time - 200) == 0
    assert desk.clean_up(ended_before=clock.time - 50) == 3
    assert not list((desk.folder / "sweeps").rglob("*.parquet"))
    assert desk.results.cell_names() == [f"{a_cell(2).id}.1.parquet"]
    assert desk.clean_up(ended_before=clock.time - 50) == 0


def test_what_a_finalizer_left_whose_lease_had_passed_goes(desk: Desk) -> None:
    sweep_id = desk.send(1)
    desk.write(desk.lease(), told=True)
    late = desk.store.lease_sweep(sweep_id, "killed", ttl=0)
    assert late is not None
    folder = desk.folder / "sweeps" / sweep_id
    folder.mkdir(parents=True)
    (folder / "results.1.parquet").write_bytes(b"of one who may still be writing")
    assert desk.clean_up() == 0
    lease = desk.store.lease_sweep(sweep_id, "other", ttl=30)
    assert lease is not None
    for name in ("results.2.parquet", "summary.2.parquet", "notes.txt"):
        (folder / name).write_bytes(b"")
    assert desk.clean_up() == 1
    desk.store.finish_sweep(lease, files=SweepFiles(samples="1", summary="2", epoch=2))
    assert desk.clean_up() == 0
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "results.2.parquet", "summary.2.parquet"]
