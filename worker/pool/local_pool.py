"""A pool of engines in the current process, for a single sweep without a server and for tests."""

from __future__ import annotations

from collections.abc import Sequence

from worker.engines import EngineSpec
from worker.pool.engine_session import EngineSession, LocalEngineSession, WorkerConfig
from worker.pool.pool import Pool
from worker.pool.supervisor import SERVER_POLICY, RestartPolicy


class LocalPool(Pool):
    """A pool whose engines share this process and its event loop."""

    def __init__(
        self,
        specs: Sequence[EngineSpec],
        config: WorkerConfig,
        *,
        cells_per_engine: int = 8,
        policy: RestartPolicy = SERVER_POLICY,
    ) -> None:
        super().__init__(specs, cells_per_engine=cells_per_engine, policy=policy)
        self._config = config

    async def _begin(self) -> None:
        """Do nothing: there is no other process to start."""

    def _make_session(self, spec: EngineSpec) -> EngineSession:
        return LocalEngineSession(spec, self._config)

    async def _end(self) -> None:
        """Do nothing: there is no other process to stop."""
