from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ampsweep.errors import Conflict
from engine.base import EngineInfo, Score, ScoreRequest
from engine.fake import FAKE_INFO, FakeEngine
from engine.neurons.formats.neuron_json import from_json
from jobs.cell import AdapterRef, Cell
from jobs.results.cell_table import CellTable
from jobs.results.summary import SummaryBuilder
from jobs.sample import Sample
from jobs.store.records import CellFile
from jobs.tasks.base import Item, Task
from jobs.tasks.loading import task_of_cell
from jobs.tasks.requests import Answer
from tests.jobs.cluster import completed_record
from tests.loop_stalls import watched_loops
from tests.worker.installation import Installation
from worker.neuron_set_cache import NeuronSetCache
from worker.run_cell import Count, run_cell

pytestmark = pytest.mark.anyio


class BatchingEngine(FakeEngine):
    """Answers only once as many requests are in flight as it was told to expect."""

    def __init__(self, info: EngineInfo, expected: int) -> None:
        super().__init__(info)
        self.expected = expected
        self.flying = self.most = 0
        self.full = asyncio.Event()

    async def score(self, request: ScoreRequest) -> Score:
        self.flying += 1
        self.most = max(self.most, self.flying)
        if self.flying == self.expected:
            self.full.set()
        await self.full.wait()
        self.flying -= 1
        return await super().score(request)


def baselines(installation: Installation) -> list[Cell]:
    """Submit a sweep and return its unsteered cells."""
    records = installation.store.list_cells(installation.submit().id).data
    return [record.cell for record in records if record.cell.neurons is None]


async def compute(installation: Installation, cell: Cell, engine: FakeEngine, *, requests: int = 4) -> CellFile:
    """Run a cell by itself."""
    return await run_cell(
        cell,
        engine=engine,
        catalog=installation.catalog,
        results=installation.results,
        neuron_set_cache=NeuronSetCache(installation.neuron_sets, engine=engine, catalog=installation.catalog),
        requests=asyncio.Semaphore(requests),
        epoch=1,
        done=Count(),
    )


async def computed(installation: Installation, cell: Cell, engine: FakeEngine, *, requests: int = 4) -> CellTable:
    """Run a cell by itself, and return the samples that it has published."""
    file = await compute(installation, cell, engine, requests=requests)
    return installation.results.read_cell(completed_record(cell, file))


async def test_requests_of_several_cells_are_in_flight_together_up_to_the_limit(installation: Installation) -> None:
    plain = baselines(installation)
    assert len(plain) == 2
    engine = BatchingEngine(installation.engine_info, expected=10)
    requests = asyncio.Semaphore(10)
    neuron_set_cache = NeuronSetCache(installation.neuron_sets, engine=engine, catalog=installation.catalog)
    done = Count()

    async def run(cell: Cell) -> CellFile:
        return await run_cell(
            cell,
            engine=engine,
            catalog=installation.catalog,
            results=installation.results,
            neuron_set_cache=neuron_set_cache,
            requests=requests,
            epoch=1,
            done=done,
        )

    async with asyncio.timeout(10):
        files = await asyncio.gather(*map(run, plain))
    assert engine.most == 10
    assert done.value == sum(file.rows for file in files) > 0


async def test_a_repeat_asks_the_same_items_in_another_order_and_keeps_the_rows_in_theirs(
    installation: Installation,
) -> None:
    order: list[object] = []

    class RecordingEngine(FakeEngine):
        async def score(self, request: ScoreRequest) -> Score:
            order.append((request.context, request.continuation))
            return await super().score(request)

    engine = RecordingEngine(installation.engine_info)
    baseline, *_ = baselines(installation)
    calls, tables = [], []
    for cell in (baseline, replace(baseline, repeat=True)):
        order.clear()
        tables.append(await computed(installation, cell, engine, requests=1))
        calls.append(list(order))
    plain, repeated = calls
    assert plain != repeated
    assert sorted(map(str, plain)) == sorted(map(str, repeated))
    first, second = (table.table.drop_columns(["cell_id", "method"]) for table in tables)
    assert first == second
    assert [table.table["method"].unique().to_pylist() for table in tables] == [[None], ["repeat"]]


