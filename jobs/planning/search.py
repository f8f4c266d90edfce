"""Successive halving over the factors of a sweep: which cells each rung has.

Successive halving (Karnin et al. 2013; Jamieson and Talwalkar 2016) runs over the factors of each target language,
patch value, statistic, choice of layers and choice of tokens. A rung is a set of cells like any other. The first rung
tries all factors on a few items of the tasks that have the metric of the search, by default LSS. Each further rung
tries the better half on twice as many items. The last rung runs the remaining factors on all items, tasks and controls.
A factor is better if the mean of the metric over data languages is better; one with values in fewer of them is behind
the others. Ties go to the smaller factor, because a rung before the last one measures nothing else. The best factor of
a whole sweep (`jobs.results.best_factors`) breaks ties by language control first.

A rung follows from the cells of the rungs before it and their values alone, so it can be recomputed at any time. The
items of each rung are among those of the next, because a limit takes the first items of a fixed order.

A sweep that computes its whole grid has no search.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from jobs.cell import Cell, TaskRef
from jobs.metrics.base import Metric
from jobs.planning.controls import source_of, with_controls
from jobs.spec.sweep import HalvingSpec, SweepSpec, parse_spec
from jobs.tasks.base import Task
from jobs.tasks.registry import task_for, task_of

DEFAULT_METRIC = "lss"
"""The metric that decides between factors if the spec names none."""


def search_of(spec: SweepSpec) -> Search | None:
    """Return the search that a spec asks for; None for a grid."""
    return None if spec.search is None else Search(spec, spec.search)


def search_of_stored(spec: Mapping[str, Any]) -> Search | None:
    """Return the search of a sweep from its stored spec; None for a grid."""
    return search_of(parse_spec(spec)) if spec.get("search") else None


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A step of the search: how many factors are tried on how many items (None: all items that the spec asks for)."""

    factors: int
    items: int | None


