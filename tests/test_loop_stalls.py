"""The check of event loops reports blocking callbacks, and nothing else."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.loop_stalls import watched_loops


async def blocked(seconds: float) -> None:
    computed = time.thread_time()
    while time.thread_time() - computed < seconds:
        pass


def test_a_blocking_call_is_named() -> None:
    with watched_loops(limit=0.02) as watch:
        asyncio.run(blocked(0.3))  # long enough for the watch to look on a busy machine
    (stall,) = watch.stalls
    assert 0.25 < stall.seconds < 10
    assert "blocked" in stall.where


def test_waiting_does_not_block_the_loop() -> None:
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


def test_a_loop_that_sleeps_is_reported() -> None:
    async def sleeps() -> None:
        time.sleep(0.5)  # noqa: ASYNC251

    with watched_loops(limit=0.05) as watch:
        asyncio.run(sleeps())
    assert len(watch.stalls) == 1


@pytest.mark.processes
def test_a_process_that_is_stopped_blocks_nothing() -> None:
    script = """
import asyncio, sys, time
from tests.loop_stalls import watched_loops

async def wait_for_the_end() -> None:
    print("running", flush=True)
    sys.stdin.readline()

with watched_loops(limit=0.2) as watch:
    asyncio.run(wait_for_the_end())
print(watch.longest)
"""
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(process.pid, signal.SIGCONT)
        process.stdin.write("\n")
        process.stdin.close()
        longest = float(process.stdout.read())
    assert longest < 1
