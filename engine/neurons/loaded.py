"""The registry of the neuron sets that an engine has loaded, by id."""

from __future__ import annotations

from dataclasses import replace

from ampsweep.errors import UnknownName
from engine.base import EngineInfo, Steering
from engine.neurons.neuron_set import NeuronSet
from engine.steering.edits import Edits, require_neurons, resolve


class LoadedNeurons:
    """The loaded neuron sets of one engine, all of which fit its model."""

    def __init__(self, info: EngineInfo) -> None:
        """Start without neuron sets, for the model described by `info`."""
        self._info = info
        self._sets: dict[str, NeuronSet] = {}

    def add(self, neurons: NeuronSet) -> bool:
        """Load a neuron set.

        Returns:
            Whether the set is new; False if its id is already loaded.

        Raises:
            InvalidRequest: The set was made for a model of another shape.
        """
        neurons.check_widths(self._info.widths, model=self._info.model)
        new = neurons.id not in self._sets
        self._sets.setdefault(neurons.id, neurons)
        return new

    def drop(self, neuron_set_id: str) -> bool:
        """Unload a neuron set; return whether it was loaded."""
        return self._sets.pop(neuron_set_id, None) is not None

    def resolve(self, steering: Steering) -> Edits:
        """Return the edits of a steering; see `engine.steering.edits.resolve`.

        Raises:
            UnknownName: The neuron set is not loaded, or it has no such language.
            InvalidRequest: The model has no such layer, or the set has no patch values.
            NoNeurons: No neuron would be changed.
        """
        if steering.neurons not in self._sets:
            raise UnknownName("neuron set", steering.neurons, self._sets, param="neurons")
        neuron_set = self._sets[steering.neurons]
        edits = resolve(steering.intervention, neuron_set)
        require_neurons(edits, steering.intervention, neuron_set)
        return replace(edits, whole_pass=edits.statistic is not None and steering.mode == "paper")
