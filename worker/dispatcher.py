"""The dispatcher: leases cells from the store, runs them on the pool, and reports the outcome under the lease's epoch.

Only the store decides what is done. Whatever happens to a cell here (its engine dies, the server stops, its lease goes
to another owner), the worst outcome is that it is computed again. A failing cell, sweep or store call never ends the
dispatcher.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import structlog

from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.errors import AmpsweepError, EngineLost, Unavailable
from ampsweep.files import is_full
from ampsweep.out_of_threads import is_out_of_threads, named_thread_failures
from ampsweep.telemetry.traces import span
from jobs.execution import DispatcherStats
from jobs.store.protocol import Store
from jobs.store.records import CellFile, CellOutcome, CellReport, Heartbeat, Lease, SweepLease
from worker.polling import poll_forever
from worker.pool.pool import Pool
from worker.repeated_warnings import RepeatedWarnings
from worker.sweep_finalizer import SweepFinalizer

log = logging.getLogger(__name__)

BACKOFF_SECONDS = 2.0
"""How long no cells are leased after a cell failed because no engine or no disk space was available."""

CLEANUP_SECONDS = 600.0
"""Interval between calls of `clean_up`."""

STOP_SECONDS = 20.0
"""How long `stop` waits for the store to accept the reports of aborted cells. Unreported leases expire."""


def _no_op() -> None:
    """Do nothing; the default of the optional callbacks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Running:
    """A leased cell. Cancelling `task` aborts it; `reported` is set once the store has accepted the outcome."""

    lease: Lease
    task: asyncio.Task[CellFile]
    reported: asyncio.Event
    started_at: float

    @property
    def key(self) -> tuple[str, int]:
        return self.lease.cell.id, self.lease.epoch

    @property
    def log_context(self) -> dict[str, object]:
        """The fields of log records about this cell."""
        return {"cell_id": self.lease.cell.id, "sweep_ids": list(self.lease.sweep_ids), "epoch": self.lease.epoch}


