"""Who waits for the reports of a server, and how often they are rendered."""

from __future__ import annotations

import asyncio
from collections import Counter
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from ampsweep.errors import Unavailable
from jobs.report.served import KEPT, MAX_WAITING, Reports

pytestmark = pytest.mark.anyio

RESULTS: Any = None
NEURONS_OF: Any = None


def sweep(name: str, samples: str = "a") -> Any:
    return SimpleNamespace(id=name, files=SimpleNamespace(samples=samples))


class Renderer:
    """Renders when it is told to, and counts."""

    def __init__(self) -> None:
        self.go = Event()
        self.rendered: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0

    def __call__(self, _: Any, record: Any, _neurons_of: Any) -> str:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        assert self.go.wait(30)
        self.at_once -= 1
        self.rendered[record.id] += 1
        if record.id == "broken":
            raise Unavailable("died")
        return f"{record.id} {record.files.samples}"


async def test_requests_that_wait_share_a_rendering_and_leave_the_threads_to_others() -> None:
    renderer = Renderer()
    reports = Reports(renderer)
    waiting = [asyncio.create_task(reports.html(RESULTS, sweep(name), NEURONS_OF)) for name in "abc" for _ in range(20)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "answered"), 10) == "answered"
    waiting.pop().cancel()
    renderer.go.set()
    assert {*await asyncio.gather(*waiting)} == {"a a", "b a", "c a"}
    assert renderer.rendered == {"a": 1, "b": 1, "c": 1}
    assert renderer.most_at_once == 1
    assert await reports.html(RESULTS, sweep("a"), NEURONS_OF) == "a a"
    assert await reports.html(RESULTS, sweep("a", "b"), NEURONS_OF) == "a b"
    assert renderer.rendered["a"] == 2


async def test_too_many_reports_are_refused_and_one_that_failed_is_tried_again() -> None:
    renderer = Renderer()
    reports = Reports(renderer)
    waiting = [
        asyncio.create_task(reports.html(RESULTS, sweep(f"{number}"), NEURONS_OF)) for number in range(MAX_WAITING)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="8 other reports are being rendered"):
        await reports.html(RESULTS, sweep("another"), NEURONS_OF)
    renderer.go.set()
    await asyncio.gather(*waiting)
    for _ in range(2):
        with pytest.raises(Unavailable, match="died"):
            await reports.html(RESULTS, sweep("broken"), NEURONS_OF)
    assert renderer.rendered["broken"] == 2
    for number in range(MAX_WAITING):
        await reports.html(RESULTS, sweep(f"{number}"), NEURONS_OF)
    assert renderer.rendered["0"] == 2  # it was not among the last ones
    assert renderer.rendered[f"{MAX_WAITING - 1}"] <= 2
    assert len(reports._tasks) == KEPT
