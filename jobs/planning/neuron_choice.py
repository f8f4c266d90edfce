"""Which neuron set a spec means: one that is there, or the one a method will find, by an id known beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ampsweep.domain.neuron_set import NeuronsRef, language_warnings
from ampsweep.errors import DamagedFile, InvalidRequest, NotFound, UnknownName
from ampsweep.folders.corpus import Corpus
from ampsweep.folders.model import ModelFolder
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.spec import NeuronsById, NeuronsByMethod, SweepSpec


@dataclass(frozen=True, kw_only=True)
class NeuronChoice:
    """A set by reference, the languages it has or will have, whether it has patch values, and warnings about it.

    `counts` are the neurons of each language, where the set is there already.
    """

    ref: NeuronsRef
    languages: tuple[str, ...]
    has_patch: bool
    counts: Mapping[str, int] | None = None
    warnings: tuple[str, ...] = ()


def choose_neurons(
    spec: SweepSpec, model: ModelFolder, catalog: Catalog, neuron_sets: NeuronSets, *, mode: str = "corrected"
) -> NeuronChoice:
    """Find what `spec.neurons` means for a model; raises InvalidRequest or UnknownName with the field."""
    if isinstance(spec.neurons, NeuronsById):
        return _existing(spec.neurons, model, neuron_sets)
    choice = neurons_to_find(spec.neurons, model, catalog, mode=mode)
    try:
        return replace(choice, counts=neuron_sets.get(choice.ref.id).languages)
    except (NotFound, DamagedFile):
        return choice  # found, or found again, when the sweep runs


def _existing(neurons: NeuronsById, model: ModelFolder, neuron_sets: NeuronSets) -> NeuronChoice:
    try:
        info = neuron_sets.get(neurons.id)
    except NotFound:
        known = [info.id for info in neuron_sets.infos()]
        raise UnknownName("neuron set", neurons.id, known, param="neurons.id") from None
    if info.fingerprint != model.fingerprint:
        raise InvalidRequest(
            f"neuron set {info.id} was made for another model ({info.model}); choose one of this model's",
            param="neurons.id",
        )
    return NeuronChoice(
        ref=NeuronsRef(id=info.id, languages=tuple(sorted(info.languages))),
        languages=tuple(info.languages),
        has_patch=bool(info.patch),
        counts=info.languages,
        warnings=_warnings(info.method, info.languages),
    )


def neurons_to_find(
    neurons: NeuronsByMethod, model: ModelFolder, catalog: Catalog, *, mode: str = "corrected"
) -> NeuronChoice:
    """Return the set that a method will find, by the id it will have; raises as `choose_neurons`.

    In the mode `paper` LAPE is `lape_paper`, whose probabilities have a chat template's tokens in their denominators.
    """
    request = neurons.request("lape_paper" if (neurons.method, mode) == ("lape", "paper") else None)
    request.check_languages(neurons.languages, param="neurons.languages")
    corpus = Corpus.open(catalog.corpus(neurons.corpus), languages=neurons.languages, param="neurons.languages")
    ref = NeuronsRef(
        id=request.neuron_set_id(fingerprint=model.fingerprint, corpus_hash=corpus.hash, languages=corpus.languages),
        method=request.method,
        corpus=neurons.corpus,
        languages=corpus.languages,
        params=request.params,
    )
    warnings = _warnings(request.method, corpus.languages)
    return NeuronChoice(ref=ref, languages=neurons.languages, has_patch=True, warnings=warnings)


def _warnings(method: str, languages: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"neurons: {warning}" for warning in language_warnings(method, sorted(languages)))