class Dispatcher:
    """Leases cells and runs them on a pool, from `start` to `stop`. Tests call `poll_once` and `heartbeat` directly.

    Args:
        store: Where sweeps, cells and leases are stored.
        pool: The engines.
        finalize: Called in a thread with the lease of a finalizing sweep; writes its results and ends the sweep.
        owner: The name under which this dispatcher takes leases.
        on_change: Called in the event loop after each change that may have added an event.
        check_writable: Called in a thread; raises OSError or Unavailable while results cannot be written.
        clean_up: Called in a thread every `CLEANUP_SECONDS`; deletes files that are no longer needed.
        ttl: Duration of a lease in seconds. Heartbeats are sent six times in that period.
        poll: Seconds between two requests to the store for work. `wake` causes an immediate one.

    Attributes:
        dispatcher_stats: Counters since the start.
    """

    def __init__(
        self,
        *,
        store: Store,
        pool: Pool,
        finalize: Callable[[SweepLease], object],
        owner: str,
        on_change: Callable[[], None] = _no_op,
        check_writable: Callable[[], object] = _no_op,
        clean_up: Callable[[], object] = _no_op,
        ttl: float = 30.0,
        poll: float = 1.0,
    ) -> None:
        self._store = store
        self._pool = pool
        self._owner = owner
        self._on_change = on_change
        self._check_writable = check_writable
        self._clean_up = clean_up
        self._ttl = ttl
        self._poll = poll
        self.dispatcher_stats = DispatcherStats()
        self._work_available = asyncio.Event()
        self._heartbeat_due = asyncio.Event()
        self._cleanup_due = asyncio.Event()
        self._stops = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._running: dict[tuple[str, int], _Running] = {}
        self._ended: list[tuple[_Running, CellReport]] = []  # not stored yet
        self._reporter: asyncio.Task[None] | None = None
        self._finalizer = SweepFinalizer(
            store=store, finalize=finalize, owner=owner, on_finalized=self._on_finalized, ttl=ttl
        )
        self._backoff_until = 0.0
        self._warnings = RepeatedWarnings(log)
        self._next_quarantine_poll = 0.0
        pool.watch(self._work_available.set)

    def start(self) -> None:
        """Start leasing cells in tasks of the running event loop; return at once."""
        poll = partial(poll_forever, name="the dispatcher", stops=self._stops)
        clean_up = partial(asyncio.to_thread, self._clean_up)
        self._loops = [
            asyncio.create_task(poll(self.poll_once, wake=self._work_available, interval=self._poll)),
            asyncio.create_task(poll(self.heartbeat, wake=self._heartbeat_due, interval=self._ttl / 6)),
            asyncio.create_task(poll(clean_up, wake=self._cleanup_due, interval=CLEANUP_SECONDS)),
        ]

    def wake(self) -> None:
        """Poll the store and send heartbeats now, because work was added or cancelled."""
        self._work_available.set()
        self._heartbeat_due.set()

    def clean_up_now(self) -> None:
        """Call `clean_up` now, because a sweep was deleted."""
        self._cleanup_due.set()

    async def stop(self) -> None:
        """Stop leasing, abort the running cells and return their leases. Sweeps being finalized are completed first.

        Waits at most `STOP_SECONDS` for the store; leases that could not be returned expire.
        """
        self._stops.set()
        self.wake()
        self._cleanup_due.set()
        await asyncio.gather(*self._loops)
        for running in self._running.values():
            running.task.cancel()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.idle()
        except TimeoutError:
            log.warning(
                "stopping with %d aborted cells unreported and %d sweeps unfinalized; their leases will expire",
                len(self._running),
                len(self._finalizer),
            )
            if self._reporter is not None:
                self._reporter.cancel()

    async def idle(self) -> None:
        """Wait until each cell now leased has been reported and each sweep now being finalized is done."""
        reported = [running.reported.wait() for running in self._running.values()]
        await asyncio.gather(*reported, self._finalizer.idle())

    async def poll_once(self) -> None:
        """Expire overdue leases, start finalizing sweeps, and lease as many cells as the pool has capacity for."""
        if expired := await asyncio.to_thread(self._store.expire_leases):
            self.dispatcher_stats.expired += expired
            log.warning("%d leases expired; their cells will be leased again", expired)
            self._on_change()
        if not self._stops.is_set():
            await self._finalizer.lease()
        if not await self._can_lease():
            return
        for model in self._pool.capacity():
            await self._lease_quarantined(model)
            if (free := self._free_capacity(model)) > 0:
                await self._lease(model, free)

    async def heartbeat(self) -> None:
        """Extend the leases of running cells and sweeps; abort cells that lost their lease or that no sweep needs.

        A cell whose engine does not report progress gets no heartbeat, so its lease expires.
        """
        await self._finalizer.heartbeat()
        samples, recordings = await asyncio.gather(self._pool.progress(), self._pool.recordings())
        heartbeats = list(self._heartbeats(samples, recordings))
        if not heartbeats:
            return
        lost = await asyncio.to_thread(self._store.heartbeat, heartbeats, ttl=self._ttl)
        for lease in lost:
            if running := self._running.get((lease.cell.id, lease.epoch)):
                with structlog.contextvars.bound_contextvars(**running.log_context):
                    log.info("the cell is aborted: its lease was lost, or no sweep needs it any more")
                running.task.cancel()
        self._on_change()

    def _heartbeats(
        self, samples: Mapping[tuple[str, int], int], recordings: Mapping[str, RecordingProgress]
    ) -> Iterator[Heartbeat]:
        """Yield the heartbeats of running cells. Of those that wait for one neuron set, one tells how far it is."""
        told = set[tuple[str, tuple[str, ...]]]()
        for key, running in self._running.items():
            lease = running.lease
            if key not in samples and not running.task.done():
                continue
            recording = None
            if lease.cell.neurons is not None and (wanted := (lease.cell.neurons.id, lease.sweep_ids)) not in told:
                recording = recordings.get(lease.cell.neurons.id)
                told.add(wanted)
            yield Heartbeat(lease=lease, samples=samples.get(key, 0), recording=recording)

    async def recording_of(self, sweep_id: str) -> RecordingProgress | None:
        """Return how far the neuron set is that running cells of a sweep wait for; None if they wait for none."""
        leases = [running.lease for running in self._running.values() if sweep_id in running.lease.sweep_ids]
        wanted = {lease.cell.neurons.id for lease in leases if lease.cell.neurons is not None}
        recordings = await self._pool.recordings() if wanted else {}
        return next((recordings[each] for each in wanted if each in recordings), None)

    async def _can_lease(self) -> bool:
        """Return whether cells may be leased; after a back-off, only once `check_writable` has succeeded."""
        now = asyncio.get_running_loop().time()
        if not self._backoff_until:
            return True
        if now < self._backoff_until:
            return False
        try:
            await asyncio.to_thread(self._check_writable)
        except (OSError, Unavailable) as error:
            self._warnings.warn(f"no cells are leased because results cannot be written: {error}")
            self._backoff_until = now + BACKOFF_SECONDS
            return False
        self._backoff_until = 0.0
        self._warnings.end()
        return True

    def _free_capacity(self, model: str) -> int:
        running = Counter(running.lease.cell.model for running in self._running.values())
        return self._pool.capacity()[model] - running[model]

    async def _lease_quarantined(self, model: str) -> None:
        """Lease a quarantined cell to run exclusively. Asks the store at most once every `poll` seconds."""
        now = asyncio.get_running_loop().time()
        if (
            now < self._next_quarantine_poll
            or self._free_capacity(model) <= 0
            or not self._pool.can_run_exclusive(model)
        ):
            return
        self._next_quarantine_poll = now + self._poll
        await self._lease(model, 1, exclusive=1)

    async def _lease(self, model: str, limit: int, *, exclusive: int = 0) -> None:
        leases = await asyncio.to_thread(
            self._store.lease_cells, self._owner, models=[model], limit=limit, ttl=self._ttl, exclusive=exclusive
        )
        for lease in leases:
            self.dispatcher_stats.leased += 1
            self.dispatcher_stats.retried += lease.tries > 1
            task = asyncio.create_task(self._compute(lease))
            now = asyncio.get_running_loop().time()
            running = _Running(lease=lease, task=task, reported=asyncio.Event(), started_at=now)
            self._running[running.key] = running
            task.add_done_callback(partial(self._on_done, running))
        await asyncio.sleep(0)  # lets each task choose its engine before the capacity is computed again

    async def _compute(self, lease: Lease) -> CellFile:
        """Run a cell on the pool, with its ids in the context of logs and spans."""
        cell, sweep_ids = lease.cell, list(lease.sweep_ids)
        structlog.contextvars.bind_contextvars(cell_id=cell.id, sweep_ids=sweep_ids, epoch=lease.epoch)
        log.debug("the cell is leased", extra={"model": cell.model, "tries": lease.tries})
        with span("cell", {"cell.id": cell.id, "sweep.ids": sweep_ids, "cell.epoch": lease.epoch, "model": cell.model}):
            return await self._pool.run_cell(cell, lease.epoch, exclusive=lease.exclusive)

    def _on_done(self, running: _Running, _task: asyncio.Task[CellFile]) -> None:
        self._ended.append((running, self._logged_report(running)))
        if self._reporter is None or self._reporter.done():
            self._reporter = asyncio.create_task(self._report_ended())

    async def _report_ended(self) -> None:
        """Report the outcomes of ended cells to the store, in batches, and retry until it accepts them."""
        while ended := self._ended:
            self._ended = []
            try:
                with named_thread_failures("to report cells", Unavailable):
                    late = await asyncio.to_thread(self._store.report, [report for _, report in ended])
            except Unavailable as error:
                self._warnings.warn(f"the outcomes of {len(ended)} cells could not be stored; retrying: {error}")
                self._ended = [*ended, *self._ended]
                await asyncio.sleep(self._poll)
                continue
            except Exception:
                log.exception("the outcomes of %d cells could not be stored; their leases will expire", len(ended))
                late = []
            self.dispatcher_stats.late += len(late)
            for lease in late:
                log.warning("cell %s: late report discarded (epoch %d)", lease.cell.id, lease.epoch)
            for running, report in ended:
                self.dispatcher_stats.outcomes[report.outcome] += 1
                self.dispatcher_stats.samples += 0 if report.file is None else report.file.rows
                if report.lease.exclusive or report.outcome is CellOutcome.SUSPECT:
                    self._next_quarantine_poll = 0.0
                del self._running[running.key]
                running.reported.set()
            self._work_available.set()
            self._on_change()

    def _logged_report(self, running: _Running) -> CellReport:
        seconds = round(asyncio.get_running_loop().time() - running.started_at, 3)
        with structlog.contextvars.bound_contextvars(**running.log_context):
            report = self._report(running)
            fields = {"ending": report.outcome.value, "tries": report.lease.tries, "seconds": seconds}
            log.info("the cell ended", extra=fields | ({} if report.file is None else {"samples": report.file.rows}))
        return report

    def _report(self, running: _Running) -> CellReport:
        lease, task = running.lease, running.task
        if task.cancelled():
            return CellReport(lease=lease, outcome=CellOutcome.RELEASED)
        error = task.exception()
        if error is None:
            return CellReport(lease=lease, outcome=CellOutcome.COMPLETED, file=task.result())
        is_ours = isinstance(error, AmpsweepError)
        summary = error if is_ours else type(error).__name__  # the message of a foreign error may contain a prompt
        log.warning("cell %s failed: %s", lease.cell.id, summary, exc_info=None if is_ours else error)
        return CellReport(lease=lease, outcome=self._outcome(error), error=str(error) or type(error).__name__)

    def _outcome(self, error: BaseException) -> CellOutcome:
        full = isinstance(error, OSError) and is_full(error)
        if isinstance(error, Unavailable) or full or is_out_of_threads(error):
            self._backoff_until = asyncio.get_running_loop().time() + BACKOFF_SECONDS
            return CellOutcome.RELEASED
        if isinstance(error, EngineLost):
            return CellOutcome.SUSPECT
        return CellOutcome.REJECTED if isinstance(error, AmpsweepError) and error.status < 500 else CellOutcome.FAILED

    def _on_finalized(self) -> None:
        self.dispatcher_stats.finalized += 1
        self._work_available.set()
        self._on_change()
