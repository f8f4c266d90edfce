"""A clock that is set back: no work waits until it has caught up."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from jobs.evaluation.request import parse_evaluation
from jobs.store.lease_time import LONGEST_LEASE, is_over, over
from jobs.store.records import CellFile, Heartbeat, SweepFiles
from jobs.store.sql.store import SqlStore
from tests.jobs.cluster import ManualClock, completed
from tests.jobs.store.calls import complete, lease, send

HOUR = 3600.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(time=10 * HOUR)


@pytest.mark.parametrize(
    ("expires_at", "expected"),
    [(999.0, True), (1000.0, True), (1030.0, False), (1600.0, False), (1600.5, True), (None, True)],
)
def test_a_lease_is_over_at_its_end_and_where_no_lease_can_end(expires_at: float | None, expected: bool) -> None:
    assert LONGEST_LEASE == 600
    assert is_over(expires_at, 1000.0) is expected
    with sa.create_engine("sqlite://").connect() as db:
        assert bool(db.execute(sa.select(over(sa.literal(expires_at), 1000.0))).scalar()) is expected


def test_cells_that_nobody_extends_are_leased_again(sql_store: SqlStore, clock: ManualClock) -> None:
    send(sql_store, 2)
    _, alive = lease(sql_store, 2)
    clock.time -= HOUR
    assert sql_store.heartbeat([Heartbeat(lease=alive)], ttl=30) == []
    assert sql_store.expire_leases() == 1
    assert sql_store.report([completed(alive, CellFile(name="f", rows=1, sha256="s"))]) == []
    assert len(lease(sql_store, 2)) == 1


def test_a_sweep_whose_results_could_not_be_written_is_finalized(sql_store: SqlStore, clock: ManualClock) -> None:
    sweep = send(sql_store, 1)
    complete(sql_store)
    first = sql_store.lease_sweep(sweep.id, "w", ttl=30)
    assert first is not None
    assert sql_store.extend_sweep_leases([first], ttl=10) == []  # as after an attempt that has failed
    assert sql_store.lease_sweep(sweep.id, "w", ttl=30) is None
    clock.time -= HOUR
    assert sql_store.finalizing() == [sweep.id]
    assert sql_store.lease_sweep(sweep.id, "w", ttl=30) is not None


def test_released_batches_and_evaluations_are_leased_again(sql_store: SqlStore, clock: ManualClock) -> None:
    batches = sql_store.batches
    file_id = batches.files.new_id()
    batches.files.add(file_id, owner="me", filename="a", purpose="batch", size=1, expires_after=None)
    batches.create(owner="me", endpoint="/v1/completions", input_file_id=file_id, total=1)
    sweep = send(sql_store, 1)
    complete(sql_store)
    finalizing = sql_store.lease_sweep(sweep.id, "w", ttl=30)
    assert finalizing is not None
    ended = sql_store.finish_sweep(finalizing, files=SweepFiles(samples="s", summary="s", epoch=1))
    sql_store.evaluations.submit(ended, parse_evaluation({"metrics": ["script"]}))
    batch = batches.lease("w", ttl=30, per_owner=2)
    evaluation = sql_store.evaluations.lease("w", models=[], ttl=30)
    assert batch is not None
    assert evaluation is not None
    batches.release(batch, error="no disk", delay=10)
    sql_store.evaluations.release(evaluation, error="no disk", delay=10)
    assert batches.lease("w", ttl=30, per_owner=2) is None
    assert sql_store.evaluations.lease("w", models=[], ttl=30) is None
    clock.time -= HOUR
    assert batches.lease("w", ttl=30, per_owner=2) is not None
    assert sql_store.evaluations.lease("w", models=[], ttl=30) is not None
