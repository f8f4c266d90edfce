from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.prompt import PromptTokens
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.neurons.neuron_set import NeuronsRef
from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.errors import Conflict, EngineFailed, Unavailable, UnknownName, UnsupportedModel
from api.http.change_notifier import ChangeNotifier
from jobs.cell import Cell
from jobs.execution import CaptureCall, CompletionCall, TokenizeCall
from jobs.store.records import CellFile
from tests.worker.installation import Installation, until
from tests.worker.stub_clock import StubClock
from worker.engines import EngineSpec
from worker.pool.engine_session import EngineSession
from worker.pool.pool import Pool

pytestmark = pytest.mark.anyio


RECORDING = RecordingProgress(
    language="fr", languages=2, languages_done=1, tokens=300, total_tokens=400, tokens_per_second=50.0
)


class StubSession:
    """A session that lives until it is told to die."""

    def __init__(self, opening: Exception | None = None) -> None:
        self.opening = opening
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.may_speak = asyncio.Event()
        self.may_speak.set()
        self.end = asyncio.Event()
        self.cells: list[asyncio.Future[CellFile]] = []
        self.healthy = True

    async def open(self) -> None:
        await self.may_open.wait()
        if self.opening is not None:
            raise self.opening

    async def run_cell(self, cell: Cell, epoch: int) -> CellFile:
        self.cells.append(asyncio.get_running_loop().create_future())
        return await self.cells[-1]

    async def progress(self) -> Mapping[tuple[str, int], int]:
        await self.may_speak.wait()
        return {("cell", 1): 7}

    async def recordings(self) -> Mapping[str, RecordingProgress]:
        await self.may_speak.wait()
        return {"ns_1": RECORDING}

    async def stats(self) -> Mapping[str, float]:
        await self.may_speak.wait()
        return {"running": 3.0}

    async def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        for _ in self.cells:
            yield Chunk(
                text="",
                token_ids=(),
                token_texts=(),
                text_offsets=(),
                logprobs=(),
                top_logprobs=(),
                prompt_tokens=1,
                finish_reason=None,
            )

    async def tokenize(self, call: TokenizeCall) -> PromptTokens:
        if not self.healthy:
            raise EngineFailed("it died")
        return PromptTokens(ids=(1,), token_strs=("a",), text=str(call.prompt), max_model_len=8)

    async def capture(self, call: CaptureCall) -> bytes:
        if not self.healthy:
            raise EngineFailed("it died")
        return call.model.encode()

    async def find_neurons(self, ref: NeuronsRef) -> None: ...

    async def check(self) -> None:
        if not self.healthy:
            raise EngineFailed("no answer")

    async def ended(self) -> str:
        await self.end.wait()
        return "it was told to"

    async def close(self) -> None:
        self.end.set()


class StubSessionPool(Pool):
    def __init__(self, make: Callable[[], StubSession], specs: Sequence[EngineSpec], clock: StubClock) -> None:
        super().__init__(specs, cells_per_engine=2, timing=clock.timing)
        self.clock = clock
        self.make = make
        self.made: list[StubSession] = []
        self.notifier = ChangeNotifier()
        self.watch(self.notifier.notify)

    async def _begin(self) -> None: ...

    async def _end(self) -> None: ...

    def _make_session(self, spec: EngineSpec) -> EngineSession:
        self.made.append(self.make())
        return self.made[-1]


def pool_of(count: int, make: Callable[[], StubSession] = StubSession) -> StubSessionPool:
    return StubSessionPool(make, [EngineSpec(model="tiny", folder=Path(), count=count)], StubClock())


@pytest.fixture
def cell(installation: Installation) -> Cell:
    sweep = installation.submit()
    return installation.store.list_cells(sweep.id).data[0].cell


async def test_capacity_counts_ready_engines_only() -> None:
    pool = pool_of(2)
    assert pool.capacity() == {"tiny": 0}
    await pool.start()
    await pool.ready()
    assert pool.capacity() == {"tiny": 4}
    assert [engine["state"] for engine in pool.engines()] == ["ready", "ready"]
    await pool.stop()


