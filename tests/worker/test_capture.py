"""Captures on an engine: how many are in memory at once, and what a cancelled one leaves behind."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from ampsweep.domain.capture import CapturedText, CaptureSelection
from ampsweep.errors import NotFound, UnknownName
from api.http.change_notifier import ChangeNotifier
from engine.base import Capture, CaptureRequest
from engine.fake import FakeEngine
from jobs.execution import CaptureCall
from tests.worker.installation import Installation, until
from worker.completions import PoolCompletions
from worker.engine_session import CAPTURES_AT_ONCE

pytestmark = pytest.mark.anyio

CALL = CaptureCall(
    model="tiny",
    texts=(CapturedText(id="a", prompt="one"), CapturedText(id="b", prompt="two")),
    selection=CaptureSelection(layers=(1,)),
    max_bytes=10**6,
)


class Gate:
    """Holds the captures of all engines back, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = asyncio.Event()
        self.waiting = 0
        self.notifier = ChangeNotifier()
        capture = FakeEngine.capture

        async def held(engine: FakeEngine, request: CaptureRequest) -> Capture:
            self.waiting += 1
            self.notifier.notify()
            try:
                await self.open.wait()
            finally:
                self.waiting -= 1
                self.notifier.notify()
            return await capture(engine, request)

        monkeypatch.setattr(FakeEngine, "capture", held)

    async def until(self, waiting: int) -> None:
        await until(self.notifier, lambda: self.waiting == waiting)


async def test_few_calls_are_computed_at_once_and_a_cancelled_one_makes_room(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    async with installation.pool() as pool:
        calls = [asyncio.create_task(pool.capture(CALL)) for _ in range(CAPTURES_AT_ONCE + 2)]
        await gate.until(CAPTURES_AT_ONCE * len(CALL.texts))
        calls[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        await gate.until(CAPTURES_AT_ONCE * len(CALL.texts))
        assert (await pool.metrics())[0].streams == len(calls) - 1
        gate.open.set()
        files = await asyncio.gather(*calls[1:])
        assert (await pool.metrics())[0].streams == 0
    assert set(files) == {files[0]}
    assert pq.read_table(io.BytesIO(files[0]))["text_id"].to_pylist() == ["a"] * 4 + ["b"] * 4


async def test_names_are_checked_before_an_engine_is_asked(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    Gate(monkeypatch)  # never opened
    languages = replace(CALL, selection=CaptureSelection(languages=("fr",)))
    async with installation.pool() as pool:
        completions = PoolCompletions(pool, catalog=installation.catalog, neuron_sets=installation.neuron_sets)
        for call, kind in (
            (replace(CALL, model="nope"), UnknownName),
            (replace(CALL, adapter="formal"), UnknownName),
            (replace(languages, neurons="ns_" + "0" * 16), NotFound),
        ):
            with pytest.raises(kind):
                await completions.capture(call)
