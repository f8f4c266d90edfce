"""Which neuron set steers a request that names none: the model's default, or the only set that was made for it.

A default is set by an operator and never moves by itself. It lies beside the sets, by the fingerprint of its model, so
all servers on one storage agree on it.
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
    """The set that a model's requests use where they name none, and why; both None where they have to name one."""

    neuron_set: str | None
    source: Source | None


def default_neuron_set(fingerprint: str, neuron_sets: NeuronSets) -> DefaultNeuronSet:
    """Return the default of the model with a fingerprint; DamagedFile where it cannot be read.

    While any set's metadata cannot be read, no set counts as the only one.
    """
    if (content := neuron_sets.read_default(fingerprint)) is not None:
        try:
            return DefaultNeuronSet(neuron_set=str(json.loads(content)["neuron_set"]), source="operator")
        except (ValueError, KeyError, TypeError) as error:
            message = f"the default neuron set of the model cannot be read ({error}); set it again, or clear it"
            raise DamagedFile(message, param="neurons") from error
    made_for_it = neuron_sets.made_for(fingerprint)
    if len(made_for_it) == 1 and not neuron_sets.damaged_ids():  # a damaged one may be this model's second
        return DefaultNeuronSet(neuron_set=made_for_it[0].id, source="only_set")
    return DefaultNeuronSet(neuron_set=None, source=None)


def set_default_neuron_set(
    fingerprint: str, neuron_set_id: str | None, neuron_sets: NeuronSets, *, model: str
) -> DefaultNeuronSet:
    """Make a set the default of the model with a fingerprint, or (None) take the default back; return what holds then.

    Raises NotFound for a set that is not there, InvalidRequest for one that was made for another model.
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
    """Return the id of the set that steers a request to a model which names none.

    Raises InvalidRequest where the model has no set; where it has no default and several sets (which it lists), or one
    while another set cannot be read; and where the default is not there any more.
    """
    default = default_neuron_set(fingerprint, neuron_sets).neuron_set
    if default is None:
        listed = ", ".join(info.id for info in neuron_sets.made_for(fingerprint))
        if not listed:
            message = f"model {model!r} has no neuron set yet; identify one, or name one by `neurons`"
            raise InvalidRequest(message, param="neurons")
        if damaged := ", ".join(neuron_sets.damaged_ids()):
            message = f"{damaged} cannot be read and may be model {model!r}'s too, so there is no only set"
            message = f"{message}; name one by `neurons`: {listed}"
        else:
            message = f"model {model!r} has several neuron sets and no default; name one by `neurons`: {listed}"
        raise InvalidRequest(f"{message}; `ampsweep neurons default` sets a default", param="neurons")
    try:
        return neuron_sets.get(default).id
    except NotFound:
        message = f"the default neuron set {default} of model {model!r} is not there any more"
        raise InvalidRequest(f"{message}; name one by `neurons`, or set another default", param="neurons") from None
