"""The engines of a server: which engine gets a cell or a stream, and whether an engine still answers after a failure.

A pool knows engines by the name of their model. It does not know what is computed or how it is stored: it takes a
cell and returns its file or an error. An engine is `starting`, `ready` or `failed`. Each engine has a supervisor (see
`worker.supervisor`) that starts it, and restarts it when it ends.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from weakref import WeakKeyDictionary

from ampsweep.domain.chunk import Chunk
from ampsweep.domain.neuron_set import NeuronsRef
from ampsweep.errors import AmpsweepError, Conflict, EngineFailed, EngineLost, Unavailable, UnknownName
from jobs.cell import Cell
from jobs.execution import CompletionCall, EngineMetrics
from jobs.store.records import CellFile
from worker.engine_session import EngineSession
from worker.engine_slot import EngineSlot
from worker.engines import EngineSpec
from worker.supervisor import REAL_TIME, SERVER_POLICY, RestartPolicy, Supervisor, Timing

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 5.0
"""How long an engine may take to say how far its cells are."""

STATS_SECONDS = 2.0
"""How long an engine may take to say its numbers."""

CHECK_SECONDS = 30.0
"""How long an engine in doubt may take to give one token."""


class Pool(ABC):
    """Engines by model; where their sessions live is what the subclasses say."""

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
        self._slots = [supervisor.slot for supervisor in self._supervisors]
        self._cells_per_engine = cells_per_engine
        self._checks: dict[EngineSession, asyncio.Task[bool]] = {}
        self._inflight_at_failure: WeakKeyDictionary[EngineSession, int] = (
            WeakKeyDictionary()
        )  # cells in flight when a session first failed
        self._waiting: set[tuple[str, int]] = set()  # cells that wait for an engine of their own
        self._none_starting = asyncio.Event()
        self._on_change: list[Callable[[], None]] = []

    @abstractmethod
    async def _begin(self) -> None:
        """Make the place where sessions live."""

    @abstractmethod
    def _make_session(self, spec: EngineSpec) -> EngineSession:
        """Make a session, not opened yet; whatever this raises counts as a failed start."""

    @abstractmethod
    async def _end(self) -> None:
        """Leave the place as it was found; sessions are closed by now."""

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` in the event loop whenever an engine has changed its state."""
        self._on_change.append(on_change)

    async def start(self) -> None:
        """Begin to start every engine; return at once. `ready` waits for them."""
        await self._begin()
        for supervisor in self._supervisors:
            supervisor.start()

    async def ready(self) -> None:
        """Wait until no engine is starting; raise the error of a model of which none came up."""
        await self.wait_until_started()
        for error in self.failed().values():
            raise error

    async def wait_until_started(self) -> None:
        """Wait until no engine is starting."""
        await self._none_starting.wait()

    def failed(self) -> Mapping[str, AmpsweepError]:
        """Return the models all of whose engines have failed, each with the error of one."""
        return {model: error for model in sorted(self._models()) if (error := self._failure(model)) is not None}

    async def stop(self) -> None:
        """Close every engine and all that `start` started. A second call changes nothing."""
        checks = list(self._checks.values())
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, *(supervisor.stop() for supervisor in self._supervisors), return_exceptions=True)
        await self._end()

    def retry(self, model: str) -> None:
        """Start the model's engines that have failed, or wait for their next start, now.

        Raises UnknownName for a model that has no engine here, Conflict where all of its engines are ready.
        """
        supervisors = [each for each in self._supervisors if each.slot.spec.model == model]
        if not supervisors:
            raise UnknownName("model", model, self._models(), param="model")
        retried = [each.retry() for each in supervisors]
        if not any(retried):
            raise Conflict(f"every engine of model {model!r} is ready", param="model")

    def capacity(self) -> Mapping[str, int]:
        """Return for each model how many cells its ready engines take at once.

        A model whose engines have all failed takes cells too: they come back with the engine's error at once. An
        engine that is kept for one cell alone takes no more than it has.
        """
        room = dict.fromkeys((slot.spec.model for slot in self._slots), 0)
        for slot in self._slots:
            if slot.state == "ready" or self._failure(slot.spec.model):
                room[slot.spec.model] += slot.cells if slot.reserved else self._cells_per_engine
        return room

    def can_run_exclusive(self, model: str) -> bool:
        """Whether an engine of the model can be kept for one cell alone: one at a time, so that others go on."""
        slots = [slot for slot in self._slots if slot.spec.model == model]
        return any(slot.session is not None for slot in slots) and not any(slot.reserved for slot in slots)

    async def progress(self) -> Mapping[tuple[str, int], int]:
        """Return, by cell id and epoch, how many samples are done of each cell of which there is a sign of life.

        An engine that does not answer in time is doubted, and started again where it cannot give one token either.
        """
        answers = await asyncio.gather(*map(self._progress_of, self._supervisors))
        return {
            key: samples for answer in [dict.fromkeys(self._waiting, 0), *answers] for key, samples in answer.items()
        }

    async def _progress_of(self, supervisor: Supervisor) -> Mapping[tuple[str, int], int]:
        session = supervisor.slot.session
        if session is None:
            return {}
        try:
            async with asyncio.timeout(PROGRESS_SECONDS):
                return await session.progress()
        except Exception as error:  # of whatever kind: the other engines' cells live
            known = isinstance(error, TimeoutError | AmpsweepError)
            log.warning(
                "an engine of model %s gives no sign of life: %s",
                supervisor.slot.spec.model,
                str(error) if known and str(error) else type(error).__name__,
                exc_info=None if known else error,
            )
            self._health_check(supervisor, session)
            return {}

    def engines(self) -> list[Mapping[str, Any]]:
        """Return the engines, as `EngineMonitor.engines` says."""
        return [slot.describe() for slot in self._slots]

    async def metrics(self) -> list[EngineMetrics]:
        """Return every engine's numbers; an engine that does not answer in time has no stats."""
        stats = await asyncio.gather(*map(self._stats, self._slots))
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
                stats=numbers,
            )
            for slot, numbers in zip(self._slots, stats, strict=True)
        ]

    async def _stats(self, slot: EngineSlot) -> Mapping[str, float] | None:
        if slot.session is None:
            return None
        try:
            async with asyncio.timeout(STATS_SECONDS):
                return await slot.session.stats()
        except (TimeoutError, EngineFailed):  # whether it lives is asked with the next heartbeat
            return None
        except Exception:
            log.exception("an engine of model %s tells no numbers", slot.spec.model)
            return None

    async def run_cell(self, cell: Cell, epoch: int, *, exclusive: bool = False) -> CellFile:
        """Compute a cell on the least busy engine of its model and return its published file.

        `exclusive` keeps the engine for it: the cells in flight there end first, no other is begun. Raises EngineFailed
        where the engine died of this cell, or lives on and failed it; EngineLost where it died with other cells in
        flight; Unavailable where none is ready.
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
                            raise Unavailable(f"the engine of model {cell.model!r} ended; try again soon")
                        return await self._run(supervisor, session, cell, epoch)
                finally:
                    self._waiting.discard((cell.id, epoch))
            return await self._run(supervisor, session, cell, epoch)

    async def _run(self, supervisor: Supervisor, session: EngineSession, cell: Cell, epoch: int) -> CellFile:
        try:
            return await session.run_cell(cell, epoch)
        except EngineFailed as error:
            in_flight = self._inflight_at_failure.setdefault(session, supervisor.slot.cells)
            lives = await asyncio.shield(self._health_check(supervisor, session))
            if lives or in_flight == 1:
                raise
            message = f"the engine died with {in_flight} cells in flight: {error.message}"
            raise EngineLost(message) from error

    async def find_neurons(self, model: str, ref: NeuronsRef) -> None:
        """Let the least busy engine of a model identify a neuron set, unless it is there; raises as `run_cell`."""
        supervisor, session = self._choose(model)
        with supervisor.slot.streaming():  # as a completion: a cell in flight is not blamed for it
            try:
                await session.find_neurons(ref)
            except EngineFailed:
                self._health_check(supervisor, session)
                raise

    async def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        """Stream a completion from the least busy engine of its model; closing the generator aborts it."""
        supervisor, session = self._choose(call.model)
        with supervisor.slot.streaming():
            try:
                async with aclosing(session.stream(call)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except EngineFailed:
                self._health_check(supervisor, session)
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
            raise Unavailable(f"the engine of model {model!r} is starting; try again soon")
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
                log.exception("somebody who watches the engines failed")

    def _health_check(self, supervisor: Supervisor, session: EngineSession) -> asyncio.Task[bool]:
        """Have a session replaced that no longer answers at all. The task's result says whether it still answers."""
        if session not in self._checks:
            self._checks[session] = asyncio.create_task(self._check(supervisor, session))
        return self._checks[session]

    async def _check(self, supervisor: Supervisor, session: EngineSession) -> bool:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await session.check()
        except Exception as error:
            known = isinstance(error, AmpsweepError | TimeoutError)
            log.warning("an engine no longer answers; it is started again", exc_info=None if known else error)
            supervisor.replace(session, "it no longer answers")
            return False
        else:
            self._inflight_at_failure.pop(session, None)
            return True
        finally:
            del self._checks[session]
