"""The watch over event loops sees what stalls one, and nothing else."""

from __future__ import annotations

import asyncio
import gc
import time

from tests.loop_stalls import watched_loops


async def blocked(seconds: float) -> None:
    computed = time.thread_time()
    while time.thread_time() - computed < seconds:
        pass


def test_what_blocks_a_loop_is_named() -> None:
    with watched_loops(limit=0.02) as watch:
        asyncio.run(blocked(0.3))  # long enough for the watch to look on a busy machine
    (stall,) = watch.stalls
    assert 0.25 < stall.seconds < 10
    assert "blocked" in stall.where


def test_what_waits_blocks_nothing() -> None:
    async def waits() -> None:
        await asyncio.sleep(0.06)
        await asyncio.to_thread(time.sleep, 0.06)

    with watched_loops(limit=0.05) as watch:
        asyncio.run(waits())
    assert watch.stalls == []


def test_the_collector_is_left_out() -> None:
    async def collects() -> None:
        began = time.monotonic()
        while time.monotonic() - began < 0.06:
            gc.collect()

    with watched_loops(limit=0.05) as watch:
        asyncio.run(collects())
    assert watch.longest < 0.05
