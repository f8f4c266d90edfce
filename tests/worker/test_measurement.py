"""The measured rate of an engine: items that were begun in time, over the time until the last of them was answered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.fake import FAKE_INFO, FakeEngine
from jobs.tasks.requests import Call, GenerateCall, ScoreCall
from worker.measurement import measure_items

pytestmark = pytest.mark.anyio


class Clock:
    """Advances by a second each time it is read."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        self.time += 1.0
        return self.time


def items(count: int, read: list[int]) -> Iterator[tuple[Call, ...]]:
    for number in range(count):
        read.append(number)
        yield ScoreCall(context=str(number), continuation=" a"), GenerateCall(prompt=str(number), max_tokens=2)


async def test_items_are_begun_until_the_time_is_over() -> None:
    read: list[int] = []
    rate = await measure_items(FakeEngine(FAKE_INFO), items(1000, read), seconds=10.0, clock=Clock())
    # The clock is read once at the start, after each item, and at the end: ten items in eleven seconds.
    assert rate == pytest.approx(10 / 11)
    assert len(read) == 11, "the first is not counted"


async def test_few_items_are_measured_to_their_end() -> None:
    assert await measure_items(FakeEngine(FAKE_INFO), items(3, []), seconds=60.0, clock=Clock()) == pytest.approx(2 / 3)


async def test_a_single_item_gives_no_rate() -> None:
    assert await measure_items(FakeEngine(FAKE_INFO), items(1, []), seconds=60.0, clock=Clock()) is None
