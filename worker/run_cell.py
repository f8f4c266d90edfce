"""Computes a cell: turns the items of its task into requests, and the answers into a published file of samples.

The number of concurrent requests is bounded by a limit that all cells of an engine share; there are never more asyncio
tasks than requests. Samples are scored in a thread, because metrics take milliseconds per item and the event loop
serves other cells meanwhile. A request that the engine rejects becomes a failed sample (`worker.task_calls`); an engine
that dies fails the cell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from ampsweep.concurrency import in_window
from ampsweep.errors import Conflict
from ampsweep.telemetry.traces import span
from ampsweep.version import __version__
from engine.base import Engine, EngineInfo, Steering
from jobs.cell import AdapterRef, Cell
from jobs.planning.catalog import Catalog
from jobs.results.writer import Results
from jobs.sample import Sample
from jobs.store.records import CellFile
from jobs.tasks.base import Item, Task
from jobs.tasks.loading import load_items, task_of_cell
from jobs.tasks.requests import Answer, Call
from worker.neuron_set_cache import NeuronSetCache
from worker.task_calls import TaskCalls

REQUESTS_IN_FLIGHT = 256
"""How many requests of cells an engine gets at the same time."""
_SCORING = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scoring")
"""Scores one cell at a time, because not all metric libraries are thread-safe."""


@dataclass(kw_only=True)
class Count:
    """A counter that is read while it increases."""

    value: int = 0


async def run_cell(
    cell: Cell,
    *,
    engine: Engine,
    catalog: Catalog,
    results: Results,
    neuron_set_cache: NeuronSetCache,
    requests: asyncio.Semaphore,
    epoch: int,
    done: Count,
) -> CellFile:
    """Compute a cell and publish its samples, one row per item, in the order of the task.

    A `repeat` of the baseline asks its items in another order, so that requests share other batches. If the
    intervention changes no neuron (LAPE may select none for a language), the cell is computed without steering
    and its file records 0 changed neurons, so that one such language does not fail a sweep over all languages of a set.
    Cancelling the call aborts its requests.

    Args:
        cell: The cell.
        engine: The engine of the cell's model.
        catalog: Where the data of tasks is.
        results: Where the file is published.
        neuron_set_cache: The neuron sets of the engine.
        requests: Limits the number of concurrent requests of all cells.
        epoch: The epoch of the lease, which becomes part of the file name.
        done: Incremented for each item whose calls are all answered.

    Raises:
        Conflict: The engine has loaded other files of the model or the adapter than the cell was planned with.
        EngineFailed: The engine died.
        UnknownName: The neuron set lacks a language or layer of the intervention, or the engine the adapter.
    """
    _check_identity(cell, engine.info)
    steering = await _steering(cell, neuron_set_cache)
    neurons = 0 if steering is None else await asyncio.to_thread(neuron_set_cache.count, steering)
    if not neurons and cell.method == "neurons":
        steering = None
    loaded = await asyncio.to_thread(load_items, cell, catalog)
    order = _order(cell, len(loaded.items))
    items = [loaded.items[index] for index in order]
    task_calls = TaskCalls(
        engine=engine,
        steering=steering,
        seed=cell.seed,
        adapter=None if cell.adapter is None else _loaded_name(cell.adapter, engine.info),
        variables=cell.task.template_variables,
    )
    answers = await _answers(items, task_calls, window=requests, done=done)
    loop = asyncio.get_running_loop()
    samples = await loop.run_in_executor(_SCORING, _samples, task_of_cell(cell), items, answers)
    with span("cell.publish", {"cell.id": cell.id, "samples": len(samples)}):
        return await asyncio.to_thread(
            results.write_cell,
            cell,
            epoch=epoch,
            samples=[sample for _, sample in sorted(zip(order, samples, strict=True), key=itemgetter(0))],
            left_out=loaded.left_out,
            neurons=neurons,
            versions={"ampsweep": __version__, **engine.info.versions},
        )


def _check_identity(cell: Cell, info: EngineInfo) -> None:
    """Raise Conflict if the cell's id is that of other files than the engine has loaded (param "model", "adapter")."""
    adapter = cell.adapter
    if cell.model_hash != info.fingerprint:
        changed, param = f"model {cell.model}", "model"
    elif adapter is not None and _loaded_name(adapter, info) is None:
        changed, param = f"adapter {adapter.name}", "adapter"
    else:
        return
    raise Conflict(
        f"the engine has loaded other files of {changed} than this cell was planned with, because they have changed on "
        "disk; restart the server, then submit the sweep again",
        param=param,
    )


def _loaded_name(adapter: AdapterRef, info: EngineInfo) -> str | None:
    """Return the name by which the engine has an adapter; None if it has other files by the name of the adapter.

    The engine may have another name for the files than the server that planned the cell. The engine rejects the name of
    an adapter that it does not have at all.
    """
    names = [name for name, fingerprint in info.adapters.items() if fingerprint == adapter.fingerprint]
    if names and adapter.name not in names:
        return names[0]
    return None if not names and adapter.name in info.adapters else adapter.name


def _order(cell: Cell, items: int) -> list[int]:
    """Return the order in which the items are asked: that of the task; for a `repeat` another one, by the seed."""
    if not cell.repeat:
        return list(range(items))
    order: list[int] = np.random.default_rng(cell.seed).permutation(items).tolist()
    return order if order != sorted(order) else order[::-1]  # of few items, the permutation may be none


async def _steering(cell: Cell, neuron_set_cache: NeuronSetCache) -> Steering | None:
    if cell.intervention is None:
        return None
    assert cell.neurons is not None, "a steered cell names its neurons"
    neurons = await neuron_set_cache.load(cell.neurons)
    return Steering(intervention=cell.intervention, neurons=neurons, mode=cell.task.mode)


async def _answers(
    items: Sequence[Item], task_calls: TaskCalls, *, window: asyncio.Semaphore, done: Count
) -> list[Answer]:
    """Return the answers to the calls of all items, in their order; count the items all of whose calls are answered."""
    unanswered = [len(item.calls) for item in items]

    async def answer(indexed_call: tuple[int, Call]) -> Answer:
        item_index, call = indexed_call
        answer = await task_calls.answer(call)
        unanswered[item_index] -= 1
        done.value += not unanswered[item_index]
        return answer

    calls = ((index, call) for index, item in enumerate(items) for call in item.calls)
    return await in_window(calls, answer, window=window)


def _samples(task: Task, items: Sequence[Item], answers: Sequence[Answer]) -> list[Sample]:
    remaining = iter(answers)
    return [task.sample(item, [next(remaining) for _ in item.calls]) for item in items]
