"""The engine's thread runs commands in order, and a bad request fails alone."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from ampsweep.errors import InvalidRequest
from engine.vllm.loop import EngineLoop, WorkerResult
from tests.engine.vllm.stub_llm_engine import Output, StandIn, ask, make, run


def test_requests_are_answered_and_a_bad_one_fails_alone() -> None:
    async def check() -> None:
        engine = StandIn()
        loop = make(engine)
        await loop.start()
        good, bad = ask(loop, "good"), ask(loop, "too long")
        assert (await good).finished
        with pytest.raises(InvalidRequest, match="too long") as refused:
            await bad
        assert refused.value.param is None
        assert isinstance(refused.value.__cause__, ValueError)
        with pytest.raises(InvalidRequest, match="structured_outputs: too long; correct or simplify it") as refused:
            await ask(loop, "too long", params=SimpleNamespace(structured_outputs=object()))
        assert refused.value.param == "structured_outputs"
        await loop.stop()
        assert engine.log == ["add good", "shutdown"]

    run(check())


def test_requests_sent_together_share_their_first_step() -> None:
    """The second request arrives after the first was added, when an idle engine could have started a step."""

    async def check() -> None:
        engine = StandIn()
        stand_in: Any = engine
        loop = EngineLoop(lambda: stand_in, asyncio.get_running_loop(), batch_window=0.3)
        await loop.start()
        first = ask(loop, "first")
        assert await asyncio.to_thread(engine.added.wait, 10)
        await asyncio.gather(first, ask(loop, "second"))
        await loop.stop()
        assert engine.steps == [2]

    run(check())


def test_worker_results_are_collected_once_per_step_and_dropped_on_abort() -> None:
    async def check() -> None:
        engine = StandIn()
        loop = make(engine)
        await loop.start()
        held = threading.Event()
        busy = asyncio.create_task(loop.call(lambda _: held.wait(10)))
        await asyncio.sleep(0)  # all that follows is in the queue before the first step
        results = [WorkerResult(kind="score", key=key) for key in "abc"]
        answers = [ask(loop, result.key, result) for result in results]
        refused = ask(loop, "too long", WorkerResult(kind="score", key="d"))
        loop.abort("2")
        held.set()
        assert await busy
        await asyncio.gather(answers[0], answers[2])
        with pytest.raises(InvalidRequest):
            await refused
        assert [result.parts for result in results] == [
            ["a of worker 1", "a of worker 2"],
            [],
            ["c of worker 1", "c of worker 2"],
        ]
        await loop.stop()
        assert engine.log[3:] == ["abort", "steering_drop score b", "steering_take score ['a', 'c']", "shutdown"]

    run(check())


def test_steps_and_their_requests_are_counted_and_the_queue_is_reported() -> None:
    async def check() -> None:
        engine = StandIn()
        loop = make(engine)
        await loop.start()
        assert (loop.scheduled.kv_use, loop.scheduled.batch_size) == (0.25, 4)
        held = threading.Event()
        busy = asyncio.create_task(loop.call(lambda _: held.wait(10)))
        await asyncio.sleep(0)  # both are in the queue before the first step
        answers = [ask(loop, "one"), ask(loop, "two")]
        held.set()
        await asyncio.gather(busy, *answers)
        assert (loop.steps, loop.step_requests) == (1, 2)
        await ask(loop, "three")
        assert (loop.steps, loop.step_requests) == (2, 3)
        await loop.stop()
        assert loop.scheduled.waiting == 0

    run(check())


def test_a_cancelled_call_is_skipped() -> None:
    async def check() -> None:
        engine = StandIn()
        loop = make(engine)
        await loop.start()
        held = threading.Event()
        busy = asyncio.create_task(loop.call(lambda _: held.wait(10)))
        given_up = asyncio.create_task(loop.call(lambda _: engine.log.append("called")))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        held.set()
        assert await busy
        assert (await ask(loop, "good")).finished
        await loop.stop()
        assert engine.log == ["add good", "shutdown"]

    run(check())


def test_a_call_returns_or_raises_only_to_its_caller() -> None:
    async def check() -> None:
        loop = make(StandIn())
        await loop.start()
        assert await loop.call(lambda engine: engine.has_unfinished_requests()) is False
        with pytest.raises(ZeroDivisionError):
            await loop.call(lambda _: 1 // 0)
        assert (await ask(loop, "good")).finished
        await loop.stop()

    run(check())


class Talking(StandIn):
    """A stand-in whose only request gets an output in each of three steps, the last of which finishes it."""

    requests: ClassVar[dict[str, Any]] = {"1-vllm": SimpleNamespace(num_computed_tokens=7)}
    _states: ClassVar[dict[str, Any]] = {"1-vllm": SimpleNamespace(detokenizer=SimpleNamespace(output_text="a text"))}
    output_processor = SimpleNamespace(request_states=_states)

    def step(self) -> list[Any]:
        self.steps.append(1)
        self.log.append(f"step {len(self.steps)}")
        output = Output(self.waiting[0])
        output.finished = len(self.steps) == 3
        if output.finished:
            self.waiting.clear()
        return [output]


def test_steering_is_switched_between_the_step_with_the_text_and_the_next_one() -> None:
    async def check() -> None:
        engine = Talking()
        loop = make(engine)
        await loop.start()
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        seen: list[tuple[str, int]] = []
        positions = iter([None, 8])

        def read(output: Any, *, text: str, scheduled: int) -> int | None:
            seen.append((text, scheduled))
            return next(positions)

        answer: Any = SimpleNamespace(key="switch-1", read=read)

        def sink(output: Any) -> None:
            if output.finished:
                ended.set_result(None)

        loop.submit("hello", cast("Any", None), sink, switched=answer)
        await ended
        await loop.stop()
        assert engine.log == ["add hello", "step 1", "step 2", "steering_switch {'switch-1': 8}", "step 3", "shutdown"]
        assert seen == [("a text", 7)] * 2

    run(check())
