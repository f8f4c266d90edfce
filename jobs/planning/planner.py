"""Plans the cells of a sweep in a fixed order, and validates everything that can be known in advance, by field.

For every task and data language, the unsteered baseline comes first, followed by the steered cells that are compared
with it. For a task that compares two languages (lss), each target language has its own baseline, and is skipped where
it is the data language. A sweep with a search starts with a subset of these cells (`jobs.planning.search`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import overload

from ampsweep.domain.choices import Mode
from ampsweep.domain.intervention import Intervention, NonTarget, Patch
from ampsweep.domain.languages import unknown_language
from ampsweep.domain.statistic import Statistic
from ampsweep.errors import InvalidRequest, NoNeurons, SweepTooLarge
from ampsweep.folders.model import ModelFolder
from jobs.cell import Cell, TaskRef
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.controls import with_controls
from jobs.planning.neuron_choice import NeuronChoice, choose_neurons
from jobs.planning.search import Search
from jobs.spec import InterventionsSpec, SweepSpec, TaskSpec
from jobs.tasks.base import Task
from jobs.tasks.registry import task_for

MAX_CELLS = 100_000


@dataclass(frozen=True)
class Plan(Sequence[Cell]):
    """The cells a sweep begins with, each once, and what its user should know before they are computed.

    A warning is a sentence that begins with the spec's field it is about. It never refuses anything.
    """

    cells: tuple[Cell, ...]
    warnings: tuple[str, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Cell: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Cell, ...]: ...
    def __getitem__(self, index: int | slice) -> Cell | tuple[Cell, ...]:
        """Return a cell, or some of them."""
        return self.cells[index]

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.cells)


def plan(spec: SweepSpec, catalog: Catalog, neuron_sets: NeuronSets, *, max_cells: int = MAX_CELLS) -> Plan:
    """Plan the cells a sweep begins with; of a grid that is all of them.

    Raises InvalidRequest or UnknownName whose `param` is the spec's field, SweepTooLarge above `max_cells`.
    """
    if "paper" in spec.mode and spec.interventions.statistic is not None and catalog.engine == "vllm":
        message = "the published code's statistics are those of a whole pass; only the transformers engine takes them"
        raise InvalidRequest(f"{message}: give mode corrected, or --engine transformers", param="mode")
    search = _search(spec)
    cells: dict[str, Cell] = {}
    warnings: dict[str, None] = {}
    for mode in spec.mode:
        told: list[str] = []
        for cell in _plan_in(mode, spec, search, catalog, neuron_sets, warnings=told, max_cells=max_cells):
            cells.setdefault(cell.id, cell)
        warnings.update(dict.fromkeys(told))
    return Plan(tuple(search.first(list(cells.values()))), tuple(warnings))


def _plan_in(
    mode: Mode,
    spec: SweepSpec,
    search: Search,
    catalog: Catalog,
    neuron_sets: NeuronSets,
    *,
    warnings: list[str],
    max_cells: int,
) -> Iterator[Cell]:
    """Yield the cells of the whole grid in one mode, some of them perhaps twice; `warnings` gets those of the plan."""
    model = catalog.model(spec.model)
    neurons = choose_neurons(spec, model, catalog, neuron_sets, mode=mode)
    targets = _targets(spec, neurons)
    layers = _layers(spec.interventions, model)
    tasks = [_Planned(index, task, catalog, targets, mode) for index, task in enumerate(spec.tasks)]
    warnings += neurons.warnings
    warnings += _unsteered_targets(spec, neurons, targets)
    warnings += [warning for task in tasks for warning in task.warnings]
    if (count := len(spec.mode) * _count(spec, search, tasks, len(layers))) > max_cells:
        raise SweepTooLarge(
            f"the sweep would have {count} cells, and {max_cells} is the most; give fewer factors, languages or layers",
            param="interventions",
        )
    for task in tasks:
        for ref in task.refs:
            own = task.targets if ref.target_language is None else (ref.target_language,)
            for intervention in _interventions(spec, mode, own, layers, neurons, ref.data_language):
                yield Cell(
                    model=spec.model,
                    model_source=model.source,
                    model_hash=model.fingerprint,
                    engine=catalog.engine,
                    engine_version=catalog.engine_version,
                    dtype=catalog.dtype,
                    task=ref,
                    neurons=None if intervention is None else neurons.ref,
                    intervention=intervention,
                    seed=spec.seed,
                )


class _Planned:
    """One task of the spec, resolved to the references its cells have, in order."""

    def __init__(self, index: int, spec: TaskSpec, catalog: Catalog, targets: tuple[str, ...], mode: Mode) -> None:
        self.param = f"tasks.{index}"
        task = task_for(spec.name, mode=mode, param=f"{self.param}.name")
        if spec.chat and not task.supports_chat:
            raise InvalidRequest(f"task {task.name} scores bare text; leave chat out", param=f"{self.param}.chat")
        if spec.facts is not None and not task.needs_target_language:
            raise InvalidRequest(f"task {task.name} asks no facts; leave facts out", param=f"{self.param}.facts")
        self.targets = targets if spec.targets is None else self._chosen(spec.targets, targets)
        folder = catalog.data_set(spec.data or task.default_data, param=f"{self.param}.data")
        split = self._split(spec, task)
        try:
            known = task.languages(folder, split)
        except InvalidRequest as error:
            field = error.param or ("data" if spec.split is None else "split")
            raise InvalidRequest(error.message, param=f"{self.param}.{field}") from error
        for at, language in enumerate(spec.languages):
            if language not in known:
                what = f"language of task {task.name}"
                raise unknown_language(what, language, known, param=f"{self.param}.languages.{at}")
        for language in self.targets if task.needs_target_language else ():
            if language not in known:
                what = f"target language for task {task.name}"
                param = "interventions.languages" if spec.targets is None else f"{self.param}.targets"
                raise unknown_language(what, language, known, param=param)
        self.refs = [self._settled(task, folder, ref) for ref in self._refs(spec, task, mode, split)]
        if not self.refs:
            raise InvalidRequest(
                f"task {task.name} compares two languages; none of the targets differs from its own",
                param=f"{self.param}.languages",
            )
        self.warnings = [f"{self.param}: {warning}" for warning in task.warnings(folder, self.refs)]

    def _refs(self, spec: TaskSpec, task: Task, mode: Mode, split: str | None) -> list[TaskRef]:
        shared = task.needs_target_language and spec.facts != "any"
        only_targets = tuple(sorted(set(self.targets) - set(spec.languages)))
        shared_by = (tuple(sorted(spec.languages)), only_targets) if shared else ()
        return [
            TaskRef(
                name=task.name,
                version=task.version,
                data_language=language,
                target_language=target,
                limit=spec.limit,
                split=split,
                data=spec.data or task.default_data,
                data_hash="",
                mode=mode,
                chat=spec.chat,
                shared_by=shared_by,
            )
            for language in spec.languages
            for target in (self.targets if task.needs_target_language else (None,))
            if target != language
        ]

    def _settled(self, task: Task, folder: Path, ref: TaskRef) -> TaskRef:
        try:
            return task.resolve(folder, ref)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, param=f"{self.param}.{error.param or 'data'}") from error

    def _chosen(self, asked: tuple[str, ...], targets: tuple[str, ...]) -> tuple[str, ...]:
        for at, language in enumerate(asked):
            if language not in targets:
                raise unknown_language(
                    "target language of the sweep", language, targets, param=f"{self.param}.targets.{at}"
                )
        return asked

    def _split(self, spec: TaskSpec, task: Task) -> str | None:
        if spec.split is not None and task.default_split is None:
            raise InvalidRequest(f"task {task.name} has no splits; leave split out", param=f"{self.param}.split")
        return spec.split or task.default_split


def _targets(spec: SweepSpec, neurons: NeuronChoice) -> tuple[str, ...]:
    asked = spec.interventions.languages
    for index, language in enumerate(asked or ()):
        if language not in neurons.languages:
            what, at = "language of the neuron set", language if isinstance(asked, dict) else index
            raise unknown_language(what, language, neurons.languages, param=f"interventions.languages.{at}")
    if spec.interventions.patch is not None and not neurons.has_patch:
        raise InvalidRequest("this neuron set has no patch values; give factors alone", param="interventions.patch")
    if "other" in spec.interventions.controls and len(neurons.languages) < 2:
        message = "the neuron set has no other language; leave the control other out"
        raise InvalidRequest(message, param="interventions.controls")
    return tuple(asked or neurons.languages)


def _unsteered_targets(spec: SweepSpec, neurons: NeuronChoice, targets: tuple[str, ...]) -> list[str]:
    """Return a warning about targets without neurons, as far as the set is there; NoNeurons where all are without."""
    if neurons.counts is None or spec.interventions.non_target is not None:
        return []
    empty = [language for language in targets if not neurons.counts[language]]
    if not empty:
        return []
    message = f"neuron set {neurons.ref.id} has no neurons of {', '.join(empty)}"
    if len(empty) == len(targets):
        counts = ", ".join(f"{code} ({count})" for code, count in neurons.counts.items() if count) or "none"
        message = f"{message}, so nothing would be steered; languages with neurons: {counts}"
        raise NoNeurons(message, param="interventions.languages")
    return [f"interventions.languages: {message}; their cells change nothing and repeat the baseline"]


def _layers(interventions: InterventionsSpec, model: ModelFolder) -> list[tuple[int, ...] | None]:
    asked = interventions.layers
    if asked == "all":
        return [None]
    if asked == "each":
        return [(layer,) for layer in range(model.layers)]
    for index, layer in enumerate(asked):
        if layer >= model.layers:
            raise InvalidRequest(
                f"there is no layer {layer}; the model has layers 0 to {model.layers - 1}",
                param=f"interventions.layers.{index}",
            )
    return [tuple(sorted(layer for layer in asked if isinstance(layer, int)))]


def _magnitudes(spec: SweepSpec, mode: Mode) -> list[tuple[Patch | None, Statistic | None, float]]:
    """Return the triples of patch value (or None), statistic (or None) and factor, which published code cuts to int."""
    asked = spec.interventions
    factors = asked.factors or (1.0,)
    if mode == "paper":
        factors = tuple(dict.fromkeys(float(int(factor)) for factor in factors))
    statistics = tuple(map(Statistic.parse, asked.statistic or ()))
    return list(product(asked.patch or (None,), statistics or (None,), factors))


def _search(spec: SweepSpec) -> Search:
    """Return how the sweep goes about its factors; InvalidRequest where that would save nothing."""
    search, halving = Search(spec), spec.search
    if halving is None:
        return search
    if len(spec.mode) > 1:
        raise InvalidRequest("a search is in one mode; give one, or search: grid", param="mode")
    for index, task in enumerate(spec.tasks):
        if task.targets is not None:
            message = "a search goes on with the best of every target; leave targets out, or give search: grid"
            raise InvalidRequest(message, param=f"tasks.{index}.targets")
    limits = [task.limit for task in spec.tasks if task_for(task.name).needs_target_language]
    if not limits:
        raise InvalidRequest("the best factor is told by LSS; give a task lss, or search: grid", param="search")
    if halving.keep >= (factors := len(spec.interventions.factors or (1.0,))):
        message = f"keep must be less than the number of factors, which is {factors}; give more factors, or keep fewer"
        raise InvalidRequest(message, param="search.keep")
    if (least := min((limit for limit in limits if limit is not None), default=None)) and halving.items >= least:
        message = f"items must be less than the limit of every task lss, here {least}; give fewer items"
        raise InvalidRequest(message, param="search.items")
    return search


def _count(spec: SweepSpec, search: Search, tasks: list[_Planned], layers: int) -> int:
    """Return how many cells the sweep has when it ends, but for those that are twice in the spec."""
    a_factor = len(_magnitudes(spec, "corrected")) // len(spec.interventions.factors or (1.0,)) * layers
    *before, last = search.rungs
    controlled = 1 + len(spec.interventions.controls)
    refs = [(ref, 1 if ref.target_language else len(task.targets)) for task in tasks for ref in task.refs]
    tried = sum(1 + a_factor * rung.factors for rung in before for ref, _ in refs if ref.target_language)
    in_full = sum(1 + a_factor * last.factors * controlled * targets for _, targets in refs)
    return tried + in_full


def _interventions(
    spec: SweepSpec,
    mode: Mode,
    targets: tuple[str, ...],
    layers: list[tuple[int, ...] | None],
    neurons: NeuronChoice,
    data_language: str,
) -> Iterator[Intervention | None]:
    """Yield None (the baseline), then each intervention with its controls."""
    yield None
    asked = spec.interventions
    non_target = None if asked.non_target is None else NonTarget(**asked.non_target.model_dump())
    for target, (patch, statistic, factor), chosen in product(targets, _magnitudes(spec, mode), layers):
        own = Intervention(
            languages=(target,),
            weights=(asked.languages[target],) if isinstance(asked.languages, dict) else None,
            op=asked.op,
            factor=factor,
            patch=patch,
            statistic=statistic,
            layers=chosen,
            scope=asked.scope,
            non_target=non_target,
        )
        yield from with_controls(
            own, asked.controls, data_language=data_language, languages=neurons.languages, seed=spec.seed
        )
