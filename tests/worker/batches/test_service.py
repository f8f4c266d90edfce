"""Servers on one store: a batch runs on one of them at a time, and outlives the server that ran it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from jobs.batches.files import PART_ROWS
from jobs.batches.records import BatchRecord, BatchState
from jobs.store.sql.batches import WINDOW
from tests.jobs.cluster import ManualClock
from tests.worker.batches.stub_rows import StubRows
from tests.worker.installation import Installation
from worker.batches.service import MAX_RUNNING_PER_OWNER, LeasedBatchService
from worker.leased_service import RETRY_SECONDS

pytestmark = pytest.mark.anyio

TTL = 30.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def installation(tmp_path: Path, clock: ManualClock) -> Installation:
    return Installation.build(tmp_path, clock=clock)


def service(
    installation: Installation, rows: StubRows, clock: ManualClock, owner: str = "one", **options: Any
) -> LeasedBatchService:
    return installation.batch_service(rows, clock=clock, owner=owner, ttl=TTL, **options)


def created(server: LeasedBatchService, lines: list[dict[str, Any]], *, owner: str = "me") -> BatchRecord:
    files = server.batches.files
    file_id = files.new_id()
    size = server.files.save(file_id, BytesIO("".join(f"{json.dumps(line)}\n" for line in lines).encode()))
    files.add(file_id, owner=owner, filename="in.jsonl", purpose="batch", size=size)
    return server.batches.create(owner=owner, endpoint="/v1/completions", input_file_id=file_id, total=len(lines))


def names(server: LeasedBatchService, file_id: str | None) -> list[str]:
    assert file_id is not None
    return [json.loads(line)["custom_id"] for line in server.files.lines(file_id)]


LINES = [{"id": str(number), "held": number == PART_ROWS} for number in range(PART_ROWS + 2)]
"""Two parts, the second of which is held."""


async def test_a_batch_runs_to_its_end(installation: Installation, clock: ManualClock) -> None:
    server = service(installation, StubRows(), clock)
    batch = created(server, [{"id": "a"}, {"id": "b", "status": 400}])
    await server.poll_once()
    await server.idle()
    ended = server.batches.get(batch.id)
    assert (ended.state, ended.counts.completed, ended.counts.failed) == (BatchState.COMPLETED, 1, 1)
    assert (names(server, ended.output_file_id), names(server, ended.error_file_id)) == (["a"], ["b"])
    assert server.batches.files.get(ended.output_file_id or "").purpose == "batch_output"
    assert server.files.batch_ids() == set()


async def test_a_restarted_server_sends_only_what_has_no_result(installation: Installation, clock: ManualClock) -> None:
    rows = StubRows()
    first = service(installation, rows, clock)
    batch = created(first, LINES)
    await first.poll_once()
    await rows.held.wait()
    await _until(lambda: first.batches.get(batch.id).counts.completed == PART_ROWS)
    await first.stop()
    assert first.batches.get(batch.id).state is BatchState.VALIDATING
    later_rows = StubRows()
    later_rows.gate.set()
    second = service(installation, later_rows, clock, "two")
    await second.poll_once()
    await second.idle()
    assert set(later_rows.answered) == {str(PART_ROWS), str(PART_ROWS + 1)}
    ended = second.batches.get(batch.id)
    assert ended.state is BatchState.COMPLETED
    assert names(second, ended.output_file_id) == [line["id"] for line in LINES]


async def test_a_killed_servers_batch_is_taken_over_and_its_late_result_discarded(
    installation: Installation, clock: ManualClock
) -> None:
    killed_rows, rows = StubRows(), StubRows()
    rows.gate.set()
    killed, other = service(installation, killed_rows, clock), service(installation, rows, clock, "two")
    batch = created(killed, [{"id": "a", "held": True}])
    await killed.poll_once()
    await killed_rows.held.wait()
    clock.time += TTL
    await other.poll_once()
    await other.idle()
    ended = other.batches.get(batch.id)
    killed_rows.gate.set()
    await killed.idle()
    assert other.batches.get(batch.id) == ended
    assert set(other.files.ids()) == {batch.input_file_id, ended.output_file_id}


async def test_a_batch_that_another_server_took_over_is_aborted(installation: Installation, clock: ManualClock) -> None:
    rows = StubRows()
    killed, other = service(installation, rows, clock), service(installation, StubRows(), clock, "two")
    created(killed, [{"id": "a", "held": True}])
    await killed.poll_once()
    await rows.held.wait()
    clock.time += TTL
    await other.poll_once()
    await killed.heartbeat()
    await killed.idle()
    assert killed._running == {}
    await other.stop()


async def test_a_cancelled_batch_publishes_what_it_has(installation: Installation, clock: ManualClock) -> None:
    rows = StubRows()
    server = service(installation, rows, clock)
    batch = created(server, LINES)
    await server.poll_once()
    await rows.held.wait()
    await _until(lambda: server.batches.get(batch.id).counts.completed == PART_ROWS)
    assert (await server.cancel(batch.id)).state is BatchState.CANCELLING
    await server.idle()
    ended = server.batches.get(batch.id)
    assert ended.state is BatchState.CANCELLED
    assert names(server, ended.output_file_id) == [str(number) for number in range(PART_ROWS)]
    assert ended.error_file_id is None


async def test_a_batch_that_no_server_runs_is_cancelled_by_the_next_poll(
    installation: Installation, clock: ManualClock
) -> None:
    rows = StubRows()
    server = service(installation, rows, clock)
    batch = created(server, [{"id": "a"}])
    await server.cancel(batch.id)
    await server.poll_once()
    await server.idle()
    assert server.batches.get(batch.id).state is BatchState.CANCELLED
    assert not rows.answered


async def test_requests_that_have_no_answer_after_a_day_expire(installation: Installation, clock: ManualClock) -> None:
    rows = StubRows()
    server = service(installation, rows, clock)
    batch = created(server, LINES)
    await server.poll_once()
    await rows.held.wait()
    await _until(lambda: server.batches.get(batch.id).counts.completed == PART_ROWS)
    clock.time += TTL / 2
    await server.heartbeat()
    assert server.batches.get(batch.id).state is BatchState.IN_PROGRESS
    clock.time = batch.created_at + WINDOW
    await server.heartbeat()
    await server.idle()
    ended = server.batches.get(batch.id)
    assert (ended.state, ended.counts.completed, ended.counts.failed) == (BatchState.EXPIRED, PART_ROWS, 2)
    assert names(server, ended.error_file_id) == [str(PART_ROWS), str(PART_ROWS + 1)]


async def test_batches_whose_engine_does_not_start_give_their_places_back(
    installation: Installation, clock: ManualClock
) -> None:
    server = service(installation, StubRows(), clock, sleep=lambda _: asyncio.sleep(0))
    waiting = [created(server, [{"id": "w", "waits": 10**6}]) for _ in range(MAX_RUNNING_PER_OWNER)]
    ready = created(server, [{"id": "a"}])
    async with asyncio.timeout(20):
        await server.poll_once()
        await server.idle()
        for batch in waiting:
            record = server.batches.get(batch.id)
            assert (record.state, record.error) == (BatchState.VALIDATING, "the engine starts")
        await server.poll_once()
        await server.idle()
    assert server.batches.get(ready.id).state is BatchState.COMPLETED
    clock.time += RETRY_SECONDS
    assert server.batches.lease("later", ttl=TTL, per_owner=1) is not None


async def test_a_batch_runs_beside_the_long_ones_of_another_owner(
    installation: Installation, clock: ManualClock
) -> None:
    rows = StubRows()
    server = service(installation, rows, clock)
    long = [created(server, [{"id": "a", "held": True}]) for _ in range(MAX_RUNNING_PER_OWNER + 1)]
    short = created(server, [{"id": "b"}], owner="other")
    await server.poll_once()
    await _until(lambda: server.batches.get(short.id).state is BatchState.COMPLETED)
    assert server.batches.get(long[-1].id).state is BatchState.VALIDATING
    rows.gate.set()
    await server.idle()


async def test_a_batch_whose_file_is_lost_fails(installation: Installation, clock: ManualClock) -> None:
    server = service(installation, StubRows(), clock)
    batch = created(server, [{"id": "a"}])
    server.files.delete(batch.input_file_id)
    await server.poll_once()
    await server.idle()
    failed = server.batches.get(batch.id)
    assert failed.state is BatchState.FAILED
    assert "create the batch again" in (failed.error or "")


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if await asyncio.to_thread(condition):
            return
    raise AssertionError("it never came to be")
