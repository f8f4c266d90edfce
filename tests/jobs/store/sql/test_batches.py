"""Batches and their files on both databases: pages, leases that expire, results, and what may be deleted."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep.errors import Conflict, NotFound, TooManyBatches, Unavailable
from jobs.batches.records import BatchLease, BatchRecord, BatchState, RowCounts
from jobs.store.sql import batches as store_of_batches
from jobs.store.sql.batches import MAX_EXPIRATIONS, MAX_UNFINISHED_PER_OWNER, WINDOW, Batches
from jobs.store.sql.store import SqlStore
from tests.jobs.cluster import ManualClock

TTL = 30.0
NOTHING = ("", 0)


@pytest.fixture
def batches(sql_store: SqlStore) -> Batches:
    return sql_store.batches


def uploaded(batches: Batches, **fields: Any) -> str:
    file_id = batches.files.new_id()
    given = {"owner": "me", "filename": "in.jsonl", "purpose": "batch", "size": 9, **fields}
    return batches.files.add(file_id, **given).id


def created(batches: Batches, **fields: Any) -> BatchRecord:
    if "input_file_id" not in fields:
        fields["input_file_id"] = uploaded(batches)
    return batches.create(**{"owner": "me", "endpoint": "/v1/completions", "total": 3, **fields})


def lease_next(batches: Batches, server: str = "one", *, per_owner: int = 64) -> BatchLease | None:
    return batches.lease(server, ttl=TTL, per_owner=per_owner)


def leased(batches: Batches, server: str = "one", *, per_owner: int = 64) -> BatchLease:
    lease = lease_next(batches, server, per_owner=per_owner)
    assert lease is not None
    return lease


def test_a_batch_from_its_creation_to_its_end(batches: Batches, clock: ManualClock) -> None:
    record = created(batches, metadata={"run": "1"}, output_expires_after=50.0)
    assert (record.state, record.created_at, record.expires_at) == (BatchState.VALIDATING, 1000.0, 1000.0 + WINDOW)
    clock.time += 5
    lease = leased(batches)
    assert (lease.batch.state, lease.batch.times) == (BatchState.IN_PROGRESS, {"in_progress_at": 1005.0})
    batches.report(lease, completed=1, failed=1)
    assert batches.get(record.id).counts == RowCounts(total=3, completed=1, failed=1)
    clock.time += 5
    assert batches.finalize(lease)
    output, errors = batches.files.new_id(), batches.files.new_id()
    counts = RowCounts(total=3, completed=2, failed=1)
    assert batches.finish(lease, BatchState.COMPLETED, counts=counts, output=(output, 70), errors=(errors, 0))
    ended = batches.get(record.id)
    assert (ended.state, ended.counts, ended.metadata) == (BatchState.COMPLETED, counts, {"run": "1"})
    assert (ended.output_file_id, ended.error_file_id) == (output, None)
    assert set(ended.times) == {"in_progress_at", "finalizing_at", "completed_at"}
    file = batches.files.get(output)
    assert (file.owner, file.purpose, file.bytes, file.expires_at) == ("me", "batch_output", 70, 1060.0)
    assert lease_next(batches, "other") is None


def test_one_server_runs_a_batch_and_another_takes_it_over_once_the_lease_has_expired(
    batches: Batches, clock: ManualClock
) -> None:
    created(batches)
    killed = leased(batches, "killed")
    assert lease_next(batches, "other") is None
    assert batches.extend([killed], ttl=TTL) == {killed.key: BatchState.IN_PROGRESS}
    clock.time += TTL
    later = leased(batches, "other")
    assert later.batch.epoch == killed.batch.epoch + 1
    assert batches.extend([killed, later], ttl=TTL) == {killed.key: None, later.key: BatchState.IN_PROGRESS}
    batches.report(killed, completed=3, failed=0)
    assert not batches.finish(killed, BatchState.COMPLETED, counts=killed.batch.counts, output=("x", 1), errors=NOTHING)
    assert batches.get(later.batch.id).counts.completed == 0
    with pytest.raises(NotFound):
        batches.files.get("x")


def test_a_batch_that_ends_its_server_again_and_again_is_failed(batches: Batches, clock: ManualClock) -> None:
    record = created(batches)
    for _ in range(MAX_EXPIRATIONS):
        leased(batches)
        clock.time += TTL
    assert lease_next(batches, "one") is None
    assert batches.get(record.id).state is BatchState.FAILED


def test_a_returned_batch_waits_and_is_leased_again(batches: Batches, clock: ManualClock) -> None:
    record = created(batches)
    batches.release(leased(batches), error="no disk", delay=10.0)
    waiting = batches.get(record.id)
    assert (waiting.state, waiting.error) == (BatchState.VALIDATING, "no disk")
    assert lease_next(batches, "one") is None
    clock.time += 10
    assert leased(batches).batch.error is None


def test_a_cancelled_batch_is_leased_to_publish_what_there_is(batches: Batches) -> None:
    record = created(batches)
    lease = leased(batches)
    assert batches.cancel(record.id).state is BatchState.CANCELLING
    assert batches.extend([lease], ttl=TTL) == {lease.key: BatchState.CANCELLING}
    assert not batches.finalize(lease)
    batches.release(lease)
    again = leased(batches)
    assert again.batch.state is BatchState.CANCELLING
    assert batches.finish(again, BatchState.CANCELLED, counts=again.batch.counts, output=NOTHING, errors=NOTHING)
    assert set(batches.get(record.id).times) == {"in_progress_at", "cancelling_at", "cancelled_at"}
    with pytest.raises(Conflict, match="cancelled and cannot be cancelled"):
        batches.cancel(record.id)


def test_the_oldest_batch_is_run_first_and_the_newest_listed_first(batches: Batches) -> None:
    first, second, third = (created(batches).id for _ in range(3))
    assert [leased(batches).batch.id for _ in range(3)] == [first, second, third]
    page = batches.list(limit=2)
    assert ([record.id for record in page.data], page.has_more) == ([third, second], True)
    assert [record.id for record in batches.list(after=second).data] == [first]
    with pytest.raises(NotFound):
        batches.list(after="batch_none")


def test_owners_take_turns(batches: Batches, clock: ManualClock) -> None:
    many = [created(batches).id for _ in range(3)]
    others = [created(batches, owner=owner).id for owner in ("second", "third")]
    first, second = leased(batches), leased(batches)
    assert [first.batch.id, second.batch.id] == [many[0], others[0]]
    clock.time += 1
    batches.fail(first, "why")
    assert leased(batches).batch.id == others[1]  # its owner has waited longest, and none of the three runs more
    clock.time += 1
    batches.fail(second, "why")
    assert [leased(batches).batch.id for _ in range(2)] == many[1:]


def test_a_batch_that_was_given_back_is_leased_after_the_other_ones_of_its_owner(
    batches: Batches, clock: ManualClock
) -> None:
    waiting, ready = created(batches).id, created(batches).id
    clock.time += 1
    batches.release(leased(batches), error="the engine starts")
    assert [leased(batches).batch.id for _ in range(2)] == [ready, waiting]


def test_one_owner_has_a_limited_number_of_batches_on_a_server(batches: Batches) -> None:
    first, _, third = [created(batches).id for _ in range(3)]
    assert leased(batches, per_owner=1).batch.id == first
    assert lease_next(batches, per_owner=1) is None
    other = created(batches, owner="other").id
    assert leased(batches, per_owner=1).batch.id == other
    batches.cancel(third)
    assert leased(batches, per_owner=1).batch.id == third  # it only has to be ended
    assert lease_next(batches, "another server", per_owner=1) is not None


def test_one_owner_has_a_limited_number_of_unfinished_batches(batches: Batches) -> None:
    for _ in range(MAX_UNFINISHED_PER_OWNER):
        last = created(batches)
    with pytest.raises(TooManyBatches, match=f"{MAX_UNFINISHED_PER_OWNER} of your batches .* or cancel one"):
        created(batches)
    created(batches, owner="other")
    batches.fail(leased(batches), "why")
    created(batches)
    assert last.id in batches.unfinished()


def test_there_is_a_limit_of_unfinished_batches_of_all_owners(
    batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_of_batches, "MAX_UNFINISHED", 2)
    created(batches)
    created(batches, owner="other")
    with pytest.raises(Unavailable, match="2 batches have not ended"):
        created(batches, owner="third")


def test_a_batch_needs_its_file(batches: Batches) -> None:
    with pytest.raises(NotFound):
        created(batches, input_file_id="file_none")


def test_ended_batches_are_deleted_by_age(batches: Batches, clock: ManualClock) -> None:
    old, running = created(batches), created(batches)
    batches.fail(leased(batches), "why")
    clock.time += 100
    assert batches.delete_ended(created_before=1000.0) == 0
    assert batches.delete_ended(created_before=1050.0) == 1
    assert batches.get(running.id).state is BatchState.VALIDATING
    with pytest.raises(NotFound):
        batches.get(old.id)


def test_leases_end_with_the_process_that_held_them(batches: Batches) -> None:
    created(batches)
    leased(batches)
    batches.expire_leases()
    assert leased(batches, "after the restart").batch.epoch == 2
