"""The loop between the store and the pool: cells are leased, run, and reported under their lease's epoch.

The store alone says what is done. Whatever happens to a cell here (its engine dies, the server stops, its lease passes
to another), the worst is that it is computed again. One failing cell, sweep or call to the store never ends the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from ampsweep.errors import AmpsweepError, StaleLease, Unavailable
from jobs.store.protocol import Store
from jobs.store.records import CellFile, Lease
from worker.pool import Pool

log = logging.getLogger(__name__)


FINALIZE_AGAIN = 10.0
"""Seconds until a sweep whose results could not be written is finalized anew."""


def _nobody() -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Running:
    """A leased cell: `work` computes it and may be cancelled."""

    lease: Lease
    work: asyncio.Task[CellFile]


class Dispatcher:
    """Leases cells to a pool while `start` and `stop` stand around it; tests call `turn` and `heartbeat` themselves.

    `finalize` puts an ended sweep's results together; it runs in a thread. `on_change` is called in the event loop
    after whatever may have made an event. Leases last `ttl` seconds and are extended three times in that span; the
    store is asked for work every `poll` seconds, and at once when `wake` is called.
    """

    def __init__(
        self,
        *,
        store: Store,
        pool: Pool,
        finalize: Callable[[str], object],
        owner: str,
        on_change: Callable[[], None] = _nobody,
        ttl: float = 30.0,
        poll: float = 1.0,
    ) -> None:
        self._store = store
        self._pool = pool
        self._finalize = finalize
        self._owner = owner
        self._on_change = on_change
        self._ttl = ttl
        self._poll = poll
        self._work_waits = asyncio.Event()
        self._leases_doubted = asyncio.Event()
        self._stopping = False
        self._loops: list[asyncio.Task[None]] = []
        self._running: set[_Running] = set()
        self._reports: set[asyncio.Task[None]] = set()
        self._finalizing: dict[str, asyncio.Task[None]] = {}
        pool.watch(self._work_waits.set)

    def start(self) -> None:
        """Begin to lease cells, in tasks of the running event loop."""
        self._loops = [
            asyncio.create_task(self._forever(self.turn, self._work_waits, self._poll)),
            asyncio.create_task(self._forever(self.heartbeat, self._leases_doubted, self._ttl / 3)),
        ]

    def wake(self) -> None:
        """Look for new work, and for running work that nobody wants any more, now."""
        self._work_waits.set()
        self._leases_doubted.set()

    async def stop(self) -> None:
        """End the loop, abort what runs and give its leases back; a sweep being finalized is finished first."""
        self._stopping = True
        self.wake()
        await asyncio.gather(*self._loops)
        for running in self._running:
            running.work.cancel()
        await self.idle()

    async def idle(self) -> None:
        """Wait until every cell leased and every sweep being finalized by now has ended and the store knows it."""
        await asyncio.gather(*self._reports, *self._finalizing.values())

    async def turn(self) -> None:
        """Free the leases that ran out, begin to finalize what has ended, and lease what the pool has room for."""
        if await asyncio.to_thread(self._store.expire_leases):
            self._on_change()
        for sweep_id in await asyncio.to_thread(self._store.finalizing):
            if sweep_id not in self._finalizing:
                self._finalizing[sweep_id] = asyncio.create_task(self._finish(sweep_id))
        running = Counter(running.lease.cell.model for running in self._running)
        for model, capacity in self._pool.capacity().items():
            if (room := capacity - running[model]) > 0:
                await self._lease(model, room)

    async def heartbeat(self) -> None:
        """Extend every lease held; abort the cells whose lease has passed, or which no sweep wants any more."""
        for running in list(self._running):
            try:
                await asyncio.to_thread(self._store.heartbeat, running.lease, ttl=self._ttl)
            except StaleLease as error:
                log.info("cell %s is aborted: %s", running.lease.cell.id, error)
                running.work.cancel()

    async def _forever(self, step: Callable[[], Awaitable[None]], woken: asyncio.Event, every: float) -> None:
        while not self._stopping:
            woken.clear()
            try:
                await step()
            except Exception:
                log.exception("the dispatcher failed; it tries again")
            with suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await woken.wait()

    async def _lease(self, model: str, room: int) -> None:
        leases = await asyncio.to_thread(
            self._store.lease_cells, self._owner, models=[model], limit=room, ttl=self._ttl
        )
        for lease in leases:
            running = _Running(lease=lease, work=asyncio.create_task(self._pool.run_cell(lease.cell, lease.epoch)))
            self._running.add(running)
            report = asyncio.create_task(self._report(running))
            self._reports.add(report)
            report.add_done_callback(self._reports.discard)

    async def _report(self, running: _Running) -> None:
        """Tell the store what became of a cell. What cannot be told is found out when the lease runs out."""
        lease, work = running.lease, running.work
        await asyncio.wait([work])
        try:
            if work.cancelled():
                await asyncio.to_thread(self._store.release, lease)
            elif error := work.exception():
                await asyncio.to_thread(self._fail, lease, error)
            else:
                await asyncio.to_thread(self._store.complete_cell, lease, work.result())
        except StaleLease as error:
            log.warning("cell %s: a late write is dropped: %s", lease.cell.id, error)
        except Exception:
            log.exception("cell %s: the store could not be told", lease.cell.id)
        finally:
            self._running.discard(running)
            self._work_waits.set()
            self._on_change()

    def _fail(self, lease: Lease, error: BaseException) -> None:
        if isinstance(error, Unavailable):
            self._store.release(lease)
            return
        known = isinstance(error, AmpsweepError)
        log.warning("cell %s failed: %s", lease.cell.id, error, exc_info=None if known else error)
        retry = error.status >= 500 if isinstance(error, AmpsweepError) else True
        self._store.fail_cell(lease, str(error) or type(error).__name__, retry=retry)

    async def _finish(self, sweep_id: str) -> None:
        try:
            await asyncio.to_thread(self._finalize_or_fail, sweep_id)
        except Exception:
            log.exception("sweep %s: its results cannot be written now; it is tried again", sweep_id)
            asyncio.get_running_loop().call_later(FINALIZE_AGAIN, self._finalizing.pop, sweep_id, None)
            return
        del self._finalizing[sweep_id]
        self._work_waits.set()
        self._on_change()

    def _finalize_or_fail(self, sweep_id: str) -> None:
        """Finalize a sweep, or fail it; raises where the disk or the store refuses, since that may pass."""
        try:
            self._finalize(sweep_id)
        except (OSError, Unavailable):
            raise
        except Exception as error:
            log.exception("sweep %s could not be finalized", sweep_id)
            self._store.finish_sweep(sweep_id, error=f"the results could not be put together: {error}")
