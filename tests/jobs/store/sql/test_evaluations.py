"""Evaluations on both databases: requests, leases that expire, and the sweeps that they belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from ampsweep.errors import Conflict, NotFound, Unavailable
from jobs.evaluation.records import EvaluationLease, EvaluationState
from jobs.evaluation.request import EvaluationRequest, parse_evaluation
from jobs.store.records import SweepFiles, SweepRecord
from jobs.store.sql.evaluations import MAX_EXPIRATIONS, MAX_UNFINISHED
from jobs.store.sql.store import SqlStore
from tests.jobs.cluster import ManualClock, quick_sql_store
from tests.jobs.store.calls import complete, send

TTL = 30.0
SCRIPT = parse_evaluation({"metrics": ["script"]})
BY_JUDGE = parse_evaluation({"metrics": ["relevance"], "judge": {"model": "large"}})


@pytest.fixture
def store(sql_store: SqlStore) -> SqlStore:
    return sql_store


def ended(store: SqlStore, number: int = 1) -> SweepRecord:
    """Return a completed sweep with results."""
    sweep = send(store, 1, start=number)
    complete(store)
    return assembled(store, sweep.id)


def assembled(store: SqlStore, sweep_id: str) -> SweepRecord:
    lease = store.lease_sweep(sweep_id, "w", ttl=TTL)
    assert lease is not None
    return store.finish_sweep(lease, files=SweepFiles(samples=f"of {sweep_id}", summary="s", epoch=lease.epoch))


def leased(store: SqlStore, owner: str = "one", *, models: tuple[str, ...] = ()) -> EvaluationLease:
    lease = store.evaluations.lease(owner, models=models, ttl=TTL)
    assert lease is not None
    return lease


def state(store: SqlStore, sweep: SweepRecord, request: EvaluationRequest = SCRIPT) -> EvaluationState:
    record = store.evaluations.find(sweep, request)
    assert record is not None
    return record.state


def test_an_evaluation_from_its_request_to_its_end(store: SqlStore, clock: ManualClock) -> None:
    sweep, evaluations = ended(store), store.evaluations
    assert evaluations.find(sweep, SCRIPT) is None
    queued = evaluations.submit(sweep, SCRIPT)
    assert (queued.state, queued.created_at, queued.started_at) == (EvaluationState.QUEUED, clock.time, None)
    assert queued.request == SCRIPT.to_dict()
    clock.time += 5
    lease = leased(store)
    assert (lease.evaluation.state, lease.evaluation.started_at) == (EvaluationState.IN_PROGRESS, clock.time)
    assert evaluations.submit(sweep, SCRIPT) == lease.evaluation
    clock.time += 5
    assert evaluations.complete(lease, [{"n": 3}], left_out=1)
    completed = evaluations.get(sweep.id, queued.id)
    assert (completed.state, completed.ended_at, completed.error) == (EvaluationState.COMPLETED, clock.time, None)
    assert (completed.groups, completed.left_out, completed.epoch) == ([{"n": 3}], 1, 1)
    assert evaluations.submit(sweep, SCRIPT) == completed
    assert evaluations.lease("other", models=[], ttl=TTL) is None


def test_it_is_leased_to_one_server_and_taken_over_once_the_lease_has_expired(
    store: SqlStore, clock: ManualClock
) -> None:
    sweep, evaluations = ended(store), store.evaluations
    evaluations.submit(sweep, SCRIPT)
    killed = leased(store, "killed")
    assert evaluations.lease("other", models=[], ttl=TTL) is None
    clock.time += TTL - 1
    assert evaluations.extend([killed], ttl=TTL) == []
    clock.time += TTL - 1
    assert state(store, sweep) is EvaluationState.IN_PROGRESS
    clock.time += 1
    assert state(store, sweep) is EvaluationState.QUEUED
    taken_over = leased(store, "other")
    assert taken_over.key == (killed.key[0], killed.key[1] + 1)
    before = evaluations.of_sweep(sweep.id)
    assert evaluations.extend([killed, taken_over], ttl=TTL) == [killed]
    assert not evaluations.complete(killed, [{"n": 0}], left_out=0)
    assert not evaluations.fail(killed, "late")
    assert not evaluations.release(killed)
    assert evaluations.of_sweep(sweep.id) == before
    assert evaluations.complete(taken_over, [], left_out=0)


def test_one_that_ends_its_servers_is_failed_and_can_be_requested_again(store: SqlStore, clock: ManualClock) -> None:
    sweep = ended(store)
    store.evaluations.submit(sweep, SCRIPT)
    for _ in range(MAX_EXPIRATIONS):
        lease = leased(store)
        clock.time += TTL
    assert store.evaluations.lease("other", models=[], ttl=TTL) is None
    failed = store.evaluations.get(sweep.id, lease.key[0])
    assert (failed.state, failed.ended_at) == (EvaluationState.FAILED, clock.time)
    assert failed.error is not None
    assert f"{MAX_EXPIRATIONS} times" in failed.error
    again = store.evaluations.submit(sweep, SCRIPT)
    assert (again.state, again.error, again.ended_at) == (EvaluationState.QUEUED, None, None)
    assert leased(store).key == (lease.key[0], MAX_EXPIRATIONS + 1)


def test_one_that_is_released_waits_and_does_not_count(store: SqlStore, clock: ManualClock) -> None:
    sweep = ended(store)
    store.evaluations.submit(sweep, SCRIPT)
    for _ in range(MAX_EXPIRATIONS + 1):
        assert store.evaluations.release(leased(store), error="no engine is ready", delay=10)
        (record,) = store.evaluations.of_sweep(sweep.id)
        assert (record.state, record.error) == (EvaluationState.QUEUED, "no engine is ready")
        assert store.evaluations.lease("other", models=[], ttl=TTL) is None
        clock.time += 10
    assert leased(store).evaluation.error is None


def test_one_by_a_judge_is_left_to_the_servers_that_have_it(store: SqlStore, clock: ManualClock) -> None:
    sweep = ended(store)
    store.evaluations.submit(sweep, BY_JUDGE)
    clock.time += 1
    store.evaluations.submit(sweep, SCRIPT)
    assert leased(store, models=("small",)).evaluation.request == SCRIPT.to_dict()
    assert leased(store, models=("small", "large")).evaluation.request == BY_JUDGE.to_dict()


def test_without_results_it_waits_and_its_lease_is_lost(store: SqlStore) -> None:
    sweep = ended(store)
    store.evaluations.submit(sweep, SCRIPT)
    lease = leased(store)
    store.reopen_sweep(sweep.id, "a file is lost")
    assert store.evaluations.extend([lease], ttl=TTL) == [lease]
    assert state(store, sweep) is EvaluationState.QUEUED
    assert store.evaluations.lease("other", models=[], ttl=TTL) is None
    with pytest.raises(Conflict, match="has no results"):
        store.evaluations.submit(store.get_sweep(sweep.id), SCRIPT)
    assembled(store, sweep.id)
    assert leased(store).key[0] == lease.key[0]


def test_it_is_cancelled_with_its_sweep(store: SqlStore) -> None:
    sweep = ended(store)
    store.evaluations.submit(sweep, SCRIPT)
    lease = leased(store)
    store.reopen_sweep(sweep.id, "a file is lost")
    (cell,) = store.list_cells(sweep.id).data
    store.reset_cell(cell.id, "its file is lost, too")
    store.cancel_sweep(sweep.id)
    assert state(store, sweep) is EvaluationState.CANCELLED
    assert store.evaluations.extend([lease], ttl=TTL) == [lease]
    assert state(store, sweep) is EvaluationState.CANCELLED
    assert not store.evaluations.complete(lease, [], left_out=0)


def test_it_is_deleted_when_the_results_expire(store: SqlStore, clock: ManualClock) -> None:
    old = ended(store, 1)
    store.evaluations.submit(old, SCRIPT)
    lease = leased(store)
    clock.time += 100
    new = ended(store, 2)
    store.evaluations.submit(new, SCRIPT)
    assert store.evaluations.delete_expired() == 0
    store.expire_results(clock.time - 50)
    assert store.evaluations.delete_expired() == 1
    assert store.evaluations.of_sweeps([old.id, new.id, "sweep_x"]) == {
        old.id: [],
        new.id: store.evaluations.of_sweep(new.id),
    }
    assert store.evaluations.extend([lease], ttl=TTL) == [lease]


def test_too_many_are_refused(store: SqlStore) -> None:
    sweep = ended(store)
    requests = [parse_evaluation({"metrics": ["script"], "by": [f"column_{n}"]}) for n in range(MAX_UNFINISHED)]
    for request in requests:
        store.evaluations.submit(sweep, request)
    with pytest.raises(Unavailable, match=f"{MAX_UNFINISHED} evaluations are in progress"):
        store.evaluations.submit(sweep, SCRIPT)
    assert store.evaluations.submit(sweep, requests[0]).state is EvaluationState.QUEUED
    assert store.evaluations.complete(leased(store), [], left_out=0)
    assert store.evaluations.submit(sweep, SCRIPT).state is EvaluationState.QUEUED


def test_an_unknown_evaluation_is_not_found(store: SqlStore) -> None:
    sweep, other = ended(store, 1), ended(store, 2)
    record = store.evaluations.submit(sweep, SCRIPT)
    for sweep_id, evaluation_id in ((sweep.id, "evaluation_x"), (other.id, record.id)):
        with pytest.raises(NotFound, match="has no evaluation"):
            store.evaluations.get(sweep_id, evaluation_id)


def test_leases_end_when_the_only_server_starts_again(tmp_path: Path, clock: ManualClock) -> None:
    store = quick_sql_store(tmp_path, clock)
    sweep = ended(store)
    store.evaluations.submit(sweep, SCRIPT)
    lease = leased(store)
    store.close()
    store = quick_sql_store(tmp_path, clock)
    assert leased(store).key == (lease.key[0], 2)
    store.close()
