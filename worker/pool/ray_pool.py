"""A pool of engines in Ray actors, on this machine or in an existing Ray cluster.

A Ray instance that the pool starts listens on the loopback interface only, requires a token that only the server's
processes know, has no dashboard, and ends with the pool. In an existing cluster only the pool's actors end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ampsweep.errors import InvalidRequest, Unavailable
from ampsweep.own_packages import require_own_packages
from ampsweep.telemetry.context import Telemetry
from worker.engines import EngineSpec
from worker.pool.engine_session import EngineSession, WorkerConfig
from worker.pool.pool import Pool
from worker.resources.machines import Machines
from worker.resources.process_limits import MIN_PROCESSES, process_limit
from worker.resources.processors import THREADS, available_processors, engine_threads

_CHECK_PACKAGES = f"{require_own_packages.__module__}.{require_own_packages.__name__}"
"""Ray calls this by name in each of its processes, before the process imports anything of `worker` or `jobs`."""
_CALLS_AT_ONCE = 10_000
"""Limit of concurrent calls of an actor, high enough that calls wait in the engine and never in Ray's queue."""


class RayPool(Pool):
    """A pool whose sessions are Ray actors.

    `start` raises Unavailable if the cluster cannot be joined. Ray itself reads the token of a cluster that requires
    one.

    Args:
        specs: The engines.
        config: What the sessions need besides their engines.
        address: The cluster to join; None starts a local Ray instance.
        cells_per_engine: How many cells an engine gets at the same time.
        telemetry: Telemetry settings of the engines' processes.
    """

    first_phase = "starting Ray"

    def __init__(
        self,
        specs: Sequence[EngineSpec],
        config: WorkerConfig,
        *,
        address: str | None = None,
        cells_per_engine: int = 8,
        log_to_driver: bool = False,
        telemetry: Telemetry | None = None,
    ) -> None:
        super().__init__(specs, cells_per_engine=cells_per_engine)
        self._config = config
        self._address = address
        self._log_to_driver = log_to_driver
        self._telemetry = telemetry or Telemetry()
        self._cpus = sum(spec.cpus * spec.count for spec in specs)
        processors = available_processors() if address is None else os.cpu_count() or 1  # a cluster's are unknown
        self._threads = engine_threads(processors, sum(spec.count for spec in specs), os.environ)
        self._machines = Machines()
        self._ray: Any = None

    async def _begin(self) -> None:
        connecting = asyncio.ensure_future(asyncio.to_thread(self._connect))
        try:
            self._ray = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            self._ray = await connecting  # the thread cannot be cancelled; `_end` stops what it started
            raise

    def _connect(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if self._address is None:
            # Read when ray is imported. Without it, a local Ray listens on the external address of the machine.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
            # Ray starts its workers at nice 15 otherwise, and every other program of a busy machine runs before them.
            os.environ.setdefault("RAY_worker_niceness", "0")
            # Ray would also start an idle process for each processor; an engine gets one of its own.
            os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
            _set_auth_token()
        import ray

        common = {
            "log_to_driver": self._log_to_driver,
            "logging_level": logging.ERROR,
            "runtime_env": {"worker_process_setup_hook": _CHECK_PACKAGES},
        }
        if self._address is not None:
            try:
                ray.init(address=self._address, **common)
            except ValueError as error:
                message = f"{self._address!r} is not the address of a Ray cluster; give that of its head, as HOST:PORT"
                raise InvalidRequest(message, param="ray_address") from error
            except (ConnectionError, RuntimeError) as error:
                raise Unavailable(
                    f"the Ray cluster at {self._address} cannot be joined: {error}. If it requires a token, set "
                    "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file that contains it",
                    param="ray_address",
                ) from error
        else:
            cpus = max(os.cpu_count() or 1, int(self._cpus + 1))
            try:
                with _hangup_blocked():
                    ray.init(address="local", include_dashboard=False, num_cpus=cpus, **common)
            except Exception as error:
                if type(error) is not Exception and not isinstance(error, RuntimeError | OSError):
                    raise  # Ray raises the first class itself, after 30 seconds, and the others where a process ends
                raise Unavailable(
                    f"Ray did not start: {error}{'' if str(error).endswith('.') else '.'} {_remedy()}"
                ) from error
        return ray

    def _make_session(self, spec: EngineSpec) -> EngineSession:
        from worker.pool.ray_actor import RayEngineActor
        from worker.pool.ray_session import RayEngineSession

        actor = self._ray.remote(RayEngineActor).options(
            num_cpus=spec.cpus,
            num_gpus=spec.gpus,
            max_concurrency=_CALLS_AT_ONCE,
            max_restarts=0,  # the pool creates new actors itself, so that no call reaches an engine that is not open
            max_task_retries=0,  # the store decides what runs again
            runtime_env={"env_vars": {THREADS: str(self._threads)}},  # Ray would set it to `num_cpus`
        )
        return RayEngineSession(actor.remote(spec, self._config, self._telemetry), self._machines)

    def _on_slot_change(self) -> None:
        super()._on_slot_change()
        self._machines.all_started |= self._none_starting.is_set()

    async def _end(self) -> None:
        if self._ray is not None:
            await asyncio.to_thread(self._ray.shutdown)
            self._ray = None


@contextmanager
def _hangup_blocked() -> Iterator[None]:
    """Block SIGHUP in this thread and in the processes that it starts within the block.

    A closed terminal sends it to the whole process group. The server stops then, and ends Ray's processes itself. Ray
    blocks SIGINT in them for the same reason.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _remedy() -> str:
    """Return what to do about a local Ray instance that does not start: Ray's own errors do not name the reason."""
    temporary = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108  (as Ray does)
    if (limit := process_limit()) is not None and limit.most < MIN_PROCESSES:
        advice = f"It may need more than the {limit.most} processes and threads that are allowed; {limit.remedy}."
    else:
        advice = "Start the server again when the machine is less busy and has memory to spare."
    return f"{advice} Ray's logs are in {temporary.rstrip('/')}/ray/session_latest/logs"


def _set_auth_token() -> None:
    """Set a token for the local Ray instance about to start, unless the user has configured authentication.

    Ray requires a token by default and would write one to the home directory, where every user of the machine could
    read it. This token exists only in the environment of the server's processes.
    """
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
