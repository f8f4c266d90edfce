"""Estimates what a sweep costs before it is submitted: cells, requests, tokens, memory and time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampsweep.errors import InvalidRequest
from jobs.cell import Cell
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import MAX_CELLS, plan
from jobs.planning.token_counts import count_tokens
from jobs.spec.sweep import SweepSpec
from jobs.tasks.loading import load_items
from jobs.tasks.options import task_options
from jobs.tasks.requests import Call, GenerateCall

if TYPE_CHECKING:
    from jobs.store.sql.history import History

Rates = Mapping[str, float]
"""Items per second of each task."""


@dataclass(frozen=True, kw_only=True)
class TaskEstimate:
    """What the cells of one task cost. Numbers other than `cells` and `reused` are of the cells to compute.

    Attributes:
        task: Name of the task.
        options: The options of the task that differ from its defaults; None without any.
        mode: Whether the errors of the published code are reproduced.
        cells: All cells.
        reused: Cells that are computed already.
        items: Items.
        requests: Requests to the model.
        prompt_tokens: Tokens that the model reads; None if they cannot be counted.
        max_new_tokens: Tokens that the model generates at most.
    """

    task: str
    options: str | None
    mode: str
    cells: int
    reused: int
    items: int
    requests: int
    prompt_tokens: int | None
    max_new_tokens: int


@dataclass(frozen=True, kw_only=True)
class SweepEstimate:
    """What a sweep costs.

    Attributes:
        name: Name of the sweep.
        model: Its model.
        tasks: The cost of each task.
        memory_bytes: Memory that the engine needs; None if it is not known.
        seconds: Estimated time of the cells to compute; None if nothing is known about it.
        seconds_from: What the time is estimated from; without an estimate, why there is none.
        notes: What the numbers do not contain.
        warnings: The warnings of the plan.
    """

    name: str
    model: str
    tasks: tuple[TaskEstimate, ...]
    memory_bytes: int | None
    seconds: float | None
    seconds_from: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def total(self, field: str) -> int | None:
        """Return the sum of a number over the tasks; None if one of them does not know it."""
        values = [getattr(task, field) for task in self.tasks]
        return None if None in values else sum(values)

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as REST and the command line show it, with the sums over the tasks."""
        numbers = ("cells", "reused", "items", "requests", "prompt_tokens", "max_new_tokens")
        return {**asdict(self), **{name: self.total(name) for name in numbers}}


@dataclass(frozen=True, kw_only=True)
class _Work:
    """The work of one cell."""

    items: int
    requests: int
    prompt_tokens: int | None
    max_new_tokens: int


