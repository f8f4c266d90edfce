"""Default neuron sets: the set that steers requests to a model which name none.

That is the default that an operator set for the model, or the only set that was made for the model. A default never
changes by itself. It is stored beside the sets under the fingerprint of its model, so all servers on one storage agree
on it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from ampsweep.errors import DamagedFile, InvalidRequest, NotFound
from jobs.neuron_sets.registry import NeuronSets

Source = Literal["operator", "only_set"]


@dataclass(frozen=True, kw_only=True)
class DefaultNeuronSet:
    """The set that a model's requests use if they name none, and why; both None if requests must name one."""

    neuron_set: str | None
    source: Source | None


def default_neuron_set(fingerprint: str, neuron_sets: NeuronSets) -> DefaultNeuronSet:
    """Return the default of the model with a fingerprint.

    As long as the metadata of any set cannot be read, no set counts as the only one.

    Raises:
        DamagedFile: if the stored default cannot be read.
    """
    if (content := neuron_sets.read_default(fingerprint)) is not None:
        try:
            return DefaultNeuronSet(neuron_set=str(json.loads(content)["neuron_set"]), source="operator")
        except (ValueError, KeyError, TypeError) as error:
            message = f"the default neuron set of the model cannot be read ({error}); set it again or clear it"
            raise DamagedFile(message, param="neurons") from error
    candidates = neuron_sets.made_for(fingerprint)
    if len(candidates) == 1 and not neuron_sets.damaged_ids():  # a damaged set may be the second of this model
        return DefaultNeuronSet(neuron_set=candidates[0].id, source="only_set")
    return DefaultNeuronSet(neuron_set=None, source=None)


def set_default_neuron_set(
    fingerprint: str, neuron_set_id: str | None, neuron_sets: NeuronSets, *, model: str
) -> DefaultNeuronSet:
    """Set or clear the default of a model.

    Args:
        fingerprint: Fingerprint of the model.
        neuron_set_id: Id of the set; None clears the default.
        neuron_sets: The neuron sets.
        model: Name of the model, for messages.

    Returns:
        The default from now on.

    Raises:
        NotFound: if the set does not exist.
        InvalidRequest: if the set was made for another model.
    """
    if neuron_set_id is None:
        neuron_sets.write_default(fingerprint, None)
        return default_neuron_set(fingerprint, neuron_sets)
    info = neuron_sets.get(neuron_set_id)
    if info.fingerprint != fingerprint:
        message = f"neuron set {info.id} was made for another model ({info.model}), not for {model}"
        raise InvalidRequest(f"{message}; choose one of this model's", param="neuron_set")
    content = json.dumps({"neuron_set": info.id, "model": model}, ensure_ascii=False)
    neuron_sets.write_default(fingerprint, content.encode())
    return DefaultNeuronSet(neuron_set=info.id, source="operator")


def chosen_neuron_set(fingerprint: str, neuron_sets: NeuronSets, *, model: str) -> str:
    """Return the id of the set that steers a request which names none.

    Args:
        fingerprint: Fingerprint of the model.
        neuron_sets: The neuron sets.
        model: Name of the model, for messages.

    Raises:
        InvalidRequest: if the model has no set, or several sets and no default; if it has one set but another set
            cannot be read; or if the default no longer exists.
    """
    default = default_neuron_set(fingerprint, neuron_sets).neuron_set
    if default is None:
        ids = ", ".join(info.id for info in neuron_sets.made_for(fingerprint))
        if not ids:
            message = f"model {model!r} has no neuron set yet; identify one, or name one by `neurons`"
            raise InvalidRequest(message, param="neurons")
        if damaged := ", ".join(neuron_sets.damaged_ids()):
            message = f"{damaged} cannot be read and may also belong to model {model!r}; name one by `neurons`: {ids}"
        else:
            message = f"model {model!r} has several neuron sets and no default; name one by `neurons`: {ids}"
        raise InvalidRequest(f"{message}; `ampsweep neurons default` sets a default", param="neurons")
    try:
        return neuron_sets.get(default).id
    except NotFound:
        message = f"the default neuron set {default} of model {model!r} no longer exists"
        raise InvalidRequest(f"{message}; name one by `neurons`, or set another default", param="neurons") from None