async def test_cells_go_to_the_least_busy_engine(cell: Cell) -> None:
    pool = pool_of(2)
    await pool.start()
    await pool.ready()
    running = [asyncio.create_task(pool.run_cell(cell, 1)) for _ in range(4)]
    await asyncio.sleep(0)
    assert [len(session.cells) for session in pool.made] == [2, 2]
    await pool.stop()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_an_engine_that_dies_is_started_again() -> None:
    pool = pool_of(1)
    seen: list[str] = []
    pool.watch(lambda: seen.append(pool.engines()[0]["state"]))
    await pool.start()
    await pool.ready()
    pool.made[0].end.set()
    await until(pool.notifier, lambda: len(seen) == 3)
    assert len(pool.made) == 2
    assert seen == ["ready", "starting", "ready"]
    await pool.stop()


async def test_an_engine_that_never_starts_is_given_up_with_its_error(cell: Cell) -> None:
    pool = pool_of(1, lambda: StubSession(OSError("out of memory")))
    await pool.start()
    with pytest.raises(EngineFailed, match="out of memory"):
        await pool.ready()
    assert len(pool.made) > 2
    assert pool.engines()[0]["state"] == "failed"
    assert pool.capacity() == {"tiny": 2}, "its cells come back with the error instead of waiting for ever"
    with pytest.raises(EngineFailed, match="out of memory"):
        await pool.run_cell(cell, 1)
    await pool.stop()


async def test_an_engine_that_cannot_be_created_is_given_up_with_its_error() -> None:
    def nowhere() -> StubSession:
        raise OSError("no room for another process")

    pool = pool_of(1, nowhere)
    await pool.start()
    async with asyncio.timeout(10):
        with pytest.raises(EngineFailed, match="no room"):
            await pool.ready()
    await pool.stop()


async def test_a_failed_engine_is_retried_and_works_again(cell: Cell) -> None:
    broken = True
    pool = pool_of(2, lambda: StubSession(OSError("out of memory") if broken else None))
    await pool.start()
    await pool.wait_until_started()
    assert list(pool.failed()) == ["tiny"]
    broken = False
    with pytest.raises(UnknownName, match="known: tiny"):
        pool.retry("nope")
    pool.retry("tiny")
    await pool.ready()
    assert [engine["state"] for engine in pool.engines()] == ["ready", "ready"]
    with pytest.raises(Conflict, match="ready"):
        pool.retry("tiny")
    running = asyncio.create_task(pool.run_cell(cell, 1))
    await asyncio.sleep(0)
    assert [len(session.cells) for session in pool.made[-2:]].count(1) == 1
    await pool.stop()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_invalid_health_answers_of_one_engine_do_not_affect_others() -> None:
    class Confused(StubSession):
        async def progress(self) -> Mapping[tuple[str, int], int]:
            raise RuntimeError("the connection to its process is lost")

        stats: Any = progress
        recordings: Any = progress

    kinds = [Confused, StubSession]
    pool = pool_of(2, lambda: kinds.pop(0)())
    await pool.start()
    await pool.ready()
    assert await pool.progress() == {("cell", 1): 7}
    assert [metrics.stats for metrics in await pool.metrics()] == [None, {"running": 3.0}]
    assert await pool.recordings() == {"ns_1": RECORDING}
    await pool.stop()


async def test_a_watcher_that_fails_does_not_keep_the_engines_from_starting() -> None:
    def fails() -> None:
        raise ValueError("not again")

    pool = pool_of(1)
    pool.watch(fails)
    await pool.start()
    async with asyncio.timeout(10):
        await pool.ready()
    await pool.stop()


