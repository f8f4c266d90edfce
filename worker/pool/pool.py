"""The engines of a server: chooses an engine for each cell or stream, and tells whose fault a failure is.

A pool knows engines by the name of their model. It does not know what is computed or how it is stored: it takes a cell
and returns its file or an error. An engine is `starting`, `ready` or `failed`. Each engine has a supervisor (see
`worker.pool.supervisor`) that starts it and restarts it when it ends.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.prompt import PromptTokens
from ampsweep.domain.neurons.neuron_set import NeuronsRef
from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.errors import AmpsweepError, Conflict, EngineFailed, EngineLost, Unavailable, UnknownName
from ampsweep.telemetry.start_phase import StartPhase
from jobs.cell import Cell
from jobs.execution import CaptureCall, CompletionCall, EngineMetrics, TokenizeCall
from jobs.store.records import CellFile
from worker.engines import EngineSpec
from worker.pool.engine_session import EngineSession
from worker.pool.engine_slot import EngineSlot, starting_error
from worker.pool.health_checks import HealthChecks
from worker.pool.supervisor import REAL_TIME, SERVER_POLICY, RestartPolicy, Supervisor, Timing

log = logging.getLogger(__name__)
T = TypeVar("T")

PROGRESS_SECONDS = 5.0
"""How long an engine may take to report the progress of its cells."""

STATS_SECONDS = 2.0
"""How long an engine may take to report its statistics."""


class Pool(ABC):
    """Engines by model. Subclasses define where their sessions run.

    Args:
        specs: The engines.
        cells_per_engine: How many cells an engine gets at the same time.
        policy: When engines are restarted and given up.
        timing: Clock, sleep and randomness of the supervisors.
    """

    first_phase: StartPhase = "starting an engine process"
    """What the start of all engines begins with."""

    def __init__(
        self,
        specs: Sequence[EngineSpec],
        *,
        cells_per_engine: int = 8,
        policy: RestartPolicy = SERVER_POLICY,
        timing: Timing = REAL_TIME,
    ) -> None:
        self._supervisors = [
            Supervisor(
                EngineSlot(spec=spec, index=index),
                make_session=self._make_session,
                on_change=self._on_slot_change,
                policy=policy,
                timing=timing,
            )
            for spec in specs
            for index in range(spec.count)
        ]
        self._timing = timing
        self._slots = [supervisor.slot for supervisor in self._supervisors]
        self._cells_per_engine = cells_per_engine
        self._health_checks = HealthChecks()
        self._waiting: set[tuple[str, int]] = set()  # cells that wait until they have an engine exclusively
        self._none_starting = asyncio.Event()
        self._on_change: list[Callable[[], None]] = []

    @abstractmethod
    async def _begin(self) -> None:
        """Prepare the environment in which sessions run."""

    @abstractmethod
    def _make_session(self, spec: EngineSpec) -> EngineSession:
        """Create a session that is not yet open; an error counts as a failed start."""

    @abstractmethod
    async def _end(self) -> None:
        """Clean up the environment in which sessions ran. All sessions are closed."""

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` in the event loop whenever the state of an engine has changed."""
        self._on_change.append(on_change)

    async def start(self) -> None:
        """Start all engines in the background; return at once. `ready` waits for them."""
        for slot in self._slots:
            slot.enter_phase(self.first_phase, now=self._timing.now())
        await self._begin()
        for supervisor in self._supervisors:
            supervisor.start()

    async def ready(self) -> None:
        """Wait until no engine is starting; raise the error of a model all of whose engines have failed."""
        await self.wait_until_started()
        for error in self.failed().values():
            raise error

    async def wait_until_started(self) -> None:
        """Wait until no engine is starting."""
        await self._none_starting.wait()

    def failed(self) -> Mapping[str, AmpsweepError]:
        """Return the models all of whose engines have failed, each with the error of one of them."""
        return {model: error for model in sorted(self._models()) if (error := self._failure(model)) is not None}

    async def stop(self) -> None:
        """Stop all engines and clean up what `start` has started. A second call does nothing."""
        stopping = (supervisor.stop() for supervisor in self._supervisors)
        await asyncio.gather(self._health_checks.stop(), *stopping, return_exceptions=True)
        await self._end()

    def retry(self, model: str) -> None:
        """Start the failed and waiting engines of a model now.

        Raises:
            UnknownName: The model has no engine in this pool.
            Conflict: All engines of the model are ready.
        """
        supervisors = [supervisor for supervisor in self._supervisors if supervisor.slot.spec.model == model]
        if not supervisors:
            raise UnknownName("model", model, self._models(), param="model")
        retried = [supervisor.retry() for supervisor in supervisors]
        if not any(retried):
            raise Conflict(f"all engines of model {model!r} are ready; there is nothing to retry", param="model")

    def capacity(self) -> Mapping[str, int]:
        """Return how many cells the ready engines of each model take at the same time.

        A model whose engines have all failed takes cells too; they fail at once with the error of the engine. A
        reserved engine takes no cells besides those it has.
        """
        capacity = dict.fromkeys((slot.spec.model for slot in self._slots), 0)
        for slot in self._slots:
            if slot.state == "ready" or self._failure(slot.spec.model):
                capacity[slot.spec.model] += slot.cells if slot.reserved else self._cells_per_engine
        return capacity

    def can_run_exclusive(self, model: str) -> bool:
        """Return whether an engine of the model can be reserved for one cell. At most one is at a time."""
        slots = [slot for slot in self._slots if slot.spec.model == model]
        return any(slot.session is not None for slot in slots) and not any(slot.reserved for slot in slots)

    async def progress(self) -> Mapping[tuple[str, int], int]:
        """Return how many samples of each running cell are done, by the cell's id and epoch.

        Cells of an engine that does not report in time are left out. The engine gets a health check, and is restarted
        if it fails.
        """
        reports = await asyncio.gather(*map(self._progress_of, self._supervisors))
        return {
            key: samples for report in [dict.fromkeys(self._waiting, 0), *reports] for key, samples in report.items()
        }

    async def _progress_of(self, supervisor: Supervisor) -> Mapping[tuple[str, int], int]:
        session = supervisor.slot.session
        if session is None:
            return {}
        try:
            async with asyncio.timeout(PROGRESS_SECONDS):
                return await session.progress()
        except Exception as error:  # an error of one engine must not cost the others their heartbeats
            is_expected = isinstance(error, TimeoutError | AmpsweepError)
            log.warning(
                "an engine of model %s does not report its progress: %s",
                supervisor.slot.spec.model,
                str(error) if is_expected and str(error) else type(error).__name__,
                exc_info=None if is_expected else error,
            )
            self._health_checks.start(supervisor, session)
            return {}

    async def recordings(self, model: str | None = None) -> Mapping[str, RecordingProgress]:
        """Return how far the neuron sets are that the engines, or those of one model, are identifying, by their ids."""
        slots = [slot for slot in self._slots if model in (None, slot.spec.model)]
        reports = await asyncio.gather(
            *(_asked(slot, lambda session: session.recordings(), "recordings") for slot in slots)
        )
        return {key: progress for report in reports if report is not None for key, progress in report.items()}

    def engines(self) -> list[Mapping[str, Any]]:
        """Return the state of each engine; see `EngineMonitor.engines`."""
        return [slot.describe(now=self._timing.now()) for slot in self._slots]

    async def metrics(self) -> list[EngineMetrics]:
        """Return the metrics of each engine. Those of an engine that does not answer in time have no stats."""
        stats = await asyncio.gather(
            *(_asked(slot, lambda session: session.stats(), "statistics") for slot in self._slots)
        )
        return [
            EngineMetrics(
                model=slot.spec.model,
                index=slot.index,
                state=slot.state,
                starts=slot.starts,
                failed_starts=slot.failed_starts,
                failures=slot.failures,
                deaths=slot.deaths,
                supervised=slot.supervised,
                cells=slot.cells,
                streams=slot.streams,
                stats=slot_stats,
            )
            for slot, slot_stats in zip(self._slots, stats, strict=True)
        ]

    async def run_cell(self, cell: Cell, epoch: int, *, exclusive: bool = False) -> CellFile:
        """Compute a cell on the least busy engine of its model and return its published file.

        Args:
            cell: The cell.
            epoch: The epoch of its lease.
            exclusive: Whether to reserve the engine for the cell, after the other cells in flight on it have ended.

        Raises:
            EngineFailed: The engine died with only this cell in flight, or it survived and failed the cell.
            EngineLost: The engine died with several cells in flight.
            Unavailable: No engine of the model is ready.
        """
        supervisor, session = self._choose(cell.model)
        slot = supervisor.slot
        with slot.computing():
            if exclusive:
                self._waiting.add((cell.id, epoch))
                try:
                    async with slot.exclusive():
                        self._waiting.discard((cell.id, epoch))
                        if slot.session is not session:
                            raise Unavailable(f"the engine of model {cell.model!r} ended; retry in a few seconds")
                        return await self._run(supervisor, session, cell, epoch)
                finally:
                    self._waiting.discard((cell.id, epoch))
            return await self._run(supervisor, session, cell, epoch)

    async def _run(self, supervisor: Supervisor, session: EngineSession, cell: Cell, epoch: int) -> CellFile:
        try:
            return await session.run_cell(cell, epoch)
        except EngineFailed as error:
            in_flight = self._health_checks.cells_at_failure(supervisor, session)
            is_alive = await asyncio.shield(self._health_checks.start(supervisor, session))
            if is_alive or in_flight == 1:
                raise
            message = f"the engine died with {in_flight} cells in flight: {error.message}"
            raise EngineLost(message) from error

    async def find_neurons(self, model: str, ref: NeuronsRef) -> None:
        """Identify a neuron set on the least busy engine of a model, unless it exists already.

        Raises:
            EngineFailed: The engine died.
            Unavailable: No engine of the model is ready.
        """
        with self._streaming(model) as session:
            await session.find_neurons(ref)

    async def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        """Stream a completion from the least busy engine of its model. Closing the generator aborts the completion."""
        with self._streaming(call.model) as session:
            async with aclosing(session.stream(call)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def capture(self, call: CaptureCall) -> bytes:
        """Capture activations on the least busy engine of a model; cancelling the call aborts it."""
        with self._streaming(call.model) as session:
            return await session.capture(call)

    async def tokenize(self, call: TokenizeCall) -> PromptTokens:
        """Return the tokens of a prompt, from the least busy engine of its model."""
        supervisor, session = self._choose(call.model)
        with self._checked_after_failure(supervisor, session):
            return await session.tokenize(call)

    @contextmanager
    def _streaming(self, model: str) -> Iterator[EngineSession]:
        """Yield the session of the least busy engine of a model, and count a stream on the engine.

        Work that is no cell is counted so, because a failure is attributed to the cells in flight.
        """
        supervisor, session = self._choose(model)
        with supervisor.slot.streaming(), self._checked_after_failure(supervisor, session):
            yield session

    @contextmanager
    def _checked_after_failure(self, supervisor: Supervisor, session: EngineSession) -> Iterator[None]:
        """Start a health check of a session that fails in the block."""
        try:
            yield
        except EngineFailed:
            self._health_checks.start(supervisor, session)
            raise

    def _choose(self, model: str) -> tuple[Supervisor, EngineSession]:
        if model not in self._models():
            raise UnknownName("model", model, self._models(), param="model")
        if error := self._failure(model):
            raise error
        ready = [
            (supervisor, supervisor.slot.session)
            for supervisor in self._supervisors
            if supervisor.slot.spec.model == model and supervisor.slot.session is not None
        ]
        if not ready:
            raise starting_error([slot for slot in self._slots if slot.spec.model == model], now=self._timing.now())
        return min(ready, key=lambda pair: (pair[0].slot.reserved, pair[0].slot.load))

    def _models(self) -> set[str]:
        return {slot.spec.model for slot in self._slots}

    def _failure(self, model: str) -> AmpsweepError | None:
        slots = [slot for slot in self._slots if slot.spec.model == model]
        return slots[0].error if all(slot.state == "failed" for slot in slots) else None

    def _on_slot_change(self) -> None:
        if all(slot.state != "starting" for slot in self._slots):
            self._none_starting.set()
        else:
            self._none_starting.clear()
        for callback in self._on_change:
            try:
                callback()
            except Exception:
                log.exception("unhandled exception in a callback for changes of engines")


async def _asked(slot: EngineSlot, ask: Callable[[EngineSession], Awaitable[T]], what: str) -> T | None:
    """Return what the session of a slot answers; None without one, or if it does not answer in STATS_SECONDS."""
    if slot.session is None:
        return None
    try:
        async with asyncio.timeout(STATS_SECONDS):
            return await ask(slot.session)
    except (TimeoutError, EngineFailed):  # `Pool.progress` checks whether the engine is alive
        return None
    except Exception:
        log.exception("unhandled exception while asking an engine of model %s for its %s", slot.spec.model, what)
        return None
