"""The supervisor of one engine, on scripted sessions and a simulated clock: what is restarted and when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ampsweep.errors import EngineFailed, UnsupportedModel
from ampsweep.telemetry.start_phase import report_phase
from api.http.change_notifier import ChangeNotifier
from tests.worker.installation import until
from tests.worker.stub_clock import StubClock
from worker.engines import EngineSpec
from worker.pool.engine_slot import EngineSlot
from worker.pool.supervisor import RestartPolicy, Supervisor

pytestmark = pytest.mark.anyio

SPEC = EngineSpec(model="tiny", folder=Path())


class ScriptedSession:
    """A session that ends as it is told: `opening`, `ending` and `closing` are raised by the call of that name."""

    def __init__(
        self,
        *,
        opening: BaseException | None = None,
        ending: BaseException | str | None = None,
        closing: Exception | None = None,
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        self.opening, self.ending, self.closing, self.on_open = opening, ending, closing, on_open

    async def open(self) -> None:
        if self.opening is not None:
            raise self.opening
        self.on_open()

    async def ended(self) -> str:
        await asyncio.sleep(0)
        if self.ending is None:
            await asyncio.Event().wait()
        if isinstance(self.ending, BaseException):
            raise self.ending
        return str(self.ending)

    async def close(self) -> None:
        if self.closing is not None:
            raise self.closing


class SupervisorSetup:
    """A supervisor whose sessions come from `make`; `starts` has the time of each start."""

    def __init__(self, make: Callable[[int], Any], *, fraction: float = 0.0) -> None:
        self.clock = StubClock(fraction)
        self.notifier = ChangeNotifier()
        self.slot = EngineSlot(spec=SPEC)
        self.starts: list[float] = []
        self._make = make
        self.supervisor = Supervisor(
            self.slot,
            make_session=self._make_session,
            on_change=self.notifier.notify,
            policy=RestartPolicy(),
            timing=self.clock.timing,
        )

    def _make_session(self, _spec: EngineSpec) -> Any:
        self.starts.append(self.clock.now)
        return self._make(len(self.starts))

    async def reaches(self, state: str, starts: int = 1) -> None:
        await until(self.notifier, lambda: self.slot.state == state and len(self.starts) >= starts)

    async def __aenter__(self) -> SupervisorSetup:
        self.supervisor.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.supervisor.stop()


async def test_the_phases_of_a_start_are_those_that_it_reports() -> None:
    phases: list[tuple[str | None, float | None]] = []

    def note() -> None:
        phases.append((setup.slot.phase, setup.slot.seconds_of_start(now=setup.clock.now)))

    def opened() -> None:
        note()
        setup.clock.now += 5
        report_phase("loading the model")
        note()

    def make(start: int) -> ScriptedSession:
        return ScriptedSession(opening=OSError("no memory")) if start == 1 else ScriptedSession(on_open=opened)

    setup = SupervisorSetup(make)
    async with setup:
        await setup.reaches("ready", 2)
        note()
    waited = 0.5  # before the second start
    assert phases == [("starting an engine process", waited), ("loading the model", waited + 5), (None, waited + 5)]


def never_made(_start: int) -> Any:
    raise OSError("no room for another process")


@pytest.mark.parametrize(
    "make",
    [
        lambda _: ScriptedSession(opening=OSError("out of memory")),
        lambda _: ScriptedSession(ending="it was killed"),
        lambda _: ScriptedSession(ending=RuntimeError("the connection to its process is lost")),
        lambda _: ScriptedSession(ending=asyncio.CancelledError()),
        lambda _: ScriptedSession(ending="it was killed", closing=OSError("it does not close either")),
        never_made,
    ],
    ids=[
        "does not open",
        "opens and dies",
        "cannot be watched",
        "is cancelled elsewhere",
        "does not close",
        "no session",
    ],
)
@pytest.mark.parametrize("fraction", [0.0, 0.999])
async def test_an_engine_that_dies_at_each_start_is_started_ten_times_a_minute_at_most(
    make: Callable[[int], Any], fraction: float
) -> None:
    async with SupervisorSetup(make, fraction=fraction) as supervising:
        await supervising.reaches("failed")
        in_first_minute = [start for start in supervising.starts if start < 60]
        assert 5 <= len(in_first_minute) <= 10
        assert supervising.starts[-1] >= 60, "what ails it may pass: it is not given up sooner"
        assert supervising.slot.supervised
        assert isinstance(supervising.slot.error, EngineFailed)


async def test_delays_double_up_to_a_limit_and_differ_by_chance() -> None:
    policy = RestartPolicy(first_delay=1.0, max_delay=30.0)
    assert [policy.delay(failures, fraction=0.0) for failures in range(8)] == [0, 0.5, 1, 2, 4, 8, 15, 15]
    assert [policy.delay(failures, fraction=0.5) for failures in (1, 3, 9_999)] == [0.75, 3.0, 22.5]


async def test_an_operator_can_restart_a_failed_engine() -> None:
    repaired = False
    async with SupervisorSetup(
        lambda _: ScriptedSession() if repaired else ScriptedSession(opening=OSError("no memory"))
    ) as supervising:
        await supervising.reaches("failed")
        given_up = len(supervising.starts)
        repaired = True
        assert supervising.supervisor.retry()
        await supervising.reaches("ready")
        assert len(supervising.starts) == given_up + 1
        assert (supervising.slot.error, supervising.slot.failures) == (None, 0)
        assert not supervising.supervisor.retry(), "there is nothing to retry any more"


async def test_a_retry_ends_the_wait_for_the_next_start() -> None:
    async with SupervisorSetup(
        lambda start: ScriptedSession(opening=OSError("busy") if start == 1 else None)
    ) as supervising:
        supervising.clock.stopped = True
        await until(supervising.notifier, lambda: supervising.slot.failures == 1 and supervising.slot.error is not None)
        assert supervising.slot.state == "starting"
        assert supervising.supervisor.retry()
        await supervising.reaches("ready", starts=2)


async def test_a_wrong_model_is_given_up_at_once() -> None:
    async with SupervisorSetup(lambda _: ScriptedSession(opening=UnsupportedModel("no MLP"))) as supervising:
        await supervising.reaches("failed")
        assert supervising.starts == [0.0]


async def test_an_engine_that_lacks_a_package_is_given_up_at_once() -> None:
    async with SupervisorSetup(
        lambda _: ScriptedSession(opening=ModuleNotFoundError("No module named 'vllm'"))
    ) as supervising:
        await supervising.reaches("failed")
        assert supervising.starts == [0.0]
        assert "No module named 'vllm'" in str(supervising.slot.error)


async def test_healthy_uptime_resets_the_failures() -> None:
    class Aged(ScriptedSession):
        async def ended(self) -> str:
            supervising.clock.now += RestartPolicy().healthy_seconds
            return await super().ended()

    supervising = SupervisorSetup(
        lambda start: ScriptedSession(opening=OSError("busy")) if start % 2 else Aged(ending="killed")
    )
    async with supervising:
        await supervising.reaches("ready", starts=40)
        delays = [
            after - before for before, after in zip(supervising.starts[:-1:2], supervising.starts[1::2], strict=True)
        ]
        assert set(delays) == {0.5}, "each failed start is the first in a row"


async def test_finished_work_resets_the_failures_and_the_next_start_is_immediate() -> None:
    def make(start: int) -> ScriptedSession:
        def work() -> None:
            with supervising.slot.computing():
                pass

        class Works(ScriptedSession):
            async def ended(self) -> str:
                work()
                return await super().ended()

        return Works(ending="killed") if start < 20 else ScriptedSession()

    supervising = SupervisorSetup(make)
    async with supervising:
        await supervising.reaches("ready", starts=20)
        assert supervising.clock.now == 0.0


async def test_an_engine_that_dies_of_its_cells_is_not_given_up() -> None:
    """Cells count their own attempts; an engine that came up and died at work is only started more slowly."""

    class Dies(ScriptedSession):
        async def ended(self) -> str:
            supervising.slot.started_work += 1
            return await super().ended()

    supervising = SupervisorSetup(lambda start: Dies(ending="killed") if start < 50 else ScriptedSession())
    async with supervising:
        await supervising.reaches("ready", starts=50)
        assert supervising.clock.now > 600


async def test_a_supervisor_that_ends_is_logged_and_a_retry_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    async with SupervisorSetup(lambda _: ScriptedSession()) as supervising:
        await supervising.reaches("ready")
        assert supervising.supervisor._task is not None
        with caplog.at_level(logging.ERROR):
            supervising.supervisor._task.cancel()
            await until(supervising.notifier, lambda: not supervising.slot.supervised)
        assert supervising.slot.state == "failed"
        assert "supervisor" in str(supervising.slot.error)
        assert "tiny" in caplog.text
        assert supervising.supervisor.retry()
        await supervising.reaches("ready", starts=2)
        assert supervising.slot.supervised


async def test_a_session_that_is_replaced_is_followed_by_another() -> None:
    async with SupervisorSetup(lambda _: ScriptedSession()) as supervising:
        await supervising.reaches("ready")
        first = supervising.slot.session
        assert first is not None
        supervising.supervisor.replace(first, "it no longer answers")
        await supervising.reaches("ready", starts=2)
        supervising.supervisor.replace(first, "it no longer answers")
        await asyncio.sleep(0)
        assert supervising.slot.state == "ready", "the one that is gone cannot be replaced again"
