"""A pool without engines: each cell waits until the test says what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from api.bell import Bell
from jobs.cell import Cell
from jobs.store.records import CellFile
from worker.engines import EngineSpec
from worker.host import Host
from worker.pool import Pool


class StubPool(Pool):
    """Takes `room` cells of model `tiny`; `outcomes` holds a future for each that runs."""

    def __init__(self, room: int = 8) -> None:
        super().__init__([])
        self.room = room
        self.bell = Bell()
        self.outcomes: dict[str, asyncio.Future[CellFile]] = {}

    def capacity(self) -> Mapping[str, int]:
        return {"tiny": self.room}

    async def run_cell(self, cell: Cell, epoch: int) -> CellFile:
        self.outcomes[cell.id] = asyncio.get_running_loop().create_future()
        self.bell.ring()
        return await self.outcomes[cell.id]

    async def leased(self) -> list[str]:
        """Let the tasks begin that are waiting to; return the cells that run."""
        await asyncio.sleep(0)
        return [cell_id for cell_id, outcome in self.outcomes.items() if not outcome.done()]

    def succeed(self, cell_id: str) -> None:
        self.outcomes[cell_id].set_result(CellFile(name=f"{cell_id}.parquet", rows=4, sha256="0" * 64))

    def fail(self, cell_id: str, error: Exception) -> None:
        self.outcomes[cell_id].set_exception(error)

    async def _begin(self) -> None:
        raise NotImplementedError

    def _make_host(self, spec: EngineSpec) -> Host:
        raise NotImplementedError

    async def _end(self) -> None:
        raise NotImplementedError