async def test_a_model_that_cannot_be_steered_is_tried_once() -> None:
    pool = pool_of(1, lambda: StubSession(UnsupportedModel("MixtralForCausalLM has no MLP that can be steered")))
    await pool.start()
    with pytest.raises(UnsupportedModel, match="MixtralForCausalLM"):
        await pool.ready()
    assert len(pool.made) == 1
    await pool.stop()


async def test_an_engine_that_no_longer_answers_is_started_again(cell: Cell) -> None:
    pool = pool_of(1)
    await pool.start()
    await pool.ready()
    pool.made[0].healthy = False
    running = asyncio.create_task(pool.run_cell(cell, 1))
    await asyncio.sleep(0)
    pool.made[0].cells[0].set_exception(EngineFailed("it hangs"))
    with pytest.raises(EngineFailed, match="it hangs"):
        await running
    await until(pool.notifier, lambda: len(pool.made) == 2)
    await pool.stop()


async def test_an_engine_that_fails_to_tokenize_is_checked_and_started_again() -> None:
    pool = pool_of(1)
    await pool.start()
    await pool.ready()
    call = TokenizeCall(model="tiny", prompt="a")
    assert (await pool.tokenize(call)).text == "a"
    pool.made[0].healthy = False
    with pytest.raises(EngineFailed, match="it died"):
        await pool.tokenize(call)
    await until(pool.notifier, lambda: len(pool.made) == 2)
    await pool.stop()


async def test_an_engine_that_fails_to_capture_is_checked_and_started_again() -> None:
    pool = pool_of(1)
    await pool.start()
    await pool.ready()
    call = CaptureCall(model="tiny", texts=(), selection=None, max_bytes=1)
    assert await pool.capture(call) == b"tiny"
    pool.made[0].healthy = False
    with pytest.raises(EngineFailed, match="it died"):
        await pool.capture(call)
    await until(pool.notifier, lambda: len(pool.made) == 2)
    await pool.stop()


async def test_one_failed_cell_does_not_cost_a_healthy_engine(cell: Cell) -> None:
    pool = pool_of(1)
    await pool.start()
    await pool.ready()
    running = asyncio.create_task(pool.run_cell(cell, 1))
    await asyncio.sleep(0)
    pool.made[0].cells[0].set_exception(EngineFailed("this one"))
    with pytest.raises(EngineFailed):
        await running
    await asyncio.sleep(0)
    assert len(pool.made) == 1
    await pool.stop()


async def test_nothing_is_computed_while_the_engine_starts(cell: Cell) -> None:
    def slow() -> StubSession:
        session = StubSession()
        session.may_open.clear()
        return session

    pool = pool_of(1, slow)
    await pool.start()
    with pytest.raises(Unavailable, match="starting"):
        await pool.run_cell(cell, 1)
    await pool.stop()


async def test_an_unknown_model_is_rejected_with_the_valid_ones() -> None:
    pool = pool_of(1)
    call: Any = CompletionCall(model="nope", prompt="", intervention=None, neurons=None, sampling=SamplingParams())
    with pytest.raises(UnknownName, match="known: tiny"):
        await anext(pool.stream(call))


async def test_starts_failed_starts_and_deaths_are_counted_and_a_silent_engine_has_no_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.pool.pool.STATS_SECONDS", 0.01)
    openings: list[Exception | None] = [OSError("busy"), None, None]
    pool = pool_of(1, lambda: StubSession(openings.pop(0)))
    await pool.start()
    await pool.ready()
    pool.made[1].end.set()
    await until(pool.notifier, lambda: len(pool.made) == 3 and pool.engines()[0]["state"] == "ready")
    (metrics,) = await pool.metrics()
    assert (metrics.model, metrics.index, metrics.state) == ("tiny", 0, "ready")
    assert (metrics.starts, metrics.failed_starts, metrics.deaths) == (2, 1, 1)
    assert metrics.stats == {"running": 3.0}
    pool.made[2].may_speak.clear()
    (silent,) = await pool.metrics()
    assert silent.stats is None
    await pool.stop()
