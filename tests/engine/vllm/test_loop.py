"""The engine's thread runs commands in order, and a dead engine fails every request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from ampsweep.errors import AmpsweepError, EngineFailed, InvalidRequest, UnsupportedModel
from engine.vllm.loop import EngineLoop, WorkerResult


class Output:
    """One finished answer."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.finished = True


class StandIn:
    """A stand-in for an LLMEngine that finishes each request in one step, or dies in it."""

    def __init__(self, *, dies_of: BaseException | None = None) -> None:
        self.engine_core = self
        self.scheduler = self
        self.kv_cache_manager = self
        self.usage = 0.25
        self.max_num_running_reqs = 4
        self.model_executor = self
        self.lose_a_worker: Callable[[], None]
        self.stepping, self.released = threading.Event(), threading.Event()
        self.released.set()
        self.dies_of = dies_of
        self.waiting: list[str] = []
        self.log: list[str] = []
        self.steps: list[int] = []
        self.added = threading.Event()

    def add_request(self, request_id: str, prompt: str, _: object, *, lora_request: object, priority: int) -> str:
        assert lora_request is None
        if prompt == "too long":
            raise ValueError("too long")
        self.log.append(f"add {prompt}")
        self.waiting.append(request_id)
        self.added.set()
        return f"{request_id}-vllm"

    def abort_request(self, request_ids: list[str]) -> None:
        self.log.append("abort")
        self.waiting = [waiting for waiting in self.waiting if waiting not in request_ids]

    def has_unfinished_requests(self) -> bool:
        return bool(self.waiting)

    def step(self) -> list[Output]:
        if self.dies_of is not None:
            raise self.dies_of
        self.stepping.set()
        self.released.wait(10)
        done, self.waiting = self.waiting, []
        self.steps.append(len(done))
        return [Output(request_id) for request_id in done]

    def collective_rpc(self, name: str, args: tuple[Any, ...]) -> list[list[str]]:
        """Answer as two workers do."""
        *kind, keys = args
        self.log.append(" ".join(map(str, [name, *kind, keys])))
        return [[f"{key} of worker {worker}" for key in keys] for worker in (1, 2)]

    def get_request_counts(self) -> tuple[int, int]:
        return 0, len(self.waiting)

    def register_failure_callback(self, callback: Callable[[], None]) -> None:
        self.lose_a_worker = callback

    def shutdown(self) -> None:
        self.log.append("shutdown")


def run(check: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(check, 30))


def ask(loop: EngineLoop, prompt: str, result: WorkerResult | None = None, params: Any = None) -> asyncio.Future[Any]:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def sink(output: object) -> None:
        if isinstance(output, AmpsweepError):
            answer.set_exception(output)
        else:
            answer.set_result(output)

    loop.submit(prompt, params, sink, result=result)
    return answer


def make(engine: StandIn) -> EngineLoop:
    stand_in: Any = engine
    return EngineLoop(lambda: stand_in, asyncio.get_running_loop())


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
        computed: list[int] = []
        positions = iter([None, 8])

        def read(output: Any, *, scheduled: int) -> int | None:
            computed.append(scheduled)
            return next(positions)

        answer: Any = SimpleNamespace(key="switch-1", read=read)

        def sink(output: Any) -> None:
            if output.finished:
                ended.set_result(None)

        loop.submit("hello", cast("Any", None), sink, switched=answer)
        await ended
        await loop.stop()
        assert engine.log == ["add hello", "step 1", "step 2", "steering_switch {'switch-1': 8}", "step 3", "shutdown"]
        assert computed == [7, 7]

    run(check())
