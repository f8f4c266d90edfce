"""A pool without engines: each cell waits until the test sets its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ampsweep.domain.neurons.recording_progress import RecordingProgress
from api.http.change_notifier import ChangeNotifier
from jobs.cell import Cell
from jobs.store.records import CellFile
from worker.engines import EngineSpec
from worker.pool.engine_session import EngineSession
from worker.pool.pool import Pool


class StubPool(Pool):
    """Takes `limit` cells of model `tiny`; `outcomes` holds a future for each that runs.

    `samples` is how far each is, `recorded` how far the neuron sets are; `exclusive` are those that were to run alone.
    """

    def __init__(self, limit: int = 8) -> None:
        super().__init__([])
        self.limit = limit
        self.notifier = ChangeNotifier()
        self.samples = 0
        self.recorded: dict[str, RecordingProgress] = {}
        self.exclusive: list[str] = []
        self.running: set[tuple[str, int]] = set()
        self.outcomes: dict[str, asyncio.Future[CellFile]] = {}

    def capacity(self) -> Mapping[str, int]:
        return {"tiny": self.limit}

    def can_run_exclusive(self, model: str) -> bool:
        return self.limit > 0

    async def progress(self) -> Mapping[tuple[str, int], int]:
        return dict.fromkeys(self.running, self.samples)

    async def recordings(self, model: str | None = None) -> Mapping[str, RecordingProgress]:
        return self.recorded

    async def run_cell(self, cell: Cell, epoch: int, *, exclusive: bool = False) -> CellFile:
        if exclusive:
            self.exclusive.append(cell.id)
        self.running.add((cell.id, epoch))
        self.outcomes[cell.id] = asyncio.get_running_loop().create_future()
        self.notifier.notify()
        try:
            return await self.outcomes[cell.id]
        finally:
            self.running.discard((cell.id, epoch))

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

    def _make_session(self, spec: EngineSpec) -> EngineSession:
        raise NotImplementedError

    async def _end(self) -> None:
        raise NotImplementedError
