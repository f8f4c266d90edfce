"""From a cell to its published file: the task's items become requests, the engine's answers become samples.

Requests are handed to the engine as far as the limit that its cells share allows, and no task waits beyond it. The
samples are scored in a thread: metrics take milliseconds an item, and an event loop serves other cells meanwhile.
A request that the engine refuses (too long a prompt, say) is a failed sample; an engine that dies fails the cell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from ampsweep.domain.sampling import SamplingParams
from ampsweep.errors import InvalidRequest, UnknownName
from ampsweep.telemetry.traces import span
from ampsweep.version import __version__
from engine.base import Engine, GenerateRequest, Priority, ScoreRequest, Steering
from jobs.cell import Cell
from jobs.planning.catalog import Catalog
from jobs.results.writer import Results
from jobs.sample import Sample
from jobs.store.records import CellFile
from jobs.tasks.base import Item, Task
from jobs.tasks.loading import load_items, task_of_cell
from jobs.tasks.requests import Answer, Call, ScoreCall
from worker.neuron_set_cache import NeuronSetCache

T = TypeVar("T")
R = TypeVar("R")

_SCORING = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scoring")
"""One cell at a time: the libraries of metrics do not all bear several threads."""


@dataclass(kw_only=True)
class Count:
    """A number that grows while others look at it."""

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
    """Compute a cell and publish its samples, one row an item, in the task's order.

    `done` counts the items all of whose calls are answered; `requests` bounds how many requests are in the engine at
    once. Raises EngineFailed where the engine died, and UnknownName where the neuron set has not what the intervention
    names. Cancelling it aborts its requests.

    A cell whose intervention changes no neuron (LAPE may find none for a language) is asked unsteered, and its file
    says that no neuron was changed: a sweep over all languages of a set does not fail because of one.
    """
    steering = await _steering(cell, neuron_set_cache)
    neurons = 0 if steering is None else await asyncio.to_thread(neuron_set_cache.count, steering)
    if not neurons:
        steering = None
    found = await asyncio.to_thread(load_items, cell, catalog)

    waiting = [len(item.calls) for item in found.items]

    async def ask(asked: tuple[int, Call]) -> Answer:
        at, call = asked
        answer = await _answer(call, engine=engine, steering=steering, seed=cell.seed)
        waiting[at] -= 1
        done.value += not waiting[at]
        return answer

    calls = ((at, call) for at, item in enumerate(found.items) for call in item.calls)
    answers = await in_window(calls, ask, window=requests)
    loop = asyncio.get_running_loop()
    samples = await loop.run_in_executor(_SCORING, _samples, task_of_cell(cell), found.items, answers)
    with span("cell.publish", {"cell.id": cell.id, "samples": len(samples)}):
        return await asyncio.to_thread(
            results.write_cell,
            cell,
            epoch=epoch,
            samples=samples,
            left_out=found.left_out,
            neurons=neurons,
            versions={"ampsweep": __version__, **engine.info.versions},
        )


async def _steering(cell: Cell, neuron_set_cache: NeuronSetCache) -> Steering | None:
    if cell.intervention is None:
        return None
    assert cell.neurons is not None, "a steered cell names its neurons"
    neurons = await neuron_set_cache.load(cell.neurons)
    return Steering(intervention=cell.intervention, neurons=neurons, mode=cell.task.mode)


async def _answer(call: Call, *, engine: Engine, steering: Steering | None, seed: int) -> Answer:
    try:
        if isinstance(call, ScoreCall):
            return await _scored(call, engine=engine, steering=steering)
        return await _generated(call, engine=engine, steering=steering, seed=seed)
    except UnknownName:
        raise  # about the steering, which all requests of the cell have in common
    except InvalidRequest as error:
        return Answer(error=error.message)


async def _scored(call: ScoreCall, *, engine: Engine, steering: Steering | None) -> Answer:
    request = ScoreRequest(
        context=call.context,
        continuation=call.continuation,
        split=call.split,
        options=call.options,
        steering=steering,
        priority=Priority.BATCH,
    )
    score = await engine.score(request)
    return Answer(
        token_ids=score.token_ids,
        logprobs=score.logprobs,
        prompt_tokens=score.context_tokens,
        spanned_join=score.spanned_join,
    )


async def _generated(call: Call, *, engine: Engine, steering: Steering | None, seed: int) -> Answer:
    assert not isinstance(call, ScoreCall)
    sampling = SamplingParams(max_tokens=call.max_tokens, stop=call.stop, seed=seed)
    request = GenerateRequest(
        prompt=call.prompt,
        strip=call.strip,
        sampling=sampling,
        steering=steering,
        priority=Priority.BATCH,
    )
    chunks = [chunk async for chunk in engine.generate(request)]
    return Answer(
        token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
        logprobs=tuple(value for chunk in chunks for value in chunk.logprobs),
        prompt_tokens=chunks[-1].prompt_tokens if chunks else 0,
        text="".join(chunk.text for chunk in chunks),
    )


def _samples(task: Task, items: Sequence[Item], answers: Sequence[Answer]) -> list[Sample]:
    left = iter(answers)
    return [task.sample(item, [next(left) for _ in item.calls]) for item in items]


async def in_window(
    asked: Iterable[T], answer: Callable[[T], Coroutine[None, None, R]], *, window: asyncio.Semaphore
) -> list[R]:
    """Return the answers to all that is asked, in its order, computed by tasks for which there is room in the window.

    There are never more tasks than that. The first error cancels the others and is raised as it is.
    """
    answers: dict[int, R] = {}

    async def put(place: int, one: T) -> None:
        answers[place] = await answer(one)

    try:
        async with asyncio.TaskGroup() as group:
            for place, one in enumerate(asked):
                await window.acquire()
                task = group.create_task(put(place, one))
                task.add_done_callback(lambda _: window.release())  # also of a task that is cancelled before it begins
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [answers[place] for place in range(len(answers))]
