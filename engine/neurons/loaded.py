"""The neuron sets that an engine has been given, by id."""

from __future__ import annotations

from dataclasses import replace

from ampsweep.errors import UnknownName
from engine.base import EngineInfo, Steering
from engine.neurons.neuron_set import NeuronSet
from engine.steering.edits import Edits, require_neurons, resolve


class LoadedNeurons:
    """Neuron sets that fit one engine's model."""

    def __init__(self, info: EngineInfo) -> None:
        """Start without any, for the model of `info`."""
        self._info = info
        self._sets: dict[str, NeuronSet] = {}

    def add(self, neurons: NeuronSet) -> bool:
        """Take a set in; False where its id is already there. Raises InvalidRequest where it does not fit."""
        neurons.validate_for(self._info)
        new = neurons.id not in self._sets
        self._sets.setdefault(neurons.id, neurons)
        return new

    def drop(self, neuron_set_id: str) -> bool:
        """Forget a set; False where it is not here."""
        return self._sets.pop(neuron_set_id, None) is not None

    def resolve(self, steering: Steering) -> Edits:
        """Work out a steering's edits.

        Raises UnknownName for a set that is not here, NoNeurons where nothing would be steered, and what
        `edits.resolve` raises.
        """
        if steering.neurons not in self._sets:
            raise UnknownName("neuron set", steering.neurons, self._sets, param="neurons")
        neuron_set = self._sets[steering.neurons]
        edits = resolve(steering.intervention, neuron_set)
        require_neurons(edits, steering.intervention, neuron_set)
        return replace(edits, whole_pass=edits.statistic is not None and steering.mode == "paper")
