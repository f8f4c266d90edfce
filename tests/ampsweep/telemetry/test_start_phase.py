"""The phases of an engine's start reach whoever awaits the start, also from threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ampsweep.telemetry.start_phase import phases_to, report_phase, reporting_from_here, start_text

pytestmark = pytest.mark.anyio


async def test_phases_reach_the_receiver_from_calls_and_threads_within_the_block() -> None:
    seen: list[str] = []

    def load_model() -> None:
        report_phase("loading the model")

    async def load() -> None:
        await asyncio.to_thread(report_phase, "importing libraries")
        thread = threading.Thread(target=reporting_from_here(load_model))
        thread.start()
        thread.join()
        report_phase("testing steering")

    report_phase("importing libraries")
    with phases_to(seen.append):
        await load()
    report_phase("waiting for the next start")
    assert seen == ["importing libraries", "loading the model", "testing steering"]


async def test_each_task_has_its_own_receiver() -> None:
    first: list[str] = []
    second: list[str] = []

    async def start(seen: list[str]) -> None:
        with phases_to(seen.append):
            report_phase("loading the model")
            await asyncio.sleep(0)
            report_phase("testing steering")

    await asyncio.gather(start(first), start(second))
    assert first == second == ["loading the model", "testing steering"]


def test_a_phase_is_shown_with_the_seconds_of_the_start() -> None:
    assert start_text("loading the model", 139.6) == "loading the model, 140 s so far"
    assert start_text("starting Ray", 0.4) == start_text("starting Ray", None) == "starting Ray"
