from __future__ import annotations

import asyncio
import threading

import pytest

from ampsweep.errors import DataUnavailable, InvalidRequest
from api.planning import PlanningThreads

pytestmark = pytest.mark.anyio


async def test_a_plan_or_its_error_is_returned() -> None:
    threads = PlanningThreads(threads=1)
    assert await threads.run(lambda: "plan") == "plan"

    def fail() -> None:
        raise InvalidRequest("no such task", param="tasks.0.name")

    with pytest.raises(InvalidRequest, match="no such task"):
        await threads.run(fail)
    assert await threads.run(lambda: 2) == 2


async def test_a_slow_plan_ends_in_time_and_keeps_its_thread_until_it_is_done() -> None:
    threads, loaded = PlanningThreads(seconds=0.05, threads=1), threading.Event()
    with pytest.raises(DataUnavailable, match="still being loaded") as caught:
        await threads.run(loaded.wait)
    assert (caught.value.param, caught.value.retry_after) == ("tasks", 60)
    called = []
    with pytest.raises(DataUnavailable):
        await threads.run(lambda: called.append("while the only thread is occupied"))
    loaded.set()
    threads.seconds = 30.0
    assert await threads.run(lambda: "free again") == "free again"
    assert called == []


async def test_a_thread_that_cannot_be_started_keeps_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = PlanningThreads(seconds=5.0, threads=1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="start new thread"):
            await threads.run(lambda: "no thread")
    assert await threads.run(lambda: "free") == "free"


async def test_a_cancelled_call_gives_its_thread_back() -> None:
    threads, loaded = PlanningThreads(threads=1), threading.Event()
    call = asyncio.create_task(threads.run(loaded.wait))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    loaded.set()
    assert await threads.run(lambda: "free again") == "free again"
