from __future__ import annotations

from pathlib import Path

import pytest

from jobs.evaluation.records import EvaluationLease
from jobs.evaluation.request import parse_evaluation
from jobs.results.retention import clean_up
from jobs.results.writer import Results
from jobs.storage.local import LocalStorage
from jobs.store.records import CellOutcome, Lease, SweepFiles
from tests.jobs.cluster import ManualClock, a_cell, a_sample, completed, ended, quick_sql_store


class ResultsFixture:
    """A store, and a folder of results written under its leases."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.folder = folder
        self.clock = clock
        self.store = quick_sql_store(folder.with_name("store"), clock)
        self.results = Results(LocalStorage(folder))

    def submit(self, *numbers: int) -> str:
        return self.store.create_sweep(name="n", spec={}, cells=[a_cell(number) for number in numbers]).id

    def lease(self) -> Lease:
        (lease,) = self.store.lease_cells("w", models=["tiny"], limit=1, ttl=30)
        return lease

    def write(self, lease: Lease, *, reported: bool) -> str:
        file = self.results.write_cell(
            lease.cell, epoch=lease.epoch, samples=[a_sample("a")], left_out=0, neurons=0, versions={}
        )
        if reported:
            assert self.store.report([completed(lease, file)]) == []
        return file.name

    def finish(self, sweep_id: str) -> None:
        for name in ("results", "summary"):
            path = self.folder / "sweeps" / sweep_id / f"{name}.1.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        lease = self.store.lease_sweep(sweep_id, "w", ttl=30)
        assert lease is not None
        self.store.finish_sweep(lease, files=SweepFiles(samples="1", summary="2", epoch=lease.epoch))

    def lease_evaluation(self, sweep_id: str) -> EvaluationLease:
        request = parse_evaluation({"metrics": ["script"]})
        self.store.evaluations.submit(self.store.get_sweep(sweep_id), request)
        lease = self.store.evaluations.lease("w", models=[], ttl=30)
        assert lease is not None
        return lease

    def clean_up(self, *, ended_before: float | None = None) -> int:
        return clean_up(
            self.store,
            self.results,
            evaluations=self.store.evaluations,
            unfinished_after=60,
            ended_before=ended_before,
        )


@pytest.fixture
def fixture(tmp_path: Path, clock: ManualClock) -> ResultsFixture:
    return ResultsFixture(tmp_path / "results", clock)


def test_files_that_the_store_knows_or_may_soon_get_reports_of_are_kept(fixture: ResultsFixture) -> None:
    fixture.submit(1, 2)
    names = [fixture.write(fixture.lease(), reported=True), fixture.write(fixture.lease(), reported=False)]
    assert fixture.clean_up() == 0
    assert fixture.results.cell_names() == sorted(names)


def test_the_file_of_a_late_writer_is_deleted(fixture: ResultsFixture, clock: ManualClock) -> None:
    fixture.submit(1)
    late = fixture.lease()
    clock.time += 31
    fixture.store.expire_leases()
    current = fixture.write(fixture.lease(), reported=True)
    fixture.write(late, reported=False)
    assert fixture.clean_up() == 1
    assert fixture.results.cell_names() == [current]


def test_the_file_of_a_released_lease_is_deleted(fixture: ResultsFixture) -> None:
    fixture.submit(1)
    lease = fixture.lease()
    fixture.write(lease, reported=False)
    fixture.store.report([ended(lease, CellOutcome.RELEASED)])
    assert fixture.clean_up() == 1
    assert fixture.results.cell_names() == []


def test_the_file_of_a_damaged_cell_is_deleted_once_the_cell_is_reset(fixture: ResultsFixture) -> None:
    fixture.submit(1)
    fixture.write(fixture.lease(), reported=True)
    fixture.store.reset_cell(a_cell(1).id, "damaged")
    assert fixture.clean_up() == 1


def test_files_of_another_database_are_left_alone(fixture: ResultsFixture) -> None:
    cells = fixture.folder / "cells"
    cells.mkdir(parents=True)
    (cells / f"{a_cell(9).id}.1.parquet").write_bytes(b"theirs")
    (cells / "notes.txt").write_text("mine")
    fixture.submit(1)
    (cells / f"{a_cell(1).id}.5.parquet").write_bytes(b"of a later epoch than any that this store gave")
    assert fixture.clean_up() == 0
    assert len(fixture.results.cell_names()) == 3


def test_unfinished_files_are_deleted_once_they_are_old_enough(fixture: ResultsFixture) -> None:
    cells = fixture.folder / "cells"
    cells.mkdir(parents=True)
    (cells / ".cell_1.1.parquet.abc.tmp").write_bytes(b"half a fi")
    assert fixture.clean_up() == 0
    assert clean_up(fixture.store, fixture.results, unfinished_after=0.0) == 1
    assert list(cells.iterdir()) == []


def test_expired_results_are_deleted_with_the_cells_that_only_they_used(
    fixture: ResultsFixture, clock: ManualClock
) -> None:
    old = fixture.submit(1, 2)
    for _ in range(2):
        fixture.write(fixture.lease(), reported=True)
    fixture.finish(old)
    clock.time += 100
    fixture.submit(2, 3)
    assert fixture.clean_up(ended_before=clock.time - 200) == 0
    assert fixture.clean_up(ended_before=clock.time - 50) == 3
    assert not list((fixture.folder / "sweeps").rglob("*.parquet"))
    assert fixture.results.cell_names() == [f"{a_cell(2).id}.1.parquet"]
    assert fixture.clean_up(ended_before=clock.time - 50) == 0


def test_scores_are_deleted_with_the_results_of_their_sweep(fixture: ResultsFixture, clock: ManualClock) -> None:
    sweep_id = fixture.submit(1)
    fixture.write(fixture.lease(), reported=True)
    fixture.finish(sweep_id)
    lease = fixture.lease_evaluation(sweep_id)
    fixture.results.scores.publish(lease, b"scores")
    assert fixture.clean_up() == 0
    assert fixture.store.evaluations.complete(lease, [], left_out=0)
    assert fixture.clean_up() == 0
    clock.time += 100
    assert fixture.clean_up(ended_before=clock.time - 50) == 4  # with results, summary and cell
    assert fixture.store.evaluations.of_sweep(sweep_id) == []
    assert fixture.results.scores.names() == []


def test_scores_that_no_evaluation_refers_to_are_deleted(fixture: ResultsFixture, clock: ManualClock) -> None:
    sweep_id = fixture.submit(1)
    fixture.write(fixture.lease(), reported=True)
    fixture.finish(sweep_id)
    late = fixture.lease_evaluation(sweep_id)
    clock.time += 31
    current = fixture.lease_evaluation(sweep_id)
    for lease in (late, current):
        fixture.results.scores.publish(lease, b"scores")
    assert fixture.clean_up() == 1
    assert fixture.results.scores.of(current.evaluation).read() == b"scores"
    assert fixture.store.evaluations.fail(current, "no text")
    assert fixture.clean_up() == 1
    elsewhere = fixture.folder / "sweeps" / "sweep_of_another_database" / "evaluations"
    elsewhere.mkdir(parents=True)
    (elsewhere / "evaluation_1.1.parquet").write_bytes(b"")
    assert fixture.clean_up() == 0


def test_files_of_a_finalizer_whose_lease_had_expired_are_deleted(fixture: ResultsFixture) -> None:
    sweep_id = fixture.submit(1)
    fixture.write(fixture.lease(), reported=True)
    late = fixture.store.lease_sweep(sweep_id, "killed", ttl=0)
    assert late is not None
    folder = fixture.folder / "sweeps" / sweep_id
    folder.mkdir(parents=True)
    (folder / "results.1.parquet").write_bytes(b"of a writer that may still be running")
    assert fixture.clean_up() == 0
    lease = fixture.store.lease_sweep(sweep_id, "other", ttl=30)
    assert lease is not None
    for name in ("results.2.parquet", "summary.2.parquet", "notes.txt"):
        (folder / name).write_bytes(b"")
    assert fixture.clean_up() == 1
    fixture.store.finish_sweep(lease, files=SweepFiles(samples="1", summary="2", epoch=2))
    assert fixture.clean_up() == 0
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "results.2.parquet", "summary.2.parquet"]


def test_a_deleted_sweep_leaves_no_files_but_those_of_cells_that_others_need(fixture: ResultsFixture) -> None:
    gone = fixture.submit(1, 2)
    for _ in range(2):
        fixture.write(fixture.lease(), reported=True)
    fixture.finish(gone)
    scored = fixture.lease_evaluation(gone)
    fixture.results.scores.publish(scored, b"scores")
    kept = fixture.submit(2, 3)
    fixture.write(fixture.lease(), reported=True)
    fixture.finish(kept)
    fixture.store.delete_sweep(gone)
    assert fixture.clean_up() == 4, "samples, summary, scores and a cell"
    assert fixture.results.cell_names() == [f"{a_cell(number).id}.1.parquet" for number in sorted_cells(2, 3)]
    assert not list((fixture.folder / "sweeps" / gone).rglob("*.parquet"))
    assert len(list((fixture.folder / "sweeps" / kept).rglob("*.parquet"))) == 2
    assert fixture.store.evaluations.of_sweep(gone) == []
    assert fixture.clean_up() == 0
    fixture.results.scores.publish(scored, b"of a writer that is late")
    (fixture.folder / "sweeps" / gone / "results.1.parquet").write_bytes(b"of a finalizer that is late")
    assert fixture.clean_up() == 2


def sorted_cells(*numbers: int) -> list[int]:
    return sorted(numbers, key=lambda number: a_cell(number).id)


class Killed(BaseException):
    """Ends a call at once, as a kill ends its process."""


@pytest.mark.parametrize("surviving", range(4))
def test_a_clean_up_that_is_killed_is_completed_by_the_next(
    fixture: ResultsFixture, monkeypatch: pytest.MonkeyPatch, surviving: int
) -> None:
    gone = fixture.submit(1, 2)
    for _ in range(2):
        fixture.write(fixture.lease(), reported=True)
    fixture.finish(gone)
    fixture.store.delete_sweep(gone)
    delete, deletions = LocalStorage.delete, 0

    def dying(storage: LocalStorage, *names: str) -> None:
        nonlocal deletions
        for name in names:
            deletions += 1
            if deletions > surviving:
                raise Killed
            delete(storage, name)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "delete", dying)
        with pytest.raises(Killed):
            fixture.clean_up()
    assert fixture.clean_up() == 4 - surviving
    assert not list(fixture.folder.rglob("*.parquet"))
