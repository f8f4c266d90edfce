"""The supervisor of one engine: starts it, waits for its end, restarts it with back-off, gives up, and retries.

A supervisor survives everything that a session raises while it is created, opened, awaited or closed. It does not know
what the engine computes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ampsweep.errors import AmpsweepError, EngineFailed, SteeringNotInstalled
from ampsweep.telemetry.start_phase import StartPhase, phases_to
from worker.engines import EngineSpec
from worker.pool.engine_session import EngineSession
from worker.pool.engine_slot import EngineSlot, EngineState

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """When an engine that has ended is restarted, and when it is given up. Times are in seconds.

    The delay after the n-th consecutive failure is `first_delay` * 2^(n-1), at most `max_delay`, times a random factor
    between 1/2 and 1, so that engines that failed together do not restart together. An engine that was ready for
    `healthy_seconds`, or finished a cell or a stream, was healthy: its end does not count as a failure, and it is
    restarted at once. An engine is given up after `max_failures` consecutive failures over at least `min_seconds`, or
    immediately if no start can succeed (see `is_permanent`).
    """

    first_delay: float = 1.0
    max_delay: float = 30.0
    healthy_seconds: float = 60.0
    max_failures: int = 5
    min_seconds: float = 60.0

    def delay(self, failures: int, *, fraction: float) -> float:
        """Return the delay after `failures` consecutive failures; `fraction` is a random number in [0, 1)."""
        if failures == 0:
            return 0.0
        longest = min(self.max_delay, self.first_delay * 2.0 ** min(failures - 1, 32))
        return longest * (1 + fraction) / 2


SERVER_POLICY = RestartPolicy()
"""Policy of a server, which runs for long enough to wait for the cause of a failure to disappear."""

COMMAND_POLICY = RestartPolicy(max_failures=3, min_seconds=0.0)
"""Policy of a command that a user waits for: an engine is given up after three failed starts, within seconds."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A monotonic clock in seconds, a function that sleeps, and a source of random numbers in [0, 1)."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random  # noqa: S311


REAL_TIME = Timing()


