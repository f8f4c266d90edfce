"""Finalizes the sweeps whose last cell has ended, each under a lease, several at the same time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import structlog

from ampsweep.errors import Conflict, NotFound, Unavailable
from ampsweep.out_of_threads import named_thread_failures
from ampsweep.telemetry.traces import span
from jobs.store.protocol import Store
from jobs.store.records import SweepLease

log = logging.getLogger(__name__)

FINALIZE_RETRY_SECONDS = 10.0
"""Delay before a sweep whose results could not be written may be finalized again, by this server or another one."""

MAX_FINALIZING = 2
"""How many sweeps are finalized at the same time."""


class SweepFinalizer:
    """Leases finalizing sweeps and finalizes each in a thread.

    Args:
        store: Where sweeps and their leases are stored.
        finalize: Called in a thread with the lease of a sweep; writes its results and ends the sweep.
        owner: The name under which leases are taken.
        on_finalized: Called in the event loop when a sweep has been finalized.
        ttl: Duration of a lease in seconds.
    """

    def __init__(
        self,
        *,
        store: Store,
        finalize: Callable[[SweepLease], object],
        owner: str,
        on_finalized: Callable[[], None],
        ttl: float,
    ) -> None:
        self._store = store
        self._finalize = finalize
        self._owner = owner
        self._on_finalized = on_finalized
        self._ttl = ttl
        self._running: dict[SweepLease, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        """Return how many sweeps are being finalized."""
        return len(self._running)

    async def lease(self) -> None:
        """Lease sweeps that are ready, as many as may run at the same time, and begin to finalize them."""
        if len(self._running) >= MAX_FINALIZING:
            return
        for sweep_id in await asyncio.to_thread(self._store.finalizing):
            try:
                lease = await asyncio.to_thread(self._store.lease_sweep, sweep_id, self._owner, ttl=self._ttl)
            except NotFound:  # another server has finalized it meanwhile, and then it was deleted
                continue
            if lease is not None:
                self._running[lease] = asyncio.create_task(self._finish(lease))
            if len(self._running) >= MAX_FINALIZING:
                return

    async def heartbeat(self) -> None:
        """Extend the leases of the sweeps that are being finalized."""
        if leases := list(self._running):
            for lost in await asyncio.to_thread(self._store.extend_sweep_leases, leases, ttl=self._ttl):
                log.warning("sweep %s: the lease to finalize it has been lost", lost.sweep_id)

    async def idle(self) -> None:
        """Wait until each sweep now being finalized is done."""
        await asyncio.gather(*self._running.values())

    async def _finish(self, lease: SweepLease) -> None:
        sweep_id = lease.sweep_id
        structlog.contextvars.bind_contextvars(sweep_ids=[sweep_id])
        started_at = asyncio.get_running_loop().time()
        try:
            with (
                span("sweep.finalize", {"sweep.ids": [sweep_id]}),
                named_thread_failures("to finalize it", Unavailable),
            ):
                await asyncio.to_thread(self._finalize_or_fail, lease)
        except (OSError, Unavailable) as error:
            log.warning("sweep %s: its results cannot be written now; retrying later: %s", sweep_id, error)
            await self._finalize_later(lease)
            return
        except Exception:
            log.exception("sweep %s: its results cannot be written now; retrying later", sweep_id)
            await self._finalize_later(lease)
            return
        finally:
            del self._running[lease]
        log.info("the sweep is finalized", extra={"seconds": round(asyncio.get_running_loop().time() - started_at, 3)})
        self._on_finalized()

    async def _finalize_later(self, lease: SweepLease) -> None:
        with suppress(Unavailable), named_thread_failures("to extend the lease", Unavailable):
            await asyncio.to_thread(self._store.extend_sweep_leases, [lease], ttl=FINALIZE_RETRY_SECONDS)

    def _finalize_or_fail(self, lease: SweepLease) -> None:
        """Finalize a sweep, or fail it.

        Raises:
            OSError: The disk refused a write. Worth retrying.
            Unavailable: The store or storage cannot be reached. Worth retrying.
        """
        try:
            with named_thread_failures("to assemble the results", Unavailable):
                self._finalize(lease)
        except (OSError, Unavailable):
            raise
        except Exception as error:
            log.exception("sweep %s could not be finalized", lease.sweep_id)
            with suppress(Conflict, NotFound):  # the lease was lost: its new holder decides, or the sweep was deleted
                self._store.finish_sweep(lease, error=f"the results could not be assembled: {error}")
