"""The thread that owns an LLMEngine: it alone touches it, between steps it does what others asked for.

Everything goes through one queue in order: an abort that was sent before a request is done before it. When a step
fails, or a worker's process ends, the engine is dead: all that is in flight, and all that comes later, gets
EngineFailed.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ampsweep.errors import AmpsweepError, EngineFailed, InvalidRequest
from engine.vllm.scheduler_stats import SchedulerStats, read_scheduler

if TYPE_CHECKING:
    from vllm import LLMEngine, RequestOutput, SamplingParams

T = TypeVar("T")
What = Literal["score", "recording"]
Sink = Callable[["RequestOutput | AmpsweepError"], None]


BATCH_WINDOW = 0.002
"""Seconds without a further command after which an idle engine takes its first step."""
MAX_BATCH_WINDOW = 0.02
"""Seconds after its first command by which an idle engine steps, however fast others come."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WorkerResult:
    """Something that the workers keep of a request under `key`, to be taken from them when the request has finished.

    `parts` are then what each worker had, before the request's sink hears of its end.
    """

    what: What
    key: str
    parts: list[Any] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Command:
    """Something to do on the engine, and whom to tell if it is never done."""

    run: Callable[[LLMEngine], None]
    refuse: Callable[[AmpsweepError], None]


class EngineLoop:
    """Runs an engine in a thread of its own; each request's outputs go to its sink, in the caller's event loop."""

    def __init__(
        self, make: Callable[[], LLMEngine], event_loop: asyncio.AbstractEventLoop, *, lull: float = BATCH_WINDOW
    ) -> None:
        """`make` makes the engine, in the thread; `lull` is how long an idle engine waits for what comes together."""
        self._lull = lull
        self._make = make
        self._event_loop = event_loop
        self._commands: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._sinks: dict[str, Sink] = {}
        self._kept: dict[str, WorkerResult] = {}
        self._failure: AmpsweepError | None = None
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="ampsweep-engine", daemon=True)
        self._started: Future[None] = Future()
        self._names = 0
        self.steps = 0
        self.step_requests = 0  # that took part in a step, added up over the steps
        self.scheduled = SchedulerStats(running=0, waiting=0, kv_use=0.0, batch_size=0)

    async def start(self) -> None:
        """Make the engine; returns when it is ready, raises what making it raised.

        When cancelled, it returns at once; the thread ends, with the engine, as soon as the engine is made.
        """
        self._started.set_running_or_notify_cancel()  # so that a cancelled `start` leaves the future to the thread
        self._thread.start()
        try:
            await asyncio.wrap_future(self._started)
        except asyncio.CancelledError:
            self._commands.put(None)
            raise

    def submit(
        self, prompt: Any, params: SamplingParams, sink: Sink, *, priority: int = 0, kept: WorkerResult | None = None
    ) -> str:
        """Add a request, return its id; the smaller its priority, the sooner it runs.

        `sink` gets its outputs, or one error, in the event loop. What the workers keep of it is taken from them once,
        or dropped where the request is aborted.
        """
        self._names += 1
        request_id = str(self._names)

        def add(engine: LLMEngine) -> None:
            self._sinks[request_id] = sink
            try:
                engine.add_request(request_id, prompt, params, priority=priority)
                if kept is not None:
                    self._kept[request_id] = kept
            except (ValueError, TypeError) as error:
                self._deliver([(self._sinks.pop(request_id), InvalidRequest(str(error)))])

        self._send(add, lambda error: self._deliver([(sink, error)]))
        return request_id

    def abort(self, request_id: str) -> None:
        """Drop a request, wherever it is; its sink hears nothing more."""

        def drop(engine: LLMEngine) -> None:
            if self._sinks.pop(request_id, None) is not None:
                engine.abort_request([request_id])
                if (kept := self._kept.pop(request_id, None)) is not None:
                    engine.collective_rpc(f"steering_drop_{kept.what}", args=(kept.key,))

        self._send(drop, lambda _: None)

    async def call(self, function: Callable[[LLMEngine], T]) -> T:
        """Run a function on the engine between two steps, and return what it returns."""
        done: Future[T] = Future()

        def run(engine: LLMEngine) -> None:
            if not done.set_running_or_notify_cancel():  # nobody waits any more
                return
            try:
                done.set_result(function(engine))
            except Exception as error:  # noqa: BLE001  # the caller's, not the loop's
                done.set_exception(error)

        def refuse(error: AmpsweepError) -> None:
            if done.set_running_or_notify_cancel():
                done.set_exception(error)

        self._send(run, refuse)
        return await asyncio.wrap_future(done)

    def post(self, function: Callable[[LLMEngine], object]) -> None:
        """Run a function on the engine before any request that is sent later; nobody waits for it."""

        def run(engine: LLMEngine) -> None:
            function(engine)

        self._send(run, lambda _: None)

    async def ended(self) -> str:
        """Wait until the engine has died or was stopped, and return why."""
        await self._over.wait()
        assert self._failure is not None
        return self._failure.message

    async def stop(self) -> None:
        """End the thread after the step under way; what is in flight gets EngineFailed."""
        self._commands.put(None)
        await asyncio.to_thread(self._thread.join)

    def _send(self, command: Callable[[LLMEngine], None], refuse: Callable[[AmpsweepError], None]) -> None:
        self._commands.put(_Command(run=command, refuse=refuse))
        if self._failure is not None:  # nobody reads the queue any more
            self._refuse_waiting(self._failure)

    def _run(self) -> None:
        try:
            engine = self._open()
        except BaseException as error:  # noqa: BLE001  # handed to the caller
            self._fail(EngineFailed(f"the engine did not start: {type(error).__name__}: {error}"))
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        try:
            while self._do_commands(engine, wait=not engine.has_unfinished_requests()):
                if engine.has_unfinished_requests():
                    self._step(engine)
                self.scheduled = read_scheduler(engine)
            self._fail(EngineFailed("the engine was stopped"))
        except BaseException as error:  # noqa: BLE001  # whatever it is, SystemExit too, the engine is gone
            self._fail(EngineFailed(f"the engine died: {type(error).__name__}: {error}"))
        finally:
            engine.engine_core.shutdown()

    def _open(self) -> LLMEngine:
        """Make the engine and prepare to run it; shut it down if the preparation fails."""
        engine = self._make()
        try:
            engine.model_executor.register_failure_callback(self._worker_died)
            self.scheduled = read_scheduler(engine)
        except BaseException:
            engine.engine_core.shutdown()
            raise
        return engine

    def _do_commands(self, engine: LLMEngine, *, wait: bool) -> bool:
        """Do what is in the queue, waiting for a first command if `wait`; False when it is time to stop.

        After a wait more is waited for, as long as it comes without a lull: requests that are sent together begin
        together, and the first of them alone does not cost a step.
        """
        timeout, latest = (None if wait else 0.0), math.inf
        while True:
            try:
                command = self._commands.get(timeout=timeout)
            except queue.Empty:
                return True
            if command is None:
                return False
            command.run(engine)
            now = time.monotonic()
            latest = min(latest, now + max(MAX_BATCH_WINDOW, self._lull))
            timeout = self._lull if wait and now < latest and engine.has_unfinished_requests() else 0.0

    def _step(self, engine: LLMEngine) -> None:
        delivered: list[tuple[Sink, RequestOutput | AmpsweepError]] = []
        outputs = engine.step()
        self.steps += 1
        self.step_requests += read_scheduler(engine).running + sum(output.finished for output in outputs)
        self._take_kept(engine, [output.request_id for output in outputs if output.finished])
        for output in outputs:
            sink = self._sinks.pop(output.request_id, None) if output.finished else self._sinks.get(output.request_id)
            if sink is not None:
                delivered.append((sink, output))
        self._deliver(delivered)

    def _take_kept(self, engine: LLMEngine, finished: Sequence[str]) -> None:
        """Take from the workers what they kept of finished requests, all of a kind in one call."""
        ended = [kept for request_id in finished if (kept := self._kept.pop(request_id, None)) is not None]
        for what in sorted({kept.what for kept in ended}):
            own = [kept for kept in ended if kept.what == what]
            workers = engine.collective_rpc(f"steering_take_{what}s", args=([kept.key for kept in own],))
            for kept, *parts in zip(own, *workers, strict=True):
                kept.parts.extend(parts)

    def _deliver(self, delivered: list[tuple[Sink, RequestOutput | AmpsweepError]]) -> None:
        def hand_over() -> None:
            for sink, output in delivered:
                sink(output)

        if delivered and not self._event_loop.is_closed():
            self._event_loop.call_soon_threadsafe(hand_over)

    def _worker_died(self) -> None:
        """Fail what is in flight at once, from another thread: the engine's own may wait for the worker still."""
        self._fail(EngineFailed("the engine died: one of its workers' processes ended"))
        self._commands.put(None)

    def _fail(self, failure: EngineFailed) -> None:
        """Tell everybody; the first failure is the one that is told, also to those who came in between two."""
        self._failure = self._failure or failure
        sinks, self._sinks = self._sinks, {}
        self._deliver([(sink, self._failure) for sink in sinks.values()])
        self._refuse_waiting(self._failure)
        if not self._event_loop.is_closed():
            self._event_loop.call_soon_threadsafe(self._over.set)

    def _refuse_waiting(self, failure: AmpsweepError) -> None:
        told_to_stop = False
        while True:
            try:
                command = self._commands.get(block=False)
            except queue.Empty:
                break
            if command is None:
                told_to_stop = True
            else:
                command.refuse(failure)
        if told_to_stop:  # the thread may not have heard it yet
            self._commands.put(None)
