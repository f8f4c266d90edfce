"""Plans the cells of a sweep, in a fixed order.

Names are resolved first (`jobs.planning.resolution`); the cells are then the product of the axes. For every task and
data language, the unsteered baseline comes first, followed by the cells that are compared with it: the unsteered model
again (`repeat`), the model with instructions to answer in the target languages, and the steered model. For a task that
compares two languages (lss), each target language has its own baseline, and is skipped where it is the data language.
A sweep with a search starts with a subset of these cells (`jobs.planning.search`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import overload

from ampsweep.domain.choices import Mode
from ampsweep.domain.intervention import Intervention, NonTarget
from ampsweep.errors import InvalidRequest, SweepTooLarge
from jobs.cell import Cell, TaskRef
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.controls import source_of, with_controls
from jobs.planning.model_support import require_support
from jobs.planning.resolution import ResolvedSweep, resolve
from jobs.planning.running_text import require_running_text
from jobs.planning.search import Search, search_of
from jobs.planning.task_resolution import ResolvedTask
from jobs.planning.token_choices import token_choices
from jobs.spec.sweep import SweepSpec

MAX_CELLS = 100_000
"""The most cells that a sweep may have."""


@dataclass(frozen=True)
class Plan(Sequence[Cell]):
    """The cells that a sweep begins with, each once, and warnings for its user.

    A warning is a sentence that begins with the field of the spec it is about. A warning never rejects a sweep.
    """

    cells: tuple[Cell, ...]
    warnings: tuple[str, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Cell: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Cell, ...]: ...
    def __getitem__(self, index: int | slice) -> Cell | tuple[Cell, ...]:
        """Return one cell, or a tuple of cells for a slice."""
        return self.cells[index]

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.cells)


def plan(spec: SweepSpec, catalog: Catalog, neuron_sets: NeuronSets, *, max_cells: int = MAX_CELLS) -> Plan:
    """Plan the cells that a sweep begins with: the whole grid, or the first rung of its search.

    Args:
        spec: The spec.
        catalog: The models, corpora, data and engine of this installation.
        neuron_sets: The neuron sets of this installation.
        max_cells: The most cells that the sweep may have when it ends.

    Returns:
        The cells, each once, and the warnings about the spec and its data.

    Raises:
        InvalidRequest: if values of the spec do not fit together; `param` is the field.
        UnknownName: for a name that does not exist; `param` is the field.
        SweepTooLarge: if the sweep would have more than `max_cells` cells.
    """
    search = search_of(spec)
    if search is not None:
        search.check()
    resolved = resolve(spec, catalog, neuron_sets)
    require_support(spec, catalog)
    identifier = None
    if spec.interventions.running_text is not None:
        identifier = require_running_text(spec, resolved, catalog)
    if search is not None:
        _require_tried(
            search, [(ref, task.targets_of(ref)) for task in resolved.tasks[spec.mode[0]] for ref in task.refs]
        )
    if (count := _count(spec, resolved, search)) > max_cells:
        message = f"the sweep would have {count} cells; the maximum is {max_cells}"
        raise SweepTooLarge(f"{message}; give fewer factors, languages or layers", param="interventions")
    grid = list({cell.id: cell for cell in _grid(spec, resolved, catalog, identifier)}.values())
    return Plan(tuple(grid if search is None else search.first(grid)), resolved.warnings)


def _require_tried(search: Search, steered: Sequence[tuple[TaskRef, Sequence[str]]]) -> None:
    """Check that the search can choose a factor of each target that other tasks are steered to.

    Args:
        search: The search.
        steered: Each task reference with the targets that it is steered to.

    Raises:
        InvalidRequest: It tries no factor of a target, whose cells would be left out.
    """
    tried = {target for ref, targets in steered if search.tries(ref) for target in targets}
    untried = {
        target: ref for ref, targets in steered if not search.tries(ref) for target in targets if target not in tried
    }
    for target, ref in untried.items():
        message = f"no task has {search.metric} for target {target}, so no factor can be chosen for task {ref.name}"
        remedy = "give a task with it another data language, leave the target out of interventions.languages"
        raise InvalidRequest(f"{message}; {remedy}, or use search: grid", param="search")


def _count(spec: SweepSpec, resolved: ResolvedSweep, search: Search | None) -> int:
    """Return the number of cells of the sweep at its end; a cell that the spec names twice counts twice."""
    return sum(_count_of_mode(spec, resolved, search, mode) for mode in spec.mode)


def _count_of_mode(spec: SweepSpec, resolved: ResolvedSweep, search: Search | None, mode: Mode) -> int:
    choices = len(token_choices(spec.interventions))
    values = [len(operation.patches) * len(operation.statistics) for operation in resolved.operations]
    factors = [
        len(operation.all_factors) if search is None else search.rungs[-1].factors
        for operation in spec.interventions.operations
    ]
    repeats, zeros = (int(control in spec.interventions.controls) for control in ("repeat", "zero"))
    with_its_controls = len(spec.interventions.controls) - repeats - zeros + spec.interventions.random_draws
    magnitudes = sum(value * factor for value, factor in zip(values, factors, strict=True))
    per_site = choices * (magnitudes * with_its_controls + zeros)  # zero is the same cell for every magnitude
    vector_controls = spec.interventions.random_draws if "random" in spec.interventions.controls else 0
    baselines = len(spec.interventions.prompt_baselines) + len(resolved.vectors) * choices * (1 + vector_controls)
    sites = {target: len(resolved.sites(mode, target)) for target in resolved.single_neurons[mode]}
    in_full = sum(
        1 + repeats + sum(baselines + per_site * sites[target] for target in task.targets_of(ref))
        for task in resolved.tasks[mode]
        for ref in task.refs
    )
    tried = sum(
        1 + sum(choices * sum(values) * rung.factors * sites[target] for target in task.targets_of(ref))
        for rung in (search.rungs[:-1] if search else ())
        for task in resolved.tasks[mode]
        for ref in task.refs
        if search is not None and search.tries(ref)
    )
    return in_full + tried


def _grid(spec: SweepSpec, resolved: ResolvedSweep, catalog: Catalog, identifier: str | None) -> Iterator[Cell]:
    """Yield the cells of the whole grid; a cell that the spec names twice is yielded twice.

    `identifier` is the identity of the language identifier, for interventions that depend on the language of a text.
    """
    for mode in spec.mode:
        for task in resolved.tasks[mode]:
            for ref in task.refs:
                baseline = Cell(
                    model=spec.model,
                    model_source=resolved.model.source,
                    model_hash=resolved.model.fingerprint,
                    engine=catalog.engine,
                    engine_version=catalog.engine_version,
                    dtype=catalog.dtype,
                    task=ref,
                    neurons=None,
                    intervention=None,
                    seed=spec.seed,
                    adapter=resolved.adapter,
                )
                yield baseline
                if "repeat" in spec.interventions.controls:
                    yield replace(baseline, repeat=True)
                for target in task.targets_of(ref):
                    for instruction in resolved.instructions[target]:
                        yield replace(baseline, instruction=instruction)
                for intervention in (
                    *_vector_baselines(spec, resolved, mode, task, ref),
                    *_interventions(spec, resolved, mode, task, ref),
                ):
                    yield replace(
                        baseline,
                        neurons=resolved.neurons[mode].ref,
                        intervention=intervention,
                        identifier=None if intervention.when is None else identifier,
                    )


def _vector_baselines(
    spec: SweepSpec, resolved: ResolvedSweep, mode: Mode, task: ResolvedTask, ref: TaskRef
) -> Iterator[Intervention]:
    """Yield the vectors of a task reference, each followed by its control, a random direction, if there is one."""
    for target, vector, choice in product(task.targets_of(ref), resolved.vectors, token_choices(spec.interventions)):
        yield from with_controls(
            Intervention(
                languages=(target,),
                op="add",
                factor=vector.factor,
                layers=vector.layers,
                scope=spec.interventions.scope,
                tokens=choice.tokens,
                when=choice.when,
                part=choice.part,
                vector=vector.vector,
            ),
            [control for control in spec.interventions.controls if control == "random"],
            data_language=ref.data_language,
            languages=resolved.neurons[mode].languages,
            seed=spec.seed,
            random_draws=spec.interventions.random_draws,
        )


def _interventions(
    spec: SweepSpec, resolved: ResolvedSweep, mode: Mode, task: ResolvedTask, ref: TaskRef
) -> Iterator[Intervention]:
    """Yield each intervention of a task reference, followed by its controls."""
    interventions = spec.interventions
    weights = interventions.languages if isinstance(interventions.languages, dict) else None
    non_target = None if interventions.non_target is None else NonTarget(**interventions.non_target.model_dump())
    source = source_of(interventions, ref)
    for target, operation in product(task.targets_of(ref), resolved.operations):
        for patch, statistic, choice, factor, (layers, neuron) in product(
            operation.patches,
            operation.statistics,
            token_choices(interventions),
            operation.factors[mode],
            resolved.sites(mode, target),
        ):
            yield from with_controls(
                Intervention(
                    languages=(target,),
                    weights=None if weights is None else (weights[target],),
                    op=operation.op,
                    factor=factor,
                    patch=patch,
                    statistic=statistic,
                    layers=layers,
                    scope=interventions.scope,
                    tokens=choice.tokens,
                    when=choice.when,
                    part=choice.part,
                    non_target=non_target,
                    source=source,
                    neuron=neuron,
                ),
                interventions.controls,
                data_language=ref.data_language,
                languages=resolved.neurons[mode].languages,
                seed=spec.seed,
                random_draws=interventions.random_draws,
            )
