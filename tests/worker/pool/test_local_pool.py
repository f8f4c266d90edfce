from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neurons.neuron_set import NeuronsRef
from ampsweep.errors import EngineFailed, NotFound, UnknownName
from engine.base import GenerateRequest, Priority
from engine.fake import FakeEngine
from jobs.cell import Cell
from jobs.execution import CompletionCall
from jobs.store.transitions import SweepState
from tests.worker.installation import Installation, drain
from worker.completions import PoolCompletions
from worker.pool.engine_session import LocalEngineSession

pytestmark = pytest.mark.anyio


def steered(installation: Installation) -> Cell:
    records = installation.store.list_cells(installation.submit().id).data
    return next(record.cell for record in records if record.cell.intervention is not None)


def call(**changes: object) -> CompletionCall:
    plain = CompletionCall(
        model="tiny",
        prompt="The capital of France is",
        intervention=None,
        neurons=None,
        sampling=SamplingParams(max_tokens=4),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


async def test_a_sweep_becomes_parquet(installation: Installation) -> None:
    sweep = installation.submit()
    async with installation.pool(count=2) as pool:
        dispatcher = installation.dispatcher(pool)
        await drain(
            installation, dispatcher, until=lambda: installation.store.get_sweep(sweep.id).state is SweepState.COMPLETED
        )
    counts = installation.store.get_sweep(sweep.id).request_counts
    assert (counts.completed, counts.failed) == (counts.total, 0)
    rows = [record.rows or 0 for record in installation.store.list_cells(sweep.id).data]
    assert 0 < min(rows) <= max(rows) <= 4
    table = pq.read_table(installation.results.samples_file(installation.store.get_sweep(sweep.id)).open())
    assert table.num_rows == sum(rows)
    assert len(installation.neuron_sets.infos()) == 1, "the set was identified once and published"


async def test_the_same_cell_gives_the_same_rows(installation: Installation) -> None:
    cell = steered(installation)
    async with installation.pool() as pool:
        first, second = await asyncio.gather(pool.run_cell(cell, 1), pool.run_cell(cell, 2))
    assert first.rows == second.rows > 0


async def test_a_request_that_is_refused_is_a_failed_sample(installation: Installation) -> None:
    cell = steered(installation)
    async with installation.pool(max_model_len=55) as pool:
        file = await pool.run_cell(replace(cell, task=replace(cell.task, limit=None)), 1)
    table = pq.read_table(installation.data / "results" / "cells" / file.name)
    errors = [error for error in table["error"].to_pylist() if error]
    assert errors
    assert len(errors) < table.num_rows
    assert "tokens" in errors[0]


async def test_an_engine_that_dies_without_a_request_is_started_again(installation: Installation) -> None:
    async with installation.pool() as pool:
        (slot,) = pool._slots
        first = slot.session
        assert isinstance(first, LocalEngineSession)
        changed = asyncio.Event()
        pool.watch(changed.set)
        await first._opened()[0].close()  # the session was not told
        async with asyncio.timeout(10):
            while slot.session in (None, first):
                changed.clear()
                await changed.wait()
        assert (await pool.run_cell(steered(installation), 1)).rows > 0


async def test_an_engine_that_fails_fails_the_cell(installation: Installation) -> None:
    cell = steered(installation)
    async with installation.pool(fail_on="capital") as pool:
        with pytest.raises(EngineFailed):
            await pool.run_cell(replace(cell, task=replace(cell.task, limit=None)), 1)


async def test_a_language_that_the_neuron_set_lacks_fails_the_cell(installation: Installation) -> None:
    cell = steered(installation)
    assert cell.intervention is not None
    async with installation.pool() as pool:
        with pytest.raises(UnknownName, match="known"):
            await pool.run_cell(replace(cell, intervention=replace(cell.intervention, languages=("qu",))), 1)


async def test_a_neuron_set_that_cannot_be_identified_fails_the_cell(installation: Installation) -> None:
    cell = replace(steered(installation), neurons=NeuronsRef(id="ns_gone"))
    async with installation.pool() as pool:
        with pytest.raises(NotFound, match="ns_gone"):
            await pool.run_cell(cell, 1)


async def test_completions_are_streamed_steered_and_unsteered(installation: Installation) -> None:
    cell = steered(installation)
    async with installation.pool() as pool:
        await pool.run_cell(cell, 1)
        completions = PoolCompletions(pool, catalog=installation.catalog, neuron_sets=installation.neuron_sets)
        plain = [chunk async for chunk in completions.stream(call())]
        turned = [chunk async for chunk in completions.stream(call(intervention=cell.intervention))]
    assert [len(chunk.token_ids) for chunk in plain] == [1, 1, 1, 1]
    assert plain[-1].finish_reason == "length"
    assert [chunk.text for chunk in plain] != [chunk.text for chunk in turned]


async def test_an_engine_is_asked_with_the_stream_and_the_priority_of_a_call(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, priorities = FakeEngine.generate, list[int]()

    def recorded(engine: FakeEngine, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        priorities.append(request.priority)
        assert not request.stream
        return generate(engine, request)

    async with installation.pool() as pool:
        monkeypatch.setattr(FakeEngine, "generate", recorded)
        for background, priority in ((False, 0), (True, 0), (False, 3), (True, 3)):
            async with aclosing(pool.stream(call(background=background, priority=priority, stream=False))) as chunks:
                assert [chunk async for chunk in chunks]
    assert priorities == [Priority.INTERACTIVE, Priority.BATCH, 3, 3]


async def test_a_completion_names_the_missing_model_or_neuron_set(installation: Installation) -> None:
    scale = Intervention(languages=("fr",), op="scale", factor=2.0)
    async with installation.pool() as pool:
        completions = PoolCompletions(pool, catalog=installation.catalog, neuron_sets=installation.neuron_sets)
        with pytest.raises(UnknownName, match="known: tiny"):
            await anext(completions.stream(call(model="nope")))
        with pytest.raises(Exception, match="no neuron set yet"):
            await anext(completions.stream(call(intervention=scale)))
        with pytest.raises(NotFound):
            await anext(completions.stream(call(intervention=scale, neurons="../etc")))


async def test_closing_a_stream_frees_its_engine(installation: Installation) -> None:
    async with installation.pool(seconds_per_step=0.001) as pool:
        stream = pool.stream(call(sampling=SamplingParams(max_tokens=100_000)))
        await anext(stream)
        await stream.aclose()
        assert pool._slots[0].load == 0


async def test_two_engines_that_identify_the_same_set_publish_one(installation: Installation) -> None:
    cells = [
        record.cell for record in installation.store.list_cells(installation.submit().id).data if record.cell.neurons
    ]
    async with installation.pool(count=2, cells_per_engine=1) as pool:
        await asyncio.gather(*(pool.run_cell(cell, 1) for cell in cells[:2]))
    assert [path.name for path in (installation.data / "neurons").iterdir()] == [
        cells[0].neurons and cells[0].neurons.id
    ]
