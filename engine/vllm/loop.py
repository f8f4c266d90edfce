"""The thread that owns an LLMEngine. No other thread touches the engine.

Other threads send commands through one queue, and the thread runs them in order between two steps: an abort that was
sent before a request is run before it. If a step fails or a worker process ends, the engine is dead: every request in
flight and every later one gets EngineFailed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ampsweep.errors import AmpsweepError, EngineFailed
from engine.out_of_memory import death_of_engine
from engine.vllm.requests.refusals import is_refusal, refusal
from engine.vllm.scheduler_stats import SchedulerStats, read_stats, scheduler_of
from engine.vllm.worker.outputs.results import ResultKind

if TYPE_CHECKING:
    from vllm import LLMEngine, RequestOutput, SamplingParams
    from vllm.lora.request import LoRARequest

    from engine.vllm.requests.answers import SwitchedAnswer

log = logging.getLogger(__name__)

T = TypeVar("T")
Sink = Callable[["RequestOutput | AmpsweepError"], None]
"""Receives a request's outputs, or one error, in the caller's event loop."""

BATCH_WINDOW = 0.002
"""Seconds that an idle engine waits for a further command before its first step."""
MAX_BATCH_WINDOW = 0.02
"""Seconds after its first command by which an idle engine steps at the latest, even if more commands arrive."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WorkerResult:
    """What the workers compute for a request in addition to its output, collected when the request has finished.

    Attributes:
        kind: Whether the request scores a continuation, or records or captures activations.
        key: Name under which the workers hold it.
        parts: One result a worker. Filled before the request's sink gets the last output.
    """

    kind: ResultKind
    key: str
    parts: list[Any] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Command:
    """A call to make on the engine's thread; `refuse` is called instead if the engine is dead."""

    run: Callable[[LLMEngine], None]
    refuse: Callable[[AmpsweepError], None]


