"""Equal reads at the same time are one; a change between two reads is missed by neither."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ampsweep.errors import Unavailable
from api.http.change_notifier import ChangeNotifier
from api.http.shared_reads import SharedReads

pytestmark = pytest.mark.anyio


class Reader:
    """Counts its reads, which wait until they are let go."""

    def __init__(self) -> None:
        self.count = 0
        self.go = threading.Event()
        self.error: Exception | None = None

    def __call__(self) -> int:
        self.count += 1
        count = self.count
        assert self.go.wait(10)
        if self.error is not None:
            raise self.error
        return count


async def test_equal_reads_at_the_same_time_are_one() -> None:
    reads, notifier, reader = SharedReads[int](), ChangeNotifier(), Reader()
    subscription = notifier.subscribe()
    streams = [asyncio.create_task(reads.read(subscription, "sweep", reader)) for _ in range(50)]
    await asyncio.sleep(0)
    streams[0].cancel()  # the stream that began the read
    reader.go.set()
    assert await asyncio.gather(*streams[1:]) == [1] * 49
    assert streams[0].cancelled()
    assert await reads.read(subscription, "sweep", reader) == 2, "a read that has ended is not used again"


async def test_a_read_that_began_before_a_change_is_not_shared_with_those_who_know_of_it() -> None:
    reads, notifier, reader = SharedReads[int](), ChangeNotifier(), Reader()
    before = asyncio.create_task(reads.read(notifier.subscribe(), "sweep", reader))
    await asyncio.sleep(0)
    notifier.notify()
    after = asyncio.create_task(reads.read(notifier.subscribe(), "sweep", reader))
    await asyncio.sleep(0)
    reader.go.set()
    assert {await before, await after} == {1, 2}


async def test_reads_of_other_keys_are_others_and_errors_reach_every_stream() -> None:
    reads, notifier, reader = SharedReads[int](), ChangeNotifier(), Reader()
    reader.error = Unavailable("no disk")
    reader.go.set()
    subscription = notifier.subscribe()
    streams = [reads.read(subscription, key, reader) for key in ("a", "a", "b")]
    outcomes = await asyncio.gather(*streams, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["no disk"] * 3
    assert reader.count == 2
