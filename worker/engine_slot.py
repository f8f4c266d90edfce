"""The slot of one engine in a pool: its state, its current session, and the number of cells and streams in flight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from ampsweep.errors import AmpsweepError
from worker.engine_session import EngineSession
from worker.engines import EngineSpec

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

    def describe(self) -> Mapping[str, Any]:
        """Return the engine's state as the REST API shows it."""
        return {
            "model": self.spec.model,
            "engine": self.spec.kind,
            "index": self.index,
            "state": self.state,
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
