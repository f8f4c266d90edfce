"""A stand-in for vLLM's engine, and a loop around it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from ampsweep.errors import AmpsweepError
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
