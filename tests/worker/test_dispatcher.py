from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.errors import EngineFailed, EngineLost, InvalidRequest, Unavailable
from jobs.store.cell_state import MAX_ATTEMPTS
from jobs.store.records import CellFile, Lease, SweepLease
from jobs.store.transitions import CellState, SweepState
from tests.jobs.cluster import completed
from tests.worker.installation import Installation, until
from tests.worker.stub_pool import StubPool
from worker.dispatcher import Dispatcher

pytestmark = pytest.mark.anyio


class StoppedClock:
    def __init__(self) -> None:
        self.time = 1_000.0

    def now(self) -> float:
        return self.time


class DispatcherSetup:
    """A store on a stopped clock, a pool that waits, and a dispatcher that is turned by hand."""

    def __init__(self, data: Path, *, limit: int = 100, **options: Any) -> None:
        self.clock = StoppedClock()
        self.installation = Installation.build(data, clock=self.clock)
        self.store = self.installation.store
        self.pool = StubPool(limit)
        self.finalized: list[str] = []
        self.changes = 0
        self.dispatcher = Dispatcher(
            store=self.store, pool=self.pool, finalize=self.finalize, owner="me", on_change=self.changed, **options
        )

    def finalize(self, lease: SweepLease) -> None:
        self.finalized.append(lease.sweep_id)
        self.store.finish_sweep(lease)

    def changed(self) -> None:
        self.changes += 1
        self.pool.notifier.notify()

    async def poll_once(self) -> list[str]:
        await self.dispatcher.poll_once()
        return await self.pool.leased()

    def cell(self, sweep_id: str, cell_id: str) -> Any:
        return next(record for record in self.store.list_cells(sweep_id).data if record.id == cell_id)


@pytest.fixture
def dispatching(tmp_path: Path) -> DispatcherSetup:
    return DispatcherSetup(tmp_path)


async def test_a_sweep_runs_to_its_end_and_is_finalized(dispatching: DispatcherSetup) -> None:
    sweep = dispatching.installation.submit()
    running = await dispatching.poll_once()
    assert len(running) == sweep.request_counts.total
    for cell_id in running:
        dispatching.pool.succeed(cell_id)
    await dispatching.dispatcher.idle()
    assert dispatching.store.get_sweep(sweep.id).state is SweepState.FINALIZING
    await dispatching.poll_once()
    await dispatching.dispatcher.idle()
    assert dispatching.finalized == [sweep.id]
    assert dispatching.store.get_sweep(sweep.id).state is SweepState.COMPLETED
    assert dispatching.changes >= 2, "the cells' end and the sweep's"


async def test_no_more_cells_are_leased_than_the_pool_takes(tmp_path: Path) -> None:
    dispatching = DispatcherSetup(tmp_path, limit=3)
    dispatching.installation.submit()
    first = await dispatching.poll_once()
    assert len(first) == 3
    assert await dispatching.poll_once() == first
    dispatching.pool.succeed(first[0])
    while len(await dispatching.poll_once()) < 3:
        pass
    assert first[0] not in await dispatching.pool.leased()


async def test_a_cell_whose_engine_died_runs_again_and_is_given_up_after_the_last_attempt(tmp_path: Path) -> None:
    dispatching = DispatcherSetup(tmp_path, limit=1)
    sweep = dispatching.installation.submit()
    for _ in range(MAX_ATTEMPTS):
        (cell_id,) = await dispatching.poll_once()
        dispatching.pool.fail(cell_id, EngineFailed("it died"))
        await dispatching.dispatcher.idle()
    record = dispatching.cell(sweep.id, cell_id)
    assert (record.state, record.attempts, record.error) == (CellState.FAILED, MAX_ATTEMPTS, "it died")


async def test_a_cell_that_is_rejected_is_not_retried(dispatching: DispatcherSetup) -> None:
    sweep = dispatching.installation.submit()
    (cell_id, *_) = await dispatching.poll_once()
    dispatching.pool.fail(cell_id, InvalidRequest("no such language"))
    await until(dispatching.pool.notifier, lambda: dispatching.cell(sweep.id, cell_id).state is CellState.FAILED)
    assert dispatching.cell(sweep.id, cell_id).attempts == 1


@pytest.mark.parametrize("error", [Unavailable("still starting"), RuntimeError("can't start new thread")])
async def test_a_cell_without_an_engine_or_a_thread_is_released_without_an_attempt(
    tmp_path: Path, error: Exception
) -> None:
    dispatching = DispatcherSetup(tmp_path, limit=1)
    sweep = dispatching.installation.submit()
    (cell_id,) = await dispatching.poll_once()
    dispatching.pool.fail(cell_id, error)
    await dispatching.dispatcher.idle()
    record = dispatching.cell(sweep.id, cell_id)
    assert (record.state, record.attempts) == (CellState.PENDING, 0)


