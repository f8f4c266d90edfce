"""How the engine's thread starts and ends: an engine that dies, or cannot be made, fails every request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ampsweep.errors import EngineFailed, UnsupportedModel
from engine.vllm.loop import EngineLoop
from tests.engine.vllm.stub_llm_engine import StandIn, ask, make, run


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (MemoryError("out of it"), "not enough memory .*out of it"),
        (SystemExit("out of it"), "died: SystemExit: out of it"),
    ],
)
def test_a_dead_engine_fails_requests_in_flight_and_later_ones(
    cause: BaseException, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def check() -> None:
        loop = make(StandIn(dies_of=cause))
        await loop.start()
        for _ in range(2):
            with pytest.raises(EngineFailed, match=message):
                await ask(loop, "good")
        with pytest.raises(EngineFailed):
            await loop.call(lambda _: None)

    run(check())
    (record,) = (record for record in caplog.records if record.name == "engine.vllm.loop")
    assert record.exc_info is not None
    assert record.exc_info[1] is cause, "the log has the place of the error"


def test_every_call_to_a_stopped_engine_fails_in_the_same_way() -> None:
    async def check() -> None:
        loop = make(StandIn())
        await loop.start()
        await loop.stop()
        calls: list[Callable[[], Awaitable[Any]]] = [lambda: ask(loop, "good"), lambda: loop.call(lambda _: None)]
        for call in calls:
            with pytest.raises(EngineFailed, match="the engine was stopped"):
                await call()
        loop.post(pytest.fail)  # nothing waits for it
        loop.abort("1")
        await loop.stop()
        assert await loop.ended() == "the engine was stopped"

    run(check())


def test_a_worker_that_dies_ends_an_idle_engine() -> None:
    async def check() -> None:
        engine = StandIn()
        loop = make(engine)
        await loop.start()
        ended = asyncio.create_task(loop.ended())
        await asyncio.sleep(0)
        assert not ended.done()
        engine.lose_a_worker()
        assert await ended == "the engine died: one of its workers' processes ended"
        with pytest.raises(EngineFailed, match="one of its workers"):
            await ask(loop, "later")
        await asyncio.to_thread(loop._thread.join, 10)
        assert not loop._thread.is_alive(), "it heard that it is over, whoever came in between"
        assert engine.log == ["shutdown"]

    run(check())


def test_a_worker_that_dies_fails_a_step_that_never_ends() -> None:
    async def check() -> None:
        engine = StandIn()
        engine.released.clear()
        loop = make(engine)
        await loop.start()
        answer = ask(loop, "good")
        assert await asyncio.to_thread(engine.stepping.wait, 10)
        engine.lose_a_worker()
        with pytest.raises(EngineFailed, match="one of its workers"):
            await answer
        engine.released.set()
        await loop.stop()
        assert engine.log == ["add good", "shutdown"]

    run(check())


def test_start_raises_what_making_the_engine_raises() -> None:
    def refuse() -> Any:
        raise UnsupportedModel("MixtralForCausalLM cannot be steered")

    async def check() -> None:
        with pytest.raises(UnsupportedModel, match="MixtralForCausalLM"):
            await EngineLoop(refuse, asyncio.get_running_loop()).start()

    run(check())


@pytest.mark.parametrize("step", ["register_failure_callback", "get_request_counts"])
def test_an_engine_that_cannot_be_prepared_is_shut_down_and_start_raises(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Any:
        raise AttributeError("vLLM has changed")

    async def check() -> None:
        engine = StandIn()
        monkeypatch.setattr(engine, step, fail)
        loop = make(engine)
        with pytest.raises(AttributeError, match="vLLM has changed"):
            await asyncio.wait_for(loop.start(), 5)
        assert engine.log == ["shutdown"]
        await asyncio.to_thread(loop._thread.join, 10)
        assert not loop._thread.is_alive()
        with pytest.raises(EngineFailed, match="the engine did not start: AttributeError: vLLM has changed"):
            await asyncio.wait_for(loop.call(lambda _: None), 5)
        assert "did not start" in await asyncio.wait_for(loop.ended(), 5)

    run(check())


def test_a_start_that_is_cancelled_ends_the_engine_once_it_is_made() -> None:
    async def check() -> None:
        engine = StandIn()
        loads, loaded = threading.Event(), threading.Event()

        def load() -> Any:
            loads.set()
            assert loaded.wait(10)
            return engine

        loop = EngineLoop(load, asyncio.get_running_loop())
        start = asyncio.create_task(loop.start())
        assert await asyncio.to_thread(loads.wait, 10)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(start, 5)
        assert engine.log == [], "the event loop did not wait for the load"
        loaded.set()
        await asyncio.to_thread(loop._thread.join, 10)
        assert not loop._thread.is_alive()
        assert engine.log == ["shutdown"]
        assert await loop.ended() == "the engine was stopped"

    run(check())
