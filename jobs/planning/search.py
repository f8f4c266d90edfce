"""Search over the factors of a sweep: all factors on all items, or successive halving.

Successive halving (Karnin et al. 2013; Jamieson and Talwalkar 2016) runs over the factors of each target language,
patch value, statistic and choice of layers. A rung is a set of cells like any other. The first rung tries all factors
on a few items of the tasks that have an LSS. Each further rung tries the better half on twice as many items. The last
rung runs the remaining factors on all items, tasks and controls. A factor is better if its mean LSS over base
languages is larger; ties go to the smaller factor, as for the best factor of a whole sweep.

A rung follows from the cells of the rungs before it and their LSS alone, so it can be recomputed at any time. Items
are the first ones of a permutation seeded by the sweep, so the items of each rung are among those of the next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

from ampsweep.domain.intervention import Intervention
from jobs.cell import Cell, TaskRef
from jobs.planning.controls import with_controls
from jobs.spec import SweepSpec
from jobs.tasks.registry import task_for, task_of


def no_rung(_ref: TaskRef) -> None:
    """Return None: no cell of a grid is part of a rung."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A step of the search: how many factors are tried on how many items (None: on all that the spec asks for)."""

    factors: int
    items: int | None


@dataclass(frozen=True)
class Search:
    """The search of one sweep."""

    spec: SweepSpec

    @cached_property
    def rungs(self) -> tuple[Rung, ...]:
        """The rungs in order; the last one has all items, and a grid has no other."""
        left = len(self.spec.interventions.factors or (1.0,))
        halving = self.spec.search
        if halving is None:
            return (Rung(factors=left, items=None),)
        limits = [
            task.limit
            for task in self.spec.tasks
            if task_for(task.name).needs_target_language and task.limit is not None
        ]
        found, items = list[Rung](), halving.items
        while left > halving.keep and items < min(limits, default=items + 1):
            found.append(Rung(factors=left, items=items))
            left, items = max(halving.keep, -(-left // 2)), 2 * items
        return (*found, Rung(factors=halving.keep, items=None))

    def rung(self, ref: TaskRef) -> int | None:
        """Return in which rung before the last one a cell of `ref` stands, from 1; None for one of the last."""
        if not task_of(ref).needs_target_language:
            return None
        sizes = [rung.items for rung in self.rungs[:-1]]
        return sizes.index(ref.limit) + 1 if ref.limit in sizes else None

    def rung_of(self, cells: Iterable[Cell]) -> int | None:
        """Return the last rung that has cells, from 1; None where that is the last one of all."""
        rungs = [self.rung(cell.task) for cell in cells if cell.intervention is not None]
        return None if None in rungs else max((rung for rung in rungs if rung is not None), default=None)

    def first(self, planned: Sequence[Cell]) -> list[Cell]:
        """Return the cells to begin with, out of those of the grid: of a search all baselines, and the first rung."""
        items = self.rungs[0].items
        if items is None:
            return list(planned)
        tried = [
            replace(cell, task=replace(cell.task, limit=items))
            for cell in planned
            if task_of(cell.task).needs_target_language
            and (cell.intervention is None or cell.intervention.selection is None)
        ]
        return [*(cell for cell in planned if cell.intervention is None), *tried]

    def next(self, cells: Iterable[Cell], shifts: Mapping[str, float]) -> list[Cell]:
        """Return the cells of the rung after the last one among `cells`; none after the last of all.

        `shifts` has the LSS of each steered cell that has one, by its id. A factor without any is given up.
        """
        known = list(cells)
        done = self.rung_of(known)
        if done is None:
            return []
        last = [cell for cell in known if cell.intervention is not None and self.rung(cell.task) == done]
        target = self.rungs[done]
        chosen = _promising(last, shifts, target.factors)
        found = self._in_full(known, chosen) if target.items is None else _on_more(chosen, target.items)
        return list({cell.id: cell for cell in found}.values())

    def _in_full(self, cells: Iterable[Cell], chosen: Sequence[Cell]) -> Iterator[Cell]:
        by_intervention = {cell.intervention: cell for cell in chosen}
        for baseline in cells:
            if baseline.intervention is not None or self.rung(baseline.task) is not None:
                continue
            for one in by_intervention.values():
                assert one.intervention is not None
                assert one.neurons is not None
                if baseline.task.target_language not in (None, *one.intervention.languages):
                    continue
                for intervention in with_controls(
                    one.intervention,
                    self.spec.interventions.controls,
                    data_language=baseline.task.data_language,
                    languages=one.neurons.languages,
                    seed=self.spec.seed,
                ):
                    yield replace(baseline, neurons=one.neurons, intervention=intervention)


def _on_more(chosen: Sequence[Cell], items: int) -> Iterator[Cell]:
    for cell in chosen:
        more = replace(cell.task, limit=items)
        yield replace(cell, task=more, neurons=None, intervention=None)
        yield replace(cell, task=more)


def _promising(tried: Sequence[Cell], shifts: Mapping[str, float], keep: int) -> list[Cell]:
    """Return the cells of the best `keep` factors of each intervention that differs in its factor alone."""
    races: dict[Intervention, dict[float, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in tried:
        assert cell.intervention is not None
        if cell.id in shifts:
            races[replace(cell.intervention, factor=0.0)][cell.intervention.factor].append(cell)
    chosen: list[Cell] = []
    for factors in races.values():
        means = {factor: round(fmean(shifts[cell.id] for cell in same), 12) for factor, same in factors.items()}
        for factor in sorted(means, key=lambda at: (-means[at], at))[:keep]:
            chosen += factors[factor]
    return chosen