async def test_a_bug_fails_the_cell_and_not_the_dispatcher(tmp_path: Path) -> None:
    dispatching = DispatcherSetup(tmp_path, limit=1)
    sweep = dispatching.installation.submit()
    (cell_id,) = await dispatching.poll_once()
    dispatching.pool.fail(cell_id, ZeroDivisionError("oh"))
    await dispatching.dispatcher.idle()
    assert dispatching.cell(sweep.id, cell_id).error == "oh"
    assert await dispatching.poll_once() == [cell_id]


async def test_a_late_writer_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dispatching = DispatcherSetup(tmp_path, limit=1)
    sweep = dispatching.installation.submit()
    (cell_id,) = await dispatching.poll_once()
    late = dispatching.pool.outcomes[cell_id]
    dispatching.clock.time += 31
    assert dispatching.store.expire_leases() == 1
    (other,) = dispatching.store.lease_cells("another", models=["tiny"], limit=1, ttl=30)
    assert other.cell.id == cell_id
    late.set_result(late_file := _file(cell_id))
    with caplog.at_level(logging.WARNING):
        await dispatching.dispatcher.idle()
    assert "late report discarded" in caplog.text
    record = dispatching.cell(sweep.id, cell_id)
    assert (record.state, record.file) == (CellState.LEASED, None)
    assert dispatching.store.report([completed(other, late_file)]) == []


async def test_a_heartbeat_keeps_the_lease(tmp_path: Path) -> None:
    dispatching = DispatcherSetup(tmp_path, limit=1)
    dispatching.installation.submit()
    running = await dispatching.poll_once()
    for _ in range(5):
        dispatching.clock.time += 20
        await dispatching.dispatcher.heartbeat()
    assert await dispatching.poll_once() == running


async def test_a_cell_that_no_sweep_needs_is_aborted(tmp_path: Path) -> None:
    dispatching = DispatcherSetup(tmp_path, limit=1)
    sweep = dispatching.installation.submit()
    (cell_id,) = await dispatching.poll_once()
    dispatching.store.cancel_sweep(sweep.id)
    await dispatching.dispatcher.heartbeat()
    await dispatching.dispatcher.idle()
    assert dispatching.pool.outcomes[cell_id].cancelled()
    assert dispatching.store.get_sweep(sweep.id).state is SweepState.CANCELLED
    assert dispatching.cell(sweep.id, cell_id).attempts == 0


async def test_stop_releases_the_leases(tmp_path: Path) -> None:
    dispatching = DispatcherSetup(tmp_path, limit=2)
    sweep = dispatching.installation.submit()
    dispatching.dispatcher.start()
    await until(dispatching.pool.notifier, lambda: len(dispatching.pool.outcomes) == 2)
    await dispatching.dispatcher.stop()
    assert all(outcome.cancelled() for outcome in dispatching.pool.outcomes.values())
    assert {(record.state, record.attempts) for record in dispatching.store.list_cells(sweep.id).data} == {
        (CellState.PENDING, 0)
    }


async def test_a_new_sweep_is_noticed_at_once(tmp_path: Path) -> None:
    dispatching = DispatcherSetup(tmp_path)
    dispatching.dispatcher = Dispatcher(
        store=dispatching.store, pool=dispatching.pool, finalize=dispatching.finalize, owner="me", ttl=3600, poll=3600
    )
    dispatching.dispatcher.start()
    await asyncio.sleep(0)
    dispatching.installation.submit()
    dispatching.dispatcher.wake()
    await until(dispatching.pool.notifier, lambda: bool(dispatching.pool.outcomes))
    await dispatching.dispatcher.stop()


async def test_a_store_that_fails_does_not_end_the_loop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dispatching = DispatcherSetup(tmp_path)
    working = dispatching.store.lease_cells
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def broken(*args: Any, **more: Any) -> list[Lease]:
        loop.call_soon_threadsafe(failed.set)
        raise OSError("the disk is gone")

    dispatching.store.lease_cells = broken  # type: ignore[method-assign]
    dispatching.installation.submit()
    dispatching.dispatcher.start()
    await asyncio.wait_for(failed.wait(), 5)
    dispatching.store.lease_cells = working  # type: ignore[method-assign]
    dispatching.dispatcher.wake()
    await until(dispatching.pool.notifier, lambda: bool(dispatching.pool.outcomes))
    await dispatching.dispatcher.stop()
    assert "the disk is gone" in caplog.text


async def test_cells_quarantined_after_a_crash_run_exclusively_and_harmless_ones_complete(tmp_path: Path) -> None:
    dispatching = DispatcherSetup(tmp_path, limit=3)
    sweep = dispatching.installation.submit()
    crowd = await dispatching.poll_once()
    for cell_id in crowd:
        dispatching.pool.fail(cell_id, EngineLost("the engine died with 3 cells in flight"))
    await dispatching.dispatcher.idle()
    poison = crowd[0]
    for _ in range(100):
        for cell_id in await dispatching.poll_once():
            if cell_id == poison:
                dispatching.pool.fail(cell_id, EngineFailed("it died again"))
            else:
                dispatching.pool.succeed(cell_id)
        await dispatching.dispatcher.idle()
        if dispatching.store.get_sweep(sweep.id).state is not SweepState.IN_PROGRESS:
            break
    counts = dispatching.store.get_sweep(sweep.id).request_counts
    assert (counts.completed, counts.failed) == (counts.total - 1, 1)
    assert set(dispatching.pool.exclusive) == set(crowd)
    assert dispatching.cell(sweep.id, poison).attempts == MAX_ATTEMPTS


