"""Resolves what a spec names: the model, its neuron sets, languages, layers, tasks and their data.

Every name is looked up and validated once for the whole sweep; an error names the field of the spec. The result has the
axes whose product `jobs.planning.planner` takes. Of the modes of a sweep, only neuron sets, factors and task references
differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from ampsweep.domain.choices import Mode, Vector
from ampsweep.domain.languages.unknown import unknown_language
from ampsweep.errors import InvalidRequest, NoNeurons
from ampsweep.folders.model import ModelFolder
from jobs.cell import AdapterRef
from jobs.instruction import Instruction, instruction_for
from jobs.neuron_sets.neuron_lists import read_neurons
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.neuron_choice import NeuronChoice, resolve_neurons
from jobs.planning.operations import ResolvedOperation, check_patches, resolve_operations
from jobs.planning.task_resolution import ResolvedTask, resolve_tasks
from jobs.spec.interventions import InterventionsSpec, Layers, VectorBaseline
from jobs.spec.sweep import SweepSpec

LayerChoice = tuple[int, ...] | None
"""The layers of an intervention; None for all layers."""
NeuronChoices = Mapping[str, tuple[tuple[int, int] | None, ...]]
"""By target language, the neurons (layer, index) that are edited one at a time; (None,) to edit all together."""


@dataclass(frozen=True, kw_only=True)
class VectorChoice:
    """A vector of a baseline with one factor, in some layers; None for all layers."""

    vector: Vector
    factor: float
    layers: LayerChoice


@dataclass(frozen=True, kw_only=True)
class ResolvedSweep:
    """The axes of a sweep.

    Attributes:
        model: The model.
        adapter: The LoRA adapter that all requests use; None for the model alone.
        neurons: The neuron set of each mode.
        tasks: The tasks of each mode, in the order of the spec.
        operations: What happens to the neurons, one operation after the other.
        layers: Layer choices.
        single_neurons: In each mode, the neurons that are edited one at a time.
        instructions: The instructions of the prompt baselines, by target language.
        vectors: The vector baselines: one entry for each factor and layer choice.
        warnings: Warnings for the user, each once.
    """

    model: ModelFolder
    adapter: AdapterRef | None
    neurons: Mapping[Mode, NeuronChoice]
    tasks: Mapping[Mode, tuple[ResolvedTask, ...]]
    operations: tuple[ResolvedOperation, ...]
    layers: tuple[LayerChoice, ...]
    single_neurons: Mapping[Mode, NeuronChoices]
    instructions: Mapping[str, tuple[Instruction, ...]]
    vectors: tuple[VectorChoice, ...]
    warnings: tuple[str, ...]

    def sites(self, mode: Mode, target: str) -> tuple[tuple[LayerChoice, tuple[int, int] | None], ...]:
        """Return where an intervention on a target language is tried: its layers, and its neuron if it is a single one.

        A single neuron is tried only with the layer choices that have its layer.
        """
        neurons = self.single_neurons[mode][target]
        return tuple(
            (layers, neuron)
            for layers, neuron in product(self.layers, neurons)
            if layers is None or neuron is None or neuron[0] in layers
        )


def resolve(spec: SweepSpec, catalog: Catalog, neuron_sets: NeuronSets) -> ResolvedSweep:
    """Resolve all names in a spec.

    Raises:
        InvalidRequest: if values of the spec do not fit together; `param` is the field.
        UnknownName: for a name that does not exist; `param` is the field.
        NoNeurons: if the neuron set has no neurons of any target language.
    """
    interventions = spec.interventions
    statistics = [operation.statistic for operation in interventions.operations if operation.statistic is not None]
    if "paper" in spec.mode and statistics and catalog.engine == "vllm":
        message = "in mode paper, statistics cover a whole forward pass, which only the transformers engine can record"
        raise InvalidRequest(f"{message}; use mode corrected, or --engine transformers", param="mode")
    model = catalog.model(spec.model)
    neurons = resolve_neurons(spec.neurons, model, catalog, neuron_sets, modes=spec.mode)
    targets = _targets(interventions, neurons[spec.mode[0]])
    layers = _layers(interventions.layers, model, param="interventions.layers")
    _check_source(spec, neurons[spec.mode[0]])
    single_neurons = {mode: _single_neurons(interventions, neurons[mode], targets, neuron_sets) for mode in spec.mode}
    tasks = resolve_tasks(spec.tasks, catalog, targets=targets, modes=spec.mode)
    warnings: dict[str, None] = {}
    for mode in spec.mode:
        warnings |= dict.fromkeys(neurons[mode].warnings)
        warnings |= dict.fromkeys(_empty_target_warnings(interventions, neurons[mode], targets))
        warnings |= dict.fromkeys(warning for task in tasks[mode] for warning in task.warnings)
    return ResolvedSweep(
        model=model,
        adapter=_adapter(spec, catalog),
        neurons=neurons,
        tasks=tasks,
        operations=resolve_operations(interventions, spec.mode),
        layers=layers,
        single_neurons=single_neurons,
        instructions={target: _instructions(interventions, target) for target in targets},
        vectors=_vectors(interventions, model, [neurons[mode] for mode in spec.mode]),
        warnings=tuple(warnings),
    )


def _adapter(spec: SweepSpec, catalog: Catalog) -> AdapterRef | None:
    if spec.adapter is None:
        return None
    adapter = catalog.adapter(spec.adapter, model=spec.model)
    return AdapterRef(name=adapter.name, fingerprint=adapter.fingerprint)


def _targets(interventions: InterventionsSpec, neurons: NeuronChoice) -> tuple[str, ...]:
    languages = interventions.languages
    for index, language in enumerate(languages or ()):
        if language not in neurons.languages:
            key = language if isinstance(languages, dict) else index
            param = f"interventions.languages.{key}"
            raise unknown_language("language of the neuron set", language, neurons.languages, param=param)
    check_patches(interventions, neurons)
    if "other" in interventions.controls and len(neurons.languages) < 2:
        message = "the neuron set has no other language; leave the control other out"
        raise InvalidRequest(message, param="interventions.controls")
    if "non_language" in interventions.controls and not neurons.has_entropy:
        message = (
            f"neuron set {neurons.ref.id} has no entropies, which the control non_language needs: it was imported, or "
            "identified by an earlier version; delete it and identify it again, or leave the control out"
        )
        raise InvalidRequest(message, param="interventions.controls")
    return tuple(languages or neurons.languages)


def _single_neurons(
    interventions: InterventionsSpec, neurons: NeuronChoice, targets: tuple[str, ...], neuron_sets: NeuronSets
) -> NeuronChoices:
    if interventions.neurons is None:
        return dict.fromkeys(targets, (None,))
    if neurons.counts is None:
        message = f"the plan has a cell for each neuron, and neuron set {neurons.ref.id} is not identified yet"
        remedy = "identify it first (ampsweep identify, or POST /v1/neuron-sets)"
        raise InvalidRequest(f"{message}; {remedy}, then name it by its id", param="interventions.neurons")
    of_language = read_neurons(neuron_sets.fetch(neurons.ref.id))
    return {target: of_language[target] for target in targets}


def _check_source(spec: SweepSpec, neurons: NeuronChoice) -> None:
    """Check that the neuron set has every data language, whose neurons `source` edits."""
    if spec.interventions.source is None:
        return
    for index, task in enumerate(spec.tasks):
        for position, language in enumerate(task.languages):
            if language not in neurons.languages:
                what, param = "language of the neuron set, for source", f"tasks.{index}.languages.{position}"
                raise unknown_language(what, language, neurons.languages, param=param)


def _empty_target_warnings(
    interventions: InterventionsSpec, neurons: NeuronChoice, targets: tuple[str, ...]
) -> list[str]:
    """Return a warning if some targets have no neurons; raise NoNeurons if none of them has any.

    Nothing is known of a set that is not identified yet, and `non_target` and `source` edit other neurons than the
    targets'.
    """
    if neurons.counts is None or interventions.non_target is not None or interventions.source is not None:
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


def _instructions(interventions: InterventionsSpec, target: str) -> tuple[Instruction, ...]:
    param = "interventions.baselines"
    return tuple(instruction_for(target, method, param=param) for method in interventions.prompt_baselines)


def _vectors(
    interventions: InterventionsSpec, model: ModelFolder, neurons: Sequence[NeuronChoice]
) -> tuple[VectorChoice, ...]:
    """Return the vectors of the baselines; raise InvalidRequest if a neuron set cannot provide them."""
    if not interventions.vector_baselines:
        return ()
    for choice in neurons:
        if not choice.has_residual:
            message = f"neuron set {choice.ref.id} has no residual vectors; delete its folder and identify it again"
            raise InvalidRequest(f"{message}, or leave diffmean out", param="interventions.baselines")
        if len(choice.languages) < 2:
            message = "a difference in means needs another language in the neuron set; identify a set with more"
            raise InvalidRequest(f"{message}, or leave diffmean out", param="interventions.baselines")
    return tuple(
        VectorChoice(vector=baseline.method, factor=factor, layers=layers)
        for index, baseline in enumerate(interventions.baselines)
        if isinstance(baseline, VectorBaseline)
        for layers in _layers(baseline.layers, model, param=f"interventions.baselines.{index}.layers")
        for factor in baseline.factors
    )


def _layers(layers: Layers, model: ModelFolder, *, param: str) -> tuple[LayerChoice, ...]:
    if layers == "all":
        return (None,)
    if layers == "each":
        return tuple((layer,) for layer in range(model.layers))
    for index, layer in enumerate(layers):
        if layer >= model.layers:
            raise InvalidRequest(
                f"layer {layer} does not exist; the model has layers 0 to {model.layers - 1}",
                param=f"{param}.{index}",
            )
    return (tuple(sorted(layer for layer in layers if isinstance(layer, int))),)