class EngineLoop:
    """Runs an engine in its own thread and passes each request's outputs to its sink, in the caller's event loop.

    Attributes:
        steps: Steps taken.
        step_requests: Requests that took part in a step, summed over all steps.
        scheduled: What the scheduler held after the last step.
    """

    def __init__(
        self,
        make_engine: Callable[[], LLMEngine],
        event_loop: asyncio.AbstractEventLoop,
        *,
        batch_window: float = BATCH_WINDOW,
    ) -> None:
        """Prepare the thread; `start` starts it.

        Args:
            make_engine: Makes the engine; called in the thread.
            event_loop: Where sinks are called.
            batch_window: Seconds that an idle engine waits for further requests, so that requests sent together share
                their first step.
        """
        self._batch_window = batch_window
        self._make_engine = make_engine
        self._event_loop = event_loop
        self._commands: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._sinks: dict[str, Sink] = {}
        self._results: dict[str, WorkerResult] = {}
        self._switched: dict[str, tuple[str, SwitchedAnswer]] = {}  # with the id that vLLM gave to the request
        self._failure: AmpsweepError | None = None
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="ampsweep-engine", daemon=True)
        self._started: Future[None] = Future()
        self._submitted = 0
        self.steps = 0
        self.step_requests = 0
        self.scheduled = SchedulerStats(running=0, waiting=0, kv_use=0.0, batch_size=0)

    async def start(self) -> None:
        """Make the engine and return when it is ready; an error while making it is raised here.

        If cancelled, `start` returns at once, and the thread shuts the engine down as soon as it is made.
        """
        self._started.set_running_or_notify_cancel()  # cancelling `start` must not cancel the thread's future
        self._thread.start()
        try:
            await asyncio.wrap_future(self._started)
        except asyncio.CancelledError:
            self._commands.put(None)
            raise

    def submit(
        self,
        prompt: Any,
        params: SamplingParams,
        sink: Sink,
        *,
        priority: int = 0,
        result: WorkerResult | None = None,
        adapter: LoRARequest | None = None,
        switched: SwitchedAnswer | None = None,
    ) -> str:
        """Add a request.

        Args:
            prompt: vLLM's dictionary of token ids.
            params: vLLM's sampling parameters.
            sink: Gets the outputs or one error, in the event loop.
            priority: The smaller, the sooner the request runs.
            result: What the workers compute besides the output. Collected once when the request finishes; dropped if
                the request is aborted.
            adapter: The LoRA adapter of the request.
            switched: Reads the outputs between two steps and switches the steering of the request.

        Returns:
            The id of the request, for `abort`.
        """
        self._submitted += 1
        request_id = str(self._submitted)

        def add(engine: LLMEngine) -> None:
            self._sinks[request_id] = sink
            try:
                vllm_id = engine.add_request(request_id, prompt, params, lora_request=adapter, priority=priority)
                if result is not None:
                    self._results[request_id] = result
                if switched is not None:
                    self._switched[request_id] = vllm_id, switched
            except Exception as error:
                if not is_refusal(error):
                    raise
                self._deliver([(self._sinks.pop(request_id), refusal(error, params))])

        self._send(add, lambda error: self._deliver([(sink, error)]))
        return request_id

    def abort(self, request_id: str) -> None:
        """Drop a request, waiting or running. Its sink is not called again."""

        def drop(engine: LLMEngine) -> None:
            if self._sinks.pop(request_id, None) is not None:
                engine.abort_request([request_id])
                self._switched.pop(request_id, None)
                if (result := self._results.pop(request_id, None)) is not None:
                    engine.collective_rpc("steering_drop", args=(result.kind, result.key))

        self._send(drop, lambda _: None)

    async def call(self, function: Callable[[LLMEngine], T]) -> T:
        """Run a function on the engine between two steps, and return what it returns."""
        done: Future[T] = Future()

        def run(engine: LLMEngine) -> None:
            if not done.set_running_or_notify_cancel():  # the caller was cancelled
                return
            try:
                done.set_result(function(engine))
            except Exception as error:  # noqa: BLE001  # raised to the caller, not in the loop
                done.set_exception(error)

        def refuse(error: AmpsweepError) -> None:
            if done.set_running_or_notify_cancel():
                done.set_exception(error)

        self._send(run, refuse)
        return await asyncio.wrap_future(done)

    def post(self, function: Callable[[LLMEngine], object]) -> None:
        """Run a function on the engine before any request that is sent later, without waiting for it."""

        def run(engine: LLMEngine) -> None:
            function(engine)

        self._send(run, lambda _: None)

    async def ended(self) -> str:
        """Wait until the engine has died or was stopped, and return the reason."""
        await self._ended.wait()
        assert self._failure is not None
        return self._failure.message

    async def stop(self) -> None:
        """End the thread after the current step. Requests in flight get EngineFailed."""
        self._commands.put(None)
        await asyncio.to_thread(self._thread.join)

    def _send(self, command: Callable[[LLMEngine], None], refuse: Callable[[AmpsweepError], None]) -> None:
        self._commands.put(_Command(run=command, refuse=refuse))
        if self._failure is not None:  # the thread no longer reads the queue
            self._refuse_waiting(self._failure)

    def _run(self) -> None:
        try:
            engine = self._open()
        except BaseException as error:  # noqa: BLE001  # raised by `start`
            self._fail(EngineFailed(f"the engine did not start: {type(error).__name__}: {error}"))
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        try:
            while self._do_commands(engine, wait=not engine.has_unfinished_requests()):
                if engine.has_unfinished_requests():
                    self._step(engine)
                self.scheduled = read_stats(engine)
            self._fail(EngineFailed("the engine was stopped"))
        except BaseException as error:  # after any exception, SystemExit included, the engine is unusable
            log.exception("the engine died")  # callers get the error, but not where it was raised
            self._fail(death_of_engine(error))
        finally:
            engine.engine_core.shutdown()

    def _open(self) -> LLMEngine:
        """Make the engine and prepare to run it; shut it down if that fails."""
        engine = self._make_engine()
        try:
            engine.model_executor.register_failure_callback(self._worker_died)
            self.scheduled = read_stats(engine)
        except BaseException:
            engine.engine_core.shutdown()
            raise
        return engine

    def _do_commands(self, engine: LLMEngine, *, wait: bool) -> bool:
        """Run the queued commands; with `wait`, wait for the first one. Return False when the thread must stop.

        After such a wait, go on while further commands arrive within the batch window. Requests that are sent together
        then share their first step, and the first of them does not cost a step of its own.
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
            latest = min(latest, now + max(MAX_BATCH_WINDOW, self._batch_window))
            timeout = self._batch_window if wait and now < latest and engine.has_unfinished_requests() else 0.0

    def _step(self, engine: LLMEngine) -> None:
        delivered: list[tuple[Sink, RequestOutput | AmpsweepError]] = []
        outputs = engine.step()
        self.steps += 1
        self.step_requests += read_stats(engine).running + sum(output.finished for output in outputs)
        self._collect_results(engine, [output.request_id for output in outputs if output.finished])
        if self._switched:
            self._switch_steering(engine, outputs)
        for output in outputs:
            sink = self._sinks.pop(output.request_id, None) if output.finished else self._sinks.get(output.request_id)
            if sink is not None:
                delivered.append((sink, output))
        self._deliver(delivered)

    def _switch_steering(self, engine: LLMEngine, outputs: Sequence[RequestOutput]) -> None:
        """Tell the workers, before the next step is scheduled, whose steering the texts of these outputs switch."""
        requests, texts = scheduler_of(engine).requests, engine.output_processor.request_states
        positions: dict[str, int] = {}
        for output in outputs:
            if output.finished:
                self._switched.pop(output.request_id, None)
            elif output.request_id in self._switched:
                vllm_id, switched = self._switched[output.request_id]
                text: str = texts[vllm_id].detokenizer.output_text
                position = switched.read(output, text=text, scheduled=requests[vllm_id].num_computed_tokens)
                if position is not None:
                    positions[switched.key] = position
        if positions:
            engine.collective_rpc("steering_switch", args=(positions,))

    def _collect_results(self, engine: LLMEngine, finished: Sequence[str]) -> None:
        """Collect the workers' results for finished requests, with one call for all results of a kind."""
        ended = [result for request_id in finished if (result := self._results.pop(request_id, None)) is not None]
        for kind in sorted({result.kind for result in ended}):
            results = [result for result in ended if result.kind == kind]
            workers = engine.collective_rpc("steering_take", args=(kind, [result.key for result in results]))
            for result, *parts in zip(results, *workers, strict=True):
                result.parts.extend(parts)

    def _deliver(self, delivered: list[tuple[Sink, RequestOutput | AmpsweepError]]) -> None:
        def call_sinks() -> None:
            for sink, output in delivered:
                sink(output)

        if delivered and not self._event_loop.is_closed():
            self._event_loop.call_soon_threadsafe(call_sinks)

    def _worker_died(self) -> None:
        """Fail all requests at once. Called in another thread: the engine's own may still be waiting for the worker."""
        self._fail(EngineFailed("the engine died: one of its workers' processes ended"))
        self._commands.put(None)

    def _fail(self, failure: EngineFailed) -> None:
        """Send a failure to every sink and waiting command. Later requests get the first failure too."""
        self._failure = self._failure or failure
        sinks, self._sinks = self._sinks, {}
        self._deliver([(sink, self._failure) for sink in sinks.values()])
        self._refuse_waiting(self._failure)
        if not self._event_loop.is_closed():
            self._event_loop.call_soon_threadsafe(self._ended.set)

    def _refuse_waiting(self, failure: AmpsweepError) -> None:
        stop_seen = False
        while True:
            try:
                command = self._commands.get(block=False)
            except queue.Empty:
                break
            if command is None:
                stop_seen = True
            else:
                command.refuse(failure)
        if stop_seen:  # the thread may not have read it yet
            self._commands.put(None)