async def test_progress_travels_with_the_heartbeat(tmp_path: Path) -> None:
    dispatching = DispatcherSetup(tmp_path, limit=2)
    sweep = dispatching.installation.submit()
    await dispatching.poll_once()
    dispatching.pool.samples = 3
    await dispatching.dispatcher.heartbeat()
    assert dispatching.store.get_sweep(sweep.id).samples == 6
    assert [event.type for event in dispatching.store.events(sweep.id)][-2:] == ["cell.progress"] * 2


async def test_the_identification_that_cells_wait_for_is_told_once(tmp_path: Path) -> None:
    dispatching = DispatcherSetup(tmp_path, limit=8)
    sweep = dispatching.installation.submit()
    await dispatching.poll_once()
    cells = [record.cell for record in dispatching.store.list_cells(sweep.id).data]
    (neuron_set_id,) = {cell.neurons.id for cell in cells if cell.neurons is not None}
    recording = RecordingProgress(
        language="fr", languages=2, languages_done=1, tokens=300, total_tokens=400, tokens_per_second=50.0
    )
    assert await dispatching.dispatcher.recording_of(sweep.id) is None
    dispatching.pool.recorded = {neuron_set_id: recording}
    assert await dispatching.dispatcher.recording_of(sweep.id) == recording
    assert await dispatching.dispatcher.recording_of("sweep_2") is None
    await dispatching.dispatcher.heartbeat()
    (event,) = [each for each in dispatching.store.events(sweep.id) if each.type == "cell.finding_neurons"]
    assert event.data["neuron_set"] == neuron_set_id
    assert (event.data["tokens"], event.data["seconds_left"]) == (300, 2.0)
    assert RecordingProgress.from_dict(event.data) == recording


async def test_a_cell_without_heartbeats_loses_its_lease(tmp_path: Path) -> None:
    dispatching = DispatcherSetup(tmp_path, limit=1)
    dispatching.installation.submit()
    await dispatching.poll_once()
    dispatching.pool.running.clear()
    dispatching.clock.time += 20
    await dispatching.dispatcher.heartbeat()
    dispatching.clock.time += 11
    assert dispatching.store.expire_leases() == 1


async def test_reports_are_delivered_once_the_store_is_reachable_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    dispatching = DispatcherSetup(tmp_path, limit=1, poll=0.01)
    sweep = dispatching.installation.submit()
    (cell_id,) = await dispatching.poll_once()
    working, refused = dispatching.store.report, 0

    def locked(reports: Any) -> list[Lease]:
        nonlocal refused
        refused += 1
        if refused < 3:
            raise Unavailable("the database is locked") if refused == 1 else RuntimeError("can't start new thread")
        return working(reports)

    dispatching.store.report = locked  # type: ignore[method-assign]
    dispatching.pool.succeed(cell_id)
    await dispatching.dispatcher.idle()
    assert refused == 3
    assert caplog.messages.count("the cell ended") == 1, "it is logged once, not at each attempt"
    assert dispatching.cell(sweep.id, cell_id).state is CellState.COMPLETED


async def test_nothing_is_leased_while_results_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.dispatcher.BACKOFF_SECONDS", 0.0)
    full = True

    def check_writable() -> None:
        if full:
            raise Unavailable("no space left on device")

    dispatching = DispatcherSetup(tmp_path, limit=1, check_writable=check_writable)
    sweep = dispatching.installation.submit()
    (cell_id,) = await dispatching.poll_once()
    dispatching.pool.fail(cell_id, Unavailable("no space left on device"))
    await dispatching.dispatcher.idle()
    assert (dispatching.cell(sweep.id, cell_id).attempts, dispatching.cell(sweep.id, cell_id).error) == (
        0,
        "no space left on device",
    )
    assert await dispatching.poll_once() == []
    full = False
    assert len(await dispatching.poll_once()) == 1


def _file(cell_id: str) -> CellFile:
    return CellFile(name=f"{cell_id}.parquet", rows=4, sha256="0" * 64)


async def test_a_clean_up_can_be_caused_at_once(tmp_path: Path) -> None:
    setup, cleaned = DispatcherSetup(tmp_path), asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()
    dispatcher = Dispatcher(
        store=setup.store,
        pool=setup.pool,
        finalize=setup.finalize,
        owner="me",
        clean_up=lambda: loop.call_soon_threadsafe(cleaned.release),
    )
    dispatcher.start()
    async with asyncio.timeout(30):
        await cleaned.acquire()
        dispatcher.clean_up_now()
        await cleaned.acquire()
    await dispatcher.stop()
    assert cleaned.locked(), "it is called no more often"