@dataclass(frozen=True)
class Search:
    """The search of one sweep."""

    spec: SweepSpec
    halving: HalvingSpec

    @property
    def metric(self) -> str:
        """The name of the metric that decides between factors."""
        return self.halving.metric or DEFAULT_METRIC

    def check(self) -> None:
        """Check that the search can choose a factor and saves work.

        Raises:
            InvalidRequest: with the field of the spec that does not fit.
        """
        if len(self.spec.mode) > 1:
            message = "a search runs in one mode; give a single mode, or use search: grid"
            raise InvalidRequest(message, param="mode")
        if self.spec.interventions.neurons is not None:
            message = "a search chooses factors for all neurons of a language; leave neurons out, or use search: grid"
            raise InvalidRequest(message, param="interventions.neurons")
        if len(self.spec.interventions.operations) > 1:
            message = "a search runs over the factors of one operation; give one, or use search: grid"
            raise InvalidRequest(message, param="interventions.ops")
        for index, task in enumerate(self.spec.tasks):
            if task.targets is not None:
                message = "a search continues with the best factor of every target; leave targets out"
                raise InvalidRequest(f"{message}, or use search: grid", param=f"tasks.{index}.targets")
        self._check_metric()
        factors = self._factors
        if self.halving.keep >= factors:
            message = f"keep must be less than the number of factors, which is {factors}; give more factors"
            raise InvalidRequest(f"{message}, or keep fewer", param="search.keep")
        if self._min_limit is not None and self.halving.items >= self._min_limit:
            message = f"items must be less than the limit of every task with {self.metric}, here {self._min_limit}"
            raise InvalidRequest(f"{message}; give fewer items", param="search.items")

    def _check_metric(self) -> None:
        tasks = [task_for(task.name, param=f"tasks.{index}.name") for index, task in enumerate(self.spec.tasks)]
        metrics = [metric for task in tasks for metric in task.metrics]
        metric = next((metric for metric in metrics if metric.name == self.metric), None)
        if metric is None and self.halving.metric is None:
            message = "a search chooses the best factor by LSS; add a task lss, name another metric of the tasks"
            raise InvalidRequest(f"{message} in search.metric, or use search: grid", param="search")
        usable = sorted({metric.name for metric in metrics if metric.higher_is_better is not None})
        if metric is None:
            message = f"no task of the sweep has the metric {self.metric}; they have {', '.join(usable) or 'none'}"
            raise InvalidRequest(message, param="search.metric")
        if metric.higher_is_better is None:
            problem = f"neither direction of {self.metric} is better, so it cannot choose a factor"
            message = f"{problem}; use one of {', '.join(usable)}"
            raise InvalidRequest(message, param="search.metric")

    @cached_property
    def rungs(self) -> tuple[Rung, ...]:
        """The rungs in order; the last one has all items."""
        rungs: list[Rung] = []
        factors, items = self._factors, self.halving.items
        while factors > self.halving.keep and (self._min_limit is None or items < self._min_limit):
            rungs.append(Rung(factors=factors, items=items))
            factors, items = max(self.halving.keep, -(-factors // 2)), 2 * items
        return (*rungs, Rung(factors=self.halving.keep, items=None))

    def rung(self, ref: TaskRef) -> int | None:
        """Return the number of the rung, from 1, that a cell of `ref` belongs to; None for the last rung."""
        if not self.tries(ref):
            return None
        sizes = [rung.items for rung in self.rungs[:-1]]
        return sizes.index(ref.limit) + 1 if ref.limit in sizes else None

    def tries(self, ref: TaskRef) -> bool:
        """Return whether the cells of `ref` decide between factors."""
        return self._has_metric(task_of(ref))

    def quality(self, metric: Metric, value: float) -> float:
        """Return a value of the search's metric with the sign that makes larger values better."""
        return value if metric.higher_is_better else -value

    def rung_of(self, cells: Iterable[Cell]) -> int | None:
        """Return the number of the latest rung that has cells, from 1; None if that is the last rung of all."""
        rungs = [self.rung(cell.task) for cell in cells if cell.method == "neurons"]
        return None if None in rungs else max((rung for rung in rungs if rung is not None), default=None)

    def first(self, grid: Sequence[Cell]) -> list[Cell]:
        """Return the cells to begin with: all cells of the whole grid that edit no neurons, and the first rung."""
        items = self.rungs[0].items
        first_rung = [
            replace(cell, task=replace(cell.task, limit=items))
            for cell in grid
            if self.tries(cell.task) and (cell.method is None or (cell.method == "neurons" and not _is_control(cell)))
        ]
        return [*(cell for cell in grid if cell.method != "neurons"), *first_rung]

    def next(self, cells: Iterable[Cell], qualities: Mapping[str, float]) -> list[Cell]:
        """Return the cells of the rung after the latest one among `cells`; an empty list after the last rung.

        Args:
            cells: All cells of the sweep so far.
            qualities: The metric of each steered cell that has one, larger being better, by cell id. A factor without
                any is dropped.
        """
        previous = list(cells)
        number = self.rung_of(previous)
        if number is None:
            return []
        latest = [cell for cell in previous if cell.method == "neurons" and self.rung(cell.task) == number]
        rung = self.rungs[number]
        best = _best_factors(latest, qualities, rung.factors)
        following = self._in_full(previous, best) if rung.items is None else _with_limit(best, rung.items)
        return list({cell.id: cell for cell in following}.values())

    @property
    def _factors(self) -> int:
        """The number of factors that are tried."""
        (operation,) = self.spec.interventions.operations
        return len(operation.all_factors)

    def _has_metric(self, task: Task) -> bool:
        return any(metric.name == self.metric for metric in task.metrics)

    @cached_property
    def _min_limit(self) -> int | None:
        """The smallest limit of the tasks that decide between factors; None if they have none."""
        limits = [task.limit for task in self.spec.tasks if self._has_metric(task_for(task.name))]
        return min((limit for limit in limits if limit is not None), default=None)

    def _in_full(self, cells: Iterable[Cell], best: Sequence[Cell]) -> Iterator[Cell]:
        """Yield the cells of the last rung: the best interventions and their controls beside every full baseline."""
        by_intervention = {_without_source(cell): cell for cell in best}
        for baseline in cells:
            if baseline.method is not None or self.rung(baseline.task) is not None:
                continue
            for chosen, cell in by_intervention.items():
                assert cell.neurons is not None
                if baseline.task.target_language not in (None, *chosen.languages):
                    continue
                for intervention in with_controls(
                    replace(chosen, source=source_of(self.spec.interventions, baseline.task)),
                    self.spec.interventions.controls,
                    data_language=baseline.task.data_language,
                    languages=cell.neurons.languages,
                    seed=self.spec.seed,
                    random_draws=self.spec.interventions.random_draws,
                ):
                    yield replace(baseline, neurons=cell.neurons, intervention=intervention, identifier=cell.identifier)


def _without_source(cell: Cell) -> Intervention:
    """Return the intervention of a cell without what differs between its data languages."""
    assert cell.intervention is not None
    return replace(cell.intervention, source=None)


def _is_control(cell: Cell) -> bool:
    return cell.intervention is not None and cell.intervention.selection is not None


def _with_limit(cells: Sequence[Cell], items: int) -> Iterator[Cell]:
    """Yield each cell and its baseline on another number of items."""
    for cell in cells:
        task = replace(cell.task, limit=items)
        yield replace(cell, task=task, neurons=None, intervention=None, identifier=None)
        yield replace(cell, task=task)


def _best_factors(cells: Sequence[Cell], qualities: Mapping[str, float], keep: int) -> list[Cell]:
    """Return the cells of the best `keep` factors among the interventions that differ in their factor alone.

    A factor with fewer values than another one is behind it: means over different cells cannot be compared. Of equally
    good factors the smaller ones are kept.
    """
    races: dict[Intervention, dict[float, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        assert cell.intervention is not None
        if cell.id in qualities:
            races[replace(_without_source(cell), factor=0.0)][cell.intervention.factor].append(cell)
    best: list[Cell] = []
    for factors in races.values():
        means = {factor: round(fmean(qualities[cell.id] for cell in group), 12) for factor, group in factors.items()}
        for factor in sorted(means, key=lambda factor: (-len(factors[factor]), -means[factor], factor))[:keep]:
            best += factors[factor]
    return best