class Estimator:
    """Estimates sweeps on one installation.

    Args:
        catalog: The models, corpora and data of the installation.
        neuron_sets: Its neuron sets.
        history: The cells that were computed before; None if there are none.
        memory: Returns the memory that an engine of a model needs, in bytes; None if that is not known.
    """

    def __init__(
        self,
        catalog: Catalog,
        neuron_sets: NeuronSets,
        *,
        history: History | None = None,
        memory: Callable[[str], int | None] = lambda _model: None,
    ) -> None:
        self._catalog = catalog
        self._neuron_sets = neuron_sets
        self._history = history
        self._memory = memory

    def estimate(self, spec: SweepSpec, *, max_cells: int = MAX_CELLS, measured: Rates | None = None) -> SweepEstimate:
        """Plan a sweep and estimate what its cells cost. May take seconds; nothing is stored.

        Args:
            spec: The spec.
            max_cells: The most cells that the sweep may have.
            measured: Items per second of each task as measured on an engine; by default those of earlier sweeps.

        Raises:
            InvalidRequest: The spec is wrong, as when it is planned.
        """
        planned = plan(spec, self._catalog, self._neuron_sets, max_cells=max_cells)
        known = self._history.completed([cell.id for cell in planned]) if self._history is not None else set[str]()
        notes = dict.fromkeys(_notes(spec, planned, self._neuron_sets))
        tasks = self._tasks(planned, known, notes)
        seconds, seconds_from = self._seconds(spec, tasks, measured)
        return SweepEstimate(
            name=spec.name,
            model=spec.model,
            tasks=tasks,
            memory_bytes=self._memory(spec.model),
            seconds=seconds,
            seconds_from=seconds_from,
            notes=tuple(notes),
            warnings=planned.warnings,
        )

    def baselines(self, spec: SweepSpec) -> dict[str, Iterator[tuple[Call, ...]]]:
        """Return the calls of the items of each task's unsteered cells, to measure an engine with."""
        cells: dict[str, list[Cell]] = {}
        for cell in plan(spec, self._catalog, self._neuron_sets):
            if cell.method is None:
                cells.setdefault(cell.task.name, []).append(cell)
        return {task: _calls(each, self._catalog) for task, each in cells.items()}

    def _tasks(self, planned: Iterable[Cell], known: set[str], notes: dict[str, None]) -> tuple[TaskEstimate, ...]:
        groups: dict[tuple[str, str | None, str], list[Cell]] = {}
        for cell in planned:
            key = cell.task.name, task_options(cell.task), cell.task.mode
            groups.setdefault(key, []).append(cell)
        work: dict[tuple[object, ...], _Work] = {}
        return tuple(
            self._task(task, options, mode, cells, known, work, notes)
            for (task, options, mode), cells in groups.items()
        )

    def _task(
        self,
        task: str,
        options: str | None,
        mode: str,
        cells: list[Cell],
        known: set[str],
        work: dict[tuple[object, ...], _Work],
        notes: dict[str, None],
    ) -> TaskEstimate:
        items = requests = new_tokens = 0
        prompt_tokens: int | None = 0
        for cell in cells:
            if cell.id in known:
                continue
            key = cell.task, cell.instruction and cell.instruction.text, cell.seed
            if key not in work:
                work[key] = self._work(cell, notes)
            items += work[key].items
            requests += work[key].requests
            new_tokens += work[key].max_new_tokens
            tokens = work[key].prompt_tokens
            prompt_tokens = None if tokens is None or prompt_tokens is None else prompt_tokens + tokens
        return TaskEstimate(
            task=task,
            options=options,
            mode=mode,
            cells=len(cells),
            reused=sum(cell.id in known for cell in cells),
            items=items,
            requests=requests,
            prompt_tokens=prompt_tokens,
            max_new_tokens=new_tokens,
        )

    def _work(self, cell: Cell, notes: dict[str, None]) -> _Work:
        items = load_items(cell, self._catalog).items
        calls = [call for item in items for call in item.calls]
        try:
            prompt_tokens = count_tokens(self._folder(cell.model), calls)
        except InvalidRequest as error:
            notes[error.message] = None
            prompt_tokens = None
        return _Work(
            items=len(items),
            requests=len(calls),
            prompt_tokens=prompt_tokens,
            max_new_tokens=sum(call.max_tokens for call in calls if isinstance(call, GenerateCall)),
        )

    def _folder(self, model: str) -> Path:
        return self._catalog.model_path(model).resolve()

    def _seconds(
        self, spec: SweepSpec, tasks: tuple[TaskEstimate, ...], measured: Rates | None
    ) -> tuple[float | None, str]:
        """Return the estimated time, and what it is estimated from."""
        items = Counter[str]()
        for task in tasks:
            items[task.task] += task.items
        if not any(items.values()):
            return 0.0, "all cells are computed already"
        if measured is not None and {task for task, count in items.items() if count} <= measured.keys():
            return sum(count / measured[task] for task, count in items.items() if count), "a measurement on the engine"
        rate = None
        if self._history is not None:
            catalog = self._catalog
            rate = self._history.rate(spec.model, engine=catalog.engine, dtype=catalog.dtype, tasks=items)
        if rate is None:
            return None, "no sweep of this model with these tasks has been run here"
        sweeps = "an earlier sweep" if rate.sweeps == 1 else f"{rate.sweeps} earlier sweeps"
        return (
            items.total() / rate.items_per_second,
            f"{sweeps} of this model here ({rate.items_per_second:.1f} items/s)",
        )


def _calls(cells: Iterable[Cell], catalog: Catalog) -> Iterator[tuple[Call, ...]]:
    for cell in cells:
        for item in load_items(cell, catalog).items:
            yield item.calls


def _notes(spec: SweepSpec, cells: Iterable[Cell], neuron_sets: NeuronSets) -> Iterator[str]:
    if spec.search is not None:
        yield "the search adds cells to these after its first step"
    existing = {info.id for info in neuron_sets.infos()}
    if any(cell.neurons is not None and cell.neurons.id not in existing for cell in cells):
        yield "the neurons are found first, which takes time besides"
