"""Captures on an engine: how many are in memory at once, and what a cancelled one leaves behind."""

from __future__ import annotations

import asyncio
import io
import threading
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq
import pytest

from ampsweep.domain.capture import CapturedText, CaptureSelection
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import CaptureTooLarge, InvalidRequest, NotFound, UnknownName
from api.http.change_notifier import ChangeNotifier
from engine.base import Capture, CaptureRequest
from engine.capture.table import CaptureWriter
from engine.fake import FakeEngine
from jobs.execution import CaptureCall
from tests.engine.neuron_sets import make_neuron_set
from tests.worker.installation import Installation, until
from worker.capture import capture
from worker.completions import PoolCompletions
from worker.pool.engine_session import CAPTURES_AT_ONCE

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


async def test_the_file_is_written_outside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    class Watched(CaptureWriter):
        def __init__(self, *arguments: Any) -> None:
            threads.append(threading.get_ident())
            super().__init__(*arguments)

        def add(self, text_id: str, capture: Capture) -> None:
            threads.append(threading.get_ident())
            super().add(text_id, capture)

        def close(self) -> None:
            threads.append(threading.get_ident())
            super().close()

    monkeypatch.setattr("worker.capture.CaptureWriter", Watched)
    content = await capture(FakeEngine(), CALL, neuron_set=None)
    assert pq.read_table(io.BytesIO(content))["text_id"].unique().to_pylist() == ["a", "b"]
    assert len(threads) == 1 + len(CALL.texts) + 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"when": "drift"}, "intervention.when"),
        ({"part": "answer"}, "intervention.part"),
        ({"tokens": {"start": 4}}, "intervention.tokens"),
        ({"scope": "generation"}, "intervention.scope"),
    ],
)
async def test_an_intervention_that_would_not_steer_a_text_is_refused(change: dict[str, Any], param: str) -> None:
    engine = FakeEngine()
    neuron_set = make_neuron_set({"fr": [(1, 2)]}, layers=engine.info.layers, width=engine.info.width)
    engine.add_neurons(neuron_set)
    raw = {"languages": ["fr"], "op": "scale", "factor": 2}
    call = replace(CALL, neurons=neuron_set.id)
    first = replace(call, intervention=Intervention.from_dict({**raw, "tokens": {"start": 3}}))
    assert await capture(engine, first, neuron_set=neuron_set)
    computed = engine.stats()
    with pytest.raises(InvalidRequest) as refused:
        await capture(engine, replace(call, intervention=Intervention.from_dict(raw | change)), neuron_set=neuron_set)
    assert refused.value.param == param
    assert engine.stats() == computed


async def test_a_single_text_is_limited_however_much_the_server_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    monkeypatch.setattr("engine.capture.texts.MAX_TEXT_BYTES", 4 * engine.info.widths.of(1) * len("_one"))
    assert await capture(engine, CALL, neuron_set=None)
    texts = (*CALL.texts, CapturedText(id="c", prompt="three"))
    with pytest.raises(CaptureTooLarge, match="shorten or divide the text") as refused:
        await capture(engine, replace(CALL, texts=texts), neuron_set=None)
    assert refused.value.param == "texts.2"
