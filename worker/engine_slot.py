"""The place of one engine in a pool: its state, its current host, and what is in flight on it."""

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
    """One engine of a model; the hosts in it come and go. Its supervisor alone changes `state`, `error` and `host`.

    `index` tells the engines of a model apart. `failures` counts the engine's ends in a row without healthy operation
    in between. `begun` and `finished` count cells and streams since the server started. `supervised` is False once the
    slot's supervisor has ended, so that nobody restarts the engine.
    """

    spec: EngineSpec
    index: int = 0
    state: EngineState = "starting"
    error: AmpsweepError | None = None
    host: EngineSession | None = None
    supervised: bool = True
    streams: int = 0
    cells: int = 0
    begun: int = 0
    finished: int = 0
    starts: int = 0
    failed_starts: int = 0
    failures: int = 0
    deaths: int = 0
    reserved: bool = False
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def load(self) -> int:
        """Cells and streams in flight."""
        return self.streams + self.cells

    def describe(self) -> Mapping[str, Any]:
        """Return the engine as the health routes show it."""
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
        """Count a stream that is in flight."""
        self.streams += 1
        self.begun += 1
        try:
            yield
            self.finished += 1
        finally:
            self.streams -= 1

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Count a cell that is in flight."""
        self.cells += 1
        self.begun += 1
        try:
            yield
            self.finished += 1
        finally:
            self.cells -= 1
            self.left.set()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Reserve the engine for one cell: no other is given to it, and those in flight are waited for."""
        self.reserved = True
        try:
            while self.cells > 1:
                self.left.clear()
                await self.left.wait()
            yield
        finally:
            self.reserved = False
