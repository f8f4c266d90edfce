"""Resolves `neurons` of a spec to a neuron set: an existing one, or the one that a method will identify.

The id of a set is known before it is identified (`ampsweep.domain.neurons.neuron_set`), so nothing is identified here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ampsweep.domain.choices import RECORDED_PATCHES, Mode
from ampsweep.domain.neurons.neuron_set import NeuronsRef, language_warnings
from ampsweep.errors import DamagedFile, InvalidRequest, NotFound, UnknownName
from ampsweep.folders.corpus import Corpus
from ampsweep.folders.model import ModelFolder
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.spec.neurons import NeuronsById, NeuronsByMethod


@dataclass(frozen=True, kw_only=True)
class NeuronChoice:
    """A neuron set that a spec means.

    Attributes:
        ref: The reference that cells hold.
        languages: Languages that the set has, or will have.
        patches: The recorded patch values that the set has.
        has_entropy: Whether the set has the entropy of each neuron.
        has_residual: Whether the set has mean residuals, which vectors are made of.
        counts: Neurons of each language; None if the set does not exist yet.
        warnings: Warnings about the set for the user.
    """

    ref: NeuronsRef
    languages: tuple[str, ...]
    patches: tuple[str, ...]
    has_entropy: bool
    has_residual: bool
    counts: Mapping[str, int] | None = None
    warnings: tuple[str, ...] = ()


def resolve_neurons(
    neurons: NeuronsById | NeuronsByMethod,
    model: ModelFolder,
    catalog: Catalog,
    neuron_sets: NeuronSets,
    *,
    modes: Sequence[Mode] = ("corrected",),
) -> dict[Mode, NeuronChoice]:
    """Return the neuron set that a spec means, for each mode.

    Raises:
        InvalidRequest: naming the field, e.g. for a set of another model.
        UnknownName: naming the field, for a neuron set or a corpus that does not exist.
    """
    if isinstance(neurons, NeuronsById):
        return dict.fromkeys(modes, _existing(neurons, model, neuron_sets))
    corpus = _corpus(neurons, catalog)
    return {mode: _with_counts(_by_method(neurons, model, corpus, mode), neuron_sets) for mode in modes}


def neurons_to_identify(neurons: NeuronsByMethod, model: ModelFolder, catalog: Catalog) -> NeuronChoice:
    """Return the set that a method will identify, under the id it will have; raises as `resolve_neurons`."""
    return _by_method(neurons, model, _corpus(neurons, catalog), "corrected")


def _existing(neurons: NeuronsById, model: ModelFolder, neuron_sets: NeuronSets) -> NeuronChoice:
    try:
        info = neuron_sets.get(neurons.id)
    except NotFound:
        existing = [info.id for info in neuron_sets.infos()]
        raise UnknownName("neuron set", neurons.id, existing, param="neurons.id") from None
    if info.fingerprint != model.fingerprint:
        message = f"neuron set {info.id} was made for another model ({info.model}); choose one of this model's"
        raise InvalidRequest(message, param="neurons.id")
    return NeuronChoice(
        ref=NeuronsRef(id=info.id, languages=tuple(sorted(info.languages))),
        languages=tuple(info.languages),
        patches=info.patch,
        has_entropy=info.entropy,
        has_residual=bool(info.residual),
        counts=info.languages,
        warnings=_warnings(info.method, info.languages),
    )


def _corpus(neurons: NeuronsByMethod, catalog: Catalog) -> Corpus:
    neurons.request().check_languages(neurons.languages, param="neurons.languages")
    return Corpus.open(catalog.corpus(neurons.corpus), languages=neurons.languages, param="neurons.languages")


def _by_method(neurons: NeuronsByMethod, model: ModelFolder, corpus: Corpus, mode: Mode) -> NeuronChoice:
    # In the mode `paper` LAPE is `lape_paper`, which counts a chat template's tokens in its denominators.
    request = neurons.request("lape_paper" if (neurons.method, mode) == ("lape", "paper") else None)
    request = request.for_model(model.name, model.source, widths=model.widths)
    ref = NeuronsRef(
        id=request.neuron_set_id(fingerprint=model.fingerprint, corpus_hash=corpus.hash, languages=corpus.languages),
        method=request.method,
        corpus=neurons.corpus,
        languages=corpus.languages,
        params=request.params,
    )
    warnings = _warnings(request.method, corpus.languages)
    return NeuronChoice(
        ref=ref,
        languages=neurons.languages,
        patches=RECORDED_PATCHES,
        has_entropy=True,
        has_residual=True,
        warnings=warnings,
    )


def _with_counts(choice: NeuronChoice, neuron_sets: NeuronSets) -> NeuronChoice:
    try:
        info = neuron_sets.get(choice.ref.id)
    except (NotFound, DamagedFile):
        return choice  # the set is identified, or identified again, when the sweep runs
    return replace(choice, counts=info.languages, has_entropy=info.entropy, has_residual=bool(info.residual))


def _warnings(method: str, languages: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"neurons: {warning}" for warning in language_warnings(method, sorted(languages)))
