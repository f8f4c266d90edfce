"""Finalization of sweeps: failures, and two dispatchers on one store, of which only one does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from jobs.store.records import SweepLease, SweepRecord
from jobs.store.transitions import SweepState
from tests.worker.stub_pool import StubPool
from tests.worker.test_dispatcher import DispatcherSetup
from worker.dispatcher import Dispatcher
from worker.sweep_finalizer import FINALIZE_RETRY_SECONDS, MAX_FINALIZING

pytestmark = pytest.mark.anyio


def two_servers(
    dispatching: DispatcherSetup, finalize: Callable[[SweepLease], object]
) -> tuple[Dispatcher, Dispatcher]:
    """Make two dispatchers on one store."""
    one, other = (
        Dispatcher(store=dispatching.store, pool=StubPool(0), finalize=finalize, owner=name, ttl=30.0)
        for name in ("a", "b")
    )
    return one, other


async def ready_to_finalize(dispatching: DispatcherSetup) -> SweepRecord:
    sweep = dispatching.installation.submit()
    for cell_id in await dispatching.poll_once():
        dispatching.pool.succeed(cell_id)
    await dispatching.dispatcher.idle()
    return sweep


async def test_only_one_of_two_servers_finalizes_a_sweep(tmp_path: Path) -> None:
    dispatching, finish, finalized = DispatcherSetup(tmp_path), Event(), list[SweepLease]()

    def finalize(lease: SweepLease) -> None:
        finalized.append(lease)
        finish.wait(30)
        dispatching.store.finish_sweep(lease)

    sweep = await ready_to_finalize(dispatching)
    servers = two_servers(dispatching, finalize)
    for server in servers * 3:
        await server.poll_once()
        dispatching.clock.time += 20
        await server.heartbeat()
    finish.set()
    for server in servers:
        await server.idle()
    assert [lease.owner for lease in finalized] == ["a"]
    assert dispatching.store.get_sweep(sweep.id).state is SweepState.COMPLETED


async def test_only_so_many_sweeps_are_finalized_at_the_same_time(tmp_path: Path) -> None:
    dispatching, finish, begun = DispatcherSetup(tmp_path), Event(), list[str]()

    def finalize(lease: SweepLease) -> None:
        begun.append(lease.sweep_id)
        finish.wait(30)
        dispatching.store.finish_sweep(lease)

    await ready_to_finalize(dispatching)
    for number in range(MAX_FINALIZING):
        dispatching.installation.submit(name=f"the same cells {number}")
    server, _ = two_servers(dispatching, finalize)
    for _ in range(3):
        await server.poll_once()
    finish.set()
    await server.idle()
    assert len(begun) == MAX_FINALIZING
    await server.poll_once()
    await server.idle()
    assert len(set(begun)) == MAX_FINALIZING + 1


async def test_a_finalizer_with_an_expired_lease_is_replaced_and_changes_nothing(tmp_path: Path) -> None:
    dispatching, finish = DispatcherSetup(tmp_path), Event()

    def finalize(lease: SweepLease) -> None:
        if lease.owner == "a":
            finish.wait(30)
        dispatching.store.finish_sweep(lease, error=f"by {lease.owner}")

    sweep = await ready_to_finalize(dispatching)
    stopped, other = two_servers(dispatching, finalize)
    await stopped.poll_once()
    dispatching.clock.time += 31
    await other.poll_once()
    await other.idle()
    finish.set()
    await stopped.idle()
    assert dispatching.store.get_sweep(sweep.id).error == "by b"


async def test_results_that_cannot_be_assembled_fail_the_sweep(tmp_path: Path) -> None:
    dispatching = DispatcherSetup(tmp_path)

    def finalize(_lease: SweepLease) -> None:
        raise ZeroDivisionError("no rows")

    dispatching.dispatcher = Dispatcher(store=dispatching.store, pool=dispatching.pool, finalize=finalize, owner="me")
    sweep = await ready_to_finalize(dispatching)
    await dispatching.poll_once()
    await dispatching.dispatcher.idle()
    record = dispatching.store.get_sweep(sweep.id)
    assert record.state is SweepState.FAILED
    assert "no rows" in str(record.error)


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("can't start new thread")])
async def test_finalization_is_retried_without_disk_or_threads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    dispatching = DispatcherSetup(tmp_path)

    def finalize(_lease: SweepLease) -> None:
        raise error

    dispatching.dispatcher = Dispatcher(store=dispatching.store, pool=dispatching.pool, finalize=finalize, owner="me")
    sweep = await ready_to_finalize(dispatching)
    for _ in range(3):
        await dispatching.poll_once()
        await dispatching.dispatcher.idle()
    assert dispatching.store.get_sweep(sweep.id).state is SweepState.FINALIZING
    assert caplog.text.count("cannot be written now") == 1
    dispatching.clock.time += FINALIZE_RETRY_SECONDS
    await dispatching.poll_once()
    await dispatching.dispatcher.idle()
    assert caplog.text.count("cannot be written now") == 2
    assert str(error) in caplog.text
    assert "Traceback" not in caplog.text
