"""A cell that kills its engine each time: only this cell fails, after three attempts of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from api.http.change_notifier import ChangeNotifier
from jobs.cell import Cell
from jobs.clock import SystemClock
from jobs.store.cell_state import MAX_ATTEMPTS
from jobs.store.records import CellFile
from jobs.store.sql.store import SqlStore
from jobs.store.transitions import SWEEP_ENDED, CellState, SweepState
from tests.ampsweep.processes import descendants
from tests.worker.installation import Installation
from worker.pool.engine_session import EngineSession
from worker.pool.ray_pool import RayPool
from worker.pool.supervisor import Supervisor

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.reliability,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves sockets and processes to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def engines() -> list[int]:
    """Return the processes below this one in which Ray runs an engine."""
    commands = {pid: Path(f"/proc/{pid}/cmdline") for pid, _ in descendants(os.getpid())}
    return [pid for pid, command in commands.items() if command.exists() and b"RayEngineActor" in command.read_bytes()]


class PoisonedPool(RayPool):
    """Kills the engine's process whenever it is given one certain cell."""

    poison = ""
    kills = 0

    async def _run(self, supervisor: Supervisor, session: EngineSession, cell: Cell, epoch: int) -> CellFile:
        running = asyncio.create_task(super()._run(supervisor, session, cell, epoch))
        if cell.id == self.poison:
            await asyncio.sleep(0)  # the engine has it now
            for pid in engines():
                os.kill(pid, signal.SIGKILL)
            self.kills += 1
        return await running


async def test_a_cell_that_kills_its_engine_each_time_fails_alone(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/store.db", SystemClock())
    installation, notifier = Installation.build(tmp_path / "installation", store=store), ChangeNotifier()
    sweep = installation.submit(tasks=[{"name": "lss", "languages": ["en", "fr", "tr"], "limit": 4}])
    poison = store.list_cells(sweep.id).data[5].id
    pool = PoisonedPool([installation.engine(seconds_per_step=0.5)], installation.worker_config, cells_per_engine=4)
    pool.poison = poison
    pool.watch(notifier.notify)
    await pool.start()
    try:
        await pool.ready()
        dispatcher = installation.dispatcher(pool, on_change=notifier.notify, poll=0.2)
        dispatcher.start()
        async with asyncio.timeout(500):
            while store.get_sweep(sweep.id).state not in SWEEP_ENDED:
                await ChangeNotifier.wait(notifier.subscribe(), seconds=1)
        await dispatcher.stop()
    finally:
        await pool.stop()
    cells = {cell.id: cell for cell in store.list_cells(sweep.id).data}
    poisoned = cells.pop(poison)
    assert (poisoned.state, poisoned.attempts) == (CellState.FAILED, MAX_ATTEMPTS)
    assert "the engine's process died" in str(poisoned.error)
    assert {(cell.state, cell.attempts) for cell in cells.values()} == {(CellState.COMPLETED, 1)}
    assert store.get_sweep(sweep.id).state is SweepState.COMPLETED
    print(f"a cell that kills its engine: failed after {pool.kills} kills, the {len(cells)} others completed")
    store.close()
