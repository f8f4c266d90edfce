"""Engines in Ray actors: on this machine, or on the machines of a Ray cluster that is there already.

A Ray that this pool started listens on the loopback interface alone, asks for a token that only this user's processes
know, has no dashboard, and ends with the pool. One that was joined goes on; only the pool's own actors end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Sequence
from typing import Any

from ampsweep.errors import Unavailable
from ampsweep.own_packages import require_own_packages
from ampsweep.telemetry.context import Telemetry
from worker.engine_session import EngineSession, WorkerConfig
from worker.engines import EngineSpec
from worker.pool import Pool

_CHECK_PACKAGES = f"{require_own_packages.__module__}.{require_own_packages.__name__}"
"""Ray calls this by name in each of its processes, before the process imports anything of `worker` or `jobs`."""
_CALLS_AT_ONCE = 10_000
"""An actor's calls wait inside its engine, never in Ray's queue."""


class RayPool(Pool):
    """A pool whose sessions are Ray actors, in the cluster at `address` or (None) in a Ray of its own.

    `start` raises Unavailable where the cluster cannot be joined; a token that it asks for is Ray's own setting.
    `threads` is what each engine's process gets as OMP_NUM_THREADS, which Ray would otherwise set to 1; by default this
    machine's cores are shared out. `telemetry` is how the engines' processes log.
    """

    def __init__(
        self,
        specs: Sequence[EngineSpec],
        config: WorkerConfig,
        *,
        address: str | None = None,
        cells_per_engine: int = 8,
        threads: int | None = None,
        log_to_driver: bool = False,
        telemetry: Telemetry | None = None,
    ) -> None:
        super().__init__(specs, cells_per_engine=cells_per_engine)
        self._config = config
        self._address = address
        self._log_to_driver = log_to_driver
        self._telemetry = telemetry or Telemetry()
        engines = sum(spec.count for spec in specs)
        self._cpus = sum(spec.cpus * spec.count for spec in specs)
        self._threads = threads or max(1, (os.cpu_count() or 1) // max(1, engines))
        self._ray: Any = None

    async def _begin(self) -> None:
        connecting = asyncio.ensure_future(asyncio.to_thread(self._connect))
        try:
            self._ray = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            self._ray = await connecting  # the thread goes on whatever becomes of us, and `_end` ends what it started
            raise

    def _connect(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if self._address is None:
            # Read when ray is imported: without it a local Ray takes the machine's outward address.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
            _give_a_token()
        import ray

        common = {
            "log_to_driver": self._log_to_driver,
            "logging_level": logging.ERROR,
            "runtime_env": {"worker_process_setup_hook": _CHECK_PACKAGES},
        }
        if self._address is not None:
            try:
                ray.init(address=self._address, **common)
            except (ConnectionError, RuntimeError) as error:
                raise Unavailable(
                    f"the Ray cluster at {self._address} cannot be joined: {error}. If it asks for a token, set "
                    "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file that has it",
                    param="ray_address",
                ) from error
        else:
            cpus = max(os.cpu_count() or 1, int(self._cpus + 1))
            ray.init(address="local", include_dashboard=False, num_cpus=cpus, **common)
        return ray

    def _make_session(self, spec: EngineSpec) -> EngineSession:
        from worker.ray_actor import RayEngineActor
        from worker.ray_session import RayEngineSession

        actor = self._ray.remote(RayEngineActor).options(
            num_cpus=spec.cpus,
            num_gpus=spec.gpus,
            max_concurrency=_CALLS_AT_ONCE,
            max_restarts=0,  # the pool makes a new actor, so that a call never reaches an engine that is not open
            max_task_retries=0,  # the store says what runs again
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(self._threads)}},
        )
        return RayEngineSession(actor.remote(spec, self._config, self._telemetry))

    async def _end(self) -> None:
        if self._ray is not None:
            await asyncio.to_thread(self._ray.shutdown)
            self._ray = None


def _give_a_token() -> None:
    """Give a Ray that is about to start its token, unless its user has settled that.

    Ray asks for one by itself, and would write it below the home, where every user of the machine could read it; this
    one stands in the environment of the server's processes alone.
    """
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
