"""Checks whether engines are alive after something on them has failed, and has those that are not replaced."""

from __future__ import annotations

import asyncio
import logging
from weakref import WeakKeyDictionary

from ampsweep.errors import AmpsweepError
from worker.pool.engine_session import EngineSession
from worker.pool.supervisor import Supervisor

log = logging.getLogger(__name__)

CHECK_SECONDS = 30.0
"""How long an engine may take to generate one token in a health check."""


class HealthChecks:
    """The health checks of a pool: at most one at a time for each session."""

    def __init__(self) -> None:
        self._running: dict[EngineSession, asyncio.Task[bool]] = {}
        self._cells_at_failure: WeakKeyDictionary[EngineSession, int] = WeakKeyDictionary()

    def cells_at_failure(self, supervisor: Supervisor, session: EngineSession) -> int:
        """Return how many cells were in flight when a session failed first, since it last passed a check.

        Each of these cells may have caused the failure.
        """
        return self._cells_at_failure.setdefault(session, supervisor.slot.cells)

    def start(self, supervisor: Supervisor, session: EngineSession) -> asyncio.Task[bool]:
        """Start a health check, or return the running one. A session that fails it is replaced (result: False)."""
        if session not in self._running:
            self._running[session] = asyncio.create_task(self._check(supervisor, session))
        return self._running[session]

    async def stop(self) -> None:
        """Cancel the running checks."""
        checks = list(self._running.values())
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)

    async def _check(self, supervisor: Supervisor, session: EngineSession) -> bool:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await session.check()
        except Exception as error:
            is_expected = isinstance(error, AmpsweepError | TimeoutError)
            log.warning("an engine does not answer; restarting it", exc_info=None if is_expected else error)
            supervisor.replace(session, "it does not answer")
            return False
        else:
            self._cells_at_failure.pop(session, None)
            return True
        finally:
            del self._running[session]