class Supervisor:
    """Keeps an engine running in its slot from `start` to `stop`.

    Args:
        slot: The slot, whose state the supervisor updates.
        make_session: Creates a session that is not yet open.
        on_change: Called whenever the state of the slot has changed.
        policy: When to restart and when to give up.
        timing: Clock, sleep and randomness.
    """

    def __init__(
        self,
        slot: EngineSlot,
        *,
        make_session: Callable[[EngineSpec], EngineSession],
        on_change: Callable[[], None],
        policy: RestartPolicy,
        timing: Timing,
    ) -> None:
        self.slot = slot
        self._make_session = make_session
        self._on_change = on_change
        self._policy = policy
        self._timing = timing
        self._task: asyncio.Task[None] | None = None
        self._retried = asyncio.Event()
        self._replaced: asyncio.Future[str] | None = None
        self._own_failures = 0  # consecutive failures with no work in flight that could have caused them
        self._own_failures_since = 0.0

    def start(self) -> None:
        """Start supervising in a task; return at once."""
        self.slot.supervised = True
        self._task = asyncio.create_task(self._supervise())
        self._task.add_done_callback(self._on_task_done)

    async def stop(self) -> None:
        """Stop the engine and its supervision. A second call does nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def retry(self) -> bool:
        """Start a failed or waiting engine now and reset its failures; return False if it is ready.

        A supervisor that has ended is started again.
        """
        if self.slot.state == "ready" and self.slot.supervised:
            return False
        log.info("the engine of model %s is retried on request", self.slot.spec.model)
        self._reset_failures()
        self._retried.set()
        if self.slot.state == "failed":
            self._set_state("starting", None)
        if self._task is not None and self._task.done():
            self.start()
        return True

    def replace(self, session: EngineSession, reason: str) -> None:
        """End `session`, unless it has ended already, and start another."""
        if self.slot.session is session and self._replaced is not None and not self._replaced.done():
            self._replaced.set_result(reason)

    async def _supervise(self) -> None:
        while True:
            self._retried.clear()
            error = await self._run()
            if self._should_give_up(error):
                log.error("giving up the engine of model %s until it is retried", self.slot.spec.model)
                self._set_state("failed", error)
                await self._retried.wait()
            else:
                self._set_state("starting", error)
                await self._back_off()

    async def _run(self) -> AmpsweepError:
        """Start the engine, wait for its end, free it, and return the error that describes why it ended."""
        slot = self.slot
        session: EngineSession | None = None
        started, finished, ready_at = slot.started_work, slot.finished_work, None
        try:
            self._enter_phase("starting an engine process")
            session = self._make_session(slot.spec)
            with phases_to(self._enter_phase):
                await session.open()
            ready_at = self._timing.now()
            slot.end_start(now=ready_at)
            started, finished = slot.started_work, slot.finished_work
            slot.starts += 1
            slot.session = session
            log.info("the engine of model %s is ready", slot.spec.model)
            self._set_state("ready", None)
            reason = await self._wait_for_end(session)
        except (Exception, asyncio.CancelledError) as raised:
            if _is_cancelled():
                raise
            error = self._logged(raised, "did not start" if ready_at is None else "cannot be reached")
        else:
            error = EngineFailed(f"the engine ended: {reason}")
            log.warning("the engine of model %s ended (%s); restarting it", slot.spec.model, reason)
        finally:
            slot.state, slot.session, self._replaced = "starting", None, None
            slot.end_start(now=self._timing.now())
            if session is not None:
                await _close(session, slot.spec.model)
        self._count_end(
            ready_at, has_finished_work=slot.finished_work > finished, had_work=slot.started_work != started
        )
        return error

    def _logged(self, raised: BaseException, problem: str) -> AmpsweepError:
        """Log what a session has raised, and return it as an error that describes why the engine ended."""
        error = raised if isinstance(raised, AmpsweepError) else _as_engine_failed(raised, problem)
        is_ours = error is raised
        summary = error.message if is_ours else type(raised).__name__
        model = self.slot.spec.model
        log.warning("the engine of model %s %s: %s", model, problem, summary, exc_info=None if is_ours else raised)
        return error

    def _count_end(self, ready_at: float | None, *, has_finished_work: bool, had_work: bool) -> None:
        """Count the end of an engine, or a start that failed: as a failure unless the engine was healthy.

        Args:
            ready_at: When the engine became ready; None if it did not.
            has_finished_work: Whether it has finished a cell or a stream.
            had_work: Whether it was given any.
        """
        if ready_at is None:
            self.slot.failed_starts += 1
        else:
            self.slot.deaths += 1
        uptime = 0.0 if ready_at is None else self._timing.now() - ready_at
        if has_finished_work or uptime >= self._policy.healthy_seconds:
            self._reset_failures()
        else:
            # If the engine had work, that may be the cause. Cells count their attempts, so only the delay grows.
            self._count_failure(had_work=had_work)

    async def _wait_for_end(self, session: EngineSession) -> str:
        """Wait until a session has ended or is to be replaced; return the reason."""
        self._replaced = asyncio.get_running_loop().create_future()
        ended = asyncio.ensure_future(session.ended())
        try:
            await asyncio.wait({ended, self._replaced}, return_when=asyncio.FIRST_COMPLETED)
            return ended.result() if ended.done() else self._replaced.result()
        finally:
            ended.cancel()

    async def _back_off(self) -> None:
        delay = self._policy.delay(self.slot.failures, fraction=self._timing.random())
        if not delay:
            return
        self._enter_phase("waiting for the next start")
        log.info("restarting the engine of model %s in %.1f s", self.slot.spec.model, delay)
        waiting = [asyncio.ensure_future(self._timing.sleep(delay)), asyncio.ensure_future(self._retried.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    def _should_give_up(self, error: AmpsweepError) -> bool:
        if is_permanent(error):
            return True
        too_many = self._own_failures >= self._policy.max_failures
        return too_many and self._timing.now() - self._own_failures_since >= self._policy.min_seconds

    def _enter_phase(self, phase: StartPhase) -> None:
        self.slot.enter_phase(phase, now=self._timing.now())

    def _count_failure(self, *, had_work: bool) -> None:
        self.slot.failures += 1
        if not had_work:
            if not self._own_failures:
                self._own_failures_since = self._timing.now()
            self._own_failures += 1

    def _reset_failures(self) -> None:
        self.slot.failures = 0
        self._own_failures = 0

    def _set_state(self, state: EngineState, error: AmpsweepError | None) -> None:
        self.slot.state, self.slot.error = state, error
        self._on_change()

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """Report that the supervision ended without `stop`, which would be a bug, as a failed engine."""
        if task is not self._task:
            return
        raised = None if task.cancelled() else task.exception()
        log.error("the supervisor of an engine of model %s ended unexpectedly", self.slot.spec.model, exc_info=raised)
        self.slot.supervised = False
        self.slot.session = None
        self._set_state(
            "failed",
            EngineFailed("the engine's supervisor ended unexpectedly; see the server's log and retry the engine"),
        )


def is_permanent(error: AmpsweepError) -> bool:
    """Return whether every start would fail, because the model, the settings or the installation is wrong."""
    return error.status < 500 or isinstance(error, SteeringNotInstalled) or isinstance(error.__cause__, ImportError)


def _is_cancelled() -> bool:
    """Return whether the running task itself is being cancelled, rather than something that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _as_engine_failed(raised: BaseException, problem: str) -> EngineFailed:
    error = EngineFailed(f"the engine {problem}: {str(raised) or type(raised).__name__}")
    error.__cause__ = raised
    return error


async def _close(session: EngineSession, model: str) -> None:
    try:
        await session.close()
    except Exception:
        log.exception("the engine of model %s could not be closed", model)
