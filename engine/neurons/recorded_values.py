"""Gives an imported neuron set the values that were recorded when another set of the same model was identified."""

from __future__ import annotations

from dataclasses import replace

from ampsweep.errors import InvalidRequest
from engine.neurons.neuron_set import NeuronSet, PatchValues


def with_recorded_values(neuron_set: NeuronSet, recorded: NeuronSet) -> NeuronSet:
    """Return a set with the patch values, mean residuals and entropies of another one; its id changes.

    These have values for all neurons of the model, whichever of them the other set selects.

    Args:
        neuron_set: The set.
        recorded: A set of the same model that was identified on a corpus with all languages of the set.

    Raises:
        InvalidRequest: The other set is of another model, lacks a language, or has no values (param "values_from").
    """
    if recorded.fingerprint != neuron_set.fingerprint:
        message = f"{recorded.id} is a set of another model, {recorded.model}; give one of {neuron_set.model}"
        raise InvalidRequest(message, param="values_from")
    if missing := sorted(set(neuron_set.languages) - set(recorded.languages)):
        message = (
            f"{recorded.id} has no values of {', '.join(missing)}; identify it on texts of all languages of the set"
        )
        raise InvalidRequest(message, param="values_from")
    if recorded.patch is None:
        message = f"{recorded.id} has no values itself; give one that `ampsweep identify` wrote"
        raise InvalidRequest(message, param="values_from")
    places = [recorded.languages.index(code) for code in neuron_set.languages]
    kinds = {"mean": recorded.patch.mean, "max": recorded.patch.max, "median": recorded.patch.median}
    patch = PatchValues(**{kind: values[places] for kind, values in kinds.items() if values is not None})
    residual = None if recorded.residual_mean is None else recorded.residual_mean[places]
    with_values = replace(neuron_set, patch=patch, entropy=recorded.entropy, residual_mean=residual)
    return replace(with_values, params={**neuron_set.params, "values_from": recorded.id}).with_content_id()
