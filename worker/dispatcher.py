"""The dispatcher: leases cells from the store, runs them on the pool, and reports the outcome under the lease's epoch.

Only the store decides what is done. Whatever happens to a cell here (its engine dies, the server stops, its lease goes
to another owner), the worst outcome is that it is computed again. A failing cell, sweep or store call never ends the
dispatcher.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog

from ampsweep.errors import AmpsweepError, Conflict, EngineLost, Unavailable
from ampsweep.telemetry.traces import span
from jobs.dispatcher_stats import DispatcherStats
from jobs.store.protocol import Store
from jobs.store.records import CellFile, CellOutcome, CellReport, Heartbeat, Lease, SweepLease
from worker.pool import Pool

log = logging.getLogger(__name__)


FINALIZE_AGAIN = 10.0
"""Seconds until a sweep whose results could not be written may be finalized anew, here or by another server."""

FINALIZERS = 2
"""Sweeps that are put together at once, at most."""

REST = 2.0
"""Seconds without new cells after one that could not be computed or published for want of an engine or of disk."""

TIDY_SECONDS = 600.0
"""How often what nothing needs is deleted."""

STOP_SECONDS = 20.0
"""How long `stop` waits for the store to hear of what was aborted; what it does not hear runs out by itself."""


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Running:
    """A leased cell: `work` computes it and may be cancelled; `known` is set once the store knows how it ended."""

    lease: Lease
    work: asyncio.Task[CellFile]
    known: asyncio.Event
    since: float

    @property
    def key(self) -> tuple[str, int]:
        return self.lease.cell.id, self.lease.epoch

    @property
    def ids(self) -> dict[str, object]:
        """What stands in the log's lines about it."""
        return {"cell_id": self.lease.cell.id, "sweep_ids": list(self.lease.sweep_ids), "epoch": self.lease.epoch}


