"""The slot of an engine counts the work in flight, and reserves the engine for one cell."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ampsweep.errors import EngineFailed
from worker.engines import EngineSpec
from worker.pool.engine_slot import EngineSlot, starting_error

pytestmark = pytest.mark.anyio


@pytest.fixture
def slot() -> EngineSlot:
    return EngineSlot(spec=EngineSpec(model="tiny", folder=Path(), kind="fake"), index=1)


def test_a_start_has_a_phase_and_its_seconds_until_it_ends(slot: EngineSlot) -> None:
    shown = slot.describe(now=100.0)
    assert (shown["phase"], shown["start_seconds"]) == (None, None)
    slot.enter_phase("starting an engine process", now=100.0)
    slot.enter_phase("loading the model", now=110.0)
    shown = slot.describe(now=140.04)
    assert (shown["phase"], shown["start_seconds"]) == ("loading the model", 40.0)
    slot.end_start(now=162.0)
    slot.end_start(now=170.0)
    shown = slot.describe(now=1000.0)
    assert (shown["phase"], shown["start_seconds"]) == (None, 62.0)
    slot.enter_phase("waiting for the next start", now=1000.0)
    assert slot.describe(now=1003.0)["start_seconds"] == 3.0


@pytest.mark.parametrize(("seconds", "retry_after"), [(0, 2), (9, 3), (60, 15), (600, 30)])
def test_the_longer_a_start_takes_the_later_clients_try_again(
    slot: EngineSlot, seconds: float, retry_after: int
) -> None:
    late = EngineSlot(spec=slot.spec)
    slot.enter_phase("loading the model", now=0.0)
    late.enter_phase("starting an engine process", now=float(seconds))
    error = starting_error([late, slot], now=float(seconds))
    assert error.retry_after == retry_after
    assert f"retry in {retry_after} s" in error.message
    if seconds > 1:
        assert error.message.startswith(
            f"the engine of model 'tiny' is starting (loading the model, {seconds} s so far)"
        )


async def test_work_in_flight_is_counted_and_only_successes_count_as_finished(slot: EngineSlot) -> None:
    with slot.computing(), slot.streaming():
        assert (slot.cells, slot.streams, slot.load) == (1, 1, 2)
    with pytest.raises(EngineFailed), slot.computing():
        raise EngineFailed("it died")
    assert (slot.load, slot.started_work, slot.finished_work) == (0, 3, 2)


async def test_an_exclusive_cell_waits_until_the_others_have_ended(slot: EngineSlot) -> None:
    order: list[str] = []

    async def exclusive() -> None:
        with slot.computing():
            async with slot.exclusive():
                assert slot.cells == 1
                order.append("exclusive")

    with slot.computing():
        with slot.computing():
            running = asyncio.create_task(exclusive())
            await asyncio.sleep(0)
            assert slot.reserved
        await asyncio.sleep(0)
        order.append("the others")
    async with asyncio.timeout(10):
        await running
    assert order == ["the others", "exclusive"]
    assert not slot.reserved


async def test_a_cancelled_exclusive_cell_releases_its_reservation(slot: EngineSlot) -> None:
    async def exclusive() -> None:
        with slot.computing():
            async with slot.exclusive():
                raise AssertionError("another cell is in flight")

    with slot.computing():
        running = asyncio.create_task(exclusive())
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert (slot.reserved, slot.load) == (False, 0)


async def test_a_slot_describes_its_engine(slot: EngineSlot) -> None:
    slot.state, slot.error, slot.failures = "failed", EngineFailed("out of memory"), 5
    assert slot.describe(now=0.0) == {
        "model": "tiny",
        "engine": "fake",
        "index": 1,
        "state": "failed",
        "phase": None,
        "start_seconds": None,
        "error": "out of memory",
        "failures": 5,
        "supervised": True,
    }
