"""The slot of one engine in a pool: its state, its current session, and the number of cells and streams in flight."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from ampsweep.errors import AmpsweepError, Unavailable
from ampsweep.telemetry.start_phase import StartPhase, start_text
from worker.engines import EngineSpec
from worker.pool.engine_session import EngineSession

MAX_RETRY_SECONDS = 30
"""The longest time after which clients are asked to try again while an engine starts; they wait for no longer one."""

EngineState = Literal["starting", "ready", "failed"]


@dataclass(kw_only=True, eq=False)
class EngineSlot:
    """One engine of a model. Sessions in it end and are replaced; the slot stays.

    Only the slot's supervisor changes `state`, `error` and `session`.

    Attributes:
        spec: How the engine is opened.
        index: Number of the engine among those of its model.
        state: Whether the engine is starting, ready or failed.
        error: Why the last session ended or did not start; None while the engine is ready.
        session: The session that is ready; None while there is none.
        phase: What the start of the engine does now; None while the engine is not starting.
        start_began: When the start began that is under way, by the clock of the supervisor; None without one.
        start_seconds: How long the last start took that has ended, in seconds; None before it.
        supervised: False once the supervisor has ended, so that nothing restarts the engine.
        streams: Completions and identifications in flight.
        cells: Cells in flight.
        started_work: Cells and streams started since the server started.
        finished_work: Those of them that ended without an error.
        starts: Successful starts of the engine.
        failed_starts: Starts that failed.
        failures: Consecutive ends of the engine without healthy operation in between.
        deaths: How often the engine ended after it had been ready.
        reserved: Whether the engine is reserved for one cell.
        cell_ended: Set when a cell leaves the engine.
    """

    spec: EngineSpec
    index: int = 0
    state: EngineState = "starting"
    error: AmpsweepError | None = None
    session: EngineSession | None = None
    phase: StartPhase | None = None
    start_began: float | None = None
    start_seconds: float | None = None
    supervised: bool = True
    streams: int = 0
    cells: int = 0
    started_work: int = 0
    finished_work: int = 0
    starts: int = 0
    failed_starts: int = 0
    failures: int = 0
    deaths: int = 0
    reserved: bool = False
    cell_ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def load(self) -> int:
        """The number of cells and streams in flight."""
        return self.streams + self.cells

    def enter_phase(self, phase: StartPhase, *, now: float) -> None:
        """Begin a phase of the start that is under way, or of a new start. May be called in any thread."""
        if self.start_began is None:
            self.start_began = now
        self.phase = phase

    def end_start(self, *, now: float) -> None:
        """End the start that is under way, if there is one."""
        if self.start_began is not None:
            self.start_seconds = now - self.start_began
        self.phase = self.start_began = None

    def seconds_of_start(self, *, now: float) -> float | None:
        """Return how long the start has been going on or, without one, how long the last one took."""
        return self.start_seconds if self.start_began is None else now - self.start_began

    def describe(self, *, now: float) -> Mapping[str, Any]:
        """Return the engine's state as the REST API shows it, at a time of the supervisor's clock."""
        seconds = self.seconds_of_start(now=now)
        return {
            "model": self.spec.model,
            "engine": self.spec.kind,
            "index": self.index,
            "state": self.state,
            "phase": self.phase,
            "start_seconds": seconds and round(seconds, 1),
            "error": self.error and self.error.message,
            "failures": self.failures,
            "supervised": self.supervised,
        }

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Count a stream as in flight during the block."""
        self.streams += 1
        self.started_work += 1
        try:
            yield
            self.finished_work += 1
        finally:
            self.streams -= 1

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Count a cell as in flight during the block."""
        self.cells += 1
        self.started_work += 1
        try:
            yield
            self.finished_work += 1
        finally:
            self.cells -= 1
            self.cell_ended.set()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Reserve the engine for one cell during the block, after the other cells in flight have ended."""
        self.reserved = True
        try:
            while self.cells > 1:
                self.cell_ended.clear()
                await self.cell_ended.wait()
            yield
        finally:
            self.reserved = False


def starting_error(slots: Sequence[EngineSlot], *, now: float) -> Unavailable:
    """Return the error of a model none of whose engines is ready, at a time of the supervisors' clock.

    Clients are asked to try again after a quarter of the time that the start has taken so far.
    """
    slot = max(slots, key=lambda slot: slot.seconds_of_start(now=now) or 0.0 if slot.state == "starting" else -1.0)
    seconds = slot.seconds_of_start(now=now)
    retry_after = min(MAX_RETRY_SECONDS, max(Unavailable.retry_after, math.ceil((seconds or 0.0) / 4)))
    phase = start_text(slot.phase or "starting an engine process", seconds)
    error = Unavailable(
        f"the engine of model {slot.spec.model!r} is starting ({phase}); retry in {retry_after} s; "
        "`ampsweep engines` and GET /v1/engines show how far it is"
    )
    error.retry_after = retry_after
    return error