class Dispatcher:
    """Leases cells to a pool while `start` and `stop` stand around it; tests call `turn` and `heartbeat` themselves.

    `finalize` puts a leased sweep's results together, `probe` raises while results cannot be written, `tidy` is called
    now and then to delete what nothing needs; they run in threads. `on_change` is called in the event loop after
    whatever may have made an event. Leases last `ttl` seconds and are extended six times in that span; the store is
    asked for work every `poll` seconds, and at once when `wake` is called. `dispatcher_stats` counts what was done.
    """

    def __init__(
        self,
        *,
        store: Store,
        pool: Pool,
        finalize: Callable[[SweepLease], object],
        owner: str,
        on_change: Callable[[], None] = _nothing,
        probe: Callable[[], object] = _nothing,
        tidy: Callable[[], object] = _nothing,
        ttl: float = 30.0,
        poll: float = 1.0,
    ) -> None:
        self._store = store
        self._pool = pool
        self._finalize = finalize
        self._owner = owner
        self._on_change = on_change
        self._probe = probe
        self._tidy = tidy
        self._ttl = ttl
        self._poll = poll
        self.dispatcher_stats = DispatcherStats()
        self._work_waits = asyncio.Event()
        self._leases_doubted = asyncio.Event()
        self._stops = asyncio.Event()
        self._stopping = False
        self._loops: list[asyncio.Task[None]] = []
        self._running: dict[tuple[str, int], _Running] = {}
        self._ended: list[_Running] = []
        self._reporter: asyncio.Task[None] | None = None
        self._finalizing: dict[SweepLease, asyncio.Task[None]] = {}
        self._backoff_until = 0.0
        self._suspects_at = 0.0
        pool.watch(self._work_waits.set)

    def start(self) -> None:
        """Begin to lease cells, in tasks of the running event loop."""
        self._loops = [
            asyncio.create_task(self._forever(self.turn, self._work_waits, self._poll)),
            asyncio.create_task(self._forever(self.heartbeat, self._leases_doubted, self._ttl / 6)),
            asyncio.create_task(self._forever(partial(asyncio.to_thread, self._tidy), self._stops, TIDY_SECONDS)),
        ]

    def wake(self) -> None:
        """Look for new work, and for running work that nobody wants any more, now."""
        self._work_waits.set()
        self._leases_doubted.set()

    async def stop(self) -> None:
        """End the loop, abort what runs and give its leases back; a sweep being finalized is finished first."""
        self._stopping = True
        self._stops.set()
        self.wake()
        await asyncio.gather(*self._loops)
        for running in self._running.values():
            running.work.cancel()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.idle()
        except TimeoutError:
            log.warning(
                "the store did not hear of %d aborted cells, and %d sweeps are being finalized; their leases run out",
                len(self._running),
                len(self._finalizing),
            )
            if self._reporter is not None:
                self._reporter.cancel()

    async def idle(self) -> None:
        """Wait until every cell leased and every sweep being finalized by now has ended and the store knows it."""
        known = [running.known.wait() for running in self._running.values()]
        await asyncio.gather(*known, *self._finalizing.values())

    async def turn(self) -> None:
        """Free the leases that ran out, begin to finalize what has ended, and lease what the pool has room for."""
        if expired := await asyncio.to_thread(self._store.expire_leases):
            self.dispatcher_stats.expired += expired
            log.warning("%d leases ran out; their cells are leased again", expired)
            self._on_change()
        await self._lease_finalizing()
        if not await self._rested():
            return
        for model in self._pool.capacity():
            await self._lease_suspect(model)
            if (room := self._room(model)) > 0:
                await self._lease(model, room)

    async def heartbeat(self) -> None:
        """Extend the leases of cells that live; abort those whose lease has passed, or which no sweep wants any more.

        A cell of which its engine gives no sign of life is left alone: its lease runs out.
        """
        if leases := list(self._finalizing):
            for passed in await asyncio.to_thread(self._store.extend_sweep_leases, leases, ttl=self._ttl):
                log.warning("sweep %s: the lease to finalize it has passed", passed.sweep_id)
        samples = await self._pool.progress()
        beats = [
            Heartbeat(lease=running.lease, samples=samples.get(key, 0))
            for key, running in self._running.items()
            if key in samples or running.work.done()
        ]
        if not beats:
            return
        lost = await asyncio.to_thread(self._store.heartbeat, beats, ttl=self._ttl)
        for lease in lost:
            if running := self._running.get((lease.cell.id, lease.epoch)):
                with structlog.contextvars.bound_contextvars(**running.ids):
                    log.info("the cell is aborted: its lease has passed, or no sweep wants it any more")
                running.work.cancel()
        self._on_change()

    async def _forever(self, step: Callable[[], Awaitable[object]], woken: asyncio.Event, every: float) -> None:
        while not self._stopping:
            woken.clear()
            try:
                await step()
            except Unavailable as error:
                log.warning("the dispatcher tries again: %s", error)
            except Exception:
                log.exception("the dispatcher failed; it tries again")
            with suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await woken.wait()

    async def _rested(self) -> bool:
        """Whether cells may be leased: after one found no engine or no disk, not before results can be written."""
        now = asyncio.get_running_loop().time()
        if not self._backoff_until:
            return True
        if now < self._backoff_until:
            return False
        try:
            await asyncio.to_thread(self._probe)
        except (OSError, Unavailable) as error:
            log.warning("no cell is leased while results cannot be written: %s", error)
            self._backoff_until = now + REST
            return False
        self._backoff_until = 0.0
        return True

    def _room(self, model: str) -> int:
        running = Counter(running.lease.cell.model for running in self._running.values())
        return self._pool.capacity()[model] - running[model]

    async def _lease_finalizing(self) -> None:
        if len(self._finalizing) >= FINALIZERS or self._stopping:
            return
        for sweep_id in await asyncio.to_thread(self._store.finalizing):
            lease = await asyncio.to_thread(self._store.lease_sweep, sweep_id, self._owner, ttl=self._ttl)
            if lease is not None:
                self._finalizing[lease] = asyncio.create_task(self._finish(lease))
            if len(self._finalizing) >= FINALIZERS:
                return

    async def _lease_suspect(self, model: str) -> None:
        """Lease a cell that must run alone, looking for one no more often than the store is polled."""
        now = asyncio.get_running_loop().time()
        if now < self._suspects_at or self._room(model) <= 0 or not self._pool.can_run_exclusive(model):
            return
        self._suspects_at = now + self._poll
        await self._lease(model, 1, exclusive=1)

    async def _lease(self, model: str, room: int, *, exclusive: int = 0) -> None:
        leases = await asyncio.to_thread(
            self._store.lease_cells, self._owner, models=[model], limit=room, ttl=self._ttl, exclusive=exclusive
        )
        for lease in leases:
            self.dispatcher_stats.leased += 1
            self.dispatcher_stats.retried += lease.tries > 1
            work = asyncio.create_task(self._compute(lease))
            since = asyncio.get_running_loop().time()
            running = _Running(lease=lease, work=work, known=asyncio.Event(), since=since)
            self._running[running.key] = running
            work.add_done_callback(partial(self._has_ended, running))
        await asyncio.sleep(0)  # each has its engine before room is looked for again

    async def _compute(self, lease: Lease) -> CellFile:
        """Let the pool compute a cell, in a task of its own whose log and spans name it."""
        cell, sweep_ids = lease.cell, list(lease.sweep_ids)
        structlog.contextvars.bind_contextvars(cell_id=cell.id, sweep_ids=sweep_ids, epoch=lease.epoch)
        log.debug("the cell is leased", extra={"model": cell.model, "tries": lease.tries})
        with span("cell", {"cell.id": cell.id, "sweep.ids": sweep_ids, "cell.epoch": lease.epoch, "model": cell.model}):
            return await self._pool.run_cell(cell, lease.epoch, exclusive=lease.exclusive)

    def _has_ended(self, running: _Running, _work: asyncio.Task[CellFile]) -> None:
        self._ended.append(running)
        if self._reporter is None or self._reporter.done():
            self._reporter = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        """Tell the store what became of cells, all that have ended by now at once, until it hears."""
        while ended := self._ended:
            self._ended = []
            reports = [self._reported(running) for running in ended]
            try:
                late = await asyncio.to_thread(self._store.report, reports)
            except Unavailable as error:
                log.warning("the store could not be told of %d cells; it is tried again: %s", len(ended), error)
                self._ended = [*ended, *self._ended]
                await asyncio.sleep(self._poll)
                continue
            except Exception:
                log.exception("the store could not be told of %d cells; their leases run out", len(ended))
                late = []
            self.dispatcher_stats.late += len(late)
            for lease in late:
                log.warning("cell %s: a late write is dropped (epoch %d)", lease.cell.id, lease.epoch)
            for report, running in zip(reports, ended, strict=True):
                self.dispatcher_stats.endings[report.ending] += 1
                self.dispatcher_stats.samples += 0 if report.file is None else report.file.rows
                if report.lease.exclusive or report.ending is CellOutcome.SUSPECT:
                    self._suspects_at = 0.0
                del self._running[running.key]
                running.known.set()
            self._work_waits.set()
            self._on_change()

    def _reported(self, running: _Running) -> CellReport:
        seconds = round(asyncio.get_running_loop().time() - running.since, 3)
        with structlog.contextvars.bound_contextvars(**running.ids):
            report = self._report(running)
            said = {"ending": report.ending.value, "tries": report.lease.tries, "seconds": seconds}
            log.info("the cell ended", extra=said | ({} if report.file is None else {"samples": report.file.rows}))
        return report

    def _report(self, running: _Running) -> CellReport:
        lease, work = running.lease, running.work
        if work.cancelled():
            return CellReport(lease=lease, ending=CellOutcome.RELEASED)
        error = work.exception()
        if error is None:
            return CellReport(lease=lease, ending=CellOutcome.COMPLETED, file=work.result())
        known = isinstance(error, AmpsweepError)
        shown = error if known else type(error).__name__  # another's message may repeat a prompt
        log.warning("cell %s failed: %s", lease.cell.id, shown, exc_info=None if known else error)
        return CellReport(lease=lease, ending=self._ending(error), error=str(error) or type(error).__name__)

    def _ending(self, error: BaseException) -> CellOutcome:
        if isinstance(error, Unavailable):
            self._backoff_until = asyncio.get_running_loop().time() + REST
            return CellOutcome.RELEASED
        if isinstance(error, EngineLost):
            return CellOutcome.SUSPECT
        return CellOutcome.REJECTED if isinstance(error, AmpsweepError) and error.status < 500 else CellOutcome.FAILED

    async def _finish(self, lease: SweepLease) -> None:
        """Finalize a sweep, under a lease that is extended meanwhile."""
        sweep_id = lease.sweep_id
        structlog.contextvars.bind_contextvars(sweep_ids=[sweep_id])
        since = asyncio.get_running_loop().time()
        try:
            with span("sweep.finalize", {"sweep.ids": [sweep_id]}):
                await asyncio.to_thread(self._finalize_or_fail, lease)
        except Exception:
            log.exception("sweep %s: its results cannot be written now; it is tried again", sweep_id)
            with suppress(Unavailable):
                await asyncio.to_thread(self._store.extend_sweep_leases, [lease], ttl=FINALIZE_AGAIN)
            return
        finally:
            del self._finalizing[lease]
        self.dispatcher_stats.finalized += 1
        log.info("the sweep is finalized", extra={"seconds": round(asyncio.get_running_loop().time() - since, 3)})
        self._work_waits.set()
        self._on_change()

    def _finalize_or_fail(self, lease: SweepLease) -> None:
        """Finalize a sweep, or fail it; raises where the disk or the store refuses, since that may pass."""
        try:
            self._finalize(lease)
        except (OSError, Unavailable):
            raise
        except Exception as error:
            log.exception("sweep %s could not be finalized", lease.sweep_id)
            with suppress(Conflict):  # the lease has passed: another one decides
                self._store.finish_sweep(lease, error=f"the results could not be put together: {error}")
