"""Leases batches, runs their requests, and reports the outcome under the lease's epoch.

As with evaluations, only the store decides what is done: a batch whose server is killed is taken over by another one,
or by the same one after its restart, and the requests whose results are published are not sent again.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from functools import partial

from ampsweep.errors import NotFound
from jobs.batches.files import BatchFiles
from jobs.batches.records import BatchLease, BatchRecord, BatchState, RowCounts
from jobs.batches.rows import RowAnswers
from jobs.clock import Clock
from jobs.store.sql.batches import Batches
from worker.batches.run_rows import Assembled, Sleep, assemble, run_rows
from worker.leased_service import LeasedService, Running

log = logging.getLogger(__name__)

MAX_RUNNING = 8
"""Maximum number of batches that one server runs at the same time."""
MAX_RUNNING_PER_OWNER = 2
"""Maximum number of them that belong to one owner, so that long batches of one leave room for those of others."""


@dataclass(frozen=True, kw_only=True)
class _Running(Running[BatchLease]):
    """A leased batch. Setting `stopping` ends its requests, and its results so far are published."""

    stopping: asyncio.Event = field(default_factory=asyncio.Event)


class LeasedBatchService(LeasedService[BatchLease, _Running]):
    """Runs batches, a few at a time, from `start` to `stop`. Tests call `poll_once` and `heartbeat` directly.

    Args:
        answers: Reads and answers requests.
        batches: The batches of all servers on the store.
        files: Their files.
        clock: The current time.
        owner: The name under which this server takes leases.
        ttl: Duration of a lease in seconds. Heartbeats are sent six times in that period.
        poll: Seconds between two requests to the store for work. `wake` causes an immediate one.
        sleep: Waits before a request is sent again.
    """

    def __init__(
        self,
        answers: RowAnswers,
        *,
        batches: Batches,
        files: BatchFiles,
        clock: Clock,
        owner: str,
        ttl: float = 30.0,
        poll: float = 5.0,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        super().__init__("batch", batches, ttl=ttl, poll=poll)
        self.batches = batches
        self.files = files
        self._answers = answers
        self._clock = clock
        self._owner = owner
        self._sleep = sleep

    def wake(self) -> None:
        """Look for work now, because a batch was created."""
        self._work_available.set()

    async def cancel(self, batch_id: str) -> BatchRecord:
        """Cancel a batch; its requests on this server end at once, those on other servers at the next heartbeat.

        Raises:
            NotFound: None has this id.
            Conflict: It has ended, or its results are being assembled.
        """
        record = await asyncio.to_thread(self.batches.cancel, batch_id)
        for running in self._running.values():
            if running.lease.batch.id == batch_id:
                running.stopping.set()
        self.wake()
        return record

    async def poll_once(self) -> None:
        """Lease as many batches as this server may still run."""
        while len(self._running) < MAX_RUNNING:
            take = partial(self.batches.lease, self._owner, ttl=self._ttl, per_owner=MAX_RUNNING_PER_OWNER)
            lease = await asyncio.to_thread(take)
            if lease is None:
                return
            stopping = asyncio.Event()
            task = asyncio.create_task(self._run(lease, partial(self._run_batch, lease, stopping)))
            self._running[lease.key] = _Running(lease=lease, task=task, stopping=stopping)

    async def heartbeat(self) -> None:
        """Extend the leases of the running batches; end those that are cancelled, have expired, or lost their lease."""
        leases = [running.lease for running in self._running.values()]
        if not leases:
            return
        states = await asyncio.to_thread(self.batches.extend, leases, ttl=self._ttl)
        for key, state in states.items():
            running = self._running.get(key)
            if running is None:
                continue
            if state is None:
                log.info("batch %s is aborted: its lease was lost", key[0])
                running.task.cancel()
            elif state is BatchState.CANCELLING or self._has_expired(running.lease):
                running.stopping.set()

    def _has_expired(self, lease: BatchLease) -> bool:
        return self._clock.now() >= lease.batch.expires_at

    async def _run_batch(self, lease: BatchLease, stopping: asyncio.Event) -> None:
        """Answer the requests of a batch, unless it is cancelled or has expired, and publish its results."""
        if lease.batch.state is BatchState.IN_PROGRESS and not self._has_expired(lease):
            await self._run_until(lease, stopping)
        await self._finish(lease)

    def _reason(self, error: Exception) -> str | None:
        if isinstance(error, NotFound):  # the file of its requests, or a part of its results
            return f"{error.message}; create the batch again"
        return None

    async def _run_until(self, lease: BatchLease, stopping: asyncio.Event) -> None:
        """Run the requests of a batch until all are answered, or until `stopping` is set."""

        async def report(counts: RowCounts) -> None:
            store = partial(self.batches.report, lease, completed=counts.completed, failed=counts.failed)
            await asyncio.to_thread(store)

        rows = run_rows(lease.batch, files=self.files, answers=self._answers, report=report, sleep=self._sleep)
        running = asyncio.create_task(rows)
        waiting = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped = not running.done()
            running.cancel()
            waiting.cancel()
            await asyncio.gather(running, waiting, return_exceptions=True)
        if not stopped:
            running.result()

    async def _finish(self, lease: BatchLease) -> None:
        """Publish the results of a batch and end it, also if it was cancelled or has expired."""
        batch, files = lease.batch, self.files
        cancelled = not await asyncio.to_thread(self.batches.finalize, lease)
        output_id, error_id = self.batches.files.new_id(), self.batches.files.new_id()
        ids = {"output_id": output_id, "error_id": error_id}
        publish = partial(assemble, batch, files, self._answers, **ids, cancelled=cancelled)
        assembled = await asyncio.to_thread(publish)
        finish = partial(
            self.batches.finish,
            lease,
            _final_state(assembled, cancelled=cancelled),
            counts=assembled.counts,
            output=(output_id, assembled.output_size),
            errors=(error_id, assembled.error_size),
        )
        if await asyncio.to_thread(finish):
            await asyncio.to_thread(files.delete_parts, batch.id)
            return
        log.warning("batch %s: late result discarded (epoch %d)", *lease.key)
        await asyncio.to_thread(files.delete, output_id)
        await asyncio.to_thread(files.delete, error_id)


def _final_state(assembled: Assembled, *, cancelled: bool) -> BatchState:
    if cancelled:
        return BatchState.CANCELLED
    return BatchState.EXPIRED if assembled.expired else BatchState.COMPLETED