async def test_scoring_that_takes_long_holds_up_no_loop(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        def __init__(self, task: Task) -> None:
            self.task = task

        def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
            time.sleep(0.1)
            return self.task.sample(item, answers)

    cell, *_ = baselines(installation)
    monkeypatch.setattr("worker.run_cell.task_of_cell", lambda cell: Slow(task_of_cell(cell)))
    engine = FakeEngine(installation.engine_info)
    with watched_loops() as watch:
        file = await compute(installation, cell, engine)
    assert file.rows > 2
    assert watch.stalls == []


async def test_a_cell_says_how_many_neurons_its_intervention_changed(installation: Installation) -> None:
    cells = [record.cell for record in installation.store.list_cells(installation.submit().id).data]
    engine = FakeEngine(installation.engine_info)
    changed = [(cell, (await computed(installation, cell, engine)).neurons) for cell in cells]
    for cell, neurons in changed:
        if cell.intervention is None or cell.neurons is None:
            assert neurons == 0
        else:
            counts = installation.neuron_sets.get(cell.neurons.id).languages
            assert neurons == sum(counts[code] for code in cell.intervention.languages)
    assert any(neurons for _, neurons in changed)


async def test_a_vector_steers_without_neurons_and_is_compared_with_the_baseline(installation: Installation) -> None:
    imported = from_json({"fr": {"0": [1]}, "tr": {}}, model=installation.catalog.model("tiny"))
    residual_mean = np.random.default_rng(0).normal(size=(2, 4, FAKE_INFO.hidden_size)).astype(np.float32)
    neuron_set = replace(imported, residual_mean=residual_mean).with_content_id()
    installation.neuron_sets.publish(neuron_set.id, neuron_set.save)
    interventions = {
        "languages": ["fr"],
        "op": "scale",
        "factors": [2],
        "baselines": [{"method": "diffmean", "factors": [4]}],
    }
    sweep = installation.submit(neurons={"id": neuron_set.id}, interventions=interventions)
    engine = FakeEngine(installation.engine_info)
    summary = SummaryBuilder()
    answers: dict[str | None, object] = {}
    for record in installation.store.list_cells(sweep.id).data:
        table = await computed(installation, record.cell, engine)
        summary.add(table)
        answers[record.cell.method] = table.table["logprobs"].to_pylist()
    assert answers["diffmean"] != answers[None]
    (row,) = [row for row in summary.rows if row["method"] == "diffmean" and row["metric"] == "lss"]
    assert (row["op"], row["factor"], row["target_language"]) == ("add", 4.0, "fr")
    assert row["value"] is not None
    assert "changed no neuron" not in (row["note"] or "")


async def test_a_cell_without_neurons_repeats_the_baseline_and_says_so(installation: Installation) -> None:
    neuron_set = from_json({"fr": {"0": [1]}, "tr": {}}, model=installation.catalog.model("tiny"))
    installation.neuron_sets.publish(neuron_set.id, neuron_set.save)
    interventions = {"languages": ["fr", "tr"], "op": "scale", "factors": [2]}
    sweep = installation.submit(neurons={"id": neuron_set.id}, interventions=interventions)
    engine = FakeEngine(installation.engine_info)
    summary = SummaryBuilder()
    answers: dict[tuple[str | None, bool], object] = {}
    for record in installation.store.list_cells(sweep.id).data:
        cell_table = await computed(installation, record.cell, engine)
        summary.add(cell_table)
        steered = record.cell.intervention is not None
        answers[record.cell.task.target_language, steered] = cell_table.table["logprobs"].to_pylist()
    assert answers["tr", True] == answers["tr", False]
    assert answers["fr", True] != answers["fr", False]
    notes = {row["target_language"]: (row["neurons"], row["note"]) for row in summary.rows if row["factor"] is not None}
    assert notes == {
        "fr": (1, "the interval rests on 3 items"),
        "tr": (0, "the intervention changed no neuron; the interval rests on 4 items"),
    }


async def test_the_samples_of_a_cell_differ_with_its_adapter(installation: Installation) -> None:
    cell, *_ = baselines(installation)
    engine = FakeEngine(replace(installation.engine_info, adapters={"a": "f" * 64}))
    neuron_set_cache = NeuronSetCache(installation.neuron_sets, engine=engine, catalog=installation.catalog)
    files = []
    adapter = AdapterRef(name="a", fingerprint="f" * 64)  # another server may have another name for it
    for each in (cell, replace(cell, adapter=adapter), replace(cell, adapter=replace(adapter, name="b"))):
        file = await run_cell(
            each,
            engine=engine,
            catalog=installation.catalog,
            results=installation.results,
            neuron_set_cache=neuron_set_cache,
            requests=asyncio.Semaphore(10),
            epoch=1,
            done=Count(),
        )
        files.append(file)
    assert files[0].rows == files[1].rows == files[2].rows
    assert len({file.sha256 for file in files}) == 3
    assert [file.failed_samples for file in files] == [0, 0, 0]


@pytest.mark.parametrize(
    ("changed", "param", "message"),
    [
        ({"fingerprint": "0" * 64}, "model", "other files of model tiny than this cell was planned with"),
        ({"adapters": {"a": "0" * 64}}, "adapter", "other files of adapter a than .*; restart the server"),
    ],
)
async def test_a_cell_is_not_stored_under_the_id_of_other_files_than_the_engine_has_loaded(
    changed: dict[str, Any], param: str, message: str, installation: Installation
) -> None:
    cell = installation.store.list_cells(installation.submit().id).data[0].cell
    cell = replace(cell, adapter=AdapterRef(name="a", fingerprint="f" * 64))
    engine = FakeEngine(replace(installation.engine_info, **{"adapters": {"a": "f" * 64}, **changed}))
    with pytest.raises(Conflict, match=message) as caught:
        await run_cell(
            cell,
            engine=engine,
            catalog=installation.catalog,
            results=installation.results,
            neuron_set_cache=NeuronSetCache(installation.neuron_sets, engine=engine, catalog=installation.catalog),
            requests=asyncio.Semaphore(10),
            epoch=1,
            done=Count(),
        )
    assert caught.value.param == param
