"""Writes partial results for requests, without letting a few requests occupy the memory and the threads of a server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ampsweep.errors import Unavailable
from ampsweep.temporary import TemporaryFolder
from jobs.results.finalization.assembly_process import SMALL, SMALL_CELLS
from jobs.results.finalization.partial import AssembleCells, PartialResults, write_partial
from jobs.results.writer import Results
from jobs.store.protocol import Store
from jobs.store.records import SweepRecord
from jobs.store.transitions import SweepState

MAX_WAITING = 8
"""Sweeps whose partial results wait for their turn."""
_HAS_FILES = (SweepState.COMPLETED, SweepState.FAILED)

_Written = tuple[TemporaryFolder, PartialResults]


def is_partial(sweep: SweepRecord) -> bool:
    """Return whether only partial results of a sweep exist: it has not ended, or was cancelled."""
    return sweep.state not in _HAS_FILES


@dataclass(kw_only=True)
class PartialFiles:
    """Partial results in a temporary folder, for the requests that waited for them; each of them calls `release`."""

    task: asyncio.Task[_Written | None]
    requests: int = 0

    @property
    def results(self) -> PartialResults:
        """The results, once they are written."""
        written = self.task.result()
        assert written is not None
        return written[1]

    async def release(self) -> None:
        """Delete the folder if no other request needs it."""
        self.requests -= 1
        ended = self.task.done() and not self.task.cancelled() and self.task.exception() is None
        if not self.requests and ended and (written := self.task.result()) is not None:
            await asyncio.to_thread(written[0].delete)


class PartialWriter:
    """Writes partial results, at the same time at most those of one large and of one small sweep.

    Requests for one sweep that wait for their turn get the same files. A request that arrives later waits for further
    ones, so that its results have every cell that was completed before.

    Args:
        assemble: Writes the files of a sweep; by default in the calling thread.
    """

    def __init__(self, assemble: AssembleCells | None = None) -> None:
        self._assemble = assemble
        self._turns = {large: asyncio.Semaphore(1) for large in (False, True)}
        self._waiting: dict[str, PartialFiles] = {}

    async def write(self, store: Store, results: Results, sweep: SweepRecord) -> PartialFiles | None:
        """Write the results of a sweep's completed cells; return None if it has published results meanwhile.

        Raises:
            Unavailable: Too many other sweeps wait, or the process that writes the files died.
        """
        files = self._waiting.get(sweep.id)
        if files is None:
            if len(self._waiting) >= MAX_WAITING:
                raise Unavailable(f"the partial results of {MAX_WAITING} other sweeps are being written; retry later")
            task = asyncio.create_task(self._in_turn(store, results, sweep))
            files = self._waiting[sweep.id] = PartialFiles(task=task)
        files.requests += 1
        try:
            return None if await asyncio.shield(files.task) is None else files
        except BaseException:
            await files.release()
            raise

    async def _in_turn(self, store: Store, results: Results, sweep: SweepRecord) -> _Written | None:
        large = sweep.request_counts.completed > SMALL_CELLS or sweep.samples > SMALL
        try:
            await self._turns[large].acquire()
        finally:
            del self._waiting[sweep.id]
        try:
            return await asyncio.to_thread(self._write, store, results, sweep.id)
        finally:
            self._turns[large].release()

    def _write(self, store: Store, results: Results, sweep_id: str) -> _Written | None:
        sweep = store.get_sweep(sweep_id)
        if not is_partial(sweep):
            return None
        folder = TemporaryFolder("partial")
        try:
            return folder, write_partial(store, results, sweep, folder.path, assemble=self._assemble)
        except BaseException:
            folder.delete()
            raise
